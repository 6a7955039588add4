//! How a value is written: sizes, durations, choices. Each reader says in words what it would have taken.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::tree::{Item, Value};

/// Units of size, the largest first so that a size is written with the largest that divides it.
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

/// Units of time in ms, the largest first.
const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A size as people write it.
pub(crate) struct Size(pub(crate) u64);

/// A duration in ms as people write it.
pub(crate) struct Millis(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZES.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TIMES.iter().find(|(_, ms)| self.0 > 0 && self.0.is_multiple_of(*ms)) {
            Some((unit, ms)) => write!(f, "{}{unit}", self.0 / ms),
            None => write!(f, "0s"),
        }
    }
}

/// `"64KiB"`, `"1MB"`, or a number of bytes.
pub(crate) fn size(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        const WANTED: &str = "a size such as \"1MB\", \"64KiB\" or a number of bytes";
        let bytes = match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::Text(text) | Value::Raw(text) => match split(text) {
                Some((bytes, "" | "B" | "b")) => Some(bytes),
                Some((count, unit)) => {
                    let unit = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
                    unit.and_then(|(_, bytes)| count.checked_mul(*bytes))
                }
                None => None,
            },
            _ => None,
        };
        within(bytes.ok_or_else(|| wanted(WANTED, value))?, &range, Size)
    }
}

/// `"5s"`, `"250ms"`, `"1h"`; in ms.
pub(crate) fn duration(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        const WANTED: &str = "a duration such as \"5s\", \"250ms\" or \"1h\"";
        let ms = match value {
            Value::Text(text) | Value::Raw(text) => split(text).and_then(|(count, unit)| {
                let unit = TIMES.iter().find(|(name, _)| *name == unit);
                unit.and_then(|(_, ms)| count.checked_mul(*ms))
            }),
            Value::Integer(0) => Some(0),
            _ => None,
        };
        within(ms.ok_or_else(|| wanted(WANTED, value))?, &range, Millis)
    }
}

/// A whole number.
pub(crate) fn count(range: RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        let number = match value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Raw(text) => text.parse().ok(),
            _ => None,
        };
        within(number.ok_or_else(|| wanted("a whole number, 0 or more", value))?, &range, |number| number)
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Boolean(boolean) => Ok(*boolean),
        Value::Raw(text) if text == "true" => Ok(true),
        Value::Raw(text) if text == "false" => Ok(false),
        _ => Err(wanted("true or false", value)),
    }
}

/// A string.
pub(crate) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Raw(text) => Ok(text.clone()),
        _ => Err(wanted("a string", value)),
    }
}

/// A path; `what` it leads to.
pub(crate) fn path(value: &Value, what: &str) -> Result<PathBuf, String> {
    match text(value)?.trim() {
        "" => Err(format!("must name {what}")),
        path => Ok(PathBuf::from(path)),
    }
}

/// One of the given words.
pub(crate) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let found = match value {
            Value::Text(text) | Value::Raw(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            wanted(&format!("one of {}", words.join(", ")), value)
        })
    }
}

/// The members of a list; a single string is a list of one, and a variable's or a flag's words are split at commas.
pub(crate) fn list(item: &Item) -> Result<Vec<Item>, String> {
    let alone = |text: &str| Item { value: Value::Text(text.to_owned()), place: item.place.clone() };
    match &item.value {
        Value::List(items) => Ok(items.clone()),
        Value::Text(text) => Ok(vec![alone(text)]),
        Value::Raw(words) => {
            Ok(words.split(',').map(str::trim).filter(|word| !word.is_empty()).map(alone).collect())
        }
        other => Err(wanted("a list of strings", other)),
    }
}

/// What would have been taken, and what was there.
pub(crate) fn wanted(wanted: &str, value: &Value) -> String {
    let found = match value {
        Value::Text(text) | Value::Raw(text) => format!("\"{}\"", shortened(text)),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Other(kind) => (*kind).to_owned(),
    };
    format!("must be {wanted}, not {found}")
}

/// At most 64 characters of what somebody wrote, for an error message.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(64).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}

/// A number and its unit: `64KiB`, `64 KiB`, `64`.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len()));
    Some((digits.replace('_', "").parse().ok()?, unit.trim_start()))
}

fn within<D: fmt::Display>(
    number: u64,
    range: &RangeInclusive<u64>,
    shown: impl Fn(u64) -> D,
) -> Result<u64, String> {
    let (least, most) = (shown(*range.start()), shown(*range.end()));
    if number < *range.start() {
        Err(format!("is {}, but must be at least {least}", shown(number)))
    } else if number > *range.end() {
        Err(format!("is {}, but must be at most {most}", shown(number)))
    } else {
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn sizes() {
        let size = size(0..=u64::MAX);
        for (written, bytes) in [
            ("1MB", 1_000_000),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("12", 12),
            ("12B", 12),
            ("1_000kB", 1_000_000),
        ] {
            assert_eq!(size(&text(written)), Ok(bytes), "{written}");
        }
        assert_eq!(size(&Value::Integer(9)), Ok(9));
        for bad in ["", "MB", "1.5MB", "-1", "1 M B", "1TB", "99999999999999999999", "20000000000GiB"] {
            assert!(size(&text(bad)).is_err(), "{bad}");
        }
        assert!(size(&Value::Integer(-1)).is_err());
    }

    #[test]
    fn durations() {
        let duration = duration(0..=u64::MAX);
        for (written, ms) in
            [("5s", 5_000), ("250ms", 250), ("1h", 3_600_000), ("2 m", 120_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(&text(written)), Ok(ms), "{written}");
        }
        for bad in ["", "5", "5S", "s", "1.5s", "99999999999999999d"] {
            assert!(duration(&text(bad)).is_err(), "{bad}");
        }
        let unitless = duration(&Value::Integer(5)).unwrap_err();
        assert_eq!(unitless, "must be a duration such as \"5s\", \"250ms\" or \"1h\", not 5");
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for bytes in [0, 1, 1_000, 1_024, 65_536, 1_000_000, 4_000_001, 1 << 30] {
            assert_eq!(size(0..=u64::MAX)(&text(&Size(bytes).to_string())), Ok(bytes));
        }
        for ms in [0, 1, 250, 1_000, 90_000, 3_600_000, 86_400_001] {
            assert_eq!(duration(0..=u64::MAX)(&text(&Millis(ms).to_string())), Ok(ms));
        }
    }

    #[test]
    fn ranges_are_named_with_units() {
        assert_eq!(size(1024..=4096)(&text("10")).unwrap_err(), "is 10B, but must be at least 1KiB");
        assert_eq!(duration(0..=60_000)(&text("90s")).unwrap_err(), "is 90s, but must be at most 1m");
    }

    #[test]
    fn words_of_variables_are_of_every_type() {
        let raw = |words: &str| Value::Raw(words.to_owned());
        assert_eq!(count(0..=9)(&raw("5")), Ok(5));
        assert_eq!(boolean(&raw("true")), Ok(true));
        assert_eq!(super::text(&raw("5")), Ok("5".to_owned()));
        assert!(count(0..=9)(&text("5")).is_err(), "a string in the file is no number");
    }
}
