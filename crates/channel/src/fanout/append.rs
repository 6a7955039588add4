//! From publications to their places: one append of a channel at a time, and no publisher waits for longer than [`PATIENCE_MS`]. Where others write the channel, too, the
//! append may be another node's ([`forward`](super::forward)).

use std::collections::VecDeque;
use std::sync::Arc;

use xpush_core::message::Message;
use xpush_core::ports::bus::{Event, Signal, Topic};
use xpush_core::ports::hooks;
use xpush_core::ports::message_log::{Appended, Placed, Refused};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{Code, History, Monotonic, Problem};

use super::forward::Sharing;
use super::inbox::{Handle, Happening, HomeRef, Inbox, Publication, Published, Publisher, Reply};
use crate::planted::{Bug, is_planted};
use crate::shard::{Shard, Timer};

/// How long a publisher waits for the log at most, in ms.
const PATIENCE_MS: u64 = 2_000;
/// Drafts in one append.
const BATCH: usize = 1_000;
/// Publications of one channel that may wait for the log; more are refused.
const QUEUE: usize = 10_000;

/// A channel's publications on their way into the log.
#[derive(Default)]
pub(crate) struct Appends {
    pub(super) under_way: VecDeque<Publication>,
    /// What is under way has been answered: nobody knows what will become of it, and nothing more is taken before that is known.
    pub(super) given_up: bool,
    /// What is under way was given to another node, too, and may take effect there at any time.
    pub(super) doubtful: bool,
    pub(super) queue: VecDeque<Publication>,
    /// A timer will look after them.
    watched: bool,
    /// With whom the channel is written.
    pub(super) sharing: Sharing,
}

impl Appends {
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle_here() && self.sharing.is_over()
    }

    /// Nothing waits for its place.
    pub(super) fn is_idle_here(&self) -> bool {
        self.under_way.is_empty() && self.queue.is_empty()
    }

    /// The session that does not get this message, if it is one that is under way elsewhere: it may come before its answer does.
    pub(super) fn excluded(&self, message: &Message) -> Option<Handle> {
        if !self.doubtful && !self.sharing.is_sent() {
            return None;
        }
        let theirs = |publication: &&Publication| {
            publication.draft.id == message.id && publication.draft.from.user == message.from.user
        };
        self.under_way.iter().filter(|publication| !publication.echo).find(theirs)?.excluded()
    }

    /// Since when the one that has waited longest waits for its answer.
    fn waiting_since(&self) -> Option<Monotonic> {
        let under_way = self.under_way.front().filter(|_| !self.given_up);
        under_way.or(self.queue.front()).map(|publication| publication.arrived)
    }
}

impl Shard {
    /// A local publish: into the log if the channel keeps one, then to everybody.
    pub(crate) fn home_publish(&mut self, publication: Publication) {
        if let Some(home_ref) = self.enqueue(publication) {
            self.append(home_ref);
            self.watch_appends(home_ref);
        }
    }

    /// Several local publishes: those of one channel go into the log together.
    pub(crate) fn home_publish_all(&mut self, publications: Vec<Publication>) {
        let mut homes: Vec<HomeRef> = Vec::new();
        for publication in publications {
            if let Some(home_ref) = self.enqueue(publication)
                && homes.last() != Some(&home_ref)
            {
                homes.push(home_ref);
            }
        }
        for home_ref in homes {
            self.append(home_ref);
            self.watch_appends(home_ref);
        }
    }

    /// Queues a publication for its channel's log, which is to be given it; without history it is handed around at once.
    fn enqueue(&mut self, publication: Publication) -> Option<HomeRef> {
        // What another node has left to this one was counted there.
        if !matches!(publication.by, Publisher::Node(..)) {
            self.counters.published.add(1);
        }
        if publication.rule.history == History::None {
            let draft = publication.draft.clone();
            let message = Arc::new(draft.message(publication.channel.clone(), None));
            self.published(&publication, &message, false);
            self.node.hooks().tell(hooks::Event::Message { message: message.clone(), durable: false });
            self.node
                .bus()
                .publish(&Topic::Channel(publication.channel.clone()), Event::Message(message.clone()));
            self.home_happens(Happening::Message(message), publication.excluded());
            return None;
        }
        let home_ref = self.homes.open(&publication.channel, &publication.rule);
        let home = self.homes.get(home_ref)?;
        let refusal = if home.appends.given_up {
            Problem::new(Code::Unavailable, "the channel's store does not answer")
        } else if home.appends.queue.len() >= QUEUE {
            Code::Overloaded.into()
        } else {
            home.appends.queue.push_back(publication);
            self.homes.unfinished += 1;
            return Some(home_ref);
        };
        self.reply(&publication, Reply::Failed(refusal));
        None
    }

    /// A local signal.
    pub(crate) fn home_signal(&mut self, signal: Arc<Signal>, exclude: Option<Handle>) {
        let channel = signal.message.channel.clone();
        self.node.bus().publish(&Topic::Channel(channel), Event::Signal(signal.clone()));
        self.home_happens(Happening::Signal(signal), exclude);
    }

    /// One append at a time keeps the order; what comes meanwhile goes with the next one.
    pub(super) fn append(&mut self, home_ref: HomeRef) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        if !home.appends.under_way.is_empty() || home.appends.queue.is_empty() {
            return;
        }
        if home.appends.sharing.is_shared(now) && self.forward(home_ref) {
            return;
        }
        let Some(home) = self.homes.get(home_ref) else { return };
        let appends = &mut home.appends;
        let batch = appends.queue.len().min(BATCH);
        appends.under_way = appends.queue.drain(..batch).collect();
        self.append_here(home_ref);
    }

    /// Gives the log what is under way.
    pub(super) fn append_here(&mut self, home_ref: HomeRef) {
        let (now, alone) = (self.now, !self.node.has_peers());
        let mailbox = self.mailbox();
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(retention) = home.rule.history.retention() else {
            // They were taken under another rule.
            let appends = &mut home.appends;
            let doubtful = std::mem::take(&mut appends.doubtful);
            let (under_way, queue) =
                (std::mem::take(&mut appends.under_way), std::mem::take(&mut appends.queue));
            self.refuse_all(under_way, if doubtful { Code::OutcomeUnknown } else { Code::Unavailable });
            self.refuse_all(queue, Code::Unavailable);
            return self.retire(home_ref);
        };
        let drafts = home.appends.under_way.iter().map(|publication| publication.draft.clone()).collect();
        let insists = alone || home.appends.sharing.is_shared(now);
        let (key, rule) = (home.key.clone(), home.rule.clone());
        let done = Box::new(move |result| mailbox.post(Inbox::Appended(home_ref, result)));
        let log = self.node.log(&rule.history);
        match insists {
            true => log.append(&key, retention, drafts, done),
            false => log.append_or_yield(&key, retention, drafts, done),
        }
    }

    /// The log has answered. What was given up meanwhile is released to subscribers all the same: it has its place.
    pub(crate) fn home_appended(&mut self, home_ref: HomeRef, result: Result<Appended, PortError>) {
        let (taken, failure) = match result {
            Ok(appended) => (appended.taken, appended.failure),
            Err(error) => (Vec::new(), Some(error)),
        };
        for taken in taken {
            self.home_taken(home_ref, taken, false);
        }
        self.append_ends(home_ref, failure);
    }

    /// The first that is under way has its place, or will have none. By the host: it has told the other nodes.
    pub(super) fn home_taken(&mut self, home_ref: HomeRef, taken: Result<Placed, Refused>, by_host: bool) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(publication) = home.appends.under_way.pop_front() else { return };
        let (given_up, doubtful) = (home.appends.given_up, home.appends.doubtful);
        let durable = home.rule.history.is_durable();
        self.homes.unfinished -= 1;
        match taken {
            Ok(Placed { message, retry }) => {
                if !given_up {
                    self.published(&publication, &message, retry);
                }
                self.home_withhold(home_ref, &message, publication.excluded());
                if by_host {
                    // Of a retry, what is there may be another message than the one that was sent now.
                    if !retry {
                        self.home_offer(home_ref, message);
                    }
                    return;
                }
                // A retry is published again too: its first append may have died before it reached the bus.
                self.node
                    .bus()
                    .publish(&Topic::Channel(message.channel.clone()), Event::Message(message.clone()));
                if !retry {
                    self.home_notify(home_ref, &message);
                    self.node.hooks().tell(hooks::Event::Message { message: message.clone(), durable });
                }
                self.home_offer(home_ref, message);
            }
            Err(refused) if !given_up => {
                let code = match refused {
                    _ if doubtful => Code::OutcomeUnknown,
                    Refused::NoSuchMessage => Code::UnknownMessage,
                    Refused::NotYours => Code::Forbidden,
                };
                self.reply(&publication, Reply::Failed(code.into()));
            }
            Err(_) => {}
        }
    }

    /// What is under way still has failed; then the next ones have their turn.
    pub(super) fn append_ends(&mut self, home_ref: HomeRef, failure: Option<PortError>) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        let rest = std::mem::take(&mut home.appends.under_way);
        let doubtful = std::mem::take(&mut home.appends.doubtful);
        if std::mem::take(&mut home.appends.given_up) {
            self.homes.unfinished -= rest.len() as u64;
            self.homes.unsure |= failure.is_some_and(|error| error.kind == Failure::Unknown);
        } else if let Some(error) = failure {
            if error.kind == Failure::Conflict && !home.appends.sharing.is_shared(now) {
                let mut queue = rest;
                queue.append(&mut home.appends.queue);
                home.appends.queue = queue;
                self.home_is_shared(home_ref);
            } else {
                let unknown = doubtful && !is_planted(Bug::DoubtfulRefused);
                let kind = if unknown { Failure::Unknown } else { error.kind };
                self.append_failed(home_ref, rest, &PortError { kind, ..error });
            }
        }
        self.append(home_ref);
        self.retire(home_ref);
    }

    /// The first of `rest` has failed. What the same connection sent after it fails too, so that nothing of it is stored out of order; the others are tried again.
    pub(super) fn append_failed(
        &mut self,
        home_ref: HomeRef,
        mut rest: VecDeque<Publication>,
        error: &PortError,
    ) {
        tracing::warn!(%error, "append failed");
        // What may have taken its place after all is found by comparing heads.
        self.homes.unsure |= error.kind == Failure::Unknown;
        let Some(home) = self.homes.get(home_ref) else { return };
        rest.append(&mut home.appends.queue);
        // When the log does not answer at all, trying on would only hold everybody up.
        let everybody = matches!(error.kind, Failure::Overloaded | Failure::NotApplied | Failure::Unknown);
        let culprit = rest.front().map(|publication| publication.by.clone());
        let mut first = true;
        let (failed, kept): (VecDeque<_>, VecDeque<_>) = rest.into_iter().partition(|publication| {
            if is_planted(Bug::OthersGoAhead) {
                return std::mem::take(&mut first);
            }
            everybody || culprit.as_ref().is_some_and(|culprit| publication.by.is(culprit))
        });
        home.appends.queue = kept;
        self.refuse_all(failed, error.code());
    }

    /// Answers publications that are out of their channel's queues.
    pub(super) fn refuse_all(&mut self, publications: VecDeque<Publication>, code: Code) {
        self.homes.unfinished -= publications.len() as u64;
        for publication in publications {
            self.reply(&publication, Reply::Failed(code.into()));
        }
    }

    fn watch_appends(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        if home.appends.watched {
            return;
        }
        if let Some(since) = home.appends.waiting_since() {
            home.appends.watched = true;
            self.wheel.arm(since.after(PATIENCE_MS), Timer::Appends(home_ref));
        }
    }

    /// Somebody may have waited long enough. What is under way may take effect, or not; what is behind it has had none, and must not overtake it.
    pub(crate) fn appends_are_old(&mut self, home_ref: HomeRef) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        let appends = &mut home.appends;
        appends.watched = false;
        if appends.waiting_since().is_none_or(|since| now.since(since) < PATIENCE_MS) {
            return self.watch_appends(home_ref);
        }
        tracing::warn!(channel = %home.key, "the log does not answer in time");
        appends.given_up = true;
        let under_way = std::mem::take(&mut appends.under_way);
        let queue = std::mem::take(&mut appends.queue);
        for publication in &under_way {
            self.reply(publication, Reply::Failed(Code::OutcomeUnknown.into()));
        }
        self.refuse_all(queue, Code::Unavailable);
        if let Some(home) = self.homes.get(home_ref) {
            if is_planted(Bug::LateAnswerTaken) && !home.appends.sharing.is_sent() {
                home.appends.given_up = false;
                self.homes.unfinished -= under_way.len() as u64;
            } else {
                home.appends.under_way = under_way;
            }
        }
        self.forward_given_up(home_ref);
    }

    fn published(&mut self, publication: &Publication, message: &Message, retry: bool) {
        let published = Published {
            retry,
            channel: message.channel.clone(),
            id: message.id.clone(),
            position: message.position,
            target: message.kind.target(),
            at: message.at,
            params: publication.params.clone(),
        };
        self.reply(publication, Reply::Published(Box::new(published)));
    }

    pub(super) fn reply(&mut self, publication: &Publication, reply: Reply) {
        #[cfg(test)]
        if matches!((&publication.by, &reply), (Publisher::Session(..), Reply::Failed(_))) {
            crate::planted::trial::note_refused(&publication.draft.id);
        }
        match &publication.by {
            Publisher::Session(to, asked) => {
                self.post(to.shard, Inbox::Reply { to: *to, asked: *asked, reply });
            }
            Publisher::Request(to, number) => {
                self.post(to.shard, Inbox::ApiPublished { to: *to, number: *number, reply });
            }
            Publisher::Backend(batch, number) => batch.answer(*number, reply),
            Publisher::Node(guests, number) => guests.answer(*number, &reply, &self.node),
        }
    }
}
