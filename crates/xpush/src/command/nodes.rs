//! `xpush nodes`, `xpush drain`, `xpush undrain`, `xpush rebalance`: the servers of a cluster, which of them are to be emptied, and who carries how much.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use xpush_core::placement::{Ring, RingNode};
use xpush_core::ports::Failure;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Node, Settings, Standing, View};
use xpush_core::{NodeName, SettingName};
use xpush_session::placement::{MOVE, PLAN, proposal, wish};

use super::{Told, noted, now, settings, wait};
use crate::backends;
use crate::cli::Site;
use crate::config::nearest;

const EXAMPLES: &str = "\
Examples:
  xpush nodes                     the servers, their weights and what they carry
  xpush nodes --json              the same for programs
  xpush drain push-2              its clients go elsewhere, new ones are not sent there; it goes on running
  xpush undrain push-2            it takes clients again
  xpush rebalance --dry-run       the shares that servers would have if weights followed their load at once
  xpush rebalance                 does that, and has clients go where their channels are now, within half a minute

Each reads the [zookeeper] section of the server's own configuration file: run it where a server runs, or give --config.";

/// How long ZooKeeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the planner may take, which looks every two seconds.
const RING: Duration = Duration::from_secs(6);

/// List the servers of the cluster: weights, shares, connections.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Nodes {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

/// Have a server's clients go elsewhere, and send it no new ones.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Drain {
    /// The server's name, as `xpush nodes` shows it.
    name: String,
    #[command(flatten)]
    site: Site,
}

/// Take `xpush drain` back.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Undrain {
    /// The server's name, as `xpush nodes` shows it.
    name: String,
    #[command(flatten)]
    site: Site,
}

/// Plan the weights anew at once, by what servers carry now, and have clients follow. Without it weights follow load by themselves, slowly, and clients stay where
/// they are: this is for after servers were added, or after an outage.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Rebalance {
    /// Only show what would become of the shares.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    site: Site,
}

/// The cluster, seen from outside.
pub(super) struct Watched {
    cluster: Arc<dyn Cluster>,
    settings: Arc<dyn Settings>,
    views: mpsc::Receiver<Arc<View>>,
    pub(super) view: Arc<View>,
    /// What the cluster's handle works on.
    _runtime: tokio::runtime::Runtime,
}

struct Newest(Mutex<mpsc::Sender<Arc<View>>>);

impl ClusterSink for Newest {
    fn view(&self, view: Arc<View>) {
        if let Ok(sender) = self.0.lock() {
            // Nobody listens any more once a live view has come.
            let _ = sender.send(view);
        }
    }
}

/// The first view that the cluster itself has given, if one comes within `patience`.
pub(super) fn live_view(cluster: &dyn Cluster, patience: Duration) -> Option<Arc<View>> {
    next(&watch(cluster), patience, |_| true)
}

fn watch(cluster: &dyn Cluster) -> mpsc::Receiver<Arc<View>> {
    let (sender, views) = mpsc::channel();
    cluster.watch(Arc::new(Newest(Mutex::new(sender))));
    views
}

/// The first view that comes within `patience`, is live, and as wanted.
fn next(
    views: &mpsc::Receiver<Arc<View>>,
    patience: Duration,
    wanted: impl Fn(&View) -> bool,
) -> Option<Arc<View>> {
    let deadline = Instant::now() + patience;
    loop {
        let view = views.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
        if view.standing == Standing::Live && wanted(&view) {
            return Some(view);
        }
    }
}

impl Watched {
    pub(super) fn open(site: &Site) -> Result<Self, String> {
        let settings = settings(site)?;
        let Some(shared) = &settings.shared else {
            return Err(
                "this server is alone: its configuration has no [zookeeper] with `servers`".to_owned()
            );
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let cluster = backends::zookeeper(&shared.zookeeper, runtime.handle())?;
        let views = watch(&*cluster);
        let view = next(&views, PATIENCE, |_| true).ok_or_else(|| {
            let servers = shared.zookeeper.servers.join(", ");
            format!("ZooKeeper does not answer ({servers}, path {})", shared.zookeeper.path)
        })?;
        Ok(Self { settings: cluster.clone(), cluster, views, view, _runtime: runtime })
    }
}

/// Runs `xpush nodes`.
pub(crate) fn nodes(command: &Nodes) -> Told {
    let Watched { view, .. } = Watched::open(&command.site)?;
    if command.json {
        return Ok(format!("{:#}\n", as_json(&view)));
    }
    Ok(as_table(&view))
}

/// Runs `xpush rebalance`.
pub(crate) fn rebalance(command: &Rebalance) -> Told {
    let watched = Watched::open(&command.site)?;
    let before = watched.view.clone();
    if before.ring.is_none() {
        return Err("no ring has been published yet: is a session server running?".to_owned());
    }
    if command.dry_run {
        let after = proposal(&before);
        return Ok(shares(&before, after.as_ref().or(before.ring.as_deref())));
    }
    watched.wish(PLAN)?;
    let generation = |view: &View| view.ring.as_ref().map_or(0, |ring| ring.generation());
    // No new ring: then none was needed.
    let newer = next(&watched.views, RING, |view| generation(view) > generation(&before));
    let after = newer.unwrap_or_else(|| before.clone());
    watched.wish(MOVE)?;
    noted(&command.site, "server.rebalance", None);
    Ok(format!(
        "{}\nclients that can are asked to go where their channels are, within 30 s; `xpush nodes` shows how far they are\n",
        shares(&before, after.ring.as_deref())
    ))
}

/// Who carries what, and what share of the channels was placed there and is placed there then.
fn shares(before: &View, after: Option<&Ring>) -> String {
    let share = |ring: Option<&Ring>, name: &NodeName| {
        let all: u64 = ring?.nodes().iter().map(|node| u64::from(node.weight.points())).sum();
        let points = u64::from(ring?.weight(name)?.points());
        Some(format!("{:.1} %", points as f64 / all.max(1) as f64 * 100.0))
    };
    let said = |share: Option<String>| share.unwrap_or_else(|| "-".to_owned());
    let mut lines = vec![["SERVER", "CONNECTIONS", "SHARE NOW", "SHARE THEN"].map(str::to_owned)];
    for Row { node, .. } in rows(before).iter().filter(|row| row.node.roles.channel) {
        let load = before.loads.get(&node.id).map(|load| load.connections.to_string());
        let (now, then) = (share(before.ring.as_deref(), &node.name), share(after, &node.name));
        lines.push([node.name.to_string(), said(load), said(now), said(then)]);
    }
    aligned(&lines)
}

impl Watched {
    /// Sets a setting anew, by which servers know that something is wanted now.
    fn wish(&self, name: &str) -> Result<(), String> {
        let setting = SettingName::new(name).map_err(|code| code.text().to_owned())?;
        for _ in 0..super::TRIES {
            let generation = wish(&self.newest(), name);
            let set = xpush_core::ports::wait(|done| {
                self.settings.set(&setting, generation, Bytes::from(now().to_string()), done)
            });
            match set {
                Ok(_) => return Ok(()),
                Err(error) if error.kind == Failure::Conflict => {
                    next(&self.views, PATIENCE, |view| wish(view, name) > generation);
                }
                Err(error) => return Err(error.detail.into()),
            }
        }
        Err("others want the same all the time: try again".to_owned())
    }

    fn newest(&self) -> Arc<View> {
        self.views.try_iter().last().unwrap_or_else(|| self.view.clone())
    }
}

/// Runs `xpush drain`.
pub(crate) fn drain(command: &Drain) -> Told {
    let name = set_draining(&command.site, &command.name, true)?;
    Ok(format!(
        "{name} is being drained; `xpush nodes` shows how far it is, `xpush undrain {name}` takes it back\n"
    ))
}

/// Runs `xpush undrain`.
pub(crate) fn undrain(command: &Undrain) -> Told {
    let name = set_draining(&command.site, &command.name, false)?;
    Ok(format!("{name} takes clients\n"))
}

fn set_draining(site: &Site, name: &str, wanted: bool) -> Result<NodeName, String> {
    let watched = Watched::open(site)?;
    let view = &watched.view;
    let known = NodeName::new(name)
        .ok()
        .filter(|name| view.named(name).is_some() || (!wanted && view.draining.contains(name)));
    let Some(known) = known else {
        let names = view.nodes.iter().map(|node| node.name.as_str());
        let meant = nearest(name, names).map(|meant| format!("; did you mean `{meant}`?"));
        return Err(format!("no server is called `{name}`{}", meant.unwrap_or_default()));
    };
    let others =
        view.channel_nodes().filter(|node| node.name != known && !view.draining.contains(&node.name));
    if wanted && others.count() == 0 {
        return Err(format!("{known} is the only server that takes clients: they could go nowhere"));
    }
    wait(|done| watched.cluster.set_draining(&known, wanted, done))?;
    noted(site, if wanted { "server.drain" } else { "server.undrain" }, Some(known.as_str()));
    Ok(known)
}

/// What is told of one server.
struct Row<'a> {
    node: &'a Node,
    state: &'static str,
    /// In points, and the part of all channels that is placed there.
    weight: Option<(u16, f64)>,
}

fn rows<'a>(view: &'a View) -> Vec<Row<'a>> {
    let points = |node: &RingNode| u64::from(node.weight.points());
    let all: u64 = view.ring.iter().flat_map(|ring| ring.nodes()).map(points).sum();
    let mut nodes: Vec<&'a Node> = view.nodes.iter().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let row = |node: &'a Node| {
        let Node { name, roles, .. } = node;
        let state = match () {
            () if view.draining.contains(name) => "draining",
            () if !roles.channel => "session",
            () => "serving",
        };
        let weight = view.ring.as_ref().and_then(|ring| ring.weight(name));
        // What is placed there is as near to it as the ring promises.
        let weight = weight.map(|weight| {
            let points = weight.points();
            (points, f64::from(points) / all.max(1) as f64)
        });
        Row { node, state, weight }
    };
    nodes.into_iter().map(row).collect()
}

fn as_json(view: &View) -> Value {
    let one = |row: Row<'_>| {
        let Row { node, state, weight } = row;
        let load = view.loads.get(&node.id).copied().unwrap_or_default();
        json!({
            "name": node.name.as_str(), "id": node.id.as_str(), "state": state, "url": node.url, "peer": node.peer,
            "roles": {"session": node.roles.session, "channel": node.roles.channel},
            "connections": load.connections, "capacity": node.capacity, "channels": load.channels,
            "lag_ms": load.lag_ms, "weight": weight.map(|(points, _)| points), "share": weight.map(|(_, share)| share),
            "version": node.version, "since": node.since,
        })
    };
    let ring = view.ring.as_ref().map(|ring| json!({"generation": ring.generation(), "term": ring.term()}));
    json!({
        "nodes": rows(view).into_iter().map(one).collect::<Vec<_>>(),
        "draining": view.draining.iter().map(NodeName::as_str).collect::<Vec<_>>(),
        "ring": ring,
        "drift": view.drift().iter().map(|drift| json!({"part": drift.part, "servers": drift.camps.iter().map(|camp| camp.iter().map(NodeName::as_str).collect::<Vec<_>>()).collect::<Vec<_>>()})).collect::<Vec<_>>(),
        "refused_records": view.refused,
    })
}

fn as_table(view: &View) -> String {
    const HEADS: [&str; 9] =
        ["SERVER", "STATE", "CONNECTIONS", "CHANNELS", "LAG", "WEIGHT", "SHARE", "VERSION", "UP"];
    let mut lines: Vec<[String; 9]> = vec![HEADS.map(str::to_owned)];
    let now = now();
    for Row { node, state, weight } in rows(view) {
        let load = view.loads.get(&node.id);
        let said = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        lines.push([
            node.name.to_string(),
            state.to_owned(),
            said(load.map(|load| format!("{} of {}", load.connections, node.capacity))),
            said(load.map(|load| load.channels.to_string())),
            said(load.map(|load| format!("{} ms", load.lag_ms))),
            said(weight.map(|(points, _)| points.to_string())),
            said(weight.map(|(_, share)| format!("{:.1} %", share * 100.0))),
            node.version.to_string(),
            age(now.saturating_sub(node.since)),
        ]);
    }
    let mut text = aligned(&lines);
    for name in view.draining.iter().filter(|name| view.named(name).is_none()) {
        let _ = writeln!(text, "{name} is to be drained, and is not there");
    }
    match &view.ring {
        Some(ring) => {
            let _ = writeln!(text, "\nring {} of planner {}", ring.generation(), ring.term());
        }
        None => text.push_str("\nno ring has been published yet\n"),
    }
    for drift in view.drift() {
        let _ = writeln!(text, "servers are configured differently: {drift}");
    }
    if view.refused > 0 {
        let _ = writeln!(text, "{} records in ZooKeeper are no good: see a server's log", view.refused);
    }
    text
}

/// Columns, the first two to the left and the others to the right.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// The two largest units.
fn age(ms: u64) -> String {
    let (days, hours, minutes, seconds) =
        (ms / 86_400_000, ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1_000 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} m {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} m"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use xpush_core::NodeId;
    use xpush_core::placement::{Epsilon, Weight};
    use xpush_core::ports::cluster::{Load, Roles};

    fn node(name: &str) -> Node {
        Node {
            id: NodeId::new(&format!("{name}-1")).unwrap(),
            name: NodeName::new(name).unwrap(),
            installation: 1,
            url: format!("http://{name}").into(),
            peer: None,
            peer_tls: false,
            capacity: 100,
            version: "0.2.0".into(),
            roles: Roles { session: false, channel: true },
            since: 0,
            configuration: Default::default(),
        }
    }

    fn view() -> View {
        let nodes = [node("a"), node("b")];
        let on_ring = |node: &Node| RingNode { name: node.name.clone(), weight: Weight::FULL };
        let scale = NonZeroU64::new(100).unwrap();
        let ring = Ring::new(3, 2, Epsilon::default(), scale, nodes.iter().map(on_ring).collect()).unwrap();
        let load = Load { connections: 7, channels: 3, lag_ms: 1 };
        View {
            standing: Standing::Live,
            loads: Arc::new([(nodes[0].id.clone(), load)].into()),
            nodes: nodes.into(),
            ring: Some(Arc::new(ring)),
            draining: Arc::new([NodeName::new("b").unwrap()].into()),
            ..View::default()
        }
    }

    #[test]
    fn servers_are_shown_with_what_they_carry() {
        let table = as_table(&view());
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..8], ["a", "serving", "7", "of", "100", "3", "1", "ms"]);
        assert_eq!(lines[2][..3], ["b", "draining", "-"]);
        assert!(table.contains("ring 3 of planner 2"), "{table}");
        assert!(!table.contains("configured differently"), "{table}");
        let mut odd = view();
        let mut nodes = odd.nodes.to_vec();
        for (node, digest) in nodes.iter_mut().zip([1, 2]) {
            node.configuration = [("limits".into(), digest)].into();
        }
        odd.nodes = nodes.into();
        let table = as_table(&odd);
        assert!(table.contains("servers are configured differently: [limits] of a, not as of b"), "{table}");
        assert_eq!(as_json(&odd)["drift"], json!([{"part": "limits", "servers": [["a"], ["b"]]}]));
        let json = as_json(&view());
        let shares = [0, 1].map(|at| json["nodes"][at]["share"].as_f64().unwrap());
        assert!((shares[0] + shares[1] - 1.0).abs() < 1e-9 && json["nodes"][0]["weight"] == 4_000, "{json}");
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (ms, text) in [(0, "0 s"), (61_000, "1 m 1 s"), (3_660_000, "1 h 1 m"), (90_000_000, "1 d 1 h")] {
            assert_eq!(age(ms), text);
        }
    }
}
