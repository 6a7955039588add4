//! The files of the project, as the rules see them.

use std::path::Path;
use std::process::Command;

use crate::run::read;

/// All files that are committed or could be: what git ignores is not here.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) size: u64,
    /// `None` when it is not text.
    pub(super) text: Option<String>,
}

impl Tree {
    pub(super) fn of_checkout(root: &Path) -> Result<Self, String> {
        let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
        let names = read(Command::new("git").args(list).current_dir(root))
            .ok_or("tidy asks git which files are ours, and `git ls-files` failed")?;
        let files = names
            .split('\0')
            .filter(|name| !name.is_empty())
            // A file may be deleted and still be in the index; links are not ours to follow.
            .filter(|name| root.join(name).symlink_metadata().is_ok_and(|data| data.is_file()))
            .map(|name| {
                let bytes = std::fs::read(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
                Ok(File::new(name, bytes))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new(path, text.as_bytes().to_vec())).collect() }
    }

    /// Whether there is such a file or folder.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|file| {
            file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The text files whose name ends so, with their texts.
    pub(super) fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a File, &'a str)> {
        let named = self.files.iter().filter(move |file| file.path.ends_with(suffix));
        named.filter_map(|file| Some((file, file.text.as_deref()?)))
    }
}

impl File {
    fn new(path: &str, bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        Self { path: path.to_owned(), size, text }
    }

    /// Made by a tool, so that the rules for hand-written text do not apply.
    pub(super) fn is_generated(&self) -> bool {
        let name = self.name();
        self.path.contains("/dist/") || name == "Cargo.lock" || name == "package-lock.json"
    }

    /// Bytes that a test is about; white space in them may be the point.
    pub(super) fn is_fixture(&self) -> bool {
        ["/corpus/", "/fixtures/", "/seeds/"].iter().any(|folder| self.path.contains(folder))
    }

    pub(super) fn is_rust_test(&self) -> bool {
        let name = self.name();
        self.path.contains("/tests/") || name == "tests.rs" || name.ends_with("_tests.rs")
    }

    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}
