//! One channel's messages: a ring, and the index that recognizes a retry.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use xpush_core::ports::message_log::{Draft, Page, Placed, Range, Refused};
use xpush_core::{ChannelKey, Epoch, Kind, Message, Monotonic, Payload, Position, Retention, Revision, User};

/// What a channel takes beside its messages: its entries in two maps, the least that the ring and the index allocate, its name.
const CHANNEL_WEIGHT: usize = size_of::<History>() + 3 * size_of::<ChannelKey>() + 512;

/// What a message takes beside its contents: itself, its places in ring and index (which grow by doubling), the heads of what it points to.
const MESSAGE_WEIGHT: usize = size_of::<Message>() + 2 * (size_of::<Slot>() + size_of::<Fence>()) + 128;

pub(super) struct History {
    epoch: Epoch,
    /// The newest seq; 0 before the first message.
    head: u64,
    /// The newest messages, without holes; the last one is `head`.
    slots: VecDeque<Slot>,
    /// Exactly the messages of `slots`.
    fence: HashSet<Fence, RandomState>,
    /// As the latest append gave it.
    retention: Retention,
    /// The bound on `weight`.
    share: usize,
    /// Bytes as [`Retention::bytes`] counts them.
    bytes: usize,
    /// Bytes of memory, about.
    weight: usize,
    /// The number of the latest write.
    pub(super) written: u64,
}

struct Slot {
    message: Arc<Message>,
    placed: Monotonic,
}

/// A message as its sender identifies it: equal to every message of the same sender and id.
struct Fence(Arc<Message>);

impl History {
    pub(super) fn new(epoch: Epoch, written: u64) -> Self {
        Self {
            epoch,
            head: 0,
            slots: VecDeque::new(),
            fence: HashSet::default(),
            retention: Retention { count: 1, bytes: 0, age_ms: 0 },
            share: 0,
            bytes: 0,
            weight: CHANNEL_WEIGHT,
            written,
        }
    }

    /// Sets the bounds that hold from now on.
    pub(super) fn keep(&mut self, retention: Retention, share: usize) {
        self.retention = retention;
        self.share = share;
    }

    /// Gives the draft its place, or finds the one that it has.
    pub(super) fn place(
        &mut self,
        channel: &ChannelKey,
        draft: Draft,
        now: Monotonic,
    ) -> Result<Placed, Refused> {
        let Draft { kind, moderates, id, event, payload, from, at } = draft;
        let position = Some(Position { epoch: self.epoch, seq: self.head + 1 });
        let message = Arc::new(Message {
            kind,
            revision: None,
            channel: channel.clone(),
            position,
            id,
            event,
            payload,
            from,
            at,
        });
        if let Some(Fence(first)) = self.fence.get(&Fence(Arc::clone(&message))) {
            return Ok(Placed { message: Arc::clone(first), retry: true });
        }
        if let Some(target) = kind.target() {
            self.check(target, &message.from.user, moderates)?;
            self.fold(target, &message);
        }
        self.head += 1;
        self.count(&message);
        self.slots.push_back(Slot { message: Arc::clone(&message), placed: now });
        Ok(Placed { message, retry: false })
    }

    /// Whether `user` may change the message in slot `target`.
    fn check(&self, target: u64, user: &User, moderates: bool) -> Result<(), Refused> {
        let kept = (self.first()..=self.head).contains(&target);
        let message = kept.then(|| &self.slots[self.index(target)].message);
        match message {
            Some(message) if message.kind.is_message() && !message.is_deleted() => {
                if moderates || message.from.user == *user { Ok(()) } else { Err(Refused::NotYours) }
            }
            _ => Err(Refused::NoSuchMessage),
        }
    }

    /// From now on slot `target` reads as `by`, which takes the next place, makes it.
    fn fold(&mut self, target: u64, by: &Message) {
        let seq = self.head + 1;
        let deleted = matches!(by.kind, Kind::Delete { .. });
        let target_at = self.index(target);
        if deleted {
            // What earlier edits said goes, too.
            for index in target_at..self.slots.len() {
                if self.slots[index].message.kind == (Kind::Edit { target }) {
                    self.rewrite(index, withdrawn(), None);
                }
            }
        }
        let payload = if deleted { withdrawn() } else { by.payload.clone() };
        self.rewrite(target_at, payload, Some(Revision { seq, at: by.at, deleted }));
    }

    fn rewrite(&mut self, index: usize, payload: Payload, revision: Option<Revision>) {
        let old = &self.slots[index].message;
        let new = Message { payload, revision, ..Message::clone(old) };
        self.put(index, new);
    }

    fn put(&mut self, index: usize, new: Message) {
        let new = Arc::new(new);
        let old = std::mem::replace(&mut self.slots[index].message, Arc::clone(&new));
        self.uncount(&old);
        self.count(&new);
    }

    /// The message in a slot that is kept.
    pub(super) fn message(&self, seq: u64) -> Arc<Message> {
        Arc::clone(&self.slots[self.index(seq)].message)
    }

    /// Another one in its place.
    pub(super) fn replace(&mut self, seq: u64, new: Message) {
        let index = self.index(seq);
        self.put(index, new);
    }

    /// What is kept, in order.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.slots.iter().map(|slot| &*slot.message)
    }

    /// How many messages are kept.
    pub(super) fn kept(&self) -> u64 {
        self.slots.len() as u64
    }

    fn count(&mut self, message: &Arc<Message>) {
        self.bytes += bytes_of(message);
        self.weight += weight_of(message);
        self.fence.insert(Fence(Arc::clone(message)));
    }

    fn uncount(&mut self, message: &Arc<Message>) {
        self.bytes -= bytes_of(message);
        self.weight -= weight_of(message);
        self.fence.remove(&Fence(Arc::clone(message)));
    }

    /// Takes out what is too much, the oldest first.
    pub(super) fn trim(&mut self) {
        while self.slots.len() > self.retention.count
            || self.bytes > self.retention.bytes
            || self.weight > self.share
        {
            if !self.pop() {
                return;
            }
        }
    }

    /// Takes out what is too old.
    pub(super) fn expire(&mut self, now: Monotonic) {
        while self.slots.front().is_some_and(|slot| now.since(slot.placed) > self.retention.age_ms) {
            if !self.pop() {
                return;
            }
        }
    }

    /// Takes out the oldest message; false when it is the newest, too, which stays.
    fn pop(&mut self) -> bool {
        if self.slots.len() < 2 {
            return false;
        }
        if let Some(Slot { message, .. }) = self.slots.pop_front() {
            self.uncount(&message);
        }
        true
    }

    pub(super) fn page(&self, range: Range, limit: usize) -> Page {
        let first = self.first();
        let behind_last = self.head + 1;
        let (from, to) = match range {
            Range::After(seq) => {
                let from = seq.saturating_add(1).clamp(first, behind_last);
                (from, from.saturating_add(limit as u64).min(behind_last))
            }
            Range::Before(seq) => {
                let to = seq.clamp(first, behind_last);
                (to.saturating_sub(limit as u64).max(first), to)
            }
            Range::Newest => (behind_last.saturating_sub(limit as u64).max(first), behind_last),
        };
        let messages = self.slots.range(self.index(from)..self.index(to));
        let messages = messages.map(|slot| Arc::clone(&slot.message)).collect();
        Page { epoch: self.epoch, first, head: self.head, messages }
    }

    pub(super) fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head }
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn first(&self) -> u64 {
        self.head + 1 - self.slots.len() as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most the number of slots")]
    fn index(&self, seq: u64) -> usize {
        (seq - self.first()) as usize
    }
}

impl Fence {
    fn key(&self) -> (&str, &str) {
        (self.0.from.user.as_str(), self.0.id.as_str())
    }
}

impl PartialEq for Fence {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Fence {}

impl Hash for Fence {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// The data of a message that is withdrawn.
fn withdrawn() -> Payload {
    Payload { json: Bytes::from_static(b"null"), attachments: Vec::new() }
}

/// Upper bound of what a message made of the draft weighs: its channel's and its sender's names are shared with others.
pub(super) fn weight_of_draft(draft: &Draft) -> usize {
    MESSAGE_WEIGHT + draft.id.as_str().len() + draft.event.as_str().len() + draft.payload.size()
}

fn weight_of(message: &Message) -> usize {
    MESSAGE_WEIGHT + message.id.as_str().len() + bytes_of(message)
}

fn bytes_of(message: &Message) -> usize {
    message.event.as_str().len() + message.payload.size()
}
