//! Somebody who asks where to go, connects there, follows a channel from where it was, publishes with retries, and writes everything down for the checker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use xpush_core::{Monotonic, NodeId};
use xpush_testkit::SeededEntropy;
use xpush_testkit::checker::{Event, Place, Slot};
use xpush_testkit::fleet::{digest_of, kept, place};

use crate::session::sid::Sid;
use crate::transport::polling::Answer;

/// Publications that are under way at a time, of one client or another.
const WINDOWS: [usize; 3] = [1, 4, 16];
/// It says this many things at a time, at most.
const BURST: u64 = 4;
/// Between two bursts.
const PAUSE_MS: u64 = 500;
/// Of those who follow `moved`, nobody goes later than this.
const GOES_MS: u64 = 1_500;
/// How often it lets go what was refused.
const GIVES_UP: f64 = 0.5;

pub(super) struct Client {
    pub(super) name: Arc<str>,
    pub(super) channel: Arc<str>,
    /// As which user it is known.
    pub(super) user: Option<Arc<str>>,
    pub(super) at: Option<Berth>,
    /// Nothing before this moment: it has just lost a server.
    pub(super) rests_until: Monotonic,
    /// The server that has not answered, or has let it down, a moment ago.
    pub(super) unreached: Option<NodeId>,
    /// It goes where it wants, and not where it is told.
    pub(super) stubborn: bool,
    /// It goes by itself when it is asked to.
    follows_moves: bool,
    /// It has gone, and does not come back.
    pub(super) absent: bool,
    window: usize,
    random: SeededEntropy,
    /// The last place that it has.
    position: Option<Place>,
    /// Who is there, as it was told; `None` while that is unknown.
    pub(super) present: Option<BTreeSet<Arc<str>>>,
    /// What was not acked yet, in the order in which it was first sent.
    pending: VecDeque<Pending>,
    count: u64,
    acks: u64,
    bursts: u64,
    /// Whether it publishes when it can.
    pub(super) talks: bool,
    speaks_at: Monotonic,
    journal: Vec<Event>,
    told_left: Vec<Arc<str>>,
}

/// A connection.
pub(super) struct Berth {
    pub(super) number: u64,
    pub(super) node: NodeId,
    pub(super) shard: u16,
    pub(super) sid: Option<Sid>,
    pub(super) poll: Option<oneshot::Receiver<Answer>>,
    /// The server has ended it; what it has said before is still to be heard.
    pub(super) ended: bool,
    /// What the server has said, and when that arrives.
    coming: VecDeque<(Monotonic, String)>,
    /// What was sent last arrives then.
    pub(super) sent: Monotonic,
    pub(super) heard: Monotonic,
    subscribing: Option<(u64, Option<Place>)>,
    /// Since when it is subscribed.
    pub(super) subscribed: Option<Monotonic>,
    /// When it may ask or send again what was put off.
    again_at: Monotonic,
    admitted: bool,
    asked: BTreeMap<u64, Asked>,
    /// What was sent together and failed in part.
    failed: BTreeSet<u64>,
    /// It was asked to go, and does so then.
    goes: Option<Monotonic>,
}

/// A publication that was sent.
struct Asked {
    id: Arc<str>,
    /// Those of one number were sent together, and arrive together.
    burst: u64,
}

struct Pending {
    id: Arc<str>,
    data: Value,
    asked: bool,
}

impl Client {
    pub(super) fn new(number: usize, channel: &str, seed: u64) -> Self {
        Self {
            name: format!("client-{number}").into(),
            channel: channel.into(),
            user: None,
            at: None,
            rests_until: Monotonic(0),
            unreached: None,
            stubborn: number % 2 == 1,
            follows_moves: !number.is_multiple_of(3),
            absent: false,
            window: WINDOWS[number % WINDOWS.len()],
            random: SeededEntropy::new(seed ^ number as u64),
            position: None,
            present: None,
            pending: VecDeque::new(),
            count: 0,
            acks: 0,
            bursts: 0,
            talks: true,
            speaks_at: Monotonic(0),
            journal: Vec::new(),
            told_left: Vec::new(),
        }
    }

    /// What it has written down since it was asked last.
    pub(super) fn notes(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.journal)
    }

    /// Who has left, as it was told since it was asked last.
    pub(super) fn told_left(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.told_left)
    }

    pub(super) fn connects(
        &mut self,
        number: u64,
        node: NodeId,
        shard: u16,
        poll: oneshot::Receiver<Answer>,
        now: Monotonic,
    ) {
        self.present = None;
        self.at = Some(Berth {
            number,
            node,
            shard,
            sid: None,
            poll: Some(poll),
            ended: false,
            coming: VecDeque::new(),
            sent: now,
            heard: now,
            subscribing: None,
            subscribed: None,
            again_at: now,
            admitted: false,
            asked: BTreeMap::new(),
            failed: BTreeSet::new(),
            goes: None,
        });
    }

    /// The connection is over, in whatever way.
    pub(super) fn loses(&mut self, until: Monotonic) {
        let Some(berth) = self.at.take() else { return };
        for (_, Asked { id, .. }) in berth.asked {
            if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
                pending.asked = false;
            }
            self.journal.push(Event::Unknown { channel: self.channel.clone(), id, told: false });
        }
        self.journal.push(Event::Disconnected);
        self.unreached = Some(berth.node);
        self.rests_until = until;
        self.present = None;
    }

    /// It has said everything, and follows.
    pub(super) fn is_settled(&self) -> bool {
        self.absent || (self.pending.is_empty() && self.subscribed_since().is_some())
    }

    pub(super) fn subscribed_since(&self) -> Option<Monotonic> {
        self.at.as_ref().and_then(|at| at.subscribed)
    }

    /// Whether it has everything up to `head`.
    pub(super) fn has(&self, head: u64) -> bool {
        self.position.as_ref().is_some_and(|position| position.seq >= head)
    }

    /// What it waits for, for whoever looks into a seed.
    pub(super) fn waits_for(&self) -> String {
        let pending: Vec<_> = self.pending.iter().map(|pending| (&pending.id, pending.asked)).collect();
        let position = self.position.as_ref().map(|place| place.seq);
        let Some(at) = &self.at else { return format!("a server, with {pending:?}, at {position:?}") };
        format!(
            "{} (shard {}): admitted {}, subscribed {:?}, subscribing {:?}, {} asked, {pending:?}, at {position:?}, heard at {:?}",
            at.node,
            at.shard,
            at.admitted,
            at.subscribed,
            at.subscribing,
            at.asked.len(),
            at.heard
        )
    }

    /// A server's answer to a poll has left.
    pub(super) fn told(&mut self, body: &str, due: Monotonic) {
        let Some(berth) = &mut self.at else { return };
        let earliest = berth.coming.back().map_or(Monotonic(0), |(due, _)| *due);
        for packet in body.split('\u{1e}') {
            berth.coming.push_back((due.max(earliest), packet.to_owned()));
        }
    }

    /// A packet that has arrived.
    pub(super) fn hears(&mut self, now: Monotonic) -> Option<String> {
        let berth = self.at.as_mut()?;
        let (_, packet) = berth.coming.pop_front_if(|(due, _)| *due <= now)?;
        Some(packet)
    }

    /// The server has ended the connection, and all that it said before has arrived.
    pub(super) fn is_over(&self) -> bool {
        self.at.as_ref().is_some_and(|at| at.ended && at.coming.is_empty())
    }

    /// It was asked to go, is due to, and waits for nothing.
    pub(super) fn goes(&self, now: Monotonic) -> bool {
        let goes = |at: &Berth| at.goes.is_some_and(|goes| goes <= now) && at.asked.is_empty();
        self.at.as_ref().is_some_and(goes)
    }

    /// What it has to say now, one packet each.
    pub(super) fn says(&mut self, now: Monotonic) -> Vec<String> {
        let Some(berth) = &mut self.at else { return Vec::new() };
        if !berth.admitted || berth.again_at > now || berth.goes.is_some() {
            return Vec::new();
        }
        let mut packets = Vec::new();
        if berth.subscribing.is_none() && berth.subscribed.is_none() {
            self.acks += 1;
            berth.subscribing = Some((self.acks, self.position.clone()));
            let mut fields = json!({"channel": *self.channel, "presence": true});
            if let Some(Place { epoch, seq }) = &self.position {
                fields["since"] = json!({"epoch": **epoch, "seq": seq});
            }
            packets.push(format!("42{}{}", self.acks, json!(["subscribe", fields])));
        }
        if berth.subscribed.is_none() {
            return packets;
        }
        if self.talks && self.speaks_at <= now {
            self.speaks_at = now.after(PAUSE_MS);
            for _ in 0..=self.random.below(BURST) {
                if self.pending.len() < self.window {
                    self.count += 1;
                    let id: Arc<str> = format!("{}/{}", self.name, self.count).into();
                    self.pending.push_back(Pending { data: Value::from(&*id), id, asked: false });
                }
            }
        }
        self.bursts += 1;
        for pending in self.pending.iter_mut().filter(|pending| !pending.asked) {
            self.acks += 1;
            pending.asked = true;
            berth.asked.insert(self.acks, Asked { id: pending.id.clone(), burst: self.bursts });
            let slot = Slot::Message { digest: digest_of(&pending.data) };
            self.journal.push(Event::Sent { channel: self.channel.clone(), id: pending.id.clone(), slot });
            let fields = json!({"channel": *self.channel, "id": *pending.id, "data": pending.data});
            packets.push(format!("42{}{}", self.acks, json!(["publish", fields])));
        }
        packets
    }

    /// What it answers at once to a packet. An error ends the connection.
    pub(super) fn takes(&mut self, packet: &str, now: Monotonic) -> Result<Option<String>, ()> {
        let Some(berth) = &mut self.at else { return Ok(None) };
        berth.heard = now;
        if let Some(open) = packet.strip_prefix('0') {
            assert!(sid_of(packet).is_some(), "{open}");
            let moves = if self.follows_moves { r#","moves":"1""# } else { "" };
            return Ok(Some(format!(r#"40{{"guest":"the secret of {}"{moves}}}"#, self.name)));
        }
        if packet.starts_with("40") {
            berth.admitted = true;
        } else if let Some(ack) = packet.strip_prefix("43") {
            let (id, body) = ack.split_at(ack.find('[').unwrap());
            let body: Value = serde_json::from_str(body).unwrap();
            return self.answered(id.parse().unwrap(), &body[0], now).map(|()| None);
        } else if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            self.pushed(event[0].as_str().unwrap(), &event[1], now);
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
            berth.subscribed = Some(now);
            self.unreached = None;
            self.present = ok.get("presence").map(users);
            let place = place(ok).unwrap_or_else(|| panic!("no position: {ok}"));
            let recovered = ok["recovered"].as_bool();
            let missed = ok["missed"].as_u64().unwrap_or_default();
            self.position = Some(Place { epoch: place.epoch.clone(), seq: place.seq - missed });
            let channel = self.channel.clone();
            self.journal.push(Event::Subscribed { channel, since, recovered, missed, place });
            return Ok(());
        }
        let Some(Asked { id, burst }) = berth.asked.remove(&id) else { return Ok(()) };
        let channel = self.channel.clone();
        let at = self.pending.iter().position(|pending| pending.id == id).unwrap();
        if let Some(ok) = body.get("ok") {
            assert!(!berth.failed.contains(&burst), "{id} went ahead of what was sent with it and failed");
            self.pending.remove(at);
            let place = place(ok).unwrap_or_else(|| panic!("no position: {ok}"));
            self.journal.push(Event::Acked { channel, id, place });
            return Ok(());
        }
        assert_ne!(retry, "no", "{error}");
        berth.failed.insert(burst);
        self.pending[at].asked = false;
        let code: Arc<str> = error["code"].as_str().unwrap().into();
        self.journal.push(match &*code {
            "outcome_unknown" => Event::Unknown { channel, id, told: true },
            _ => {
                if self.random.chance(GIVES_UP) {
                    self.pending.remove(at);
                }
                Event::Refused { channel, id, code }
            }
        });
        if retry == "reconnect" { Err(()) } else { Ok(()) }
    }

    fn pushed(&mut self, name: &str, push: &Value, now: Monotonic) {
        match name {
            "welcome" => self.user = push["user"].as_str().map(Arc::from),
            "moved" => {
                let goes = self.follows_moves.then(|| now.after(self.random.below(GOES_MS)));
                if let Some(berth) = &mut self.at {
                    berth.goes = berth.goes.or(goes);
                }
            }
            _ if push["channel"] != *self.channel => {}
            "presence" => self.told_presence(push),
            _ => self.told_message(name, push),
        }
    }

    fn told_message(&mut self, name: &str, push: &Value) {
        let Some(place) = place(push) else { return };
        let channel = self.channel.clone();
        self.journal.push(match name {
            "message" => Event::Delivered { channel, kept: kept(push).unwrap(), epoch: place.epoch.clone() },
            "gap" => Event::Gap { channel, place: place.clone() },
            other => panic!("{other}: {push}"),
        });
        self.position = Some(place);
    }

    fn told_presence(&mut self, push: &Value) {
        if push["unknown"] == true {
            self.present = None;
        } else if push.get("users").is_some_and(Value::is_array) {
            self.present = Some(users(push));
        } else {
            let names = |field: &str| users(&json!({"users": push[field]}));
            let left = names("left");
            if let Some(present) = &mut self.present {
                present.retain(|user| !left.contains(user));
                present.extend(names("joined"));
            }
            self.told_left.extend(left);
        }
    }
}

/// The session that an opening packet names.
pub(super) fn sid_of(packet: &str) -> Option<Sid> {
    let open: Value = serde_json::from_str(packet.strip_prefix('0')?).ok()?;
    Sid::decode(open["sid"].as_str()?)
}

fn users(list: &Value) -> BTreeSet<Arc<str>> {
    let all = list["users"].as_array().into_iter().flatten();
    all.map(|user| user["user"].as_str().unwrap().into()).collect()
}
