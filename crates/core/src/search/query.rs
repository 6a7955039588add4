//! What somebody looks for.

use super::text::{Folded, Kind, Run, Text, WORD, beginning, spelled};
use crate::environment::UnixMillis;
use crate::error::{Code, Problem};
use crate::names::{Channel, User};

/// Bytes of a query.
pub const LONGEST: usize = 1_000;

/// Words and phrases of a query.
pub const MOST_TERMS: usize = 16;

/// Runs of a query: a word may have several, as don't has.
const MOST_RUNS: usize = 64;

/// Characters of an excerpt before the first thing that was found, and in all.
const LEAD: usize = 40;
const EXCERPT: usize = 160;

/// Places that are marked in one excerpt.
const MOST_MARKS: usize = 16;

const DAY: u64 = 86_400_000;

/// A query, taken apart. All of it must hold of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    terms: Vec<Term>,
    /// Who has published it.
    pub from: Option<User>,
    /// Where.
    pub channel: Option<Channel>,
    /// Published at this time or later, ms since 1970.
    pub since: Option<UnixMillis>,
    /// Published before this time, ms since 1970.
    pub until: Option<UnixMillis>,
}

/// What an index must have of a message, or it is no hit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lookup {
    /// This token.
    Token(String),
    /// A token that begins so.
    Beginning(String),
}

/// Runs that stand one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    runs: Vec<(Kind, Vec<char>)>,
    /// The last word may go on.
    open: bool,
}

/// A word of a query as it is written.
enum Piece<'a> {
    Words(&'a str),
    Phrase(&'a str),
    Filter(&'a str, &'a str),
}

impl Query {
    /// Takes a query apart: words, `"phrases"`, `from:USER`, `in:CHANNEL`, `after:YYYY-MM-DD` and `before:YYYY-MM-DD` (UTC). A filter's value may stand between quotes.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.len() > LONGEST {
            return Err(bad(&format!("at most {LONGEST} bytes")));
        }
        let mut query = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (piece, behind) = next(rest);
            query.take(&piece)?;
            rest = behind.trim_start();
        }
        let runs: usize = query.terms.iter().map(|term| term.runs.len()).sum();
        if query.terms.len() > MOST_TERMS || runs > MOST_RUNS {
            return Err(bad(&format!("at most {MOST_TERMS} words and phrases")));
        }
        if query == Self::default() {
            return Err(bad("at least one word, phrase or filter"));
        }
        Ok(query)
    }

    fn take(&mut self, piece: &Piece<'_>) -> Result<(), Problem> {
        match *piece {
            Piece::Words(text) => self.terms.extend(Term::of(text, true)),
            Piece::Phrase(text) => self.terms.extend(Term::of(text, false)),
            Piece::Filter("from", user) => self.from = Some(named("from", user, User::new)?),
            Piece::Filter("in", channel) => self.channel = Some(named("in", channel, Channel::new)?),
            Piece::Filter("after", day) => self.since = Some(start_of(day, "after")? + DAY),
            Piece::Filter(_, day) => self.until = Some(start_of(day, "before")?),
        }
        Ok(())
    }

    /// What an index must have of a message; nothing when the query has filters only.
    pub fn lookups(&self) -> Vec<Lookup> {
        let mut lookups: Vec<_> = self.terms.iter().flat_map(Term::lookups).collect();
        lookups.sort();
        lookups.dedup();
        lookups
    }

    /// Whether `at` is within its dates.
    pub fn is_within(&self, at: UnixMillis) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// What was found in a text: pieces of it, of which every second one is what the query has words for. `None` when it is no hit. Of a query without words, its beginning.
    pub fn excerpt(&self, source: &str) -> Option<Vec<String>> {
        let text = Text::of(source);
        let mut marks = Vec::new();
        for term in &self.terms {
            let found = term.find(&text);
            if found.is_empty() {
                return None;
            }
            marks.extend(found);
        }
        marks.sort_unstable();
        Some(cut(source, &marks))
    }
}

/// The next piece of a query that is not empty, and what comes behind it.
fn next(text: &str) -> (Piece<'_>, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let (phrase, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
        return (Piece::Phrase(phrase), behind);
    }
    for name in ["from", "in", "after", "before"] {
        let Some(value) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')) else { continue };
        if let Some(quoted) = value.strip_prefix('"')
            && let Some((value, behind)) = quoted.split_once('"')
        {
            return (Piece::Filter(name, value), behind);
        }
        let (value, behind) = until_space(value);
        if !value.is_empty() {
            return (Piece::Filter(name, value), behind);
        }
    }
    let (words, behind) = until_space(text);
    // A quote begins a phrase wherever it stands.
    match words.find('"') {
        Some(at) if at > 0 => (Piece::Words(&text[..at]), &text[at..]),
        _ => (Piece::Words(words), behind),
    }
}

fn until_space(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

fn named<T>(filter: &str, value: &str, new: impl Fn(&str) -> Result<T, Code>) -> Result<T, Problem> {
    new(value).map_err(|_| bad(&format!("{filter}: is followed by a name, not by this")))
}

fn bad(wanted: &str) -> Problem {
    Problem::new(Code::BadField, format!("query: {wanted}"))
}

/// When a day of the years 1970 to 9999 begins, ms since 1970, UTC.
fn start_of(day: &str, filter: &str) -> Result<UnixMillis, Problem> {
    let wanted = || bad(&format!("{filter}: is followed by a day, such as {filter}:2026-01-31"));
    let mut parts = day.split('-');
    let (Some(year), Some(month), Some(date), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wanted());
    };
    let number = |text: &str, len: usize| {
        let digits = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits)
    };
    let numbers = (number(year, 4), number(month, 2), number(date, 2));
    let (Some(year @ 1970..), Some(month @ 1..=12), Some(date @ 1..)) = numbers else { return Err(wanted()) };
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let months = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before: u64 = (1..month).zip(months).map(|(_, days)| days).sum();
    if (1..=12).zip(months).any(|(number, days)| number == month && date > days) {
        return Err(wanted());
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Ok((years + before + date - 1) * DAY)
}

impl Term {
    /// `None` when there is no word in it.
    fn of(source: &str, open: bool) -> Option<Self> {
        let text = Text::of(source);
        let run = |run: &Run| (run.kind, text.chars(run).iter().map(|folded| folded.char).collect());
        let runs: Vec<_> = text.runs.iter().filter(|run| run.kind != Kind::Edge).map(run).collect();
        (!runs.is_empty()).then_some(Self { runs, open })
    }

    fn lookups(&self) -> Vec<Lookup> {
        let mut lookups = Vec::new();
        for (index, (kind, chars)) in self.runs.iter().enumerate() {
            let chars: Vec<_> = chars.iter().map(|char| Folded { char: *char, from: 0, to: 0 }).collect();
            let goes_on = self.open && index + 1 == self.runs.len();
            match (kind, chars.len()) {
                (Kind::Dense, 2..) => {
                    lookups.extend(chars.windows(2).map(|pair| Lookup::Token(spelled(pair))));
                }
                (Kind::Word, 2..=3) if goes_on => lookups.push(Lookup::Token(beginning(&chars))),
                (Kind::Word, 4..) if goes_on => {
                    lookups.push(Lookup::Beginning(spelled(&chars[..chars.len().min(WORD)])));
                }
                (_, len) => lookups.push(Lookup::Token(spelled(&chars[..len.min(WORD)]))),
            }
        }
        lookups
    }

    /// Where it stands in a text: bytes of the source.
    fn find(&self, text: &Text) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for runs in text.runs.windows(self.runs.len()) {
            self.find_in(text, runs, &mut found);
            if found.len() >= MOST_MARKS {
                break;
            }
        }
        found
    }

    /// In as many runs as it has itself.
    fn find_in(&self, text: &Text, runs: &[Run], found: &mut Vec<(usize, usize)>) {
        let same_kinds = runs.iter().zip(&self.runs).all(|(run, (kind, _))| run.kind == *kind);
        if !same_kinds {
            return;
        }
        let bytes = |from: usize, to: usize| (text.chars[from].from, text.chars[to - 1].to);
        if let ([run], [(Kind::Dense, wanted)]) = (runs, &self.runs[..]) {
            let mut from = run.from;
            while from + wanted.len() <= run.to {
                if is(&text.chars[from..from + wanted.len()], wanted) {
                    found.push(bytes(from, from + wanted.len()));
                    from += wanted.len();
                } else {
                    from += 1;
                }
            }
            return;
        }
        let last = runs.len() - 1;
        let (mut from, mut to) = (runs[0].from, runs[last].to);
        for (index, (run, (kind, wanted))) in runs.iter().zip(&self.runs).enumerate() {
            let chars = text.chars(run);
            let meets = match kind {
                _ if chars.len() < wanted.len() => false,
                Kind::Dense if index == 0 => {
                    from = run.to - wanted.len();
                    is(&chars[chars.len() - wanted.len()..], wanted)
                }
                Kind::Dense if index == last => {
                    to = run.from + wanted.len();
                    is(&chars[..wanted.len()], wanted)
                }
                // A single letter is a word by itself only: everything begins with one.
                Kind::Word if index == last && self.open && wanted.len() > 1 => {
                    to = run.from + wanted.len();
                    is(&chars[..wanted.len()], wanted)
                }
                _ => is(chars, wanted),
            };
            if !meets {
                return;
            }
        }
        found.push(bytes(from, to));
    }
}

fn is(chars: &[Folded], wanted: &[char]) -> bool {
    chars.len() == wanted.len() && chars.iter().zip(wanted).all(|(folded, wanted)| folded.char == *wanted)
}

/// A part of `source` around the first of `marks`, cut where they begin and end.
fn cut(source: &str, marks: &[(usize, usize)]) -> Vec<String> {
    let first = marks.first().map_or(0, |(from, _)| *from);
    let before = source[..first].char_indices().rev().nth(LEAD - 1).map_or(0, |(at, _)| at);
    let end = source[before..].char_indices().nth(EXCERPT).map_or(source.len(), |(at, _)| before + at);
    let mut pieces = Vec::new();
    let mut at = before;
    for (from, to) in marks {
        // What overlaps is marked once.
        let (from, to) = ((*from).max(at), (*to).min(end));
        if from < to {
            pieces.push(shown(&source[at..from]));
            pieces.push(shown(&source[from..to]));
            at = to;
        }
    }
    pieces.push(shown(source[at..end].trim_end_matches(super::text::EDGE)));
    if before > 0 {
        pieces[0].insert(0, '…');
    }
    if end < source.len() {
        pieces.last_mut().into_iter().for_each(|last| last.push('…'));
    }
    pieces
}

/// Strings of one message stand apart.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    fn finds(text: &str, source: &str) -> bool {
        query(text).excerpt(source).is_some()
    }

    #[test]
    fn words_are_found_by_their_beginnings_and_phrases_as_they_are() {
        for (text, source, expected) in [
            ("hel", "Say hello", true),
            ("ello", "Say hello", false),
            ("a", "an apple", false),
            ("a", "a pear", true),
            ("hello say", "Say hello", true),
            ("hello bye", "Say hello", false),
            ("\"say hello\"", "Say: HELLO!", true),
            ("\"say hel\"", "Say hello", false),
            ("\"hello say\"", "say hello", false),
            ("don't", "I don't know", true),
            ("don't", "don and t", false),
            ("creme", "Crème brûlée", true),
            ("Brûlée", "creme brulee", true),
            ("\"a b\"", "a\u{1e}b", false),
            ("!!! hello", "hello", true),
        ] {
            assert_eq!(finds(text, source), expected, "{text} in {source}");
        }
    }

    #[test]
    fn dense_scripts_are_found_anywhere() {
        for (text, source, expected) in [
            ("학교", "대학교에서 만나자", true),
            ("교", "대학교에서", true),
            ("대에", "대학교에서", false),
            ("東京", "昨日東京へ行った", true),
            ("ﾃﾞｰﾀ", "新しいデータです", true),
            ("北京大学", "我在北京大学读书", true),
            ("北京大学", "北京的大学", false),
            ("\"학교 가자\"", "우리 학교 가자!", true),
            ("iphone폰", "내 iPhone폰트", true),
            ("สวัส", "สวัสดีครับ", true),
        ] {
            assert_eq!(finds(text, source), expected, "{text} in {source}");
        }
    }

    #[test]
    fn filters_are_no_words() {
        let found = query("from:ann in:chat:a \"two words\" after:2026-01-31 before:2026-03-01 x");
        assert_eq!(found.from, Some(User::new("ann").unwrap()));
        assert_eq!(found.channel, Some(Channel::new("chat:a").unwrap()));
        assert_eq!((found.since, found.until), (Some(1_769_904_000_000), Some(1_772_323_200_000)));
        assert!(found.is_within(1_769_904_000_000) && !found.is_within(1_772_323_200_000));
        assert_eq!(found.terms.len(), 2);
        assert_eq!(query("from:\"Ann B\"").from, Some(User::new("Ann B").unwrap()));
        assert_eq!(query("from: x").from, None, "a filter without a value is a word");
        assert_eq!(start_of("1970-01-01", "after"), Ok(0));
        assert_eq!(start_of("2000-02-29", "after"), Ok(951_782_400_000));
    }

    #[test]
    fn what_asks_for_nothing_is_told_so() {
        let many = "a ".repeat(17);
        let long = "x".repeat(10_000);
        for bad in [
            "",
            "  ",
            "\"",
            "***",
            "after:now",
            "before:2026-02-30",
            "before:2026-1-1",
            "after:1969-12-31",
            "in:\"a b\"",
            &many,
            &long,
        ] {
            assert_eq!(Query::parse(bad).unwrap_err().code, Code::BadField, "{bad}");
        }
    }

    #[test]
    fn an_excerpt_has_what_was_found_in_every_second_place() {
        assert_eq!(query("wor").excerpt("Hello, World!").unwrap(), ["Hello, ", "Wor", "ld!"]);
        assert_eq!(query("from:ann").excerpt("Hello\u{1e}").unwrap(), ["Hello"]);
        let long = format!("{} needle {}", "é".repeat(100), "y".repeat(300));
        let excerpt = query("needle").excerpt(&long).unwrap();
        assert!(excerpt[0].starts_with('…') && excerpt[2].ends_with('…'), "{excerpt:?}");
        assert_eq!(excerpt[1], "needle");
        assert_eq!(
            query("ab abc").excerpt("abcd abc").unwrap(),
            ["", "ab", "", "c", "d ", "ab", "", "c", ""]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_refused(text in "(\\PC|\"| |:|from:|in:|after:|AND|NEAR\\(|\\*){0,40}") {
            match Query::parse(&text) {
                Err(problem) => prop_assert_eq!(problem.code, Code::BadField),
                Ok(query) => {
                    for lookup in query.lookups() {
                        let (Lookup::Token(token) | Lookup::Beginning(token)) = lookup;
                        prop_assert!(!token.is_empty());
                        prop_assert!(!token.contains(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()), "{token:?}");
                    }
                    query.excerpt(&text);
                }
            }
        }

        /// What is a hit, an index finds.
        #[test]
        fn lookups_are_among_the_tokens_of_each_hit(source in "[a-c가나é ]{0,30}", text in "[a-c가나e\" ]{1,8}") {
            if let Ok(query) = Query::parse(&text) && query.excerpt(&source).is_some() {
                let tokens = super::super::text::tokens(&source);
                for lookup in query.lookups() {
                    let is_met = match &lookup {
                        Lookup::Token(token) => tokens.contains(token),
                        Lookup::Beginning(beginning) => tokens.iter().any(|token| token.starts_with(beginning)),
                    };
                    prop_assert!(is_met, "{lookup:?} in {tokens:?}");
                }
            }
        }
    }
}
