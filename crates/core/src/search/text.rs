//! What of a message can be found: its text, folded and cut into runs.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical, is_combining_mark};

/// Bytes of a message's text that are looked through; what comes behind them is not found.
pub const LONGEST: usize = 8 * 1024;

/// Between two strings of a message: no phrase goes across it.
pub const EDGE: char = '\u{1e}';

/// Characters by which a word is indexed; longer ones are known by their beginning.
pub(super) const WORD: usize = 32;

/// Before the beginnings of words, so that they are no words. No text has it in a word: it is no letter (private use).
const BEGINNING: char = '\u{e001}';

/// Characters that one character may have in front of it or behind: more are cut off from it.
const CLUSTER: usize = 16;

/// Gathers the strings of a JSON value, in order, names of members left out, until [`LONGEST`] is reached.
pub struct Strings<'a>(pub &'a mut String);

/// A text in runs.
pub(super) struct Text {
    pub(super) chars: Vec<Folded>,
    pub(super) runs: Vec<Run>,
}

/// A character as it is compared, and the bytes of the source that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) char: char,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// Characters without anything between them that is none of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) kind: Kind,
    pub(super) from: usize,
    pub(super) to: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of a script whose words are apart.
    Word,
    /// Of one whose words are not.
    Dense,
    /// An [`EDGE`].
    Edge,
}

/// What `source` is indexed by: each once, in no order that means anything.
pub fn tokens(source: &str) -> BTreeSet<String> {
    let text = Text::of(source);
    let mut tokens = BTreeSet::new();
    for run in &text.runs {
        let chars = text.chars(run);
        match run.kind {
            Kind::Word => {
                tokens.insert(spelled(&chars[..chars.len().min(WORD)]));
                tokens.extend((2..=3).filter(|len| *len <= chars.len()).map(|len| beginning(&chars[..len])));
            }
            Kind::Dense => {
                tokens.extend(chars.iter().map(|folded| folded.char.to_string()));
                tokens.extend(chars.windows(2).map(spelled));
            }
            Kind::Edge => {}
        }
    }
    tokens
}

pub(super) fn spelled(chars: &[Folded]) -> String {
    chars.iter().map(|folded| folded.char).collect()
}

/// The token of all words that begin with these two or three characters.
pub(super) fn beginning(chars: &[Folded]) -> String {
    std::iter::once(BEGINNING).chain(chars.iter().map(|folded| folded.char)).collect()
}

impl Text {
    pub(super) fn of(source: &str) -> Self {
        let mut text = Self { chars: Vec::with_capacity(source.len()), runs: Vec::new() };
        let mut open: Option<Run> = None;
        fold(source, |folded| {
            let kind = kind(folded.char, open.is_some());
            if let Some(run) = open.filter(|run| kind != Some(run.kind)) {
                text.runs.push(run);
                open = None;
            }
            let at = text.chars.len();
            match kind {
                None => return,
                Some(Kind::Edge) => return text.runs.push(Run { kind: Kind::Edge, from: at, to: at }),
                Some(kind) => open.get_or_insert(Run { kind, from: at, to: at }).to = at + 1,
            }
            text.chars.push(folded);
        });
        text.runs.extend(open);
        text
    }

    pub(super) fn chars(&self, run: &Run) -> &[Folded] {
        &self.chars[run.from..run.to]
    }
}

/// `within`: a run is open.
fn kind(char: char, within: bool) -> Option<Kind> {
    if char.is_ascii() {
        return match char {
            EDGE => Some(Kind::Edge),
            _ => char.is_ascii_alphanumeric().then_some(Kind::Word),
        };
    }
    if is_dense(char) {
        return Some(Kind::Dense);
    }
    (char.is_alphanumeric() || within && is_combining_mark(char)).then_some(Kind::Word)
}

/// Scripts without spaces between words (and Korean, whose words carry their particles), and pictures.
fn is_dense(char: char) -> bool {
    matches!(char,
        '\u{0e01}'..='\u{0e4e}' | '\u{0e80}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17d3}'
        | '\u{2600}'..='\u{27bf}' | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{3099}' | '\u{309a}' | '\u{309d}'..='\u{309f}'
        | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{3105}'..='\u{318e}' | '\u{31a0}'..='\u{31bf}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{a960}'..='\u{a97c}' | '\u{ac00}'..='\u{d7fb}' | '\u{f900}'..='\u{faff}'
        | '\u{1f000}'..='\u{1faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Gives each character as it is compared: in its compatible form (NFKC), in lower case, without accents.
fn fold(source: &str, mut take: impl FnMut(Folded)) {
    let mut chars = source.char_indices().peekable();
    let mut cluster = String::new();
    while let Some((from, first)) = chars.next() {
        let next = |chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>| {
            chars.peek().map_or((source.len(), None), |(at, char)| (*at, Some(*char)))
        };
        let (to, second) = next(&mut chars);
        if first.is_ascii() && second.is_none_or(|second| second.is_ascii()) {
            take(Folded { char: first.to_ascii_lowercase(), from, to });
            continue;
        }
        cluster.clear();
        cluster.push(first);
        let mut to = to;
        while let (_, Some(joined)) = next(&mut chars)
            && joins(joined)
            && cluster.chars().count() < CLUSTER
        {
            cluster.push(joined);
            chars.next();
            to = next(&mut chars).0;
        }
        for char in cluster.nfkc().flat_map(char::to_lowercase) {
            if let Some(char) = bare(char) {
                take(Folded { char, from, to });
            }
            if char == 'ß' {
                take(Folded { char: 's', from, to });
            }
        }
    }
}

/// Whether a character makes one with what stands before it.
fn joins(char: char) -> bool {
    !char.is_ascii()
        && (canonical_combining_class(char) != 0
            || is_combining_mark(char)
            || matches!(char, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}'))
}

/// A character without the accents of European scripts; `None` of such an accent alone. Marks of other scripts are letters.
fn bare(char: char) -> Option<char> {
    let is_accent = |char: char| ('\u{300}'..='\u{36f}').contains(&char);
    match char {
        '\0'..='\u{bf}' => return Some(char),
        'ς' => return Some('σ'),
        // Twice: see where it is called.
        'ß' => return Some('s'),
        _ if is_accent(char) => return None,
        _ => {}
    }
    let (mut first, mut rest_is_accents) = (None, true);
    decompose_canonical(char, |part| match first {
        None => first = Some(part),
        Some(_) => rest_is_accents &= is_accent(part),
    });
    Some(first.filter(|_| rest_is_accents).unwrap_or(char))
}

impl Strings<'_> {
    fn push(&mut self, text: &str) {
        let room = LONGEST.saturating_sub(self.0.len());
        let text = &text[..text.floor_char_boundary(room)];
        if !text.is_empty() {
            self.0.push_str(text);
            self.0.push(EDGE);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strings<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strings<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.push(text);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Strings(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Strings(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn folded(source: &str) -> String {
        let text = Text::of(source);
        let runs: Vec<_> = text.runs.iter().map(|run| spelled(text.chars(run))).collect();
        runs.join(" ")
    }

    fn has(source: &str, token: &str) -> bool {
        tokens(source).contains(token)
    }

    #[test]
    fn case_accents_and_widths_do_not_count() {
        for (source, expected) in [
            ("Crème BRÛLÉE", "creme brulee"),
            ("e\u{301}tude, tiếng Việt", "etude tieng viet"),
            ("İstanbul ΟΔΟΣ οδός", "istanbul οδοσ οδοσ"),
            ("ＡＢＣ１２ ﾃﾞｰﾀ", "abc12 データ"),
            ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{1173}\u{11af}", "한글"),
            ("か\u{3099}", "が"),
            ("Grüße GROSSER", "grusse grosser"),
            ("don't/stop", "don t stop"),
            ("हिन्दी", "हिन्दी"),
        ] {
            assert_eq!(folded(source), expected, "{source}");
        }
    }

    #[test]
    fn scripts_are_apart() {
        let text = Text::of("iPhone폰 15");
        let kinds: Vec<_> = text.runs.iter().map(|run| run.kind).collect();
        assert_eq!(kinds, [Kind::Word, Kind::Dense, Kind::Word]);
    }

    #[test]
    fn words_are_indexed_with_their_beginnings_and_dense_scripts_by_pairs() {
        let word = tokens("Hello");
        assert_eq!(word.into_iter().collect::<Vec<_>>(), ["hello", "\u{e001}he", "\u{e001}hel"]);
        let dense = tokens("대학교");
        assert_eq!(dense.into_iter().collect::<Vec<_>>(), ["교", "대", "대학", "학", "학교"]);
        assert!(has(&"x".repeat(100), &"x".repeat(WORD)) && has("a", "a") && has("🎉 done", "🎉"));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_runs_that_lie_in_it(source in "\\PC{0,60}") {
            let text = Text::of(&source);
            for folded in &text.chars {
                prop_assert!(source.is_char_boundary(folded.from) && source.is_char_boundary(folded.to));
                prop_assert!(folded.from < folded.to);
            }
            for run in &text.runs {
                prop_assert!(run.from < run.to && run.to <= text.chars.len());
            }
            for token in tokens(&source) {
                prop_assert!(!token.contains(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()), "{token}");
            }
        }
    }
}
