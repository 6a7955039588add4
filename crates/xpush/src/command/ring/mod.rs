//! `xpush ring`: who carries which channel.

mod chart;
mod fleet;
mod replicas;
mod replicas_chart;
mod scenario;
mod shares_chart;

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Told, json as shown};
use fleet::{Change, Fleet};

const EXAMPLES: &str = "\
Examples:
  xpush ring simulate                          the classic: 10 servers, 10,000 keys, 1 to 500 points a server
  xpush ring simulate --svg spread.svg         the same as a picture
  xpush ring simulate --weights a=1,b=1,c=0.5 --keys 100000
  xpush ring simulate --nodes 10 --step leave=node-03 --step join=node-11 --step weight=node-05:0.25
  xpush ring simulate --zipf 1.1 --svg shares.svg
                                               a few channels have most clients: the ring alone, and with its bound
  xpush ring simulate --nodes 1000 --keys 10000000

What the figures mean, and how to plan by them: docs/placement.md.";

/// Who carries which channel: try a ring of servers out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Rings {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How evenly a ring spreads channels and clients, and what moves when it changes.
    #[command(after_help = EXAMPLES)]
    Simulate(Simulate),
}

#[derive(Debug, Args)]
struct Simulate {
    /// The spread against the points of a server, from 1 to --points [what is done when no scenario is given].
    #[arg(long, conflicts_with_all = ["weights", "step", "zipf", "clients"])]
    classic: bool,
    /// So many servers, node-1, node-2 … [default: 10].
    #[arg(long, value_name = "COUNT", conflicts_with = "weights", value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: Option<u32>,
    /// Servers with their weights, from 0 (drains) to 1 (whole).
    #[arg(long, value_name = "NAME=WEIGHT,…", value_delimiter = ',', value_parser = fleet::weighted)]
    weights: Vec<fleet::Weighted>,
    /// Points of a whole server [default: 4000; of the classic: up to 500].
    #[arg(long, alias = "replicas", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=4000))]
    points: Option<u16>,
    /// How many channels [default: 100000; of the classic: 10000].
    #[arg(long, alias = "channels", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    keys: Option<u32>,
    /// Clients by Zipf's law: the channel of rank r has r^-S as many as the first one. 1 is usual, more is more skewed.
    #[arg(long, value_name = "S", value_parser = exponent)]
    zipf: Option<f64>,
    /// How many clients, when they are skewed [default: 10 for each channel, 10 million at most].
    #[arg(long, value_name = "COUNT", requires = "zipf", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    clients: Option<u32>,
    /// What happens to the ring, one after the other: join=NAME, join=NAME:WEIGHT, leave=NAME, weight=NAME:WEIGHT.
    #[arg(long, value_name = "CHANGE", value_parser = fleet::change)]
    step: Vec<Change>,
    /// As JSON, with every server.
    #[arg(long)]
    json: bool,
    /// Also as a picture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(rings: &Rings) -> Told {
    let What::Simulate(asked) = &rings.what;
    let scenario = asked.nodes.is_some()
        || !asked.weights.is_empty()
        || asked.points.is_some()
        || asked.keys.is_some()
        || asked.zipf.is_some()
        || !asked.step.is_empty();
    let (answer, picture) = if asked.classic || !scenario { classic(asked) } else { play(asked)? };
    if let Some(file) = &asked.svg {
        fs::write(file, picture).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(answer)
}

/// What is told, and its picture.
type Seen = (String, String);

fn classic(asked: &Simulate) -> Seen {
    let study = replicas::study(&replicas::Question {
        servers: asked.nodes.unwrap_or(10),
        keys: asked.keys.unwrap_or(10_000),
        most: asked.points.unwrap_or(500),
    });
    let answer = if asked.json { shown(&study.json()) } else { study.tables() };
    (answer, replicas_chart::draw(&study))
}

fn play(asked: &Simulate) -> Result<Seen, String> {
    let points = asked.points.unwrap_or(4_000);
    let fleet = match &asked.weights[..] {
        [] => Fleet::of(asked.nodes.unwrap_or(10), points),
        weights => Fleet::weighted(weights, points)?,
    };
    let keys = asked.keys.unwrap_or(100_000);
    let clients = asked.clients.unwrap_or_else(|| keys.saturating_mul(10).min(10_000_000.max(keys)));
    let skew = asked.zipf.map(|exponent| scenario::Skew { exponent, clients });
    let outcome = scenario::play(fleet, keys, skew, &asked.step)?;
    let answer = if asked.json { shown(&outcome.json()) } else { outcome.tables() };
    Ok((answer, shares_chart::draw(&outcome)))
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("an exponent from 0 (all alike) to 10".to_owned()),
    }
}

#[cfg(test)]
mod tests;
