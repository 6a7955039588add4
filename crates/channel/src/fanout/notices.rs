//! Members of a channel hear of what they do not follow: the newest message, as it reads then, at most once a second.

use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::ports::access::MemberOf;
use xpush_core::ports::bus::{Event, Topic};
use xpush_core::ports::message_log::{Page, Range};
use xpush_core::{Message, User};

use super::inbox::{Handle, HomeRef, Inbox, Wanted};
use crate::dialect::{self, Namespace, object};
use crate::shard::{Shard, Timer};

/// Between two notifications of a channel, in ms.
const PACE_MS: u64 = 1_000;
/// Members looked at in one go: ten thousand must not hold a shard up.
const BATCH: usize = 1_000;
/// Messages among which one is looked for that still stands.
const PAGE: usize = 10;

/// What a home has still to tell its members.
#[derive(Default)]
pub(crate) struct Notices {
    /// The seq of the newest message that waits.
    newest: Option<u64>,
    /// They were told a moment ago: the next time is when the timer says so.
    waiting: bool,
    /// The seq of what they were told.
    told: u64,
}

/// The members to be told, for each shard to find those that are connected with it.
#[derive(Clone)]
pub(crate) struct Notification {
    pub(crate) message: Arc<Message>,
    members: Arc<[MemberOf]>,
    /// Those before it have been looked at.
    from: usize,
}

/// Members who are connected here, and how much is unread for each.
pub(crate) struct Counted {
    message: Arc<Message>,
    users: Vec<User>,
    result: Result<Vec<(User, u64)>, PortError>,
}

impl Notices {
    pub(super) fn is_idle(&self) -> bool {
        !self.waiting
    }
}

// === the home ===

impl Shard {
    /// A message has its place, by an append of this node.
    pub(super) fn home_notify(&mut self, home_ref: HomeRef, message: &Arc<Message>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.rule.notify && message.kind.is_countable() {
            match home.notices.waiting {
                true => home.notices.newest = Some(message.seq()),
                false => self.tell_notice(home_ref, message.clone()),
            }
        }
    }

    fn tell_notice(&mut self, home_ref: HomeRef, message: Arc<Message>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.notices.waiting = true;
        home.notices.told = message.seq();
        self.arm(PACE_MS, Timer::Notices(home_ref));
        // One event for all nodes, whatever the number of members: each knows who is connected with it.
        self.node.bus().publish(&Topic::Nodes, Event::Notify(message.clone()));
        self.ask_members(message);
    }

    /// What has waited may read otherwise by now, or be deleted.
    pub(crate) fn notices_timer(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        match home.notices.newest.take().filter(|_| home.rule.notify && home.keeps_history()) {
            Some(newest) => self.read_page(home_ref, Wanted::Notice, Range::Before(newest + 1), PAGE),
            None => {
                home.notices.waiting = false;
                self.retire(home_ref);
            }
        }
    }

    /// The newest of those that have not been told and still stand.
    pub(super) fn notice_page(&mut self, home_ref: HomeRef, result: Result<Page, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let told = home.notices.told;
        let stands = |message: &&Arc<Message>| {
            message.seq() > told && message.kind.is_countable() && !message.is_deleted()
        };
        match result {
            Ok(page) => match page.messages.iter().rfind(stands) {
                Some(message) => self.tell_notice(home_ref, message.clone()),
                None => self.notices_timer(home_ref),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot read the message of a notification");
                self.arm(PACE_MS, Timer::Notices(home_ref));
            }
        }
    }

    /// For this node's members; the message may be another node's.
    pub(crate) fn ask_members(&mut self, message: Arc<Message>) {
        let (node, channel) = (self.node.clone(), message.channel.clone());
        let done = Box::new(move |result: Result<Arc<[MemberOf]>, _>| match result {
            Ok(members) => node.post_all(|| {
                let (message, members) = (message.clone(), members.clone());
                Inbox::Notify(Box::new(Notification { message, members, from: 0 }))
            }),
            Err(problem) => tracing::warn!(%problem, "cannot find out whom to notify"),
        });
        self.node.access().members(&channel, true, done);
    }
}

// === the members' sessions ===

impl Shard {
    /// Finds those who are connected here and do not follow the channel, and asks how much is unread for them.
    pub(crate) fn notify(&mut self, mut notification: Notification) {
        let Notification { message, members, from } = &notification;
        let end = members.len().min(from + BATCH);
        let mut users = Vec::new();
        for member in &members[*from..end] {
            if member.user != message.from.user && !self.unaware(message, &member.user).is_empty() {
                users.push(member.user.clone());
            }
        }
        if !users.is_empty() {
            let (message, mailbox, asked) = (message.clone(), self.mailbox(), users.clone());
            let channel = message.channel.clone();
            let done = Box::new(move |result| {
                mailbox.post(Inbox::Counted(Box::new(Counted { message, users, result })));
            });
            self.node.ledger().unread(&channel, asked, done);
        }
        if end < members.len() {
            notification.from = end;
            self.mailbox().post(Inbox::Notify(Box::new(notification)));
        }
    }

    /// The ledger has counted: the pushes.
    pub(crate) fn notify_counted(&mut self, counted: Counted) {
        let Counted { message, users, result } = counted;
        let counts: HashMap<User, u64> = match result {
            Ok(counts) => counts.into_iter().collect(),
            Err(error) => return tracing::warn!(%error, "cannot count what is unread for a notification"),
        };
        let body = object::message(&message);
        for user in users {
            // Who has no marker has read nothing, this message neither.
            let unread = counts.get(&user).copied().unwrap_or(1);
            for handle in self.unaware(&message, &user) {
                let Some(session) = self.sessions.get(handle) else { continue };
                let object = object::notification(&message.channel.name, unread, &body);
                let mut frame = Vec::new();
                let format = session.format(Namespace::Native);
                dialect::push(format, "notification", &object, &[], &mut frame);
                self.sessions.send(handle.slot, frame.into());
            }
        }
    }

    /// A user's connections here that do not follow the message's channel.
    fn unaware(&mut self, message: &Message, user: &User) -> Vec<Handle> {
        let topic = self.topics.find(&message.channel);
        let mut handles: Vec<_> = self.sessions_of(&message.channel.app, user).into_iter().collect();
        handles.retain(|handle| {
            let session = self.sessions.get(*handle);
            session.is_some_and(|session| !session.subscriptions.iter().any(|one| Some(one.topic) == topic))
        });
        handles
    }
}
