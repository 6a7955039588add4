//! What stands behind an app: its back end's requests, hooks, files and the search index. Each has a figure of its own to be held to.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::tables::raw_table;
use super::{CONFIG, Cell, Goal, Load, Options, Site, number, rounds};

/// Where the back end listens that hooks ask: the load itself.
const RECEIVER: &str = "127.0.0.1:9100";

/// Beside what every server has here.
const BEHIND: &str = r#"
[hooks]
allow_private = true

[apps.demo]
guests = true

[[apps.demo.hooks]]
url = "http://127.0.0.1:9100/"
secret = "a secret of at least 24 bytes"
asks = ["publish"]
channels = ["hooked:*"]
concurrency = 64

[[apps.demo.files]]
channels = "*"
size = "2GB"

[[apps.demo.rules]]
channels = "chat:*"
history = "durable"

[[apps.demo.rules]]
channels = "found:*"
history = "durable"
search = true

[[apps.demo.rules]]
channels = "*"
"#;

pub(super) static BACKEND: [Load; 6] = [
    Load {
        name: "api",
        title: "publishing by HTTP, from 64 clients, one at a time each: as many as how many over sockets",
        arguments: &["api"],
        full: &["--seconds", "6"],
        quick: &["--seconds", "1"],
        figure: "HTTP by sockets",
        unit: "×",
        goal: Goal::AtLeast(0.8),
    },
    Load {
        name: "api-durable",
        title: "the same into a durable channel",
        arguments: &["api", "--prefix", "chat:"],
        full: &["--seconds", "6"],
        quick: &["--seconds", "1"],
        figure: "HTTP by sockets",
        unit: "×",
        goal: Goal::AtLeast(0.8),
    },
    Load {
        name: "batch",
        title: "1,000 messages of one request, on disk, from request to answer",
        arguments: &["api"],
        full: &["--seconds", "6"],
        quick: &["--seconds", "1"],
        figure: "batch p50 ms",
        unit: "ms",
        goal: Goal::AtMost(30.0),
    },
    Load {
        name: "hooks",
        title: "2,000 publications a second that a back end is asked about: the p99 of others' fan-out, with by without",
        arguments: &["hooks", "--receiver", RECEIVER],
        full: &["--seconds", "5"],
        quick: &["--seconds", "1", "--calls", "500"],
        figure: "p99 with by without",
        unit: "×",
        goal: Goal::AtMost(1.1),
    },
    Load {
        name: "upload",
        title: "a file of 1 GB is uploaded: what the server's memory grows by at its peak",
        arguments: &["upload"],
        full: &[],
        quick: &["--megabytes", "50"],
        figure: "RSS MB grown",
        unit: "MB",
        goal: Goal::AtMost(16.0),
    },
    Load {
        name: "search",
        title: "durable publishing into channels that are searched, by the same into others",
        arguments: &["search", "--prefix", "chat:"],
        full: &["--seconds", "6", "--disk-seconds", "0.2"],
        quick: &["--seconds", "1", "--disk-seconds", "0.2"],
        figure: "with by without",
        unit: "×",
        goal: Goal::AtLeast(0.95),
    },
];

/// What is told beside the figure that has a goal: load, figure, unit.
const BESIDE: [(&str, &str, &str); 9] = [
    ("api", "server CPU µs over sockets", "µs CPU of the server a publish over a socket"),
    ("api", "server CPU µs over HTTP", "µs by HTTP"),
    ("api-durable", "server CPU µs over sockets", "µs CPU of the server a publish over a socket"),
    ("api-durable", "server CPU µs over HTTP", "µs by HTTP"),
    ("hooks", "questions a second", "questions a second"),
    ("upload", "MB a second", "MB a second"),
    ("search", "acks a second with", "acks a second"),
    ("search", "found after s", "s after the load until the newest was found"),
    ("search", "caught up a second", "messages a second indexed then"),
];

/// The loads that are wanted, on servers with hooks, files and a search index.
pub(super) fn measure_all(site: &Site<'_>, options: &Options) -> Result<Vec<(&'static Load, Cell)>, String> {
    let site = Site { repo: site.repo, scratch: site.scratch.join("backend"), shows_key: true };
    let config = format!("{CONFIG}{BEHIND}");
    fs::create_dir_all(&site.scratch)
        .and_then(|()| fs::write(site.scratch.join("xpush.toml"), config))
        .map_err(|error| error.to_string())?;
    let wanted = BACKEND.iter().filter(|load| options.wants(load.name));
    Ok(wanted.map(|load| (load, rounds(&site, load, options, |_| ()))).collect())
}

/// A key of the app on the server at `port`.
pub(super) fn key(site: &Site<'_>, port: u16) -> Result<String, String> {
    let mut command = Command::new(site.repo.release_binary());
    command.args(["app", "key", "create", "demo", "--scope", "admin", "--config"]);
    command.arg(site.scratch.join("xpush.toml"));
    command.arg("--data-dir").arg(site.scratch.join(format!("data-{port}")));
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.split(|at: char| at.is_whitespace() || at == '\'').find(|word| word.starts_with("xk_"));
    word.map(str::to_owned).ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The tables.
pub(super) fn report(results: &[(&Load, Cell)]) -> String {
    let mut text = String::from(
        "\n## Behind an app\n\nThe app's back end publishes by HTTP on connections that it keeps, by an API key; clients do the same over Socket.IO, by turns, three times in each round: 64 of them\n\
         each, as many bytes, into one channel, and each waits for its answer before its next message. So many keep the server's core busy: what is compared is its work, and not how\n\
         fast a core wakes that has nothing to do. What hooks ask the load answers itself. With search, durable publishing as\n\
         above goes by turns into channels that are searched and into others, twice in each round; then it is waited until the newest message is found.\n\n\
         | | figure | beside it | goal |\n|---|---|---|---|\n",
    );
    for (load, cell) in results {
        let word = match cell.median(load.figure) {
            None => "failed † |".to_owned(),
            Some((value, line)) => {
                let mark = if cell.trouble.is_empty() { "" } else { " †" };
                let beside = BESIDE.iter().filter(|(name, ..)| *name == load.name);
                let beside: Vec<_> = beside
                    .filter_map(|(_, figure, unit)| Some(format!("{:.1} {unit}", number(line, figure)?)))
                    .collect();
                format!("{value:.2} {}{mark} | {}", load.unit, beside.join(", "))
            }
        };
        let _ = writeln!(text, "| {} | {word} | {} |", load.title, load.goal.words());
    }
    text.push('\n');
    text + &raw_table(results.iter().map(|(load, cell)| (load.name, *load, cell)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_with_what_stands_beside_them() {
        let line = "{\"HTTP by sockets\":0.9,\"server CPU µs over HTTP\":21.04}".to_owned();
        let cell = Cell { lines: vec![line], trouble: vec![] };
        let text = report(&[(&BACKEND[0], cell)]);
        assert!(text.contains("| 0.90 × | 21.0 µs by HTTP | ≥ 0.8 (absolute) |"), "{text}");
    }
}
