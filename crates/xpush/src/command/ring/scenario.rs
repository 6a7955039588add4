//! A ring with channels and clients on it, and what moves when it changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xpush_core::placement::{Assigner, Host, Occupancy, Table};
use xpush_core::{App, Channel, ChannelKey};

use super::fleet::{Change, Fleet};
use crate::command::{columns, terminal};

/// Clients come in so many waves, so that large channels and small ones grow together.
const WAVES: u64 = 10;

/// Servers that a table shows before it leaves out the middle.
const SHOWN: usize = 40;

/// How clients are skewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skew {
    /// Zipf's exponent.
    pub(super) exponent: f64,
    /// How many there are.
    pub(super) clients: u32,
}

/// What came out, after the last change.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) keys: u32,
    pub(super) skew: Option<Skew>,
    pub(super) servers: Vec<Server>,
    pub(super) steps: Vec<Step>,
    /// Channels with clients on more than one server.
    split: Option<u32>,
}

/// A server with what it carries.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) points: u16,
    /// Its part of all weights.
    pub(super) fair: f64,
    pub(super) keys: u32,
    pub(super) clients: Option<Clients>,
}

/// Clients of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clients {
    /// If each went to its channel's owner.
    pub(super) owned: u64,
    /// As they are assigned: within the bound.
    pub(super) assigned: u64,
}

/// What a change moved.
#[derive(Debug)]
pub(super) struct Step {
    what: String,
    moved: u64,
    /// How many keys had to move, for shares to be fair.
    needed: f64,
    /// Keys that moved between servers that did not change: none, or the ring is broken.
    elsewhere: u64,
}

/// Spread over servers, of something that has a fair share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    /// Root mean square of the deviations from the fair share, in %.
    pub(super) deviation: f64,
    /// The least and the most, in times of the fair share.
    pub(super) least: f64,
    pub(super) most: f64,
}

/// Says on a terminal how far something is that takes more than a second.
pub(super) struct Progress {
    what: &'static str,
    began: Instant,
    told: Option<Instant>,
}

/// Plays a scenario.
pub(super) fn play(
    mut fleet: Fleet,
    keys: u32,
    skew: Option<Skew>,
    steps: &[Change],
) -> Result<Outcome, String> {
    let hashes = self::keys(keys, &mut Progress::new("channels"));
    let mut table = Table::new(fleet.ring()?);
    let mut owners = owners(&table, &hashes);
    let mut told = Vec::new();
    for change in steps {
        let next = fleet.after(change)?;
        let changed = table.changed(next.ring()?);
        let after = self::owners(&changed, &hashes);
        told.push(step(change, (&table, &owners), (&changed, &after)));
        (fleet, table, owners) = (next, changed, after);
    }
    let mut servers = servers(&table, &owners);
    let mut split = None;
    if let Some(skew) = skew {
        let sizes = zipf(keys, skew);
        for (owner, size) in owners.iter().zip(&sizes) {
            let owned = usize::from(*owner);
            let Some(server) = servers.get_mut(owned) else { continue };
            let clients = server.clients.get_or_insert(Clients { owned: 0, assigned: 0 });
            clients.owned += u64::from(*size);
        }
        let (assigned, parted) = assign(table, &hashes, &sizes);
        split = Some(parted);
        for (server, assigned) in servers.iter_mut().zip(assigned) {
            server.clients.get_or_insert(Clients { owned: 0, assigned: 0 }).assigned = assigned;
        }
    }
    Ok(Outcome { keys, skew, servers, steps: told, split })
}

/// The first channels of an app, as places on the ring.
pub(super) fn keys(count: u32, progress: &mut Progress) -> Vec<u64> {
    let (Ok(app), true) = (App::new("demo"), count > 0) else { return Vec::new() };
    let key = |number: u32| {
        progress.at(u64::from(number), u64::from(count));
        Channel::new(&format!("room:{number}")).map(|channel| ChannelKey::new(app.clone(), channel).hash64())
    };
    (1..=count).map(key).filter_map(Result::ok).collect()
}

// === impl Outcome ===

impl Outcome {
    /// How keys are spread.
    pub(super) fn of_keys(&self) -> Summary {
        self.summary(|server| f64::from(server.keys))
    }

    /// How clients are spread: by the ring alone, and as they are assigned.
    pub(super) fn of_clients(&self) -> Option<(Summary, Summary)> {
        self.skew?;
        let of = |count: fn(&Clients) -> u64| {
            self.summary(|server| server.clients.as_ref().map_or(0.0, |clients| float(count(clients))))
        };
        Some((of(|clients| clients.owned), of(|clients| clients.assigned)))
    }

    fn summary(&self, count: impl Fn(&Server) -> f64) -> Summary {
        let all: f64 = self.servers.iter().map(&count).sum();
        let weighty = self.servers.iter().filter(|server| server.fair > 0.0);
        let ratios: Vec<f64> = weighty.map(|server| count(server) / (server.fair * all).max(1e-9)).collect();
        let squares: f64 = ratios.iter().map(|ratio| (ratio - 1.0).powi(2)).sum();
        Summary {
            deviation: 100.0 * (squares / float(ratios.len().max(1) as u64)).sqrt(),
            least: ratios.iter().copied().reduce(f64::min).unwrap_or(0.0),
            most: ratios.iter().copied().reduce(f64::max).unwrap_or(0.0),
        }
    }

    pub(super) fn tables(&self) -> String {
        let points: u32 = self.servers.iter().map(|server| u32::from(server.points)).sum();
        let mut told = format!("{} servers with {points} points, {} channels", self.servers.len(), self.keys);
        if let Some(Skew { exponent, clients }) = self.skew {
            told += &format!(", {clients} clients by Zipf's law with s = {exponent}");
        }
        told += if self.steps.is_empty() { "\n\n" } else { "; after all changes\n\n" };
        told += &columns(&self.rows());
        told += &format!("\n{}", columns(&self.summaries()));
        if let Some(split) = self.split {
            told += &format!("\n{split} channels have clients on more than one server.\n");
        }
        if !self.steps.is_empty() {
            told += &format!("\n{}", columns(&self.moves()));
        }
        told
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            ["server", "points", "channels", "   share", "    fair", "deviation"].map(str::to_owned).to_vec(),
        ];
        if self.skew.is_some() {
            rows[0].extend(["clients, ring alone", "clients, assigned"].map(str::to_owned));
        }
        let left_out = self.servers.len() > SHOWN;
        for (at, server) in self.servers.iter().enumerate() {
            if left_out && at == SHOWN / 2 {
                rows.push(vec![format!("… {} more", self.servers.len() - SHOWN / 2 * 2)]);
            }
            if left_out && (SHOWN / 2..self.servers.len() - SHOWN / 2).contains(&at) {
                continue;
            }
            let share = f64::from(server.keys) / f64::from(self.keys);
            let deviation = if server.fair > 0.0 {
                format!("{:>+7.1} %", 100.0 * (share / server.fair - 1.0))
            } else {
                format!("{:>7}", "–")
            };
            let mut row = vec![
                server.name.clone(),
                format!("{:>6}", server.points),
                format!("{:>8}", server.keys),
                format!("{:>6.2} %", 100.0 * share),
                format!("{:>6.2} %", 100.0 * server.fair),
                deviation,
            ];
            if let Some(Clients { owned, assigned }) = server.clients {
                row.extend([format!("{owned:>19}"), format!("{assigned:>17}")]);
            }
            rows.push(row);
        }
        rows
    }

    fn summaries(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["", "deviation", " least", "  most"].map(str::to_owned).to_vec()];
        let mut row = |what: &str, Summary { deviation, least, most }| {
            rows.push(vec![
                what.to_owned(),
                format!("{deviation:>7.1} %"),
                format!("{least:.2} ×"),
                format!("{most:.2} × the fair share"),
            ]);
        };
        row("channels", self.of_keys());
        if let Some((owned, assigned)) = self.of_clients() {
            row("clients, ring alone", owned);
            row("clients, assigned", assigned);
        }
        rows
    }

    fn moves(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![["change", "moved", "needed", "ratio", "moved elsewhere"].map(str::to_owned).to_vec()];
        for Step { what, moved, needed, elsewhere } in &self.steps {
            let part = 100.0 * float(*moved) / f64::from(self.keys);
            let ratio =
                if *needed > 0.0 { format!("{:.2}", float(*moved) / needed) } else { "–".to_owned() };
            rows.push(vec![
                what.clone(),
                format!("{moved} ({part:.1} %)"),
                format!("{needed:.0}"),
                ratio,
                elsewhere.to_string(),
            ]);
        }
        rows
    }

    pub(super) fn json(&self) -> Value {
        let server = |server: &Server| {
            let mut told = json!({
                "name": server.name,
                "points": server.points,
                "fair_share": server.fair,
                "channels": server.keys,
                "share": f64::from(server.keys) / f64::from(self.keys),
            });
            if let Some(Clients { owned, assigned }) = server.clients {
                told["clients"] = json!({"ring_alone": owned, "assigned": assigned});
            }
            told
        };
        let step = |Step { what, moved, needed, elsewhere }: &Step| json!({"change": what, "moved": moved, "needed": needed, "moved_elsewhere": elsewhere});
        let summary = |Summary { deviation, least, most }| json!({"deviation_percent": deviation, "least_by_fair": least, "most_by_fair": most});
        let mut told = json!({
            "channels": self.keys,
            "servers": self.servers.iter().map(server).collect::<Vec<_>>(),
            "spread": {"channels": summary(self.of_keys())},
            "changes": self.steps.iter().map(step).collect::<Vec<_>>(),
        });
        if let (Some((owned, assigned)), Some(skew)) = (self.of_clients(), self.skew) {
            told["zipf"] = json!(skew.exponent);
            told["clients"] = json!(skew.clients);
            told["spread"]["clients_ring_alone"] = summary(owned);
            told["spread"]["clients_assigned"] = summary(assigned);
            told["split_channels"] = json!(self.split);
        }
        told
    }
}

// === impl Progress ===

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, began: Instant::now(), told: None }
    }

    /// So far it is; cheap, but for each thousandth call.
    pub(super) fn at(&mut self, done: u64, total: u64) {
        if total >= 10_000 && !done.is_multiple_of(total / 1_000) && done != total {
            return;
        }
        let now = Instant::now();
        let due =
            self.told.map_or(self.began + Duration::from_secs(1), |told| told + Duration::from_millis(100));
        if now >= due || (done == total && self.told.is_some()) {
            terminal::progress(self.what, done, total);
            self.told = Some(now);
        }
    }
}

/// Whose each channel is.
fn owners(table: &Table, hashes: &[u64]) -> Vec<u16> {
    let (mut progress, total) = (Progress::new("look-ups"), hashes.len() as u64);
    let owner = |(hash, number): (&u64, u64)| {
        progress.at(number, total);
        table.owner(*hash).and_then(|owner| u16::try_from(owner).ok()).unwrap_or(u16::MAX)
    };
    hashes.iter().zip(1..).map(owner).collect()
}

fn servers(table: &Table, owners: &[u16]) -> Vec<Server> {
    let nodes = table.ring().nodes();
    let all: f64 = nodes.iter().map(|node| node.weight.share()).sum();
    let mut owned = vec![0_u32; nodes.len()];
    for owner in owners {
        if let Some(owned) = owned.get_mut(usize::from(*owner)) {
            *owned += 1;
        }
    }
    let server = |(node, keys): (&xpush_core::placement::RingNode, u32)| Server {
        name: node.name.to_string(),
        points: node.weight.points(),
        fair: if all > 0.0 { node.weight.share() / all } else { 0.0 },
        keys,
        clients: None,
    };
    nodes.iter().zip(owned).map(server).collect()
}

/// What moved from one table to the next.
fn step(change: &Change, before: (&Table, &[u16]), after: (&Table, &[u16])) -> Step {
    let fair = |table: &Table| {
        let all: f64 = table.ring().nodes().iter().map(|node| node.weight.share()).sum();
        let weight = table.ring().weight(change.name()).map_or(0.0, |weight| weight.share());
        if all > 0.0 { weight / all } else { 0.0 }
    };
    let name = |table: &Table, owner: u16| {
        table.ring().nodes().get(usize::from(owner)).map(|node| node.name.clone())
    };
    // Names by number are compared, not by text: where the servers of the one are in the other.
    let places: Vec<Option<usize>> =
        before.0.ring().nodes().iter().map(|node| after.0.place(&node.name)).collect();
    let (mut moved, mut elsewhere) = (0, 0);
    for (from, to) in before.1.iter().zip(after.1) {
        let same = places.get(usize::from(*from)).copied().flatten() == Some(usize::from(*to));
        if !(same || *from == u16::MAX && *to == u16::MAX) {
            moved += 1;
            let whom = Some(change.name().clone());
            elsewhere += u64::from(name(before.0, *from) != whom && name(after.0, *to) != whom);
        }
    }
    let needed = (fair(after.0) - fair(before.0)).abs() * float(before.1.len() as u64);
    Step { what: change.told(), moved, needed, elsewhere }
}

/// How many clients each channel has, the largest first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most as many as there are clients"
)]
fn zipf(channels: u32, Skew { exponent, clients }: Skew) -> Vec<u32> {
    let part = |rank: u32| f64::from(rank).powf(-exponent);
    let all: f64 = (1..=channels).map(part).sum();
    // Rounded sums, so that the parts are the whole.
    let (mut sum, mut placed) = (0.0, 0_u32);
    let size = |rank: u32| {
        sum += part(rank);
        let until = (sum / all * f64::from(clients)).round() as u32;
        let size = until.saturating_sub(placed);
        placed = placed.max(until);
        size
    };
    (1..=channels).map(size).collect()
}

/// Assigns every client, on servers that will be half full: how many each has, and how many channels are split.
fn assign(table: Table, hashes: &[u64], sizes: &[u32]) -> (Vec<u64>, u32) {
    let clients: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
    let weights: u64 = table.ring().nodes().iter().map(|node| u64::from(node.weight.points())).sum();
    let places: Vec<u64> = table.ring().nodes().iter().map(|node| u64::from(node.weight.points())).collect();
    let mut assigner = Assigner::new(Arc::new(table));
    for (server, points) in places.iter().enumerate() {
        let capacity = (2 * clients * points).div_ceil(weights.max(1)) + 1;
        assigner.report(server, Occupancy { up: true, connections: 0, capacity });
    }
    // Almost every channel has one host, and there may be millions of them.
    let mut first: Vec<Option<(u16, u32)>> = vec![None; hashes.len()];
    let mut further: HashMap<usize, Vec<Host>> = HashMap::new();
    let (mut progress, mut done) = (Progress::new("clients"), 0);
    for wave in 1..=WAVES {
        for (channel, (hash, size)) in hashes.iter().zip(sizes).enumerate() {
            // Small channels come in different waves.
            let until = |wave: u64| (u64::from(*size) * wave + channel as u64 % WAVES) / WAVES;
            for _ in until(wave - 1)..until(wave) {
                done += 1;
                progress.at(done, clients);
                place(&mut assigner, *hash, channel, &mut first[channel], &mut further);
            }
        }
    }
    let assigned = |server| assigner.occupancy(server).map_or(0, |now| now.connections);
    ((0..places.len()).map(assigned).collect(), u32::try_from(further.len()).unwrap_or(u32::MAX))
}

/// Assigns one client.
fn place(
    assigner: &mut Assigner,
    hash: u64,
    channel: usize,
    first: &mut Option<(u16, u32)>,
    further: &mut HashMap<usize, Vec<Host>>,
) {
    let host =
        first.map(|(server, clients)| Host { server: usize::from(server), clients: u64::from(clients) });
    let server = match (host, further.get_mut(&channel)) {
        (None, _) => {
            let server = assigner.assign(hash, &[]).server;
            *first = server.and_then(|server| Some((u16::try_from(server).ok()?, 1)));
            return;
        }
        (Some(host), None) => assigner.assign(hash, &[host]).server,
        (Some(host), Some(others)) => {
            others.push(host);
            let server = assigner.assign(hash, others).server;
            others.pop();
            server
        }
    };
    match (server, first) {
        (Some(server), Some((at, clients))) if usize::from(*at) == server => *clients += 1,
        (Some(server), _) => {
            let others = further.entry(channel).or_default();
            match others.iter_mut().find(|host| host.server == server) {
                Some(host) => host.clients += 1,
                None => others.push(Host { server, clients: 1 }),
            }
        }
        (None, _) => {}
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn float(count: u64) -> f64 {
    count as f64
}
