//! What only XPUSH does, and what it is measured against instead of other servers: the disk, SQLite by itself, fixed goals.

use std::fmt::Write as _;
use std::process::Command;

use super::tables::{number, raw_table};
use super::{Cell, Goal, Load, SERVER_CORE, Site};
use crate::run::read;

pub(super) static ALONE: [Load; 7] = [
    Load {
        name: "durable",
        title: "durable publishing, 200 bytes, acked on disk, as fast as it goes",
        arguments: &["durable", "--prefix", "chat:"],
        full: &["--seconds", "10"],
        quick: &["--seconds", "1", "--disk-seconds", "0.2"],
        figure: "acks a second",
        unit: "/s",
        goal: Goal::OfSqlite(0.7),
    },
    Load {
        name: "paced",
        title: "the same at 2,000/s: how far the ack's p99 is beyond 3 × the p99 of fdatasync",
        arguments: &["durable", "--prefix", "chat:", "--rate", "2000"],
        full: &["--seconds", "10"],
        quick: &["--seconds", "1", "--disk-seconds", "0.2"],
        figure: "ack p99 ms beyond 3 fdatasync p99",
        unit: "ms",
        goal: Goal::AtMost(5.0),
    },
    Load {
        name: "resume",
        title: "resume over 10,000 missed messages: the server's CPU time",
        arguments: &["resume", "--prefix", "chat:"],
        full: &[],
        quick: &["--missed", "1000", "--times", "3"],
        figure: "server CPU ms a resume",
        unit: "ms",
        goal: Goal::AtMost(100.0),
    },
    Load {
        name: "resumed",
        title: "resume over 10,000 missed messages: from subscribe to the last of them",
        arguments: &["resume", "--prefix", "chat:"],
        full: &[],
        quick: &["--missed", "1000", "--times", "3"],
        figure: "last message ms",
        unit: "ms",
        goal: Goal::Told,
    },
    Load {
        name: "page",
        title: "the newest 50 of a million messages",
        arguments: &["page", "--prefix", "chat:"],
        full: &["--patience", "60"],
        quick: &["--messages", "5000", "--times", "100"],
        figure: "page ms",
        unit: "ms",
        goal: Goal::AtMost(1.0),
    },
    Load {
        name: "login",
        title: "200 password log-ins at once: the p99 of somebody else's publishes, with by without",
        arguments: &["login"],
        full: &[],
        quick: &["--seconds", "1"],
        figure: "p99 with by without",
        unit: "×",
        goal: Goal::AtMost(1.2),
    },
    Load {
        name: "present",
        title: "user memory an idle connection, one subscription of a durable channel with presence",
        arguments: &["idle", "--prefix", "chat:"],
        full: &[],
        quick: &["--first", "500", "--last", "2000"],
        figure: "user kB a connection",
        unit: "kB",
        // One more than issue A's figure.
        goal: Goal::AtMost(1.69),
    },
];

/// What SQLite by itself takes into the same schema, on the server's core, after each of the server's rounds.
#[derive(Default)]
pub(super) struct Sqlite {
    rounds: Vec<Beside>,
}

/// The server's round and SQLite's.
#[derive(Clone, Copy)]
struct Beside {
    /// Messages a commit: what the server has put into one on average is what SQLite was given.
    batch: f64,
    server: f64,
    /// With an index that finds retries.
    sqlite: f64,
    /// Without.
    bare: f64,
}

impl Sqlite {
    /// As many messages as the server has taken in the round that `line` tells of, at as many a commit; by the store's own example, in the folder where the servers keep
    /// their data.
    pub(super) fn run_beside(&mut self, site: &Site<'_>, line: &str) {
        let Some(beside) = Beside::measure(site, line) else {
            println!("SQLite by itself could not be measured");
            return;
        };
        println!("SQLite by itself: {}", beside.words());
        self.rounds.push(beside);
    }

    /// The server's rate by SQLite's: the median of the rounds.
    fn ratio(&self) -> Option<f64> {
        self.median(|round| round.server / round.sqlite)
    }

    /// The same by what SQLite takes that finds no retries.
    fn ratio_to_bare(&self) -> Option<f64> {
        self.median(|round| round.server / round.bare)
    }

    fn median(&self, of: impl Fn(&Beside) -> f64) -> Option<f64> {
        let mut ratios: Vec<_> = self.rounds.iter().map(of).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }

    fn words(&self) -> String {
        self.rounds.iter().map(Beside::words).collect::<Vec<_>>().join(", ")
    }
}

impl Beside {
    fn measure(site: &Site<'_>, line: &str) -> Option<Self> {
        let (server, batch) = (number(line, "acks a second")?, number(line, "messages a commit")?);
        let [messages, batch, channels] = [number(line, "deliveries")?, batch, number(line, "channels")?]
            .map(|value| format!("{value:.0}"));
        let mut raw = Command::new("taskset");
        raw.args(["-c", SERVER_CORE])
            .arg(site.repo.target.join("release/examples/raw_sqlite"))
            .arg(&site.scratch);
        let line = read(raw.args(["insert", &batch, &messages, &channels]))?;
        let (sqlite, bare) = (number(&line, "raw")?, number(&line, "bare")?);
        Some(Self { batch: batch.parse().ok()?, server, sqlite, bare })
    }

    fn words(&self) -> String {
        format!("{:.0}/s at {:.0} a commit ({:.0}/s bare)", self.sqlite, self.batch, self.bare)
    }
}

/// The tables of what is measured without peers.
pub(super) fn report(results: &[(&Load, Cell)], sqlite: &Sqlite) -> String {
    let mut text = String::from("\n## XPUSH alone\n\n| | figure | goal |\n|---|---|---|\n");
    for (load, cell) in results {
        let figure = cell.median(load.figure).map(|(value, _)| value);
        let word = match figure {
            None => "failed †".to_owned(),
            Some(value) => {
                let mark = if cell.trouble.is_empty() { "" } else { " †" };
                let ratio = match (&load.goal, sqlite.ratio()) {
                    (Goal::OfSqlite(_), Some(ratio)) => format!(", {ratio:.2} × SQLite by itself"),
                    _ => String::new(),
                };
                format!("{value:.2} {}{ratio}{mark}", load.unit)
            }
        };
        let _ = writeln!(text, "| {} | {word} | {} |", load.title, load.goal.words());
    }
    if !sqlite.rounds.is_empty() {
        let _ = writeln!(
            text,
            "\nSQLite by itself, on the server's core, after each of its rounds: as many rows as the server has taken messages, and as many a commit as it has put into one on\n\
             average, by nothing but prepared inserts, with an index over publishers' ids that finds retries: {}. Bare means without that index, so that no retry is\n\
             found: the server keeps it in memory and writes it in sorted parts behind, which is cheaper, and takes {:.2} × what bare SQLite takes while reading, answering\n\
             and passing on messages on the same core. The ratios are the medians of the rounds'.",
            sqlite.words(),
            sqlite.ratio_to_bare().unwrap_or_default()
        );
    }
    let disk = results.iter().find_map(|(load, cell)| {
        let (_, line) = cell.median(load.figure)?;
        Some((number(line, "fdatasyncs a second")?, number(line, "fdatasync p99 ms")?))
    });
    if let Some((rate, p99)) = disk {
        let _ = writeln!(text, "\nThe disk: {rate:.0} fdatasyncs a second of 4 kB appends, p99 {p99:.2} ms.");
    }
    text.push('\n');
    text + &raw_table(results.iter().map(|(load, cell)| (load.name, *load, cell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_publishing_is_told_beside_sqlite_and_the_disk() {
        let line = "{\"fdatasyncs a second\":250,\"fdatasync p99 ms\":8,\"acks a second\":20000}".to_owned();
        let cell = Cell { lines: vec![line], trouble: vec![] };
        let round = |server| Beside { batch: 1900.0, server, sqlite: 40_000.0, bare: 80_000.0 };
        let sqlite = Sqlite { rounds: [24_000.0, 20_000.0, 16_000.0].map(round).into() };
        let text = report(&[(&ALONE[0], cell)], &sqlite);
        assert!(
            text.contains("| 20000.00 /s, 0.50 × SQLite by itself | ≥ 0.7 × SQLite by itself |"),
            "{text}"
        );
        assert!(text.contains("40000/s at 1900 a commit (80000/s bare), 40000/s at"), "{text}");
        assert!(text.contains("takes 0.25 × what bare SQLite takes"), "{text}");
        assert!(text.contains("250 fdatasyncs a second of 4 kB appends, p99 8.00 ms"), "{text}");
    }
}
