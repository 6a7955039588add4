//! The configuration: one TOML file, `XPUSH_…` variables, flags. Later ones win.

mod apps;
mod files;
mod hooks;
mod keys;
mod live;
mod nearest;
mod rules;
mod section;
mod settings;
mod shared;
mod tree;
mod uploads;
mod values;
mod variables;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use xpush_core::Rules;

use section::{Complaint, Reading};
use tree::{Item, Place, Table, Value};

pub(crate) use apps::OPERATORS;
pub(crate) use files::Files;
pub(crate) use keys::{ALGORITHMS, key_id};
pub(crate) use live::{LiveApp, Spoken, written};
pub(crate) use nearest::nearest;
pub(crate) use settings::{Log, LogFormat, Settings, TlsFiles};
pub(crate) use shared::{Hidden, MongoDb, Redis, Shared, ZooKeeper};
pub(crate) use values::Size;
pub(crate) use variables::CONFIG;

/// `config/xpush.toml`: every key with its default and a sentence.
pub(crate) const ANNOTATED: &str = include_str!("../../../../config/xpush.toml");

/// The file that is read when it is there and none is named.
pub(crate) const USUAL_FILE: &str = "xpush.toml";

/// Where settings come from, the weakest first.
#[derive(Debug, Default)]
pub(crate) struct Sources<'a> {
    /// A file's name and text.
    pub(crate) file: Option<(&'a str, &'a str)>,
    /// Names and values.
    pub(crate) variables: Vec<(&'a str, &'a str)>,
    pub(crate) flags: Vec<Flag>,
    /// The app `demo` exists and welcomes guests on every listener.
    pub(crate) demo: bool,
    /// Whether everybody on this machine may read the file.
    pub(crate) public: bool,
    /// Where files that it names come from.
    pub(crate) files: Files,
}

/// A flag that sets something.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// As it was written: `--listen`.
    pub(crate) name: String,
    /// What it sets: `limits.payload`.
    pub(crate) path: String,
    pub(crate) words: String,
}

/// Settings that can work.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// Variables that were ignored, and secrets that are none.
    pub(crate) warnings: Vec<String>,
}

/// Everything that is wrong, in the order of the file.
#[derive(Debug)]
pub(crate) struct Invalid(Vec<Complaint>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, what) in &self.0 {
            writeln!(f, "{place}: {what}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 error"),
            errors => write!(f, "{errors} errors"),
        }
    }
}

/// Merges the sources and understands what they say.
pub(crate) fn load(sources: &Sources<'_>) -> Result<Loaded, Invalid> {
    let (mut tree, syntax) = match sources.file {
        Some((name, text)) => tree::parse(name, text),
        None => (Table::new(), Vec::new()),
    };
    if !tree.contains_key("apps") {
        tree.extend(demo().map(|demo| ("apps".to_owned(), demo)));
    }
    for (path, item) in variables::settings(sources.variables.iter().copied()) {
        tree::set(&mut tree, &path, item);
    }
    for flag in &sources.flags {
        let path: Vec<_> = flag.path.split('.').map(str::to_owned).collect();
        tree::set(&mut tree, &path, tree::parse_words(&Place::Flag(flag.name.as_str().into()), &flag.words));
    }
    let usual_apps = tree.get("apps") == demo().as_ref() && !sources.demo;
    let reading = Reading::with(sources.files);
    let mut settings = Settings::read(&with_demo(tree, sources.demo), &reading);
    settings.usual_apps = usual_apps;
    let findings = reading.finish();
    let mut complaints = findings.complaints;
    // What is left of a line that is not TOML says nothing more.
    complaints.retain(|(place, _)| syntax.iter().all(|(broken, _)| broken != place));
    complaints.extend(syntax);
    complaints.sort();
    if !complaints.is_empty() {
        return Err(Invalid(complaints));
    }
    let ignored = findings.warnings.into_iter().map(|(place, what)| format!("{place} is ignored: {what}"));
    let told =
        findings.secrets.into_iter().filter(|place| sources.public && matches!(place, Place::Line(..)));
    let told = told.map(|place| {
        format!("{place}: a secret in a file that everybody on this machine may read: chmod o-r, or name a file of its own")
    });
    let warnings = ignored.chain(told).collect();
    Ok(Loaded { settings, warnings })
}

/// Reads the named file, or the usual one when it is there.
pub(crate) fn read_file(named: Option<PathBuf>) -> io::Result<Option<(PathBuf, String)>> {
    let path = named.clone().unwrap_or_else(|| PathBuf::from(USUAL_FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
    }
}

/// The rules of the app that there is when nobody configured any.
pub(crate) fn usual_rules() -> Rules {
    let usual = load(&Sources::default()).ok().and_then(|loaded| loaded.settings.apps.into_iter().next());
    usual.map(|app| app.record.rules).unwrap_or_default()
}

/// A duration as people write it, in ms.
pub(crate) fn duration(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    values::duration(range)(&Value::Text(text.to_owned()))
}

/// Whether everybody on this machine may read it.
pub(crate) fn is_public(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// The apps of the annotated file: what there is when nobody configured any.
fn demo() -> Option<Item> {
    tree::parse(USUAL_FILE, ANNOTATED).0.remove("apps")
}

/// `--demo`: adds the app `demo` when it is missing, and opens it to guests.
fn with_demo(mut tree: Table, wanted: bool) -> Table {
    if !wanted {
        return tree;
    }
    let missing = match tree.get("apps") {
        Some(Item { value: Value::Table(apps), .. }) => !apps.contains_key("demo"),
        _ => true,
    };
    if let (true, Some(Item { value: Value::Table(mut apps), .. })) = (missing, demo())
        && let Some(app) = apps.remove("demo")
    {
        tree::set(&mut tree, &["apps".to_owned(), "demo".to_owned()], app);
    }
    let guests = Item { value: Value::Boolean(true), place: Place::Flag("--demo".into()) };
    tree::set(&mut tree, &["apps", "demo", "guests"].map(str::to_owned), guests);
    tree
}
