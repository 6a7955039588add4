//! What was said, and where: file, environment and flags are merged into one tree before anything of it is understood.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Where a setting was said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A line of a file, counted from 1.
    Line(Arc<str>, usize),
    /// An environment variable.
    Variable(Arc<str>),
    /// A flag.
    Flag(Arc<str>),
}

/// A value that nobody has understood yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// The words of a variable or a flag, which know no types: `5` may be a number or a name.
    Raw(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Item>),
    Table(Table),
    /// What no setting is: a date, a fraction, a number beyond 64 bits.
    Other(&'static str),
}

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

pub(crate) type Table = BTreeMap<String, Item>;

/// A file that could not be read as TOML: what, and where.
pub(crate) type SyntaxError = (Place, String);

impl Place {
    /// Where files that are named here are looked for: beside a file that names them, else where xpush starts.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Line(file, _) => Path::new(&**file).parent().unwrap_or(Path::new("")),
            Self::Variable(_) | Self::Flag(_) => Path::new(""),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Reads a file's text; with errors, the tree is what could be made of the rest.
pub(crate) fn parse(file: &str, text: &str) -> (Table, Vec<SyntaxError>) {
    let source = Source { file: file.into(), text };
    let (document, errors) = DeTable::parse_recoverable(text);
    let errors = errors.iter().map(|error| {
        (source.place(error.span().map_or(0, |span| span.start)), error.message().replace('\n', ", "))
    });
    (source.table(document.get_ref()), errors.collect())
}

/// Reads the words of a variable or a flag: a list or a table when they look like one, bare words otherwise.
pub(crate) fn parse_words(place: &Place, words: &str) -> Item {
    let mut value = Value::Raw(words.to_owned());
    if words.trim_start().starts_with(['[', '{']) {
        let text = format!("words = {words}");
        let (mut table, errors) = parse("", &text);
        if let (Some(item), true) = (table.remove("words"), errors.is_empty()) {
            value = item.value;
        }
    }
    let mut item = Item { value, place: place.clone() };
    item.say_at(place);
    item
}

/// Sets `path` to `item`, over what was there.
pub(crate) fn set(table: &mut Table, path: &[String], item: Item) {
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(key.clone(), item);
        return;
    }
    let place = item.place.clone();
    let entry = table.entry(key.clone()).or_insert_with(|| Item { value: Value::Table(Table::new()), place });
    if !matches!(entry.value, Value::Table(_)) {
        entry.value = Value::Table(Table::new());
    }
    if let Value::Table(inner) = &mut entry.value {
        set(inner, rest, item);
    }
}

impl Item {
    /// Gives `place` to it and to everything inside.
    fn say_at(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.say_at(place)),
            Value::Table(table) => table.values_mut().for_each(|item| item.say_at(place)),
            _ => {}
        }
    }
}

struct Source<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Place::Line(self.file.clone(), 1 + before.iter().filter(|byte| **byte == b'\n').count())
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table.iter().map(|(key, value)| (key.get_ref().to_string(), self.entry(key, value))).collect()
    }

    /// A key's line is its value's: a table's own span may begin anywhere.
    fn entry(&self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Item {
        Item { value: self.value(value.get_ref()), place: self.place(key.span().start) }
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix());
                number.map_or(Value::Other("a number beyond 64 bits"), Value::Integer)
            }
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Item {
                        value: self.value(item.get_ref()),
                        place: self.place(item.span().start),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::Float(_) => Value::Other("a fraction"),
            DeValue::Datetime(_) => Value::Other("a date"),
        }
    }
}
