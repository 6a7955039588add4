//! Who is here, said again: after a store has forgotten it, or nobody knows whether it was told.
//!
//! A channel's home asks every shard who of its sessions is in the channel, and then states that instead of all that it had told before. What a shard reports of
//! comings and goings before it has answered is in its answer, and not told once more; what it reports afterwards is applied behind the statement.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use xpush_core::ChannelKey;
use xpush_core::ports::PortError;
use xpush_core::ports::presence::{Delta, Member, Roster};

use super::keeping::Knowledge;
use crate::command::presence::ROSTER;
use crate::fanout::inbox::{Happening, HomeRef, Inbox};
use crate::fanout::join::LISTINGS;
use crate::shard::Shard;

/// Gone through in the same order in each run of a simulation.
pub(crate) type Channels = HashSet<ChannelKey, foldhash::fast::FixedState>;

/// A shard's recount of channels that are at home there. One at a time.
#[derive(Default)]
pub(crate) struct Recount {
    number: u32,
    channels: Arc<Channels>,
    /// Which shards have answered; empty when no recount is under way.
    answered: Vec<bool>,
    found: HashMap<ChannelKey, Vec<Member>>,
}

/// A home's question to a shard.
#[derive(Clone)]
pub(crate) struct Question {
    home_shard: u16,
    number: u32,
    channels: Arc<Channels>,
}

/// A channel's list, and how often its subscribers had been told of changes when it was asked for.
pub(crate) struct Relisted {
    told: u64,
    tries: u8,
    roster: Result<Roster, PortError>,
}

/// A shard's answer.
pub(crate) struct Count {
    shard: u16,
    number: u32,
    found: Vec<(ChannelKey, Member)>,
}

impl Recount {
    /// Whether what this shard reports of the channel now will be in its answer.
    pub(crate) fn covers(&self, channel: &ChannelKey, shard: u16) -> bool {
        self.answered.get(usize::from(shard)) == Some(&false) && self.channels.contains(channel)
    }

    fn is_under_way(&self) -> bool {
        !self.answered.is_empty()
    }
}

impl Shard {
    /// The store of presence has forgotten this node.
    pub(crate) fn restate_all(&mut self) {
        let all = self.homes.of(None);
        self.homes.astray.extend(all);
        self.recount_astray();
    }

    /// Recounts the channels of which it is not known what the store has.
    pub(crate) fn recount_astray(&mut self) {
        if self.homes.astray.is_empty() || self.recount.is_under_way() || !self.presence.held {
            return;
        }
        let channels = std::mem::take(&mut self.homes.astray);
        for channel in &channels {
            let Some(rule) = self.current_rule(channel) else { continue };
            // One that has no subscriber any more is told of as empty.
            let home_ref = self.homes.open(channel, &rule);
            if let Some(home) = self.homes.get(home_ref) {
                home.attendance.hold();
            }
        }
        let (number, shards) = (self.next_number(), self.node.shards());
        let channels = Arc::new(channels);
        let question = Question { home_shard: self.index(), number, channels: channels.clone() };
        self.recount =
            Recount { number, channels, answered: vec![false; usize::from(shards)], found: HashMap::new() };
        for shard in 0..shards {
            self.post(shard, Inbox::Recount(question.clone()));
        }
    }

    /// Another shard asks who is in some channels.
    pub(crate) fn count(&mut self, question: &Question) {
        let mut found = Vec::new();
        for handle in self.sessions.handles() {
            let Some(session) = self.sessions.get(handle) else { continue };
            for subscription in session.subscriptions.iter().filter(|one| one.entered) {
                let key = &self.topics.get(subscription.topic).key;
                if question.channels.contains(key)
                    && let Some(entrance) = session.entrance(subscription.namespace)
                {
                    found.push((key.clone(), entrance.member));
                }
            }
        }
        let count = Count { shard: self.index(), number: question.number, found };
        self.post(question.home_shard, Inbox::Counts(Box::new(count)));
    }

    /// A shard has answered; when all have, the store is told.
    pub(crate) fn counts(&mut self, count: Count) {
        if count.number != self.recount.number || !self.recount.is_under_way() {
            return;
        }
        for (channel, member) in count.found {
            self.recount.found.entry(channel).or_default().push(member);
        }
        self.recount.answered[usize::from(count.shard)] = true;
        if self.recount.answered.contains(&false) {
            return;
        }
        let Recount { channels, mut found, .. } = std::mem::take(&mut self.recount);
        for channel in channels.iter() {
            let Some(home_ref) = self.homes.find(channel) else { continue };
            let Some(home) = self.homes.get(home_ref) else { continue };
            let covered = home.attendance.drop_covered();
            let members = found.remove(channel).unwrap_or_default();
            let mailbox = self.mailbox();
            let done = Box::new(move |result| mailbox.post(Inbox::Restated(home_ref, covered, result)));
            self.node.presence().restate(self.node.id(), channel, members, done);
        }
    }

    /// The store was told who is in a channel.
    pub(crate) fn restated(&mut self, home_ref: HomeRef, covered: u64, result: Result<Delta, PortError>) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let presence = home.rule.presence;
        match result {
            Ok(delta) => home.attendance.release(covered, presence.then_some(delta)),
            Err(error) => {
                tracing::warn!(%error, "presence was not told who is here");
                home.attendance.release(covered, None);
                let key = home.key.clone();
                self.homes.astray.insert(key);
            }
        }
        self.advance_joins(home_ref);
        self.tell_attendance(home_ref);
        self.apply_attendance(home_ref);
        self.retire(home_ref);
    }

    /// Who is in channels is known no more, or again: subscribers are told so, and then who is there.
    pub(crate) fn presence_is(&mut self, knowledge: Knowledge) {
        let known = knowledge.known;
        let before = std::mem::replace(&mut self.presence, knowledge);
        if known == before.known {
            return;
        }
        for channel in self.homes.with_presence() {
            if known {
                self.relist(&channel);
            } else {
                self.home_happens(Happening::Unknown(channel), None);
            }
        }
    }

    /// Asks who is in a channel, and tells its subscribers: changes may have been lost. While presence is unknown, the store may have a part; it is asked afterwards.
    pub(crate) fn relist(&mut self, channel: &ChannelKey) {
        if let Some(home_ref) = self.homes.find(channel).filter(|_| self.presence.known) {
            self.list_anew(home_ref, LISTINGS);
        }
    }

    fn list_anew(&mut self, home_ref: HomeRef, tries: u8) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (channel, told, mailbox) = (home.key.clone(), home.attendance.told(), self.mailbox());
        let done = Box::new(move |roster| {
            mailbox.post(Inbox::Relisted(home_ref, Box::new(Relisted { told, tries, roster })));
        });
        self.node.presence().list(&channel, ROSTER, done);
    }

    pub(crate) fn relisted(&mut self, home_ref: HomeRef, relisted: Relisted) {
        if !self.presence.known {
            return;
        }
        let Some(home) = self.homes.get(home_ref) else { return };
        let channel = home.key.clone();
        let Relisted { told, tries, roster } = relisted;
        if roster.is_ok() && told != home.attendance.told() && tries > 0 {
            // What subscribers were told meanwhile may not be in it.
            return self.list_anew(home_ref, tries - 1);
        }
        match roster {
            Ok(roster) => self.home_happens(Happening::Roster(channel, Arc::new(roster)), None),
            Err(error) => tracing::debug!(%error, "cannot list who is in a channel"),
        }
    }
}
