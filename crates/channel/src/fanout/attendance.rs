//! Who comes into a channel and leaves it, as its home tells it: to presence, and to the subscribers that asked.

use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::{Message, Payload, Sender};
use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Event, Signal, Topic};
use xpush_core::ports::presence::{Change, Delta, Member, Outcome};
use xpush_core::{ChannelKey, ClientId, EventName, Kind, User};

use super::inbox::{Entrance, Happening, HomeRef, Inbox};
use crate::dialect::legacy;
use crate::shard::{Shard, Timer};

/// Between two `presence` pushes of a channel, in ms: ten thousand who come at once make a few pushes, not ten thousand.
const COALESCE_MS: u64 = 100;

/// A home's changes on their way to presence, and what came of them.
#[derive(Default)]
pub(crate) struct Attendance {
    queue: Vec<Queued>,
    applying: Vec<(Entrance, bool)>,
    /// Nothing is applied: who is here is being stated as a whole.
    held: bool,
    changes: u64,
    applied: u64,
    /// How many times subscribers were told of a change: a list that was asked for before the last one may lack it.
    told: u64,
    /// What the subscribers have not been told yet.
    delta: Delta,
    /// They were told a moment ago: the next push waits for the timer.
    waiting: bool,
}

/// A change that waits.
struct Queued {
    entrance: Entrance,
    enters: bool,
    /// It is in what is about to be stated.
    covered: bool,
}

impl Attendance {
    /// Queues a change; how many there have been with it. `covered`: it is in what is about to be stated as a whole.
    pub(super) fn change(&mut self, entrance: Entrance, enters: bool, covered: bool) -> u64 {
        self.queue.push(Queued { entrance, enters, covered });
        self.changes += 1;
        self.changes
    }

    /// How many changes there have been.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// How many of them presence has answered.
    pub(super) fn applied(&self) -> u64 {
        self.applied
    }

    /// Who is here is going to be stated as a whole, with all that waits.
    pub(crate) fn hold(&mut self) {
        self.held = true;
        self.queue.iter_mut().for_each(|queued| queued.covered = true);
    }

    /// Takes out what the statement has; how many changes that were.
    pub(crate) fn drop_covered(&mut self) -> u64 {
        let before = self.queue.len();
        self.queue.retain(|queued| !queued.covered);
        (before - self.queue.len()) as u64
    }

    /// The statement was made, and had this effect; it stands for so many changes.
    pub(crate) fn release(&mut self, covered: u64, delta: Option<Delta>) {
        self.held = false;
        self.applied += covered;
        let Some(Delta { users, joined, left }) = delta else { return };
        for user in left {
            self.note(&Member { user, name: None }, false, users);
        }
        for member in &joined {
            self.note(member, true, users);
        }
    }

    /// Subscribers are told of a change.
    pub(super) fn tells(&mut self) {
        self.told += 1;
    }

    /// How many times they were.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.held && self.queue.is_empty() && self.applying.is_empty() && !self.waiting
    }

    fn note(&mut self, member: &Member, enters: bool, users: u64) {
        self.delta.users = users;
        // The last change of a user counts: who left and is back is told as joined, perhaps under another name.
        self.delta.left.retain(|user| *user != member.user);
        self.delta.joined.retain(|joined| joined.user != member.user);
        if enters {
            self.delta.joined.push(member.clone());
        } else {
            self.delta.left.push(member.user.clone());
        }
    }

    fn has_news(&self) -> bool {
        !self.delta.joined.is_empty() || !self.delta.left.is_empty()
    }
}

impl Shard {
    /// One batch at a time; what comes meanwhile goes with the next one.
    pub(crate) fn apply_attendance(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let attendance = &mut home.attendance;
        if attendance.held || attendance.queue.is_empty() || !attendance.applying.is_empty() {
            return;
        }
        let queue = std::mem::take(&mut attendance.queue);
        attendance.applying = queue.into_iter().map(|queued| (queued.entrance, queued.enters)).collect();
        let change = |(entrance, enters): &(Entrance, bool)| Change {
            channel: home.key.clone(),
            member: entrance.member.clone(),
            enters: *enters,
        };
        let changes = attendance.applying.iter().map(change).collect();
        let mailbox = self.mailbox();
        let done = Box::new(move |result| mailbox.post(Inbox::PresenceApplied(home_ref, result)));
        self.node.presence().apply(self.node.id(), changes, done);
    }

    pub(crate) fn attendance_applied(&mut self, home_ref: HomeRef, result: Result<Vec<Outcome>, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let changes = std::mem::take(&mut home.attendance.applying);
        home.attendance.applied += changes.len() as u64;
        let key = home.key.clone();
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::warn!(%error, "presence does not answer; it is told again who is here");
                self.homes.astray.insert(key.clone());
                Vec::new()
            }
        };
        let Some(home) = self.homes.get(home_ref) else { return };
        let mut announcements = Vec::new();
        for ((entrance, enters), outcome) in changes.iter().zip(outcomes) {
            if outcome.transition && home.rule.presence {
                home.attendance.note(&entrance.member, *enters, outcome.users);
            }
            if let Some(legacy) = &entrance.legacy {
                let (event, members) =
                    if *enters { ("CONNECTION", &legacy.came) } else { ("DISCONNECT", &legacy.left) };
                announcements
                    .push(format!(r#"{{"event":"{event}","count":{},{members}}}"#, outcome.connections));
            }
        }
        self.advance_joins(home_ref);
        for announcement in announcements {
            if let Some(message) = announce(&key, announcement, self.node.clock().wall()) {
                self.home_signal(Arc::new(Signal { message, ttl_ms: None }), None);
            }
        }
        self.tell_attendance(home_ref);
        self.apply_attendance(home_ref);
        self.retire(home_ref);
    }

    /// Pushes what is new, at once or when the timer says so.
    pub(crate) fn tell_attendance(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.attendance.waiting || !home.attendance.has_news() {
            return;
        }
        home.attendance.waiting = true;
        home.attendance.tells();
        let delta = Arc::new(std::mem::take(&mut home.attendance.delta));
        let key = home.key.clone();
        self.arm(COALESCE_MS, Timer::Attendance(home_ref));
        self.node.bus().publish(&Topic::Channel(key.clone()), Event::Presence(key.clone(), delta.clone()));
        self.tell_presence(key, delta);
    }

    /// To this node's subscribers. While presence is unknown they are told nothing: some of what is found out then is only half of what has happened.
    pub(super) fn tell_presence(&mut self, key: ChannelKey, delta: Arc<Delta>) {
        if self.presence.known {
            self.home_happens(Happening::Presence(key, delta), None);
        }
    }

    pub(crate) fn attendance_timer(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.attendance.waiting = false;
        self.tell_attendance(home_ref);
        self.retire(home_ref);
    }
}

/// `_event`, as a signal that only XPUSH 0.1 clients are shown.
fn announce(key: &ChannelKey, json: String, at: u64) -> Option<Message> {
    Some(Message {
        kind: Kind::Message,
        revision: None,
        channel: key.clone(),
        position: None,
        id: ClientId::new("-").ok()?,
        event: EventName::new(legacy::EVENT).ok()?,
        payload: Payload { json: Bytes::from(json), attachments: Vec::new() },
        from: Sender { user: User::new("-").ok()?, name: None },
        at,
    })
}
