//! Several nodes write one channel: who loses the race for places leaves it to the channel's host, the one node that the ring names.
//!
//! A node whose append has lost twice in a row *shares* the channel: what is published here goes over the bus to the host, which appends it as its own clients'
//! and tells the other nodes; its answer is the log's. One forward of a channel is under way at a time, as with appends, so a connection's publications stay in
//! order. A node appends for itself again when nothing was published for a while, or when the ring names another host.
//!
//! **Nothing is lost with a message of the bus, or with the host.** What is under way stays here until it has been answered. It is sent again while nothing is heard; who is silent
//! for [`SILENCE_MS`], declines, or cannot reach the store is passed over for a while: then the next one on the ring has it, or this node appends it itself. The log knows each draft by its sender and client id,
//! and whoever appends a forward stops at its first failure: so a draft that both append has one place, and that place is behind those of the drafts before it.
//! Of what was given away and failed afterwards nobody can say that it will not take effect: its outcome is unknown.
//!
//! **Nothing goes in circles.** What another node has forwarded is appended here, whoever the host is. Nodes may see different rings, and forward to each other: of a circle, the node with
//! the smallest id, to which one with a larger id forwards, takes back what it has given away, and appends for itself for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xpush_core::ports::bus::{Event, Topic};
use xpush_core::ports::forward::{Fate, Forward, Forwarded, Word};
use xpush_core::ports::message_log::{Placed, Refused};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Code, Epoch, Monotonic, NodeId, Position};

use super::inbox::{HomeRef, Publication, Publisher, Reply};
use crate::node::Shared;
use crate::planted::{Bug, is_planted};
use crate::shard::{Shard, Timer};

/// Says which node appends for those who write a channel together: the first on the ring that takes part and that the caller accepts.
pub type HostOf = Arc<dyn Fn(&ChannelKey, &dyn Fn(&NodeId) -> bool) -> Option<NodeId> + Send + Sync>;

/// A channel is shared for so long after the last publication, in ms.
const QUIET_MS: u64 = 5_000;
/// A forward of which nothing was heard is sent again after so long, in ms; one that is known to wait, later.
const AGAIN_MS: u64 = 200;
const WAITS_MS: u64 = 500;
/// A host that says nothing for so long is passed over, in ms.
const SILENCE_MS: u64 = 600;
/// So long it stays passed over, in ms.
const DEAF_MS: u64 = 10_000;
/// Forwards whose answers are kept, for those who have not heard them.
const ANSWERED: usize = 16;
/// A host that refuses everything for so long cannot reach the store, in ms.
const REFUSES_MS: u64 = 10_000;
/// For so long a node gives nothing away to which one with a larger id has given something, in ms.
const HOSTING_MS: u64 = 1_000;
/// Hosts that one batch is given to, at most.
const HOSTS: u32 = 3;
/// Publications of one forward, and the bytes after which no more are added.
const MOST: usize = 500;
const BYTES: usize = 256 * 1024;

/// How a channel is written together with other nodes.
#[derive(Default)]
pub(crate) struct Sharing {
    /// When something was published last; `None` when this node writes alone, as far as it knows.
    since: Option<Monotonic>,
    /// Whom the ring named then.
    host: Option<NodeId>,
    /// What is under way was sent there.
    sent: Option<Sent>,
    /// When a node with a larger id has given something to this one.
    hosting: Option<Monotonic>,
    /// Since when hosts have refused all that was sent.
    refused: Option<Monotonic>,
    /// Other nodes' forwards that wait for their places here, and the last ones that do not.
    guests: VecDeque<Arc<Guests>>,
}

/// A forward that was not answered yet.
struct Sent {
    to: NodeId,
    number: u32,
    /// How often it was sent, to whomever, and to how many hosts.
    times: u32,
    hosts: u32,
    heard: Monotonic,
    waits: bool,
}

/// Hosts that have said nothing, or no, and until when they are passed over.
#[derive(Default)]
pub(crate) struct Deaf(HashMap<NodeId, Monotonic>);

/// Another node's drafts, answered together.
pub(crate) struct Guests {
    origin: NodeId,
    channel: ChannelKey,
    number: u32,
    answers: Mutex<Answers>,
}

struct Answers {
    epoch: Option<Epoch>,
    /// `None`: not yet.
    fates: Vec<Option<Fate>>,
    open: usize,
}

impl Sharing {
    pub(super) fn is_over(&self) -> bool {
        self.since.is_none() && self.sent.is_none()
    }

    /// What is under way is the host's.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    pub(super) fn is_shared(&self, now: Monotonic) -> bool {
        self.since.is_some_and(|since| now.since(since) < QUIET_MS)
    }
}

impl Deaf {
    fn is(&self, node: &NodeId, now: Monotonic) -> bool {
        self.0.get(node).is_some_and(|until| *until > now)
    }

    fn note(&mut self, node: NodeId, now: Monotonic) {
        self.0.retain(|_, until| *until > now);
        self.0.insert(node, now.after(DEAF_MS));
    }
}

// === who gives away ===

impl Shard {
    /// Others were faster than this node.
    pub(super) fn home_is_shared(&mut self, home_ref: HomeRef) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        tracing::debug!(channel = %home.key, "others write the channel, too");
        let sharing = &mut home.appends.sharing;
        sharing.host = None;
        if sharing.since.replace(now).is_none() {
            self.arm(QUIET_MS, Timer::Quiet(home_ref));
        }
    }

    /// Nothing was published for a while, perhaps.
    pub(crate) fn home_is_quiet(&mut self, home_ref: HomeRef) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        let sharing = &mut home.appends.sharing;
        match sharing.since {
            Some(since) if now.since(since) < QUIET_MS => {
                self.wheel.arm(since.after(QUIET_MS), Timer::Quiet(home_ref));
            }
            _ => {
                sharing.since = None;
                self.retire(home_ref);
            }
        }
    }

    /// Gives what waits to the channel's host; false when it is to be appended here.
    pub(super) fn forward(&mut self, home_ref: HomeRef) -> bool {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return false };
        home.appends.sharing.since = Some(now);
        let is_guest = |publication: &Publication| matches!(publication.by, Publisher::Node(..));
        let hosts = home.appends.sharing.hosting.is_some_and(|since| now.since(since) < HOSTING_MS);
        if hosts || !home.rule.history.is_durable() || home.appends.queue.front().is_none_or(is_guest) {
            return false;
        }
        let key = home.key.clone();
        let ring_host = self.node.host_of(&key, &|_| true);
        let host = self.host_that_hears(&key);
        let Some(home) = self.homes.get(home_ref) else { return false };
        let sharing = &mut home.appends.sharing;
        if sharing.host.is_some() && sharing.host != ring_host {
            sharing.since = None;
            return false;
        }
        sharing.host = ring_host;
        let Some(host) = host else { return false };
        home.appends.under_way = give_away(&mut home.appends.queue);
        let count = home.appends.under_way.len() as u64;
        self.counters.forwarded.add(count);
        let number = self.next_number();
        self.send(home_ref, Sent { to: host, number, times: 0, hosts: 1, heard: now, waits: false });
        true
    }

    /// Sends what is under way, for the first time or again.
    fn send(&mut self, home_ref: HomeRef, sent: Sent) {
        let Some(home) = self.homes.get(home_ref) else { return };
        let (channel, number, to) = (home.key.clone(), sent.number, sent.to.clone());
        let drafts = home.appends.under_way.iter().map(|publication| publication.draft.clone()).collect();
        let pause = if sent.waits { WAITS_MS } else { AGAIN_MS };
        home.appends.sharing.sent = Some(Sent { times: sent.times + 1, ..sent });
        let forward = Arc::new(Forward { channel, number, drafts });
        self.node.bus().publish(&Topic::Node(to), Event::Forward(forward));
        self.arm(pause, Timer::Forward(home_ref, number));
    }

    /// The channel's host, if that is another node which can be told something.
    fn host_that_hears(&self, channel: &ChannelKey) -> Option<NodeId> {
        let now = self.now;
        let accepted = |node: &NodeId| !self.homes.deaf.is(node, now);
        let host = self.node.host_of(channel, &accepted).filter(|_| !self.bus_is_down())?;
        (host != *self.node.id()).then_some(host)
    }

    /// Nothing, or not enough, was heard of a forward for a while.
    pub(crate) fn forward_is_old(&mut self, home_ref: HomeRef, number: u32) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        let key = home.key.clone();
        let Some(sent) = home.appends.sharing.sent.take_if(|sent| sent.number == number) else { return };
        let silent = now.since(sent.heard);
        if sent.waits && silent < WAITS_MS {
            home.appends.sharing.sent = Some(sent);
            return self.arm(WAITS_MS - silent, Timer::Forward(home_ref, number));
        }
        if silent >= SILENCE_MS {
            tracing::warn!(channel = %key, host = %sent.to, "the channel's host does not answer");
            self.homes.deaf.note(sent.to.clone(), now);
        }
        match self.host_that_hears(&key) {
            Some(host) if host == sent.to => self.send(home_ref, sent),
            Some(host) if sent.hosts < HOSTS => {
                let number = self.next_number();
                let hosts = sent.hosts + 1;
                self.counters.unanswered.add(1);
                self.send(home_ref, Sent { to: host, number, hosts, heard: now, waits: false, ..sent });
            }
            _ => self.append_instead(home_ref),
        }
    }

    /// What was given away is appended here: the host may have done it, or may do it yet.
    fn append_instead(&mut self, home_ref: HomeRef) {
        let Some(home) = self.homes.get(home_ref) else { return };
        home.appends.sharing.sent = None;
        home.appends.doubtful = true;
        self.counters.unanswered.add(1);
        self.append_here(home_ref);
    }

    /// Whoever published what is under way has been told that its outcome is unknown. Nothing waits for the host any more.
    pub(super) fn forward_given_up(&mut self, home_ref: HomeRef) {
        let now = self.now;
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(sent) = home.appends.sharing.sent.take() else { return };
        let appends = &mut home.appends;
        let rest = std::mem::take(&mut appends.under_way);
        (appends.given_up, appends.doubtful) = (false, false);
        self.homes.unfinished -= rest.len() as u64;
        // A host that lives has no better store than this node.
        if now.since(sent.heard) >= SILENCE_MS {
            self.homes.deaf.note(sent.to, now);
        }
        self.counters.unanswered.add(1);
        self.append(home_ref);
        self.retire(home_ref);
    }

    /// A host's word.
    pub(super) fn home_forwarded(&mut self, host: &NodeId, forwarded: &Forwarded) {
        let now = self.now;
        let Some(home_ref) = self.homes.find(&forwarded.channel) else { return };
        let Some(home) = self.homes.get(home_ref) else { return };
        let Some(sent) = &mut home.appends.sharing.sent else { return };
        let is_last = sent.number == forwarded.number || is_planted(Bug::OldForwardTaken);
        if sent.to != *host || !is_last {
            return;
        }
        match &forwarded.word {
            Word::Waits => (sent.heard, sent.waits) = (now, true),
            Word::Done(epoch, fates) if fates.len() == home.appends.under_way.len() => {
                home.appends.doubtful = sent.times > 1;
                home.appends.sharing.sent = None;
                self.forward_ends(home_ref, host, *epoch, fates);
            }
            Word::Declined | Word::Done(..) => {
                self.homes.deaf.note(host.clone(), now);
                self.append_instead(home_ref);
            }
        }
    }

    fn forward_ends(&mut self, home_ref: HomeRef, host: &NodeId, epoch: Epoch, fates: &[Fate]) {
        let (mut failure, now) = (None, self.now);
        for fate in fates {
            let taken = match fate {
                Fate::Failed(code) => {
                    failure = Some(*code);
                    break;
                }
                Fate::Refused(refused) => Err(*refused),
                Fate::Placed { seq, at, retry } => {
                    let Some(home) = self.homes.get(home_ref) else { return };
                    let Some(first) = home.appends.under_way.front() else { return };
                    let position = Some(Position { epoch, seq: *seq });
                    let mut message = first.draft.clone().message(first.channel.clone(), position);
                    message.at = *at;
                    Ok(Placed { message: Arc::new(message), retry: *retry })
                }
            };
            self.home_taken(home_ref, taken, true);
            if let Some(home) = self.homes.get(home_ref) {
                home.appends.sharing.refused = None;
            }
        }
        let failure = match failure {
            None => None,
            Some(Code::Overloaded) => Some(Failure::Overloaded),
            Some(Code::BadRequest) => Some(Failure::Invalid),
            Some(Code::Full) => Some(Failure::Full),
            Some(code) => {
                let Some(home) = self.homes.get(home_ref) else { return };
                let since = *home.appends.sharing.refused.get_or_insert(now);
                // A store that has too much to do has more when several append. But the way there may be better from elsewhere.
                if now.since(since) >= REFUSES_MS {
                    self.homes.deaf.note(host.clone(), now);
                    return self.append_instead(home_ref);
                }
                let unknown = code == Code::OutcomeUnknown;
                let kind = if unknown { Failure::Unknown } else { Failure::NotApplied };
                return self.append_ends(home_ref, Some(PortError::new(kind, "told by the channel's host")));
            }
        };
        self.append_ends(home_ref, failure.map(|kind| PortError::new(kind, "told by the channel's host")));
    }
}

/// As many of the queue's first publications as go together: its own clients' only.
fn give_away(queue: &mut VecDeque<Publication>) -> VecDeque<Publication> {
    let mut bytes = 0;
    let fits = |publication: &&Publication| {
        let first = bytes == 0;
        bytes += publication.draft.payload.size().max(1);
        (first || bytes <= BYTES) && !matches!(publication.by, Publisher::Node(..))
    };
    let count = queue.iter().take(MOST).take_while(fits).count();
    queue.drain(..count).collect()
}

// === the host ===

impl Shard {
    /// Another node's publications, to be appended here: they enter like those of this node's clients.
    pub(super) fn home_forward(&mut self, origin: &NodeId, forward: &Forward) {
        let answer = |shard: &Self, word| {
            let Forward { channel, number, .. } = forward;
            let forwarded = Forwarded { channel: channel.clone(), number: *number, word };
            shard.node.bus().publish(&Topic::Node(origin.clone()), Event::Forwarded(Arc::new(forwarded)));
        };
        let rule = self.node.rule(&forward.channel).ok().filter(|rule| rule.history.is_durable());
        let Some(rule) = rule.filter(|_| !self.draining && !forward.drafts.is_empty()) else {
            return answer(self, Word::Declined);
        };
        let home_ref = self.homes.open(&forward.channel, &rule);
        let Some(home) = self.homes.get(home_ref) else { return };
        let known = &mut home.appends.sharing.guests;
        let is_this = |guests: &&Arc<Guests>| guests.origin == *origin && guests.number == forward.number;
        if let Some(again) = known.iter().find(is_this) {
            let word = again.word();
            return answer(self, word);
        }
        let is_busy = !home.appends.is_idle_here();
        if origin > self.node.id() {
            home.appends.sharing.hosting = Some(self.now);
            if home.appends.sharing.is_sent() {
                self.append_instead(home_ref);
            }
        }
        let Some(home) = self.homes.get(home_ref) else { return };
        let guests = Arc::new(Guests::new(origin.clone(), forward));
        let known = &mut home.appends.sharing.guests;
        known.push_back(guests.clone());
        if known.len() > ANSWERED {
            let oldest = known.iter().position(|guests| guests.word() != Word::Waits);
            oldest.and_then(|oldest| known.remove(oldest));
        }
        self.counters.guests.add(forward.drafts.len() as u64);
        let arrived = self.now;
        let publication = |(number, draft): (usize, _)| Publication {
            channel: forward.channel.clone(),
            rule: rule.clone(),
            draft,
            by: Publisher::Node(guests.clone(), number),
            echo: true,
            params: None,
            arrived,
        };
        self.home_publish_all(forward.drafts.iter().cloned().enumerate().map(publication).collect());
        if is_busy && guests.word() == Word::Waits {
            answer(self, Word::Waits);
        }
    }
}

impl Guests {
    fn new(origin: NodeId, forward: &Forward) -> Self {
        let open = forward.drafts.len();
        let answers = Answers { epoch: None, fates: vec![None; open], open };
        let (channel, number) = (forward.channel.clone(), forward.number);
        Self { origin, channel, number, answers: Mutex::new(answers) }
    }

    /// What there is to say now.
    fn word(&self) -> Word {
        self.answers().word()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        // A panic elsewhere leaves answers that are missing: whoever asks waits, and appends itself in the end.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the draft of this place; the last one answers the node.
    pub(crate) fn answer(&self, place: usize, reply: &Reply, node: &Shared) {
        let mut answers = self.answers();
        let fate = answers.fate(reply);
        let Some(answer @ None) = answers.fates.get_mut(place) else { return };
        *answer = Some(fate);
        answers.open -= 1;
        let word = answers.word();
        if word == Word::Waits {
            return;
        }
        let forwarded = Forwarded { channel: self.channel.clone(), number: self.number, word };
        node.bus().publish(&Topic::Node(self.origin.clone()), Event::Forwarded(Arc::new(forwarded)));
    }
}

impl Answers {
    fn word(&self) -> Word {
        if self.open > 0 {
            return Word::Waits;
        }
        Word::Done(self.epoch.unwrap_or(Epoch(0)), self.fates.iter().flatten().copied().collect())
    }

    fn fate(&mut self, reply: &Reply) -> Fate {
        match reply {
            Reply::Published(published) => match published.position {
                Some(Position { epoch, seq }) if epoch == *self.epoch.get_or_insert(epoch) => {
                    Fate::Placed { seq, at: published.at, retry: published.retry }
                }
                // Of another epoch than the others: it is found there when it comes again.
                _ => Fate::Failed(Code::OutcomeUnknown),
            },
            Reply::Failed(problem) => match problem.code {
                Code::UnknownMessage => Fate::Refused(Refused::NoSuchMessage),
                Code::Forbidden => Fate::Refused(Refused::NotYours),
                code => Fate::Failed(code),
            },
            // Nothing else answers a publication.
            _ => Fate::Failed(Code::OutcomeUnknown),
        }
    }
}
