//! The real server, killed by SIGKILL again and again under load: what clients were told must be true afterwards.
//!
//! `XPUSH_BIN` names another binary than the one that cargo has just built, and `XPUSH_CRASHES` how often it is killed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use xpush_sqlite::{Ledger, Options, Store};
use xpush_testkit::ManualClock;
use xpush_testkit::checker::{self, Promise, Summary};
use xpush_testkit::fleet::{self, Plan, Process, Voyage};

/// No limits that a few clients who say much would meet.
const CONFIG: &str = r#"
listen = "127.0.0.1:0"
default_app = "demo"

[limits]
events_per_second = 0

[apps.demo]
guests = true

[[apps.demo.rules]]
channels = "kept:*"
history = "HISTORY"
publish = "anyone"
"#;

/// How often the server is killed in a run of the tests; more in `cargo xtask soak`.
const KILLS: usize = 12;

/// A folder of its own, which stays when the test fails.
struct Site {
    folder: PathBuf,
}

impl Site {
    fn new(name: &str, history: &str) -> Self {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("xpush.toml"), CONFIG.replace("HISTORY", history)).unwrap();
        Self { folder }
    }

    fn launch(&self) -> io::Result<Process> {
        let binary = std::env::var_os("XPUSH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_xpush").into());
        let stderr = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(binary);
        command
            .current_dir(&self.folder)
            .args(["--config", "xpush.toml", "--data-dir", "data"])
            .stderr(stderr);
        Process::start(&mut command)
    }

    /// Judges a run; what is needed to look into a failure stays in the folder.
    fn judge(self, voyage: &Voyage) -> Summary {
        match checker::check(&voyage.lines, &voyage.contents) {
            Ok(summary) => {
                assert!(voyage.settled, "somebody was not there at the end: {}", self.folder.display());
                assert!(summary.acked > 0 && summary.delivered > 0);
                fs::remove_dir_all(&self.folder).unwrap();
                summary
            }
            Err(violation) => {
                keep(&self.folder, voyage).unwrap();
                panic!("{violation}log and store are kept in {}", self.folder.display());
            }
        }
    }
}

fn keep(folder: &Path, voyage: &Voyage) -> io::Result<()> {
    checker::write(&voyage.lines, io::BufWriter::new(fs::File::create(folder.join("clients.jsonl"))?))?;
    fs::write(folder.join("contents.json"), serde_json::to_vec(&voyage.contents)?)
}

#[test]
fn nothing_is_wrong_while_nobody_is_killed() {
    let site = Site::new("calm", "recent");
    let plan = Plan { acks: 2_000..2_001, ..Plan::new(1, &["kept:a", "kept:b", "kept:c"]) };
    let voyage = plan.run(false, || site.launch()).unwrap();
    site.judge(&voyage);
}

#[test]
fn nothing_acked_is_lost_however_often_it_is_killed() {
    let site = Site::new("killed", "durable");
    let kills = std::env::var("XPUSH_CRASHES").map_or(KILLS, |kills| kills.parse().unwrap());
    let plan = Plan { kills, ..Plan::new(3, &["kept:a", "kept:b", "kept:c", "kept:d"]) };
    let mut voyage = plan.run(true, || site.launch()).unwrap();
    voyage.server.kill().unwrap();
    // And by what the file holds.
    let store = Store::open(site.folder.join("data/xpush.db"), Options::default()).unwrap();
    let ledger = Ledger::new(store, Arc::new(ManualClock::new())).unwrap();
    let kept = fleet::contents(&ledger, "demo", &plan.channels);
    assert_eq!(kept, voyage.contents, "the file holds what clients read");
    println!("{}", site.judge(&voyage));
}

/// The history of the memory goes with the server, so a checker that expects it to stay must say so.
#[test]
fn a_server_that_forgets_is_found_out() {
    let site = Site::new("forgets", "recent");
    let plan = Plan { kills: 1, revises: false, ..Plan::new(2, &["kept:a", "kept:b"]) };
    let Voyage { lines, contents, .. } = plan.run(true, || site.launch()).unwrap();
    let violation = checker::check(&lines, &contents).unwrap_err();
    assert_eq!(violation.promise, Promise::OneHistory, "{violation}");
    fs::remove_dir_all(&site.folder).unwrap();
}
