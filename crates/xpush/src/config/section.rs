//! Understands a tree: takes typed values out of its sections, and collects everything that is wrong instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::files::Files;
use super::nearest::nearest;
use super::tree::{Item, Place, Table, Value};
use super::values::{list, path, shortened, text, wanted};

/// Something wrong, and where it was said.
pub(crate) type Complaint = (Place, String);

/// What all sections of one reading share.
#[derive(Default)]
pub(crate) struct Reading {
    /// Where other files that are named come from.
    files: Files,
    complaints: RefCell<Vec<Complaint>>,
    /// Where secrets were written down.
    secrets: RefCell<Vec<Place>>,
    /// Every key that was asked for, with its path.
    known: RefCell<BTreeSet<String>>,
    /// Keys that nobody asked for: where, in which section, which. Judged at the end, when all known ones are known.
    unknown: RefCell<Vec<(Place, String, String)>>,
}

/// One table: its values are taken by key; what is left over at the end is unknown.
pub(crate) struct Section<'a> {
    /// `limits`, `apps.demo`; empty at the top.
    path: String,
    table: Option<&'a Table>,
    known: Vec<&'static str>,
    reading: &'a Reading,
}

/// What a reading found wrong.
pub(crate) struct Findings {
    pub(crate) complaints: Vec<Complaint>,
    /// Variables that may well be somebody else's.
    pub(crate) warnings: Vec<Complaint>,
    /// Where secrets were written down.
    pub(crate) secrets: Vec<Place>,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the annotated file"))]
    pub(crate) known: BTreeSet<String>,
}

impl Reading {
    /// A reading that takes the files that are named from `files`.
    pub(crate) fn with(files: Files) -> Self {
        Self { files, ..Self::default() }
    }

    pub(crate) fn complain(&self, place: &Place, what: impl Into<String>) {
        self.complaints.borrow_mut().push((place.clone(), what.into()));
    }

    pub(crate) fn top<'a>(&'a self, table: &'a Table) -> Section<'a> {
        self.within(String::new(), table)
    }

    /// A table that stands at `path`.
    pub(crate) fn within<'a>(&'a self, path: String, table: &'a Table) -> Section<'a> {
        Section { path, table: Some(table), known: Vec::new(), reading: self }
    }

    pub(crate) fn finish(self) -> Findings {
        let known = self.known.into_inner();
        let mut complaints = self.complaints.into_inner();
        let mut warnings = Vec::new();
        for (place, section, key) in self.unknown.into_inner() {
            let hint = hint(&known, &section, &key);
            // Others set variables that begin with XPUSH_ too (test runners, Kubernetes); a slip is near to a key or has a section.
            let foreign = matches!(place, Place::Variable(_)) && section.is_empty() && hint.is_none();
            let within = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
            let hint = hint.unwrap_or_else(|| format!("known are {}", siblings(&known, &section).join(", ")));
            let text = format!("unknown key `{}`{within}; {hint}", shortened(&key));
            if foreign { warnings.push((place, text)) } else { complaints.push((place, text)) }
        }
        Findings { complaints, warnings, secrets: self.secrets.into_inner(), known }
    }
}

impl<'a> Section<'a> {
    /// A value, when it was given and `read` can read it.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.read_item(key, |item| read(&item.value))
    }

    /// As [`Section::read`], for readers that must know where.
    pub(crate) fn read_item<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Item) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.item(key)?;
        match read(item) {
            Ok(value) => Some(value),
            Err(why) => {
                self.complain(key, &why);
                None
            }
        }
    }

    /// A secret, of which no complaint may quote anything.
    pub(crate) fn secret(&mut self, key: &'static str) -> Option<String> {
        let place = self.place(key)?.clone();
        let secret = self.read(key, |value| text(value).map_err(|_| "must be a string".to_owned()))?;
        self.reading.secrets.borrow_mut().push(place);
        Some(secret)
    }

    /// A list of secrets, of which no complaint may quote anything; one alone is a list of one.
    pub(crate) fn secrets(&mut self, key: &'static str) -> Option<Vec<String>> {
        let place = self.place(key)?.clone();
        let strings = |item| list(item)?.iter().map(|item| text(&item.value)).collect::<Result<Vec<_>, _>>();
        let wrong = |_: String| "must be a string, or a list of strings".to_owned();
        let secrets = self.read_item(key, |item| strings(item).map_err(wrong))?;
        self.reading.secrets.borrow_mut().push(place);
        Some(secrets)
    }

    /// A file, as seen from where it is named.
    pub(crate) fn path_of_file(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read_item(key, file_named)
    }

    /// What is in the file that is named, without the line's end behind it.
    pub(crate) fn file(&mut self, key: &'static str) -> Option<String> {
        let files = self.reading.files;
        self.read_item(key, |item| files.read(&file_named(item)?))
    }

    /// A folder, as seen from where xpush starts.
    pub(crate) fn folder(&mut self, key: &'static str) -> Option<PathBuf> {
        self.read(key, |value| path(value, "a folder"))
    }

    /// A list of which each member is read on its own and complained of in its own line.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items: Vec<Item> = self.read_item(key, list)?;
        let mut values = Vec::with_capacity(items.len());
        for item in &items {
            match text(&item.value).and_then(|text| read(&text)) {
                Ok(value) => values.push(value),
                Err(why) => self.reading.complain(&item.place, format!("`{}` {why}", self.name(key))),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// A value as it stands.
    pub(crate) fn item(&mut self, key: &'static str) -> Option<&'a Item> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// A table within; without values when it was not given.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'a> {
        let table = self.item(key).and_then(|item| {
            let table = as_table(item);
            if table.is_none() {
                self.complain(key, &wanted(&format!("a table, as in [{}]", self.name(key)), &item.value));
            }
            table
        });
        Section { path: self.name(key), table, known: Vec::new(), reading: self.reading }
    }

    /// Every table within, whatever it is called.
    pub(crate) fn sections(&mut self) -> Vec<(&'a str, &'a Place, Section<'a>)> {
        let mut sections = Vec::new();
        for (key, item) in self.table.into_iter().flatten() {
            let path = self.name(key);
            match as_table(item) {
                Some(table) => {
                    let section =
                        Section { path, table: Some(table), known: Vec::new(), reading: self.reading };
                    sections.push((key.as_str(), &item.place, section));
                }
                None => {
                    let why = wanted(&format!("a table, as in [{path}]"), &item.value);
                    self.reading.complain(&item.place, format!("`{path}` {why}"));
                }
            }
        }
        sections
    }

    /// Every table of a list of tables.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<(&'a Place, Section<'a>)> {
        let path = self.name(key);
        let Some(item) = self.item(key) else { return Vec::new() };
        let why = |value| wanted(&format!("a list of tables, as in [[{path}]]"), value);
        let Value::List(items) = &item.value else {
            self.complain(key, &why(&item.value));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match as_table(item) {
                Some(table) => {
                    let (path, table) = (path.clone(), Some(table));
                    tables.push((
                        &item.place,
                        Section { path, table, known: Vec::new(), reading: self.reading },
                    ));
                }
                None => self.reading.complain(&item.place, format!("`{path}` {}", why(&item.value))),
            }
        }
        tables
    }

    /// Where `key` was said; `None` when it was not.
    pub(crate) fn place(&self, key: &str) -> Option<&'a Place> {
        self.table?.get(key).map(|item| &item.place)
    }

    /// Says what is wrong with `key`, at its place.
    pub(crate) fn complain(&self, key: &str, why: &str) {
        if let Some(place) = self.place(key) {
            self.reading.complain(place, format!("`{}` {why}", self.name(key)));
        }
    }

    /// Everything that is known has been asked for.
    pub(crate) fn finish(self) {
        for (key, item) in self.table.into_iter().flatten() {
            if !self.known.contains(&key.as_str()) {
                self.reading.unknown.borrow_mut().push((item.place.clone(), self.path.clone(), key.clone()));
            }
        }
        let names = self.known.iter().map(|key| self.name(key));
        self.reading.known.borrow_mut().extend(names);
    }

    /// A key with its section: `limits.payload`.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

fn as_table(item: &Item) -> Option<&Table> {
    match &item.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// What may have been meant: a near name in the same section, or the same name in another.
fn hint(known: &BTreeSet<String>, section: &str, key: &str) -> Option<String> {
    if let Some(name) = nearest(key, siblings(known, section)) {
        return Some(format!("did you mean `{name}`?"));
    }
    // What an app has for itself, too, is rather meant for all.
    let named = known.iter().filter(|path| leaf(path) == key);
    let elsewhere = named.min_by_key(|path| path.split('.').count())?;
    Some(match elsewhere.rsplit_once('.') {
        Some((home, _)) => format!("it belongs in [{home}]"),
        None => "it belongs at the top of the file, before the first [section]".to_owned(),
    })
}

fn siblings<'a>(known: &'a BTreeSet<String>, section: &str) -> Vec<&'a str> {
    let inside = |path: &&String| path.rsplit_once('.').map_or("", |(home, _)| home) == section;
    known.iter().filter(inside).map(|path| leaf(path)).collect()
}

/// A file, as seen from where it is named.
fn file_named(item: &Item) -> Result<PathBuf, String> {
    Ok(item.place.folder().join(path(&item.value, "a file")?))
}

fn leaf(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, leaf)| leaf)
}
