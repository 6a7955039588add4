//! `cargo xtask bench`: the same loads against the limit server, XPUSH and its peers, in turn, on a core of their own;
//! the ratios go to docs/benchmarks.md.

use std::fs;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod alone;
mod backend;
mod tables;

use self::alone::{ALONE, Sqlite};
use self::backend::BACKEND;
pub(crate) use self::tables::number;
use self::tables::{document, report};
use crate::repo::Repo;
use crate::run::{command as in_checkout, npm, show};

const HELP: &str = "\
Usage: cargo xtask bench [OPTION…] [SCENARIO…]

Runs the limit server, XPUSH and its peers side by side, A B A B, and writes docs/benchmarks.md (only when
every scenario ran in full: a quarter of an hour; otherwise it just prints the tables). Leave the machine
alone meanwhile.

  --quick        one short round: shows that everything works, not how fast
  --rounds N     rounds of which the median is taken (default 3)
  --no-build     use what is built
  --spin         the load never sleeps, so that no server pays for waking it up: steadier in a virtual
                 machine, where that costs more than the rest of a delivery
  --without NAME leave a server out (may be repeated)

Scenarios: single saturated deep idle ack storm rooms slow start
and of XPUSH alone: durable paced resume resumed page login present
and with what stands behind an app, `backend` for all of them: api api-durable batch hooks upload search

`cargo xtask bench cluster` is about several servers, and takes options of its own (--help).
";

/// The server's core and the load's core.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const START_UP: Duration = Duration::from_secs(20);
/// How often the start of the server is measured.
const STARTS: usize = 9;

/// No limits that a single address full of test clients would meet.
const CONFIG: &str = "[limits]\nconnections_per_address = 0\nevents_per_second = 0\n";

/// A server under test.
struct Contender {
    name: &'static str,
    dialect: &'static str,
    /// The path that answers 200 when it is ready; the others are when they listen.
    readiness: Option<&'static str>,
    command: fn(&Site<'_>, u16) -> Command,
}

/// Where things are for one run.
struct Site<'a> {
    repo: &'a Repo,
    /// For data and logs.
    scratch: PathBuf,
    /// The load shows a key of the app, which is made for it.
    shows_key: bool,
}

/// A load, and which of its figures is compared.
struct Load {
    name: &'static str,
    title: &'static str,
    arguments: &'static [&'static str],
    full: &'static [&'static str],
    quick: &'static [&'static str],
    /// The key in the load generator's JSON.
    figure: &'static str,
    unit: &'static str,
    goal: Goal,
}

enum Goal {
    /// At most so many times the limit server's.
    Ratio(f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// At least so many times what SQLite takes by itself.
    OfSqlite(f64),
    /// No goal: told as a multiple of the limit server's.
    Told,
}

struct Options {
    quick: bool,
    build: bool,
    spin: bool,
    rounds: usize,
    without: Vec<String>,
    scenarios: Vec<String>,
}

/// What the rounds of one load on one server found: the load generator's JSON lines.
struct Cell {
    lines: Vec<String>,
    trouble: Vec<String>,
}

/// A running server; ends with its owner.
struct Server {
    process: Child,
    port: u16,
}

static CONTENDERS: [Contender; 6] = [
    Contender { name: "limit", dialect: "socketio", readiness: None, command: limit },
    Contender { name: "limit, XPUSH's frames", dialect: "xpush", readiness: None, command: limit },
    Contender { name: "XPUSH", dialect: "xpush", readiness: Some("/readyz"), command: xpush },
    Contender { name: "socketioxide", dialect: "socketio", readiness: None, command: socketioxide },
    Contender {
        name: "socket.io + uWebSockets",
        dialect: "socketio",
        readiness: None,
        command: socketio_uws,
    },
    Contender { name: "socket.io + ws", dialect: "socketio", readiness: None, command: socketio_ws },
];

static LOADS: [Load; 8] = [
    Load {
        name: "single",
        title: "CPU a delivery, 1,000 subscribers, single sends",
        arguments: &["fanout"],
        full: &["--seconds", "3"],
        quick: &["--seconds", "1"],
        figure: "server_cpu_us_per_delivery",
        unit: "µs",
        goal: Goal::Ratio(1.10),
    },
    Load {
        name: "saturated",
        title: "CPU a delivery, 1,000 subscribers, saturated (bursts of 4)",
        arguments: &["fanout", "--mode", "saturated"],
        full: &["--seconds", "3"],
        quick: &["--seconds", "1"],
        figure: "server_cpu_us_per_delivery",
        unit: "µs",
        goal: Goal::Ratio(1.3),
    },
    Load {
        name: "deep",
        title: "the same in bursts of 16",
        arguments: &["fanout", "--mode", "saturated", "--burst", "16"],
        full: &["--seconds", "3"],
        quick: &["--seconds", "1"],
        figure: "server_cpu_us_per_delivery",
        unit: "µs",
        goal: Goal::Told,
    },
    Load {
        name: "idle",
        title: "user memory an idle connection, one subscription",
        arguments: &["idle"],
        full: &[],
        quick: &["--first", "500", "--last", "2000"],
        figure: "user kB a connection",
        unit: "kB",
        goal: Goal::AtMost(2.5),
    },
    Load {
        name: "ack",
        title: "CPU an acked publish",
        arguments: &["ack"],
        full: &["--seconds", "3"],
        quick: &["--seconds", "1"],
        figure: "server_cpu_us_per_delivery",
        unit: "µs",
        goal: Goal::Ratio(1.25),
    },
    Load {
        name: "storm",
        title: "5,000 clients reconnect at once, all back",
        arguments: &["storm"],
        full: &[],
        quick: &["--clients", "500"],
        figure: "all back s",
        unit: "s",
        goal: Goal::Ratio(1.4),
    },
    Load {
        name: "rooms",
        title: "CPU a delivery, 100 rooms × 10 members, all talking",
        arguments: &["rooms"],
        full: &["--seconds", "3"],
        quick: &["--seconds", "1"],
        figure: "server_cpu_us_per_delivery",
        unit: "µs",
        goal: Goal::Ratio(1.2),
    },
    Load {
        name: "slow",
        title: "p99 of the others while 5 % do not read",
        arguments: &["slow"],
        full: &["--seconds", "16", "--rate", "300"],
        quick: &["--seconds", "12", "--rate", "400"],
        figure: "p99 ms of the others",
        unit: "ms",
        goal: Goal::Told,
    },
];

/// Runs the benchmark; false when something went wrong on XPUSH.
pub(crate) fn command(repo: &Repo, words: &[&str]) -> Result<bool, String> {
    if words.iter().any(|word| ["--help", "-h"].contains(word)) {
        print!("{HELP}");
        return Ok(true);
    }
    let options = Options::parse(words)?;
    let contenders: Vec<_> = CONTENDERS
        .iter()
        .filter(|contender| !options.without.iter().any(|name| name == contender.name))
        .collect();
    if options.build {
        build(repo, &contenders)?;
    }
    let scratch = std::env::temp_dir().join(format!("xpush-bench-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let site = Site { repo, scratch, shows_key: false };
    let outcome = compare(&site, &options, &contenders);
    let _ = fs::remove_dir_all(&site.scratch);
    outcome
}

fn compare(site: &Site<'_>, options: &Options, contenders: &[&Contender]) -> Result<bool, String> {
    fs::write(site.scratch.join("xpush.toml"), CONFIG).map_err(|error| error.to_string())?;
    let mut results = Vec::new();
    for load in LOADS.iter().filter(|load| options.wants(load.name)) {
        let mut cells: Vec<Cell> =
            contenders.iter().map(|_| Cell { lines: vec![], trouble: vec![] }).collect();
        for round in 1..=options.rounds {
            for (contender, cell) in contenders.iter().zip(&mut cells) {
                cell.enter(measure(site, contender, load, options));
                let figure = cell.lines.last().and_then(|line| number(line, load.figure));
                let figure =
                    figure.map_or_else(|| "failed".to_owned(), |value| format!("{value:.2} {}", load.unit));
                println!("{} round {round}: {}: {figure}", load.name, contender.name);
            }
        }
        results.push((load, cells));
    }
    let (alone, sqlite) = by_itself(site, options);
    let behind = backend::measure_all(site, options)?;
    let starts = if options.wants("start") { starts(site)? } else { Vec::new() };
    let mut report = match results.is_empty() && starts.is_empty() {
        true => String::new(),
        false => report(contenders, &results, &starts),
    };
    if !alone.is_empty() {
        report += &alone::report(&alone, &sqlite);
    }
    if !behind.is_empty() {
        report += &backend::report(&behind);
    }
    println!("\n{report}");
    if options.complete() {
        let path = site.repo.path("docs/benchmarks.md");
        fs::write(&path, document(site.repo, &report, options))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written to docs/benchmarks.md");
    }
    let ours = contenders.iter().position(|contender| contender.name == "XPUSH");
    let compared = ours.is_none_or(|ours| results.iter().all(|(_, cells)| cells[ours].trouble.is_empty()));
    Ok(compared && alone.iter().chain(&behind).all(|(_, cell)| cell.trouble.is_empty()))
}

/// One load on XPUSH with this configuration: the load generator's JSON line. Nothing is built.
pub(crate) fn load_once(
    repo: &Repo,
    config: &str,
    arguments: &'static [&'static str],
) -> Result<String, String> {
    let load = Load {
        name: "",
        title: "",
        arguments,
        full: &[],
        quick: &[],
        figure: "",
        unit: "",
        goal: Goal::Told,
    };
    let scratch = std::env::temp_dir().join(format!("xpush-load-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let site = Site { repo, scratch, shows_key: false };
    let written = fs::write(site.scratch.join("xpush.toml"), config).map_err(|error| error.to_string());
    let line = written.and_then(|()| measure(&site, xpush_itself(), &load, &Options::parse(&[])?));
    let _ = fs::remove_dir_all(&site.scratch);
    line
}

/// What only XPUSH does, and SQLite without it, in turn, unless nobody asks for that.
fn by_itself(site: &Site<'_>, options: &Options) -> (Vec<(&'static Load, Cell)>, Sqlite) {
    let mut sqlite = Sqlite::default();
    let wanted = ALONE.iter().filter(|load| options.wants(load.name));
    let results: Vec<_> = wanted
        .map(|load| {
            let beside = |line: &str| {
                if let Goal::OfSqlite(_) = load.goal {
                    sqlite.run_beside(site, line);
                }
            };
            (load, rounds(site, load, options, beside))
        })
        .collect();
    (results, sqlite)
}

/// A load's rounds on XPUSH; `beside` is run after each, with the last line that was measured.
fn rounds(site: &Site<'_>, load: &Load, options: &Options, mut beside: impl FnMut(&str)) -> Cell {
    let mut cell = Cell { lines: vec![], trouble: vec![] };
    for round in 1..=options.rounds {
        cell.enter(measure(site, xpush_itself(), load, options));
        let figure = cell.lines.last().and_then(|line| number(line, load.figure));
        println!("{} round {round}: {figure:?} {}", load.name, load.unit);
        if let Some(line) = cell.lines.last() {
            beside(line);
        }
    }
    cell
}

fn xpush_itself() -> &'static Contender {
    CONTENDERS.iter().find(|contender| contender.name == "XPUSH").expect("XPUSH takes part")
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            build: true,
            spin: false,
            rounds: 3,
            without: Vec::new(),
            scenarios: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value\n\n{HELP}"));
            match word {
                "--quick" => (options.quick, options.rounds) = (true, 1),
                "--no-build" => options.build = false,
                "--spin" => options.spin = true,
                "--rounds" => {
                    options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?
                }
                "--without" => options.without.push((*value()?).to_owned()),
                "backend" => options.scenarios.extend(BACKEND.iter().map(|load| load.name.to_owned())),
                name if name == "start"
                    || LOADS.iter().chain(&ALONE).chain(&BACKEND).any(|load| load.name == name) =>
                {
                    options.scenarios.push(name.to_owned());
                }
                _ => return Err(format!("no such option or scenario: {word}\n\n{HELP}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario)
    }

    /// Whether the run may replace the published figures.
    fn complete(&self) -> bool {
        !self.quick && self.rounds >= 3 && self.scenarios.is_empty() && self.without.is_empty()
    }
}

impl Cell {
    fn enter(&mut self, measured: Result<String, String>) {
        let line = match measured {
            Ok(line) => line,
            Err(trouble) => return self.trouble.push(trouble),
        };
        for fault in ["lost", "doubled", "misordered", "stray", "cut"] {
            if let Some(count) = number(&line, fault).filter(|&count| count > 0.0) {
                self.trouble.push(format!("{fault} {count}"));
            }
        }
        if let Some((_, failures)) =
            line.split_once("\"failures\":[").filter(|(_, rest)| !rest.starts_with(']'))
        {
            self.trouble.push(failures.trim_end().trim_end_matches("]}").to_owned());
        }
        self.lines.push(line);
    }

    /// The line whose figure is the median.
    fn median(&self, figure: &str) -> Option<(f64, &str)> {
        let mut found: Vec<_> =
            self.lines.iter().filter_map(|line| Some((number(line, figure)?, line.as_str()))).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.get(found.len() / 2).copied()
    }
}

impl Server {
    fn start(site: &Site<'_>, contender: &Contender) -> Result<Self, String> {
        let port = free_port()?;
        let command = (contender.command)(site, port);
        let log = site.scratch.join("server.log");
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", SERVER_CORE]).arg(command.get_program()).args(command.get_args());
        pinned.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = pinned.spawn().map_err(|error| format!("taskset: {error}"))?;
        let mut server = Self { process, port };
        let started = Instant::now();
        while !server.is_ready(contender.readiness) {
            let ended = server.process.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || started.elapsed() > START_UP {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("did not start: {}", said.lines().last().unwrap_or("no word")));
            }
            #[expect(clippy::disallowed_methods, reason = "another process does not tell that it listens")]
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    fn is_ready(&self, path: Option<&str>) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let Some(path) = path else { return true };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut status = [0; 12];
        let asked =
            stream.set_read_timeout(Some(START_UP)).and_then(|()| stream.write_all(request.as_bytes()));
        asked.is_ok() && stream.read_exact(&mut status).is_ok() && status.ends_with(b" 200")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn limit(site: &Site<'_>, port: u16) -> Command {
    let mut command = Command::new(site.repo.release_binary());
    command.args(["bench", "limit", "--listen", &format!("127.0.0.1:{port}")]);
    command
}

fn xpush(site: &Site<'_>, port: u16) -> Command {
    let mut command = Command::new(site.repo.release_binary());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--config"]).arg(site.scratch.join("xpush.toml"));
    command.arg("--data-dir").arg(site.scratch.join(format!("data-{port}")));
    command
}

fn socketioxide(site: &Site<'_>, port: u16) -> Command {
    let mut command = Command::new(peer_target(site.repo).join("release/peer-socketioxide"));
    command.arg(port.to_string());
    command
}

fn socketio_uws(site: &Site<'_>, port: u16) -> Command {
    node(&site.repo.path("benches/peers/socketio-uws/server.js"), port)
}

fn socketio_ws(site: &Site<'_>, port: u16) -> Command {
    node(&site.repo.path("benches/peers/socketio-ws/server.js"), port)
}

fn node(script: &Path, port: u16) -> Command {
    let mut command = Command::new("node");
    command.arg(script).arg(port.to_string());
    command
}

/// The peer is a workspace of its own and shares no artefacts with ours.
fn peer_target(repo: &Repo) -> PathBuf {
    repo.target.join("peers")
}

/// A peer that cannot be built is told and fails later, by itself; the rest goes on.
fn build(repo: &Repo, contenders: &[&Contender]) -> Result<(), String> {
    show(&mut in_checkout(repo, &["cargo", "build", "--release", "--package", "xpush"]))?;
    show(&mut in_checkout(
        repo,
        &["cargo", "build", "--release", "-p", "xpush-sqlite", "--example", "raw_sqlite"],
    ))?;
    let wanted = |name: &str| contenders.iter().any(|contender| contender.name == name);
    let mut peers = Vec::new();
    if wanted("socketioxide") {
        let manifest = "benches/peers/socketioxide/Cargo.toml";
        let mut cargo =
            in_checkout(repo, &["cargo", "build", "--release", "--locked", "--manifest-path", manifest]);
        cargo.arg("--target-dir").arg(peer_target(repo));
        peers.push(cargo);
    }
    for (name, folder) in [
        ("socket.io + uWebSockets", "benches/peers/socketio-uws"),
        ("socket.io + ws", "benches/peers/socketio-ws"),
    ] {
        if wanted(name) {
            peers.push(npm(repo, folder, &["ci", "--no-audit", "--no-fund", "--ignore-scripts"]));
        }
    }
    for mut peer in peers {
        if let Err(error) = show(&mut peer) {
            println!("a peer could not be had: {error}");
        }
    }
    Ok(())
}

/// One run: a fresh server, one load, the load generator's JSON line.
fn measure(site: &Site<'_>, contender: &Contender, load: &Load, options: &Options) -> Result<String, String> {
    let server = Server::start(site, contender)?;
    let url = format!("ws://127.0.0.1:{}/socket.io/?EIO=4&transport=websocket", server.port);
    let mut generator = Command::new("taskset");
    // Where the server keeps its data: the load measures the disk there.
    generator.current_dir(&site.scratch);
    generator.args(["-c", LOAD_CORE]).arg(site.repo.release_binary()).arg("bench").args(load.arguments);
    generator.args(if options.quick { load.quick } else { load.full });
    generator.args(options.spin.then_some("--spin"));
    generator.args(["--json", "--dialect", contender.dialect, "--url", &url]);
    generator.args(["--server-pid", &server.process.id().to_string()]);
    if site.shows_key {
        generator.env("XPUSH_API_KEY", backend::key(site, server.port)?);
    }
    let output = generator.stdin(Stdio::null()).output().map_err(|error| format!("taskset: {error}"))?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if line.is_empty() { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) } else { Ok(line) }
}

/// Milliseconds from the start of the process until it says that it is ready, sorted.
fn starts(site: &Site<'_>) -> Result<Vec<f64>, String> {
    let ours = xpush_itself();
    let mut found = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let _server = Server::start(site, ours)?;
        found.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    found.sort_by(f64::total_cmp);
    Ok(found)
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|addr| addr.port()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(figure: f64, lost: u32) -> String {
        format!("{{\"figures\":{{\"x\":{figure}}},\"faults\":{{\"lost\":{lost},\"cut\":0}},\"failures\":[]}}")
    }

    #[test]
    fn the_median_round_speaks_for_the_others() {
        let mut cell = Cell { lines: vec![], trouble: vec![] };
        for figure in [3.0, 1.0, 2.5] {
            cell.enter(Ok(line(figure, 0)));
        }
        assert_eq!(cell.median("x").map(|(value, _)| value), Some(2.5));
        assert!(cell.trouble.is_empty(), "{:?}", cell.trouble);
    }

    #[test]
    fn a_fault_in_any_round_is_told() {
        let mut cell = Cell { lines: vec![], trouble: vec![] };
        cell.enter(Ok(line(1.0, 0)));
        cell.enter(Ok(line(1.0, 3)));
        cell.enter(Err("did not start".to_owned()));
        assert_eq!(cell.trouble, ["lost 3", "did not start"]);
    }

    #[test]
    fn only_a_whole_run_is_published() {
        let complete = |words: &[&str]| Options::parse(words).unwrap().complete();
        assert!(complete(&[]) && complete(&["--rounds", "5", "--no-build"]));
        for words in [&["--quick"][..], &["single"], &["--without", "XPUSH"], &["--rounds", "1"]] {
            assert!(!complete(words), "{words:?}");
        }
        assert!(Options::parse(&["backend"]).unwrap().wants("hooks"));
        assert!(Options::parse(&["singel"]).is_err());
        assert!(Options::parse(&["--rounds"]).is_err());
    }
}
