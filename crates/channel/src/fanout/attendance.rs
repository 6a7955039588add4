//! Who comes into a channel and leaves it, as its home tells it: to presence, and to the subscribers that asked.

use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::{Message, Payload, Sender};
use xpush_core::ports::PortError;
use xpush_core::ports::bus::{Event, Signal, Topic};
use xpush_core::ports::presence::{Change, Delta, Member, Outcome};
use xpush_core::{ClientId, EventName, Kind, User};

use super::inbox::{Entrance, Happening, HomeRef, Inbox};
use crate::dialect::legacy;
use crate::shard::{Shard, Timer};

/// Between two `presence` pushes of a channel, in ms: ten thousand who come at once make a few pushes, not ten thousand.
const COALESCE_MS: u64 = 100;

/// A home's changes on their way to presence, and what came of them.
#[derive(Default)]
pub(crate) struct Attendance {
    queue: Vec<(Entrance, bool)>,
    applying: Vec<(Entrance, bool)>,
    changes: u64,
    applied: u64,
    /// What the subscribers have not been told yet.
    delta: Delta,
    /// They were told a moment ago: the next push waits for the timer.
    waiting: bool,
}

impl Attendance {
    /// Queues a change; how many there have been with it.
    pub(super) fn change(&mut self, entrance: Entrance, enters: bool) -> u64 {
        self.queue.push((entrance, enters));
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

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.applying.is_empty() && !self.waiting
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
    pub(super) fn apply_attendance(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let attendance = &mut home.attendance;
        if attendance.queue.is_empty() || !attendance.applying.is_empty() {
            return;
        }
        attendance.applying = std::mem::take(&mut attendance.queue);
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
        let outcomes = result.unwrap_or_else(|error| {
            tracing::warn!(%error, "presence does not answer; it is unknown until it does");
            Vec::new()
        });
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
        let key = home.key.clone();
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
        let delta = Arc::new(std::mem::take(&mut home.attendance.delta));
        let key = home.key.clone();
        self.arm(COALESCE_MS, Timer::Attendance(home_ref));
        self.node.bus().publish(&Topic::Channel(key.clone()), Event::Presence(key.clone(), delta.clone()));
        self.home_happens(Happening::Presence(key, delta), None);
    }

    pub(crate) fn attendance_timer(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.attendance.waiting = false;
        self.tell_attendance(home_ref);
        self.retire(home_ref);
    }
}

/// `_event`, as a signal that only XPUSH 0.1 clients are shown.
fn announce(key: &xpush_core::ChannelKey, json: String, at: u64) -> Option<Message> {
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
