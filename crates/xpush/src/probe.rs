//! Does what the server needs work, as one sees by using it? One probe for each path, again and again, beside everything else: nobody waits for it.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use xpush_channel::Node;
use xpush_core::ports::bus::{Bus, BusSink, Envelope, Event, Inbound, Signal, Topic};
use xpush_core::ports::cluster::{Standing, View};
use xpush_core::ports::message_log::MessageLog;
use xpush_core::{
    App, Channel, ChannelKey, ClientId, EventName, Kind, Message, NodeId, Payload, Sender, User,
};

use crate::backends::{self, Backends};
use crate::config::OPERATORS;
use crate::health::Readiness;
use crate::port::ask;

/// Between two probes of a path.
const EVERY: Duration = Duration::from_secs(2);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Probes for as long as the process lives; and notes how far the store has come that it shares.
pub(crate) fn start(
    node: &Arc<Node>,
    backends: &Backends,
    views: watch::Receiver<Arc<View>>,
    readiness: &Readiness,
) {
    backends.watch_store(views.clone());
    let ledger = backends.ledger();
    watch_path("durable history", readiness.clone(), move || read(ledger.clone() as Arc<dyn MessageLog>));
    watch_path("membership", readiness.clone(), move || std::future::ready(membership(&views.borrow())));
    let probe = backends::node_id();
    let (heard, newest) = watch::channel(0);
    if let Ok(make) = backends.bus(probe.clone()) {
        let listener: Arc<dyn Bus> = make(Arc::new(Heard(heard)));
        listener.follow(Topic::Node(probe.clone()), Box::new(|_| ()));
        let round = Arc::new(Round {
            node: node.clone(),
            _listener: listener,
            probe,
            newest,
            sent: Mutex::default(),
        });
        watch_path("bus", readiness.clone(), move || round.clone().run());
    }
}

fn watch_path<F: Future<Output = Result<(), String>> + Send>(
    path: &'static str,
    readiness: Readiness,
    probe: impl Fn() -> F + Send + 'static,
) {
    tokio::spawn(async move {
        loop {
            let outcome = tokio::time::timeout(PATIENCE, probe()).await;
            readiness.note(path, outcome.unwrap_or_else(|_| Err("no answer within 2 s".to_owned())));
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Where a channel stands that nobody uses.
async fn read(log: Arc<dyn MessageLog>) -> Result<(), String> {
    let heads = ask(|done| log.heads(vec![channel()], done)).await;
    heads.map(drop).map_err(|error| error.detail.into())
}

fn membership(view: &View) -> Result<(), String> {
    match view.standing {
        Standing::Live => Ok(()),
        Standing::Frozen => Err("the cluster cannot be reached: nobody comes or goes".to_owned()),
        Standing::Expired => Err("the others have counted this server out".to_owned()),
    }
}

/// From the server's own bus to another one that listens.
struct Round {
    node: Arc<Node>,
    _listener: Arc<dyn Bus>,
    probe: NodeId,
    newest: watch::Receiver<u64>,
    sent: Mutex<u64>,
}

impl Round {
    async fn run(self: Arc<Self>) -> Result<(), String> {
        let (Some(bus), hears) = self.node.bus() else { return Ok(()) };
        if !hears {
            return Err("it is down".to_owned());
        }
        let number = self
            .sent
            .lock()
            .map(|mut sent| {
                *sent += 1;
                *sent
            })
            .unwrap_or(0);
        bus.publish(&Topic::Node(self.probe.clone()), Event::Signal(Arc::new(signal(number)?)));
        let mut newest = self.newest.clone();
        let back = tokio::time::timeout(PATIENCE * 9 / 10, newest.wait_for(|heard| *heard >= number));
        match back.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("what was published has not come back".to_owned()),
        }
    }
}

/// Hears the newest number.
struct Heard(watch::Sender<u64>);

impl BusSink for Heard {
    fn receive(&self, inbound: Inbound) {
        if let Inbound::Envelope(Envelope { event: Event::Signal(signal), .. }) = inbound
            && let Some(number) =
                signal.message.id.as_str().strip_prefix("probe-").and_then(|id| id.parse().ok())
        {
            self.0.send_replace(number);
        }
    }
}

fn signal(number: u64) -> Result<Signal, String> {
    let named = |code: xpush_core::Code| code.text().to_owned();
    let message = Message {
        kind: Kind::Message,
        channel: channel(),
        position: None,
        id: ClientId::new(&format!("probe-{number}")).map_err(named)?,
        event: EventName::new("probe").map_err(named)?,
        payload: Payload { json: Bytes::from_static(b"null"), attachments: Vec::new() },
        from: Sender { user: User::new("$probe").map_err(named)?, name: None },
        at: 0,
        revision: None,
    };
    Ok(Signal { message, ttl_ms: None })
}

fn channel() -> ChannelKey {
    let (app, channel) = (App::new(OPERATORS), Channel::new("$probe"));
    ChannelKey::new(app.expect("a good name"), channel.expect("a good name"))
}
