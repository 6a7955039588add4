//! What a client of the simulation remembers, and what must hold of whatever it is told.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use tokio::sync::oneshot;
use xpush_core::{Kind, Message};

use crate::session::sid::Sid;
use crate::transport::polling::Answer;

/// What one subscription of a client has seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) epoch: String,
    /// The position that the subscription began behind.
    pub(super) since: u64,
    pub(super) seqs: Vec<u64>,
}

impl Seen {
    pub(super) fn last(&self) -> u64 {
        self.seqs.last().copied().unwrap_or(self.since)
    }
}

/// A message as its client shows it: as its newest change made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// The slot of that change; 0 without any.
    pub(super) changed: u64,
    /// `None` when it was deleted.
    pub(super) text: Option<String>,
    pub(super) silent: bool,
}

impl Shown {
    /// As a log has it.
    pub(super) fn of(message: &Message) -> Self {
        let text = serde_json::from_slice::<Value>(&message.payload.json).unwrap();
        Self {
            changed: message.revision.map_or(0, |revision| revision.seq),
            text: text.as_str().map(str::to_owned),
            silent: message.kind == Kind::Silent,
        }
    }
}

/// Something that takes a place.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) channel: &'static str,
    pub(super) count: u64,
    pub(super) what: What,
    /// It was sent before, and nobody knew what became of it.
    pub(super) again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Publish { silent: bool },
    Edit(u64),
    Delete(u64),
}

/// A client that polls.
pub(super) struct Client {
    pub(super) node: usize,
    pub(super) shard: u16,
    pub(super) sid: Option<Sid>,
    pub(super) poll: Option<oneshot::Receiver<Answer>>,
    pub(super) acks: u64,
    /// The channel that a pending `subscribe` is for, and from where.
    pub(super) asked: HashMap<u64, (&'static str, Option<u64>)>,
    /// Pending publications, edits and deletions.
    pub(super) wishes: HashMap<u64, Wish>,
    /// Those that are to be sent again.
    pub(super) unsure: Vec<Wish>,
    /// The channel of a pending `read`, and how far.
    pub(super) reads: HashMap<u64, (&'static str, u64)>,
    /// What this connection follows.
    pub(super) live: HashSet<&'static str>,
    pub(super) memory: Memory,
}

/// What outlasts a client's connections.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) seen: HashMap<&'static str, Seen>,
    pub(super) shown: HashMap<&'static str, BTreeMap<u64, Shown>>,
    /// One's own messages that were acknowledged.
    pub(super) own: Vec<(&'static str, u64)>,
    /// How far one has read, as the server said last, and what was unread then.
    pub(super) read: HashMap<&'static str, (u64, u64)>,
    /// How far others have read, as one was told.
    pub(super) receipts: HashMap<(&'static str, String), u64>,
    pub(super) count: u64,
}

impl Client {
    pub(super) fn new(node: usize, shard: u16, memory: Memory) -> Self {
        Self {
            node,
            shard,
            sid: None,
            poll: None,
            acks: 0,
            asked: HashMap::new(),
            wishes: HashMap::new(),
            unsure: Vec::new(),
            reads: HashMap::new(),
            live: HashSet::new(),
            memory,
        }
    }

    pub(super) fn next_ack(&mut self) -> u64 {
        self.acks += 1;
        self.acks
    }

    /// Whether it waits for no answer.
    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.wishes.is_empty() && self.unsure.is_empty() && self.reads.is_empty()
    }

    /// The order in which pushes come: each place once, none left out.
    pub(super) fn take_place(&mut self, channel: &'static str, push: &Value) {
        let seq = push["seq"].as_u64().unwrap();
        let seen = self.memory.seen.get_mut(channel).expect("a push comes behind its subscription's answer");
        assert_eq!(seq, seen.last() + 1, "{channel}: a hole, a double or a swap");
        seen.seqs.push(seq);
    }

    pub(super) fn take_message(&mut self, channel: &'static str, push: &Value) {
        self.take_place(channel, push);
        let change =
            [&push["edited"], &push["deleted"]].into_iter().find_map(|change| change["seq"].as_u64());
        let text = push["data"].as_str().map(str::to_owned);
        assert_eq!(text.is_none(), push.get("deleted").is_some(), "{push}");
        let shown = Shown { changed: change.unwrap_or(0), text, silent: push["silent"] == true };
        self.show(channel, push["seq"].as_u64().unwrap(), shown);
    }

    pub(super) fn take_change(&mut self, channel: &'static str, push: &Value, deleted: bool) {
        self.take_place(channel, push);
        let (target, seq) = (push["target"].as_u64().unwrap(), push["seq"].as_u64().unwrap());
        assert!(target < seq, "{push}");
        let Some(before) = self.memory.shown.get(channel).and_then(|shown| shown.get(&target)) else {
            return;
        };
        let text = if deleted { None } else { push["data"].as_str().map(str::to_owned) };
        let shown = Shown { changed: seq, text, silent: before.silent };
        self.show(channel, target, shown);
    }

    /// Of a message's changes the one with the largest seq counts, in whatever order they are learnt.
    fn show(&mut self, channel: &'static str, seq: u64, shown: Shown) {
        let all = self.memory.shown.entry(channel).or_default();
        if all.get(&seq).is_none_or(|before| before.changed <= shown.changed) {
            all.insert(seq, shown);
        }
    }

    /// What is unread behind `read`, as far as this client has seen the channel.
    pub(super) fn unread(&self, channel: &'static str, read: u64) -> u64 {
        let shown = self.memory.shown.get(channel).into_iter().flatten();
        let counts = |(seq, shown): &(&u64, &Shown)| **seq > read && shown.text.is_some() && !shown.silent;
        shown.filter(counts).count() as u64
    }
}
