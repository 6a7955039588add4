//! `xpush check-config`: what is wrong with these files, or what they say.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::banner;
use crate::cli::say;
use crate::config::{self, Settings, Size, Sources, TlsFiles};

/// Checks each file by itself; the environment is the one of whoever checks, and is not looked at.
pub(crate) fn run(files: &[PathBuf]) -> ExitCode {
    let mut worst = 0;
    for file in files {
        worst = worst.max(check(file));
    }
    ExitCode::from(worst)
}

/// 0: can work. 1: cannot. 2: could not be read.
fn check(file: &Path) -> u8 {
    let name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("xpush: cannot read {name}: {error}"));
            return 2;
        }
    };
    let loaded = match config::load(&Sources {
        file: Some((&name, &text)),
        public: config::is_public(file),
        ..Sources::default()
    }) {
        Ok(loaded) => loaded,
        Err(invalid) => {
            complain(&invalid.to_string());
            return 1;
        }
    };
    if let Some(Err(error)) = loaded.settings.tls.as_ref().map(TlsFiles::load) {
        complain(&format!("{name}: [tls] {error}\n1 error"));
        return 1;
    }
    if let Err(error) = loaded.settings.peer_trust() {
        complain(&format!("{name}: [cluster] {error}\n1 error"));
        return 1;
    }
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    say(&summary(&name, &loaded.settings));
    0
}

fn summary(name: &str, settings: &Settings) -> String {
    let listen: Vec<_> = settings.listen.iter().map(ToString::to_string).collect();
    let limits = &settings.limits;
    format!(
        "{name} is fine\n  listens on  {}{}\n  data in     {}\n  messages    up to {}, outboxes up to {}\n{}",
        listen.join(", "),
        if settings.tls.is_some() { " (TLS)" } else { "" },
        settings.data_dir.display(),
        Size(limits.payload as u64),
        Size(limits.outbox as u64),
        banner::apps(settings)
    )
}

#[expect(clippy::print_stderr, reason = "this command's answer, before and without any log")]
fn complain(text: &str) {
    eprintln!("{text}");
}
