//! Ports with one bug each, to see whether it is found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use xpush_core::ports::bus::{Bus, Event, Topic};
use xpush_core::ports::markers::{Advanced, After, Conversation, Ledger, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Placed, Range};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, ClientId, Message, Position, Retention, User};
use xpush_testkit::SeededEntropy;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The store does not wait for the disk.
    Unsynced,
    /// A place is given to two messages.
    Reused,
    /// A retry is stored as if it were new.
    Doubled,
    /// The bus is not told of a message that was a retry.
    Unpublished,
}

/// How often a place is given twice.
const REUSED: u64 = 100;

/// A ledger with perhaps a bug, which now and then does not know what it has done.
pub(crate) struct SeededLedger {
    inner: Arc<dyn Ledger>,
    bug: Bug,
    /// In percent.
    forgets: u64,
    entropy: Mutex<SeededEntropy>,
    count: AtomicU64,
    retried: Mutex<HashSet<(ChannelKey, u64)>>,
}

/// A [`SeededLedger`] as a port: what is called later must own it.
pub(crate) struct Handle(pub(crate) Arc<SeededLedger>);

/// A bus that perhaps keeps retries to itself.
pub(crate) struct SeededBus {
    inner: Arc<dyn Bus>,
    ledger: Arc<SeededLedger>,
}

impl Bug {
    const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Unsynced, "unsynced"),
        (Self::Reused, "reused"),
        (Self::Doubled, "doubled"),
        (Self::Unpublished, "unpublished"),
    ];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(bug, _)| *bug == self).unwrap().1
    }

    pub(crate) fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|(_, known)| *known == word).unwrap().0
    }
}

impl SeededLedger {
    pub(crate) fn new(inner: Arc<dyn Ledger>, bug: Bug, forgets: u64) -> Arc<Self> {
        Arc::new(Self {
            inner,
            bug,
            forgets,
            entropy: Mutex::new(SeededEntropy::new(1)),
            count: AtomicU64::new(0),
            retried: Mutex::default(),
        })
    }

    fn retried(&self) -> MutexGuard<'_, HashSet<(ChannelKey, u64)>> {
        self.retried.lock().unwrap()
    }

    /// An id that no other draft has: so no retry is known.
    fn disguise(&self, mut draft: Draft) -> Draft {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        draft.id = ClientId::new(&format!("{}~{count}", draft.id)).unwrap();
        draft
    }

    /// What the caller is told of a draft's place.
    fn placed(&self, placed: Placed) -> Placed {
        let Placed { message, retry } = placed;
        if retry {
            self.retried().insert((message.channel.clone(), message.seq()));
        }
        let mut message = unmasked(message);
        if self.bug == Bug::Reused && self.count.fetch_add(1, Ordering::Relaxed) % REUSED == REUSED - 1 {
            let mut other = Message::clone(&message);
            other.position = other.position.map(|at| Position { seq: at.seq.saturating_sub(1).max(1), ..at });
            message = Arc::new(other);
        }
        Placed { message, retry }
    }

    /// Now and then what was done for the first time is not known to be done; what is behind it neither.
    fn forget(&self, mut appended: Appended) -> Appended {
        let fresh = |taken: &Result<Placed, _>| taken.as_ref().is_ok_and(|placed| !placed.retry);
        let chance = self.entropy.lock().unwrap().below(100) < self.forgets;
        if let Some(first) = appended.taken.iter().position(fresh).filter(|_| chance) {
            appended.taken.truncate(first);
            appended.failure = Some(PortError::new(Failure::Unknown, "the answer was lost"));
        }
        appended
    }
}

impl SeededBus {
    pub(crate) fn new(inner: Arc<dyn Bus>, ledger: Arc<SeededLedger>) -> Self {
        Self { inner, ledger }
    }
}

impl Bus for SeededBus {
    fn publish(&self, topic: &Topic, event: Event) {
        if let Event::Message(message) = &event
            && self.ledger.bug == Bug::Unpublished
            && self.ledger.retried().contains(&(message.channel.clone(), message.seq()))
        {
            return;
        }
        self.inner.publish(topic, event);
    }

    fn follow(&self, topic: Topic, done: Done<()>) {
        self.inner.follow(topic, done);
    }

    fn unfollow(&self, topic: &Topic) {
        self.inner.unfollow(topic);
    }
}

impl MessageLog for Handle {
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>) {
        let drafts = match self.0.bug {
            Bug::Doubled => drafts.into_iter().map(|draft| self.0.disguise(draft)).collect(),
            _ => drafts,
        };
        let ledger = self.0.clone();
        let done: Done<Appended> = Box::new(move |result| {
            done(result.map(|Appended { taken, failure }| {
                let taken =
                    taken.into_iter().map(|taken| taken.map(|placed| ledger.placed(placed))).collect();
                ledger.forget(Appended { taken, failure })
            }));
        });
        self.0.inner.append(channel, retention, drafts, done);
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let done: Done<Page> = Box::new(move |result| {
            done(result.map(|page| {
                let messages = page.messages.into_iter().map(unmasked).collect();
                Page { messages, ..page }
            }));
        });
        self.0.inner.read(channel, range, limit, done);
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        self.0.inner.heads(channels, done);
    }
}

impl Markers for Handle {
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>) {
        self.0.inner.begin(channel, user, done);
    }

    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>) {
        self.0.inner.advance(channel, user, mark, seq, done);
    }

    fn end(&self, app: &App, channel: Option<&Channel>, user: &User, done: Done<()>) {
        self.0.inner.end(app, channel, user, done);
    }

    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>) {
        self.0.inner.of_channel(channel, limit, done);
    }

    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>) {
        self.0.inner.unread(channel, users, done);
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    ) {
        self.0.inner.conversations(app, user, after, limit, done);
    }
}

/// The message with the id that its publisher gave it.
fn unmasked(message: Arc<Message>) -> Arc<Message> {
    let Some((id, _)) = message.id.as_str().split_once('~') else { return message };
    let id = ClientId::new(id).unwrap();
    Arc::new(Message { id, ..Message::clone(&message) })
}
