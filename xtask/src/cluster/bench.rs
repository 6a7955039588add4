//! `cargo xtask bench cluster`: the way between servers, and a server that is killed, on the cluster that `cargo xtask cluster` starts.

use std::path::Path;
use std::sync::mpsc;

use crate::bench::number;
use crate::repo::Repo;
use crate::run::{command, show};
use crate::suite::needs;

use super::files::Places;
use super::{NEEDS, Options, Running, Stop};

const HELP: &str = "\
Usage: cargo xtask bench cluster [--quick] [--port PORT] [--binary FILE]

Starts a cluster as `cargo xtask cluster` does, and measures on it: the time from a publish at one channel server until a subscriber at another one has it, at
1,000 and at 5,000 publishes a second; and how long the clients of a server that is killed are without one, with 2,000 clients. Leave the machine alone meanwhile.

  --quick        short, with few clients: shows that it works, not how fast
  --port PORT    nginx's port; the others follow within the next 30 (default 8000)
  --binary FILE  this xpush instead of the release build
";

/// A load on the cluster.
struct Load {
    title: String,
    arguments: Vec<String>,
    figure: &'static str,
    /// At most.
    goal: f64,
}

/// Prints a line for each load; whether all ran without a fault. Goals are for a machine that does nothing else.
pub(crate) fn run(repo: &Repo, options: &[&str]) -> Result<bool, String> {
    if matches!(options, ["--help" | "-h"]) {
        print!("{HELP}");
        return Ok(true);
    }
    let quick = options.contains(&"--quick");
    let others: Vec<&str> = options.iter().copied().filter(|option| *option != "--quick").collect();
    let chosen = super::parse(repo, &others).map_err(|error| format!("{error}\n\n{HELP}"))?;
    if let Some((need, reason)) = needs::install_all(repo, NEEDS).into_iter().next() {
        return Err(format!("{need} is missing: {reason}"));
    }
    if chosen.binary == repo.release_binary() {
        show(&mut command(repo, &["cargo", "build", "--locked", "--release", "-p", "xpush"]))?;
    }
    let places = Places { unlimited: true, ..Places::new(repo, chosen.port) };
    // It may not be there.
    let _ = std::fs::remove_dir_all(&places.folder);
    std::fs::create_dir_all(&places.folder)
        .map_err(|error| format!("{}: {error}", places.folder.display()))?;
    let mut running = Running { services: Vec::new(), servers: Vec::new(), front: None };
    let outcome = measure(repo, &chosen, &places, &mut running, quick);
    running.stop();
    outcome
}

fn measure(
    repo: &Repo,
    options: &Options,
    places: &Places,
    running: &mut Running,
    quick: bool,
) -> Result<bool, String> {
    // Nobody asks for an end: as long as the sender is there, nothing comes.
    let (_asks, ended) = mpsc::channel();
    running.start(repo, options, places, &ended).map_err(|stop| match stop {
        Stop::Failed(reason) => reason,
        Stop::Asked => "it was ended".to_owned(),
    })?;
    let mut good = true;
    for Load { title, arguments, figure, goal } in loads(places, running.process("channel-1"), quick) {
        let line = bench(repo, &options.binary, &arguments)?;
        let found = number(&line, figure);
        let shown = found.map_or("nothing".to_owned(), |found| format!("{found:.2}"));
        println!("{title}: {figure} {shown} (goal: {goal})");
        if !line.contains("\"failures\":[]") || found.is_none() {
            println!("  {line}");
            good = false;
        }
    }
    Ok(good)
}

fn loads(places: &Places, victim: u32, quick: bool) -> Vec<Load> {
    let url = |name| format!("ws://127.0.0.1:{}/socket.io/?EIO=4&transport=websocket", places.port(name));
    let [first, second, third] = ["channel-1", "channel-2", "channel-3"].map(url);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let across = |rate: &str, goal| Load {
        title: format!("across servers, {rate} publishes a second"),
        arguments: words(&[
            "across",
            "--url",
            &first,
            "--reader",
            &second,
            "--reader",
            &third,
            "--rate",
            rate,
            "--seconds",
            if quick { "1" } else { "20" },
        ]),
        figure: "p99 ms across",
        goal,
    };
    let clients = if quick { "60" } else { "2000" };
    let heal = Load {
        title: format!("a server of three is killed, {clients} clients"),
        arguments: words(&[
            "heal",
            "--url",
            &first,
            "--server",
            &second,
            "--server",
            &third,
            "--clients",
            clients,
            "--kill",
            &victim.to_string(),
        ]),
        figure: "p99 s until healed",
        goal: 3.0,
    };
    // The last one costs a server.
    vec![across("1000", 4.0), across("5000", 20.0), heal]
}

/// The load generator's line of JSON, whether or not all was well.
fn bench(repo: &Repo, binary: &Path, arguments: &[String]) -> Result<String, String> {
    let mut load = command(repo, &[&binary.to_string_lossy(), "bench"]);
    let output = load.args(arguments).arg("--json").output();
    let output = output.map_err(|error| format!("{}: {error}", binary.display()))?;
    let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match line.is_empty() {
        true => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        false => Ok(line),
    }
}
