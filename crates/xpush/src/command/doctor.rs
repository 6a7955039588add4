//! `xpush doctor`: does everything work that a server here would stand on?

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio::runtime::Handle;
use xpush_core::ports::Done;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Signal, Topic};
use xpush_core::ports::cluster::View;
use xpush_core::ports::directory::Key;
use xpush_core::ports::message_log::{Draft, MessageLog, Range};
use xpush_core::ports::presence::{Change, Member};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, EventName, Kind, Message, Payload, Retention, Sender, User,
};

use super::nodes::live_view;
use super::{Told, json as shown, settings};
use crate::backends::{self, Backends};
use crate::cli::{Site, say};
use crate::config::{OPERATORS, Settings};
use crate::{open_files, serve};

const EXAMPLES: &str = "\
Examples:
  xpush doctor                    with the configuration that the server here would use
  xpush doctor --config /etc/xpush.toml --json

It reads and writes a little in a channel of its own, and may run beside servers. Exit code 0: all is well.";

/// How long each part may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far this machine's clock may be from that of the others, ms.
const SKEW_MS: u64 = 1_000;
/// Fewer open files than this are few connections.
const FEW_FILES: u64 = 10_000;

/// Check everything that a server here would stand on: reach it, write, read, publish and receive.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    Doubtful,
    Bad,
}

struct Finding {
    what: &'static str,
    state: State,
    text: String,
}

/// What was found so far.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(&mut self, what: &'static str, state: State, text: impl Into<String>) {
        self.0.push(Finding { what, state, text: text.into() });
    }

    /// Notes how something went, and how long it took.
    fn tried(&mut self, what: &'static str, since: Instant, outcome: Result<String, String>) {
        match outcome {
            Ok(text) => {
                self.add(what, State::Well, format!("{text}, {:.1} ms", since.elapsed().as_secs_f64() * 1e3))
            }
            Err(why) => self.add(what, State::Bad, why),
        }
    }

    fn is_well(&self) -> bool {
        self.0.iter().all(|finding| finding.state != State::Bad)
    }
}

/// Runs the command.
pub(crate) fn run(command: &Doctor) -> Told {
    let settings = settings(&command.site)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start: {error}"))?;
    let report = runtime.block_on(examine(&settings));
    // Handles on services end in the background.
    runtime.shutdown_background();
    let text = if command.json { as_json(&report) } else { as_text(&report) };
    if report.is_well() {
        return Ok(text);
    }
    // The report is the answer, whatever it says.
    say(&text);
    Err("not all is well".to_owned())
}

async fn examine(settings: &Settings) -> Report {
    let mut report = Report::default();
    machine(settings, &mut report);
    let since = Instant::now();
    let backends = match Backends::open(settings).await {
        Ok(backends) => backends,
        Err(why) => {
            report.add("services", State::Bad, why);
            return report;
        }
    };
    let what = match settings.shared {
        Some(_) => "MongoDB and Redis can be reached",
        None => "the store of the data folder is open",
    };
    report.tried("services", since, Ok(what.to_owned()));
    for (serious, finding) in backends.findings().await {
        report.add("settings", if serious { State::Bad } else { State::Doubtful }, finding);
    }
    let (serious, files) = file_store(settings).await;
    report.add("files", if serious { State::Bad } else { State::Well }, files);
    clock(&backends, &mut report).await;
    cluster(settings, &backends, &mut report);
    stores(&backends, &mut report);
    apps(settings, &backends, &mut report).await;
    bus(&backends, &mut report);
    backends.close();
    report
}

/// What belongs to this machine alone.
fn machine(settings: &Settings, report: &mut Report) {
    match open_files::raise_limit() {
        Some(files) if files < FEW_FILES => {
            let why =
                format!("{files} at most: each connection is one; raise the limit (ulimit -n, LimitNOFILE=)");
            report.add("open files", State::Doubtful, why);
        }
        Some(files) => report.add("open files", State::Well, format!("{files} at most")),
        None => report.add("open files", State::Well, "no limit"),
    }
    match serve::prepare_data_dir(&settings.data_dir) {
        Ok(()) => report.add("data folder", State::Well, settings.data_dir.display().to_string()),
        Err(why) => report.add("data folder", State::Bad, why),
    }
}

async fn clock(backends: &Backends, report: &mut Report) {
    let before = backends.clock.wall();
    match backends.shared_time().await {
        Ok(theirs) => {
            // As near as half the way there and back.
            let ours = before.midpoint(backends.clock.wall());
            let skew = ours.abs_diff(theirs);
            let state = if skew > SKEW_MS { State::Doubtful } else { State::Well };
            report.add("clock", state, format!("{skew} ms from the others'"));
        }
        Err(error) => report.add("clock", State::Bad, error.detail),
    }
}

/// Whether the cluster can be seen, and what is in it.
fn cluster(settings: &Settings, backends: &Backends, report: &mut Report) {
    if settings.shared.is_none() {
        return report.add("cluster", State::Well, "this server is alone: nothing beside it is needed");
    }
    let since = Instant::now();
    let outcome = live_view(&*backends.cluster(), PATIENCE).map(|view| {
        if view.refused > 0 {
            report.add(
                "records",
                State::Bad,
                format!("{} in ZooKeeper are no good: see a server's log", view.refused),
            );
        }
        configuration(settings, backends, &view, report);
        format!("ZooKeeper can be reached; {} servers", view.nodes.len())
    });
    report.tried("cluster", since, outcome.ok_or_else(|| "ZooKeeper does not answer".to_owned()));
}

/// Whether all servers have the same configuration, and this file is it.
fn configuration(settings: &Settings, backends: &Backends, view: &View, report: &mut Report) {
    let drift = view.drift();
    for drift in &drift {
        report.add("configuration", State::Bad, format!("servers are configured differently: {drift}"));
    }
    let own = backends.digests(settings);
    let running = view.nodes.iter().filter(|node| *node.version == *env!("CARGO_PKG_VERSION"));
    let mut parts: Vec<&str> = running
        .flat_map(|node| node.configuration.iter())
        .filter(|(part, digest)| own.get(*part).is_some_and(|own| own != *digest))
        .map(|(part, _)| &**part)
        .collect();
    parts.sort_unstable();
    parts.dedup();
    if drift.is_empty() && !parts.is_empty() {
        let text = format!("the running servers have another [{}] than this file", parts.join("], ["));
        report.add("configuration", State::Doubtful, text);
    } else if drift.is_empty() && !view.nodes.is_empty() {
        report.add("configuration", State::Well, "all servers have the same, and this file has it, too");
    }
}

/// Whether what the configuration says of apps is what holds.
async fn apps(settings: &Settings, backends: &Backends, report: &mut Report) {
    match backends.administration(settings).hidden().await {
        Ok(hidden) if hidden.is_empty() || settings.usual_apps => {
            report.add("apps", State::Well, "nothing that the configuration says is hidden by a live app");
        }
        Ok(hidden) => {
            for hidden in hidden {
                report.add("apps", State::Doubtful, hidden.to_string());
            }
        }
        Err(why) => report.add("apps", State::Bad, why.to_string()),
    }
}

/// Writes and reads where things are kept.
fn stores(backends: &Backends, report: &mut Report) {
    let channel = own_channel();
    for (what, log) in
        [("durable history", backends.ledger() as Arc<dyn MessageLog>), ("recent history", backends.recent())]
    {
        let since = Instant::now();
        report.tried(what, since, written_and_read(&*log, &channel, backends.clock.wall()));
    }
    let since = Instant::now();
    let app = channel.app.clone();
    let read = wait(|done| backends.access.directory().get(&Key::App(app), done));
    report.tried("directory", since, read.map(|_| "read".to_owned()));
    let since = Instant::now();
    let (node, presence) = (backends::node_id(), backends.presence());
    let member = Member { user: nobody(), name: None };
    let enters = |enters| vec![Change { channel: channel.clone(), member: member.clone(), enters }];
    let come_and_gone = wait(|done| presence.apply(&node, enters(true), done))
        .and_then(|_| wait(|done| presence.apply(&node, enters(false), done)));
    report.tried("presence", since, come_and_gone.map(|_| "entered and left".to_owned()));
    // Nothing is left behind, whatever went wrong.
    let _ = wait(|done| presence.evict(&node, done));
}

fn written_and_read(log: &dyn MessageLog, channel: &ChannelKey, at: u64) -> Result<String, String> {
    let draft = Draft {
        kind: Kind::Message,
        moderates: false,
        id: ClientId::new(&format!("{:016x}", backends::chance())).map_err(|code| code.text())?,
        event: event(),
        payload: payload(),
        from: Sender { user: nobody(), name: None },
        at,
    };
    let few = Retention { count: 10, ..Retention::ENDLESS };
    let appended = wait(|done| log.append(channel, few, vec![draft], done))?;
    if let Some(failure) = appended.failure {
        return Err(failure.detail.into());
    }
    let placed = appended.taken.into_iter().next().and_then(Result::ok).ok_or("nothing was appended")?;
    let page = wait(|done| log.read(channel, Range::Newest, 10, done))?;
    match page.messages.iter().any(|message| message.id == placed.message.id) {
        true => Ok("written and read".to_owned()),
        false => Err("what was written is not read".to_owned()),
    }
}

/// From one server to another, by way of what carries messages between them.
fn bus(backends: &Backends, report: &mut Report) {
    let (here, there) = (backends::node_id(), backends::node_id());
    let topic = Topic::Node(there.clone());
    let (Ok(from), Ok(to)) = (backends.bus(here), backends.bus(there)) else {
        return report.add("bus", State::Well, "inside of this process");
    };
    let (sender, heard) = mpsc::channel();
    let silent = from(Arc::new(Heard(Mutex::new(mpsc::channel().0))));
    let receiving = to(Arc::new(Heard(Mutex::new(sender))));
    let since = Instant::now();
    report.tried("bus", since, published_and_received(&*silent, &*receiving, &topic, &heard));
}

fn published_and_received(
    from: &dyn Bus,
    to: &dyn Bus,
    topic: &Topic,
    heard: &mpsc::Receiver<Inbound>,
) -> Result<String, String> {
    let deadline = Instant::now() + PATIENCE;
    // The first try may come before the connection.
    while let Err(why) = wait(|done| to.follow(topic.clone(), done)) {
        if Instant::now() > deadline {
            return Err(why);
        }
        // It says when it works.
        heard.iter_within(Duration::from_millis(200)).find(|inbound| *inbound == Inbound::Up);
    }
    while Instant::now() < deadline {
        let message = Message {
            kind: Kind::Message,
            channel: own_channel(),
            position: None,
            id: ClientId::new("doctor").map_err(|code| code.text())?,
            event: event(),
            payload: payload(),
            from: Sender { user: nobody(), name: None },
            at: 0,
            revision: None,
        };
        from.publish(topic, Event::Signal(Arc::new(Signal { message, ttl_ms: None })));
        let came = |inbound| matches!(inbound, Inbound::Envelope(Envelope { event: Event::Signal(_), .. }));
        if heard.iter_within(Duration::from_millis(200)).any(came) {
            return Ok("published and received".to_owned());
        }
    }
    Err("what was published was not received".to_owned())
}

struct Heard(Mutex<mpsc::Sender<Inbound>>);

impl BusSink for Heard {
    fn receive(&self, inbound: Inbound) {
        if let Ok(sender) = self.0.lock() {
            // Whoever asked has heard enough.
            let _ = sender.send(inbound);
        }
    }
}

/// What comes within a time.
trait Within<T> {
    fn iter_within(&self, time: Duration) -> impl Iterator<Item = T>;
}

impl<T> Within<T> for mpsc::Receiver<T> {
    fn iter_within(&self, time: Duration) -> impl Iterator<Item = T> {
        let deadline = Instant::now() + time;
        std::iter::from_fn(move || self.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok())
    }
}

/// Waits for a port, but not for ever.
fn wait<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |result| drop(sender.send(result))));
    let answer = receiver.recv_timeout(PATIENCE).map_err(|_| "no answer in time")?;
    answer.map_err(|error| error.detail.into())
}

fn own_channel() -> ChannelKey {
    let (app, channel) = (App::new(OPERATORS), Channel::new("$doctor"));
    ChannelKey::new(app.expect("a good name"), channel.expect("a good name"))
}

fn nobody() -> User {
    User::new("$doctor").expect("a good name")
}

fn event() -> EventName {
    EventName::new("doctor").expect("a good name")
}

fn payload() -> Payload {
    Payload { json: Bytes::from_static(b"null"), attachments: Vec::new() }
}

fn as_text(report: &Report) -> String {
    let width = report.0.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { what, state, text: found } in &report.0 {
        let mark = match state {
            State::Well => "ok  ",
            State::Doubtful => "hm  ",
            State::Bad => "BAD ",
        };
        let _ = writeln!(text, "{mark} {what:<width$}  {found}");
    }
    text
}

fn as_json(report: &Report) -> String {
    let one = |finding: &Finding| {
        let state = match finding.state {
            State::Well => "ok",
            State::Doubtful => "doubtful",
            State::Bad => "bad",
        };
        json!({"what": finding.what, "state": state, "text": finding.text})
    };
    shown(&json!({"ok": report.is_well(), "findings": report.0.iter().map(one).collect::<Vec<_>>()}))
}

/// How it is with the store of files: whether it is serious, and a sentence.
async fn file_store(settings: &Settings) -> (bool, String) {
    let runtime = Handle::current();
    match backends::s3(settings, &runtime) {
        Err(why) => (true, why),
        Ok(Some(s3)) => match s3.check().await {
            Ok(()) => (false, "the bucket can be reached".to_owned()),
            Err(error) => (true, error.detail.into()),
        },
        Ok(None) => match backends::blobs(settings, &runtime) {
            Err(why) => (true, why),
            Ok(Some(_)) => (false, "in a folder".to_owned()),
            Ok(None) => (false, "none: no files are taken, as several servers need a bucket ([s3]) or a folder that they share".to_owned()),
        },
    }
}
