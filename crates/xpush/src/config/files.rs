//! Files that the configuration names.

use std::io;
use std::path::Path;

/// How a file's text is had; tests have files of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files(pub(crate) fn(&Path) -> io::Result<String>);

impl Default for Files {
    fn default() -> Self {
        Self(|path| std::fs::read_to_string(path))
    }
}

impl Files {
    /// A file's text, without the line's end behind it.
    pub(crate) fn read(self, path: &Path) -> Result<String, String> {
        match self.0(path) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(format!("cannot be read: {}: {error}", path.display())),
        }
    }
}
