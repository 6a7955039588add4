//! Where things are.

use std::path::{Path, PathBuf};

/// The checkout that this program was built from.
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    /// Cargo's target folder; everything that the workshop makes for itself lies under it.
    pub(crate) target: PathBuf,
}

impl Repo {
    pub(crate) fn here() -> Self {
        // Set by `cargo run`; the compiled-in value serves a binary that is started by hand.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf);
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Self { root, target }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A Python environment of our own: `python3` here has what e2e/python/requirements.txt names.
    pub(crate) fn venv(&self) -> PathBuf {
        self.target.join("xtask/venv")
    }

    /// Programs that Go has built.
    pub(crate) fn go(&self) -> PathBuf {
        self.target.join("xtask/go")
    }

    /// The binary that the end-to-end tests drive.
    pub(crate) fn release_binary(&self) -> PathBuf {
        self.target.join("release/xpush")
    }
}
