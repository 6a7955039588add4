//! Somebody who asks where to go, connects there, follows a channel from where it was, publishes with retries, and writes everything down for the checker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use xpush_core::{Monotonic, NodeId};
use xpush_testkit::checker::{Event, Place, Slot};
use xpush_testkit::fleet::{digest_of, kept, place};

use crate::session::sid::Sid;
use crate::transport::polling::Answer;

/// Publications that are under way at a time. With more, a refusal that only a lost connection was told would let what was sent behind it go ahead, and nobody here could
/// know; order among many is `simulation.rs`'s.
const WINDOW: usize = 1;
/// Between two new ones.
const PAUSE_MS: u64 = 200;

pub(super) struct Client {
    pub(super) name: Arc<str>,
    pub(super) channel: Arc<str>,
    pub(super) at: Option<Berth>,
    /// Nothing before this moment: it has just lost a server.
    pub(super) rests_until: Monotonic,
    /// The server that has not answered, or has let it down, a moment ago.
    pub(super) unreached: Option<NodeId>,
    /// The last place that it has.
    position: Option<Place>,
    /// What was not acked yet, in the order in which it was first sent.
    pending: VecDeque<Pending>,
    count: u64,
    acks: u64,
    /// Whether it publishes when it can.
    pub(super) talks: bool,
    speaks_at: Monotonic,
    journal: Vec<Event>,
}

/// A connection.
pub(super) struct Berth {
    pub(super) node: NodeId,
    pub(super) shard: u16,
    pub(super) sid: Option<Sid>,
    pub(super) poll: Option<oneshot::Receiver<Answer>>,
    pub(super) heard: Monotonic,
    subscribing: Option<(u64, Option<Place>)>,
    pub(super) subscribed: bool,
    /// When it may ask or send again what was put off.
    again_at: Monotonic,
    admitted: bool,
    asked: BTreeMap<u64, Arc<str>>,
}

struct Pending {
    id: Arc<str>,
    data: Value,
    asked: bool,
}

impl Client {
    pub(super) fn new(number: usize, channel: &str) -> Self {
        Self {
            name: format!("client-{number}").into(),
            channel: channel.into(),
            at: None,
            rests_until: Monotonic(0),
            unreached: None,
            position: None,
            pending: VecDeque::new(),
            count: 0,
            acks: 0,
            talks: true,
            speaks_at: Monotonic(0),
            journal: Vec::new(),
        }
    }

    /// What it has written down since it was asked last.
    pub(super) fn notes(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.journal)
    }

    pub(super) fn connects(
        &mut self,
        node: NodeId,
        shard: u16,
        poll: oneshot::Receiver<Answer>,
        now: Monotonic,
    ) {
        self.at = Some(Berth {
            node,
            shard,
            sid: None,
            poll: Some(poll),
            heard: now,
            subscribing: None,
            subscribed: false,
            again_at: now,
            admitted: false,
            asked: BTreeMap::new(),
        });
    }

    /// The connection is over, in whatever way.
    pub(super) fn loses(&mut self, until: Monotonic) {
        let Some(berth) = self.at.take() else { return };
        for (_, id) in berth.asked {
            if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
                pending.asked = false;
            }
            self.journal.push(Event::Unknown { channel: self.channel.clone(), id, told: false });
        }
        self.journal.push(Event::Disconnected);
        self.unreached = Some(berth.node);
        self.rests_until = until;
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.at.as_ref().is_some_and(|at| at.subscribed)
    }

    /// What it waits for, for whoever looks into a seed.
    pub(super) fn waits_for(&self) -> String {
        let pending: Vec<_> = self.pending.iter().map(|pending| (&pending.id, pending.asked)).collect();
        let Some(at) = &self.at else { return format!("a server, with {pending:?}") };
        format!(
            "{} (shard {}): admitted {}, subscribed {}, subscribing {:?}, asked {:?}, {pending:?}, heard at {:?}",
            at.node, at.shard, at.admitted, at.subscribed, at.subscribing, at.asked, at.heard
        )
    }

    /// What it has to say now, one packet each.
    pub(super) fn says(&mut self, now: Monotonic) -> Vec<String> {
        let Some(berth) = &mut self.at else { return Vec::new() };
        if !berth.admitted || berth.again_at > now {
            return Vec::new();
        }
        let mut packets = Vec::new();
        if berth.subscribing.is_none() && !berth.subscribed {
            self.acks += 1;
            berth.subscribing = Some((self.acks, self.position.clone()));
            let mut fields = json!({"channel": *self.channel});
            if let Some(Place { epoch, seq }) = &self.position {
                fields["since"] = json!({"epoch": **epoch, "seq": seq});
            }
            packets.push(format!("42{}{}", self.acks, json!(["subscribe", fields])));
        }
        if !berth.subscribed {
            return packets;
        }
        if self.talks && self.pending.len() < WINDOW && self.speaks_at <= now {
            self.speaks_at = now.after(PAUSE_MS);
            self.count += 1;
            let id: Arc<str> = format!("{}/{}", self.name, self.count).into();
            self.pending.push_back(Pending { data: Value::from(&*id), id, asked: false });
        }
        for pending in self.pending.iter_mut().filter(|pending| !pending.asked) {
            self.acks += 1;
            pending.asked = true;
            berth.asked.insert(self.acks, pending.id.clone());
            let slot = Slot::Message { digest: digest_of(&pending.data) };
            self.journal.push(Event::Sent { channel: self.channel.clone(), id: pending.id.clone(), slot });
            let fields = json!({"channel": *self.channel, "id": *pending.id, "data": pending.data});
            packets.push(format!("42{}{}", self.acks, json!(["publish", fields])));
        }
        packets
    }

    /// A packet that has come; what it answers at once. An error ends the connection.
    pub(super) fn takes(&mut self, packet: &str, now: Monotonic) -> Result<Option<String>, ()> {
        let Some(berth) = &mut self.at else { return Ok(None) };
        berth.heard = now;
        if let Some(open) = packet.strip_prefix('0') {
            let open: Value = serde_json::from_str(open).unwrap();
            berth.sid = Sid::decode(open["sid"].as_str().unwrap());
            return Ok(Some(format!(r#"40{{"guest":"the secret of {}"}}"#, self.name)));
        }
        if packet.starts_with("40") {
            berth.admitted = true;
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            return self.answered(id.parse().unwrap(), &body[0], now).map(|()| None);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            self.pushed(event[0].as_str().unwrap(), &event[1]);
        } else if packet == "2" {
            return Ok(Some("3".to_owned()));
        } else if packet == "1" || packet.starts_with("41") || packet.starts_with("44") {
            return Err(());
        } else {
            assert_eq!(packet, "6", "an unknown packet");
        }
        Ok(None)
    }

    fn answered(&mut self, id: u64, body: &Value, now: Monotonic) -> Result<(), ()> {
        let Some(berth) = &mut self.at else { return Ok(()) };
        let (error, retry) = (&body["error"], body["error"]["retry"].as_str().unwrap_or_default());
        if retry == "later" {
            berth.again_at = now.after(200);
        }
        if berth.subscribing.as_ref().is_some_and(|(asked, _)| *asked == id) {
            let Some((_, since)) = berth.subscribing.take() else { return Ok(()) };
            let Some(ok) = body.get("ok") else {
                assert_ne!(retry, "no", "{error}");
                return if retry == "reconnect" { Err(()) } else { Ok(()) };
            };
            berth.subscribed = true;
            self.unreached = None;
            let place = place(ok).unwrap_or_else(|| panic!("no position: {ok}"));
            let recovered = ok["recovered"].as_bool();
            let missed = ok["missed"].as_u64().unwrap_or_default();
            self.position = Some(Place { epoch: place.epoch.clone(), seq: place.seq - missed });
            let channel = self.channel.clone();
            self.journal.push(Event::Subscribed { channel, since, recovered, missed, place });
            return Ok(());
        }
        let Some(asked) = berth.asked.remove(&id) else { return Ok(()) };
        let channel = self.channel.clone();
        let at = self.pending.iter().position(|pending| pending.id == asked).unwrap();
        if let Some(ok) = body.get("ok") {
            self.pending.remove(at);
            let place = place(ok).unwrap_or_else(|| panic!("no position: {ok}"));
            self.journal.push(Event::Acked { channel, id: asked, place });
            return Ok(());
        }
        assert_ne!(retry, "no", "{error}");
        self.pending[at].asked = false;
        let code: Arc<str> = error["code"].as_str().unwrap().into();
        self.journal.push(match &*code {
            "outcome_unknown" => Event::Unknown { channel, id: asked, told: true },
            _ => Event::Refused { channel, id: asked, code },
        });
        if retry == "reconnect" { Err(()) } else { Ok(()) }
    }

    fn pushed(&mut self, name: &str, push: &Value) {
        if name == "welcome" || push["channel"] != *self.channel {
            return;
        }
        let Some(place) = place(push) else { return };
        let channel = self.channel.clone();
        self.journal.push(match name {
            "message" => Event::Delivered { channel, kept: kept(push).unwrap(), epoch: place.epoch.clone() },
            "gap" => Event::Gap { channel, place: place.clone() },
            other => panic!("{other}: {push}"),
        });
        self.position = Some(place);
    }
}
