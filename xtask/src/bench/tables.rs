//! The tables of docs/benchmarks.md.

use std::fmt::Write as _;
use std::fs;

use super::{CONFIG, Cell, Contender, Goal, LOAD_CORE, Load, Options, SERVER_CORE};
use crate::repo::Repo;
use crate::run::{command as in_checkout, read};

/// The tables: ratios first, then everything that was measured.
pub(super) fn report(contenders: &[&Contender], results: &[(&Load, Vec<Cell>)], starts: &[f64]) -> String {
    let mut text = String::from("## Ratios to the limit server\n\n| |");
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    let _ =
        writeln!(text, " {} | goal for XPUSH |\n|---|{}---|", names.join(" | "), "---|".repeat(names.len()));
    for (load, cells) in results {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            load.title,
            ratios(load, contenders, cells),
            load.goal.words()
        );
    }
    if let [first, .., last] = starts {
        let median = starts[starts.len() / 2];
        let _ = writeln!(
            text,
            "\nStart to ready: {median:.0} ms (median of {}; {first:.0} to {last:.0}); goal: 150 ms.",
            starts.len()
        );
    }
    text.push_str(
        "\n† Something was lost, doubled, out of order, altered or not cut off: see the faults below.\n",
    );
    text.push_str("\n## Raw figures\n\nOf the median round, with the extremes of all rounds.\n");
    for (load, cells) in results {
        let _ = writeln!(text, "\n### {}\n", load.title);
        let rows = contenders.iter().zip(cells).map(|(contender, cell)| (contender.name, *load, cell));
        text += &raw_table(rows);
    }
    text
}

impl Goal {
    pub(super) fn words(&self) -> String {
        match self {
            Self::OfSqlite(least) => format!("≥ {least} × SQLite by itself"),
            Self::Ratio(most) => format!("≤ {most:.2}"),
            Self::AtMost(most) => format!("≤ {most} (absolute)"),
            Self::AtLeast(least) => format!("≥ {least} (absolute)"),
            Self::Told => String::new(),
        }
    }
}

/// The limit server's figure with its unit, the others' as multiples of it.
fn ratios(load: &Load, contenders: &[&Contender], cells: &[Cell]) -> String {
    let figure = |cell: &Cell| cell.median(load.figure).map(|(value, _)| value);
    let yardstick = contenders.iter().zip(cells).find(|(contender, _)| contender.name == "limit");
    let yardstick = yardstick.and_then(|(_, cell)| figure(cell));
    let words = contenders.iter().zip(cells).map(|(contender, cell)| {
        let Some(value) = figure(cell) else { return "failed †".to_owned() };
        let absolute = format!("{value:.2} {}", load.unit);
        let word = match (yardstick, &load.goal) {
            (None, _) | (_, Goal::AtMost(_)) => absolute,
            _ if contender.name == "limit" => format!("1.00 ({absolute})"),
            (Some(one), _) => format!("{:.2}", value / one),
        };
        if cell.trouble.is_empty() { word } else { word + " †" }
    });
    words.collect::<Vec<_>>().join(" | ")
}

/// What was measured, a row for each name.
pub(super) fn raw_table<'a>(rows: impl Iterator<Item = (&'a str, &'a Load, &'a Cell)>) -> String {
    let mut text = String::from(
        "| | figure | arrived a second | p50 | p99 | server: user | busy | RSS | load: busy | faults |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, load, cell) in rows {
        let _ = writeln!(text, "| {name} |{}", raw(load, cell));
    }
    text
}

fn raw(load: &Load, cell: &Cell) -> String {
    let Some((value, line)) = cell.median(load.figure) else {
        return format!(" failed: {} |||||||||", cell.trouble.join("; "));
    };
    let all = cell.lines.iter().filter_map(|line| number(line, load.figure));
    let (least, most) = all.fold((value, value), |(least, most), value| (least.min(value), most.max(value)));
    let of = |section: &str, key: &str| {
        let section = line.split_once(&format!("\"{section}\":{{")).map_or("", |(_, section)| section);
        number(section, key)
    };
    let percent =
        |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
    let time = |us: Option<f64>| us.map_or_else(String::new, |us| format!("{:.2} ms", us / 1000.0));
    let rate = number(line, "deliveries").unwrap_or_default() / number(line, "seconds").unwrap_or(f64::NAN);
    let rss = of("server", "rss_kb").map_or_else(String::new, |kb| format!("{:.1} MB", kb / 1024.0));
    let trouble = if cell.trouble.is_empty() { "none".to_owned() } else { cell.trouble.join("; ") };
    let mut kernel = String::new();
    if let Some(kb) = number(line, "kernel kB a connection, both ends") {
        let _ = write!(kernel, "; kernel {kb:.1} kB for both ends");
    }
    if let Some(cut) = number(line, "slow ones cut off") {
        let _ = write!(kernel, "; cut off {cut:.0} of {:.0}", number(line, "slow").unwrap_or_default());
    }
    format!(
        " {value:.2} {} ({least:.2} to {most:.2}){kernel} | {rate:.0} | {} | {} | {} | {} | {rss} | {} | {trouble} |",
        load.unit,
        time(of("latency_us", "p50")),
        time(of("latency_us", "p99")),
        percent(of("server", "user_share")),
        percent(of("server", "busy")),
        percent(of("load", "busy")),
    )
}

const SPINNING: &str = "The load polled without sleeping (`--spin`), so no server paid for waking it up.";
const SLEEPING: &str = "The load slept when nothing had arrived, so a delivery may include waking it up.";

/// The page around the tables.
pub(super) fn document(repo: &Repo, report: &str, options: &Options) -> String {
    let version =
        |words: &[&str]| read(&mut in_checkout(repo, words)).unwrap_or_else(|| "unknown".to_owned());
    let fact = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = fact("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; do not edit. The same load, by the same generator (`xpush bench`, whose WebSocket\n\
         client shares no code with the server), on servers that do the same: subscribe, publish to a channel, deliver to\n\
         everybody in it, ack. The server has core {SERVER_CORE} and the load has core {LOAD_CORE}. Each figure is the median of {rounds} rounds, A B A B,\n\
         each with a fresh server. CPU is user + kernel time of the server, from the scheduler. Every message carries its\n\
         publisher, number and time of sending; whatever was lost, doubled, out of order or altered is told under \"faults\".\n\n\
         {waiting}\n\n\
         The limit server (`xpush bench limit`) is the yardstick: a bare epoll loop that checks nothing and writes ready-made\n\
         bytes, once a connection and turn; it serves the peers' dialect and, in a column of its own, frames as long as\n\
         XPUSH's, which tell channel, id, sender and time with each message. Ratios travel between machines, absolute figures do not.\n\n\
         {report}\n\
         ## This machine\n\n\
         {cores} × {model}, Linux {kernel}, congestion control {congestion}, {rustc}, Node {node}.\n\n\
         ## To repeat it\n\n\
         ```sh\n\
         cargo xtask bench            # everything, and this file\n\
         cargo xtask bench --quick    # does it work?\n\
         cargo xtask bench single     # one scenario\n\
         cargo xtask bench backend    # what stands behind an app\n\
         ```\n\n\
         By hand, on any server:\n\n\
         ```sh\n\
         taskset -c 0 target/release/xpush bench limit --listen 127.0.0.1:8001 &\n\
         taskset -c 1 target/release/xpush bench fanout --dialect socketio --server-pid $! \\\n\
         \x20 --url 'ws://127.0.0.1:8001/socket.io/?EIO=4&transport=websocket'\n\
         ```\n\n\
         XPUSH ran with this configuration, as thousands of clients come from one address here:\n\n\
         ```toml\n{CONFIG}```\n\n\
         uWebSockets.js is not on npm; its peer runs Truffle's build of version 20.30.0, which exists for Node 16, 18 and 20.\n",
        rounds = options.rounds,
        waiting = if options.spin { SPINNING } else { SLEEPING },
        model = model.trim_start_matches([' ', '\t', ':']),
        kernel = version(&["uname", "-r"]),
        congestion = fact("/proc/sys/net/ipv4/tcp_congestion_control"),
        rustc = version(&["rustc", "--version"]),
        node = version(&["node", "--version"]),
    )
}

/// The number under a key of the load generator's flat JSON.
pub(crate) fn number(json: &str, key: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    rest.split([',', '}']).next()?.trim().parse().ok()
}
