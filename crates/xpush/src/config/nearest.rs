//! Which known name was meant by an unknown one.

/// The known name nearest to `word`, when it is near enough to have been meant: one slip in three letters.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|name| (distance(word, name), name));
    let (slips, name) = distances.min()?;
    (slips <= word.chars().count().div_ceil(3)).then_some(name)
}

/// How many letters must be added, dropped, changed or swapped with their neighbour (optimal string alignment). Names are short; long words are as far as
/// can be, so that nobody's input makes this slow.
fn distance(a: &str, b: &str) -> usize {
    let letters =
        |text: &str| -> Vec<char> { text.chars().map(|c| c.to_ascii_lowercase()).take(65).collect() };
    let (a, b) = (letters(a), letters(b));
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    // rows[i][j]: from the first i letters of a to the first j of b.
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, slips) in [
            ("", "", 0),
            ("", "abc", 3),
            ("limts", "limits", 1),
            ("lsiten", "listen", 1),
            ("kitten", "sitting", 3),
            ("payload", "paylod", 1),
        ] {
            assert_eq!(distance(a, b), slips, "{a} {b}");
            assert_eq!(distance(b, a), slips, "{b} {a}");
        }
        assert_eq!(distance(&"a".repeat(65), "a"), usize::MAX);
    }

    #[test]
    fn only_what_may_have_been_meant() {
        let known = ["payload", "outbox", "outbox_age"];
        assert_eq!(nearest("Paylod", known), Some("payload"));
        assert_eq!(nearest("outbox_agee", known), Some("outbox_age"));
        assert_eq!(nearest("colour", known), None);
    }
}
