//! `xpush default-config` and `xpush check-config`, as a shell sees them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn xpush(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xpush")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn default_config_prints_the_file_in_the_repository() {
    let printed = xpush(&["default-config"]);
    assert!(printed.status.success());
    assert_eq!(text(&printed.stdout), fs::read_to_string(here("../../config/xpush.toml")).unwrap());
}

#[test]
fn every_released_configuration_still_loads() {
    let files: Vec<_> =
        fs::read_dir(here("tests/configs")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2);
    for file in files {
        let checked = xpush(&["check-config", file.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(0), "{}: {}", file.display(), text(&checked.stderr));
        assert!(text(&checked.stdout).starts_with(&format!("{} is fine\n", file.display())));
    }
}

#[test]
fn exit_codes_tell_wrong_from_unreadable() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (wrong, missing) = (folder.join("wrong.toml"), folder.join("missing.toml"));
    fs::write(&wrong, "lisen = '127.0.0.1:1'\n[limits]\npayload = 'x'\n").unwrap();
    let (wrong, missing) = (wrong.to_str().unwrap(), missing.to_str().unwrap());
    let checked = xpush(&["check-config", wrong]);
    let errors = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        errors.starts_with(&format!("{wrong}:1: unknown key `lisen`; did you mean `listen`?\n{wrong}:3: ")),
        "{errors}"
    );
    assert!(errors.ends_with("\n2 errors\n"), "{errors}");

    let good = here("../../config/xpush.toml");
    let checked = xpush(&["check-config", good.to_str().unwrap(), wrong, missing]);
    assert_eq!(checked.status.code(), Some(2), "the worst counts");
    assert!(text(&checked.stdout).contains("is fine"), "and the others are checked all the same");
    assert_eq!(xpush(&["check-config"]).status.code(), Some(2), "no file named");
}

#[test]
fn help_teaches() {
    let help = xpush(&["--help"]);
    for word in
        ["--config", "--listen", "--data-dir", "--demo", "XPUSH_LISTEN", "Examples:", "/readyz", "bench"]
    {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
}
