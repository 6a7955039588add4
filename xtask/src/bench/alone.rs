//! What only XPUSH does, and what it is measured against instead of other servers: the disk, SQLite by itself, fixed goals.

use std::fmt::Write as _;

use super::tables::{number, raw};
use super::{Cell, Goal, Load, Site};
use crate::run::{command as in_checkout, read};

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

/// Rows a second that SQLite by itself takes into the same schema, by rows a commit.
pub(super) struct Sqlite {
    rates: Vec<(f64, f64)>,
}

impl Sqlite {
    /// Measured by the store's own example, in the folder where the servers keep their data.
    pub(super) fn measure(site: &Site<'_>) -> Option<Self> {
        let words = ["cargo", "run", "--release", "--quiet", "-p", "xpush-sqlite", "--example", "raw", "--"];
        let line = read(in_checkout(site.repo, &words).arg(&site.scratch))?;
        let (_, inserts) = line.split_once("\"inserts_per_s\":[")?;
        let batches = inserts.split(']').next()?.split("{\"batch\":").skip(1);
        let rate = |batch: &str| Some((batch.split(',').next()?.parse().ok()?, number(batch, "raw")?));
        batches.map(rate).collect::<Option<_>>().map(|rates| Self { rates })
    }

    /// At the largest batch, which is what a busy server commits.
    fn rate(&self) -> Option<f64> {
        self.rates.last().map(|(_, rate)| *rate)
    }

    fn words(&self) -> String {
        let one = |(batch, rate): &(f64, f64)| format!("{rate:.0}/s at {batch:.0} a commit");
        self.rates.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The tables of what is measured without peers.
pub(super) fn report(results: &[(&Load, Cell)], sqlite: Option<&Sqlite>) -> String {
    let mut text = String::from("\n## XPUSH alone\n\n| | figure | goal |\n|---|---|---|\n");
    for (load, cell) in results {
        let figure = cell.median(load.figure).map(|(value, _)| value);
        let word = match figure {
            None => "failed †".to_owned(),
            Some(value) => {
                let mark = if cell.trouble.is_empty() { "" } else { " †" };
                let ratio = match (&load.goal, sqlite.and_then(Sqlite::rate)) {
                    (Goal::OfSqlite(_), Some(rate)) => format!(", {:.2} × SQLite by itself", value / rate),
                    _ => String::new(),
                };
                format!("{value:.2} {}{ratio}{mark}", load.unit)
            }
        };
        let _ = writeln!(text, "| {} | {word} | {} |", load.title, load.goal.words());
    }
    if let Some(sqlite) = sqlite {
        let _ = writeln!(text, "\nSQLite by itself, the same schema and rows: {}.", sqlite.words());
    }
    let disk = results.iter().find_map(|(load, cell)| {
        let (_, line) = cell.median(load.figure)?;
        Some((number(line, "fdatasyncs a second")?, number(line, "fdatasync p99 ms")?))
    });
    if let Some((rate, p99)) = disk {
        let _ = writeln!(text, "\nThe disk: {rate:.0} fdatasyncs a second of 4 kB appends, p99 {p99:.2} ms.");
    }
    text.push_str(
        "\n| | figure | arrived a second | p50 | p99 | server: user | busy | RSS | load: busy | faults |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for (load, cell) in results {
        let _ = writeln!(text, "| {} |{}", load.name, raw(load, cell));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_publishing_is_told_beside_sqlite_and_the_disk() {
        let line = "{\"fdatasyncs a second\":250,\"fdatasync p99 ms\":8,\"acks a second\":20000}".to_owned();
        let cell = Cell { lines: vec![line], trouble: vec![] };
        let sqlite = Sqlite { rates: vec![(1000.0, 24_000.0), (4000.0, 40_000.0)] };
        let text = report(&[(&ALONE[0], cell)], Some(&sqlite));
        assert!(
            text.contains("| 20000.00 /s, 0.50 × SQLite by itself | ≥ 0.7 × SQLite by itself |"),
            "{text}"
        );
        assert!(text.contains("24000/s at 1000 a commit, 40000/s at 4000 a commit"), "{text}");
        assert!(text.contains("250 fdatasyncs a second of 4 kB appends, p99 8.00 ms"), "{text}");
    }
}
