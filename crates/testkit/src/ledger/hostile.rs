//! A ledger that is slow, fails, and does not know what it did, by a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use xpush_core::ports::markers::{Advanced, After, Conversation, Ledger, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Range};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, Clock, Monotonic, Position, Retention, User};

use crate::environment::SeededEntropy;

/// How badly a ledger behaves.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// The longest time that anything takes, ms; each operation's is chosen evenly from 0 to this.
    pub max_delay_ms: u64,
    /// The probability that something fails without effect. An append has placed some of its drafts then, perhaps.
    pub fails: f64,
    /// The probability that an append takes effect, and its caller is told that this is not known.
    pub forgets: f64,
    /// Whether a caller that yields is told of a conflict when somebody has written the channel between its question and the answer: as in a store whose writers look at the
    /// head first.
    pub contends: bool,
}

/// Stands before a ledger that works. Nothing happens by itself: what was asked waits until [`HostileLedger::run_due`] does it, by the thread that calls.
pub struct HostileLedger {
    inner: Arc<dyn Ledger>,
    queue: Queue,
}

/// What waits, and the time that it waits for.
#[derive(Clone)]
struct Queue {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

struct State {
    entropy: SeededEntropy,
    trouble: Trouble,
    waiting: BTreeMap<(Monotonic, u64), Box<dyn FnOnce() + Send>>,
    numbered: u64,
    held: bool,
}

impl Trouble {
    /// Everything is done at once, and well.
    pub const NONE: Self = Self { max_delay_ms: 0, fails: 0.0, forgets: 0.0, contends: false };
}

impl HostileLedger {
    /// Before `inner`. Delays are counted on `clock`.
    pub fn new(seed: u64, trouble: Trouble, inner: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        let entropy = SeededEntropy::new(seed);
        let state = State { entropy, trouble, waiting: BTreeMap::new(), numbered: 0, held: false };
        Self { inner, queue: Queue { clock, state: Arc::new(Mutex::new(state)) } }
    }

    /// Changes the behaviour for what is asked from now on.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    /// From now on nothing is done, before [`HostileLedger::let_go`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// What was held is due.
    pub fn let_go(&self) {
        self.state().held = false;
    }

    /// How much of what was asked is not done yet.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Does all that is due at `now`, and what is asked meanwhile and due as well.
    pub fn run_due(&self, now: Monotonic) {
        loop {
            let mut state = self.state();
            if state.held {
                return;
            }
            let Some(entry) = state.waiting.first_entry().filter(|entry| entry.key().0 <= now) else {
                return;
            };
            let operation = entry.remove();
            // It may ask for more.
            drop(state);
            operation();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.queue.state()
    }

    /// Does it in a while, and answers in another: both together are no longer than anything takes.
    fn later<T: Send + 'static>(&self, done: Done<T>, operation: impl FnOnce(Done<T>) + Send + 'static) {
        let (before, behind) = {
            let mut state = self.state();
            let longest = state.trouble.max_delay_ms;
            let delay = state.entropy.below(longest.saturating_add(1));
            let before = state.entropy.below(delay + 1);
            (before, delay - before)
        };
        let queue = self.queue.clone();
        let answer: Done<T> = match behind {
            0 => done,
            _ => Box::new(move |result| queue.after(behind, move || done(result))),
        };
        self.queue.after(before, move || operation(answer));
    }

    /// With `before`: there, or not at all.
    fn append_behind(
        &self,
        before: Option<Position>,
        channel: &ChannelKey,
        retention: Retention,
        mut drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        let (fails, forgets, placed) = {
            let mut state = self.state();
            let Trouble { fails, forgets, .. } = state.trouble;
            let placed = state.entropy.below(drafts.len() as u64 + 1);
            (state.entropy.chance(fails), state.entropy.chance(forgets), placed)
        };
        if fails {
            drafts.truncate(usize::try_from(placed).unwrap_or(usize::MAX));
        }
        let (inner, channel) = (self.inner.clone(), channel.clone());
        self.later(done, move |done| {
            if before.is_some_and(|before| before != head(&*inner, &channel)) {
                let lost = PortError::new(Failure::Conflict, "others were faster");
                return done(Ok(Appended { taken: Vec::new(), failure: Some(lost) }));
            }
            let done: Done<Appended> = Box::new(move |result| {
                done(match result {
                    Ok(_) if forgets => Err(PortError::new(Failure::Unknown, "the answer was lost")),
                    Ok(appended) if fails => Ok(Appended { failure: Some(failed()), ..appended }),
                    result => result,
                });
            });
            inner.append(&channel, retention, drafts, done);
        });
    }

    /// Does it later, or fails.
    fn perhaps<T: Send + 'static>(
        &self,
        done: Done<T>,
        operation: impl FnOnce(Arc<dyn Ledger>, Done<T>) + Send + 'static,
    ) {
        let fails = {
            let mut state = self.state();
            let probability = state.trouble.fails;
            state.entropy.chance(probability)
        };
        let inner = self.inner.clone();
        self.later(done, move |done| if fails { done(Err(failed())) } else { operation(inner, done) });
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the ledger's lock")
    }

    fn after(&self, delay: u64, what: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.numbered += 1;
        let key = (self.clock.monotonic().after(delay), state.numbered);
        state.waiting.insert(key, Box::new(what));
    }
}

impl MessageLog for HostileLedger {
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>) {
        self.append_behind(None, channel, retention, drafts, done);
    }

    fn append_or_yield(
        &self,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        let contends = self.state().trouble.contends;
        let before = contends.then(|| head(&*self.inner, channel));
        self.append_behind(before, channel, retention, drafts, done);
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let channel = channel.clone();
        self.perhaps(done, move |inner, done| inner.read(&channel, range, limit, done));
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        self.perhaps(done, move |inner, done| inner.heads(channels, done));
    }
}

impl Markers for HostileLedger {
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>) {
        let (channel, user) = (channel.clone(), user.clone());
        self.perhaps(done, move |inner, done| inner.begin(&channel, &user, done));
    }

    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>) {
        let (channel, user) = (channel.clone(), user.clone());
        self.perhaps(done, move |inner, done| inner.advance(&channel, &user, mark, seq, done));
    }

    fn end(&self, app: &App, channel: Option<&Channel>, user: &User, done: Done<()>) {
        let (app, channel, user) = (app.clone(), channel.cloned(), user.clone());
        self.perhaps(done, move |inner, done| inner.end(&app, channel.as_ref(), &user, done));
    }

    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>) {
        let channel = channel.clone();
        self.perhaps(done, move |inner, done| inner.of_channel(&channel, limit, done));
    }

    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>) {
        let channel = channel.clone();
        self.perhaps(done, move |inner, done| inner.unread(&channel, users, done));
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    ) {
        let (app, user) = (app.clone(), user.clone());
        self.perhaps(done, move |inner, done| inner.conversations(&app, &user, after, limit, done));
    }
}

/// As the ledger has it at this moment.
fn head(ledger: &dyn Ledger, channel: &ChannelKey) -> Position {
    let (sender, receiver) = std::sync::mpsc::channel();
    ledger.heads(vec![channel.clone()], Box::new(move |heads| drop(sender.send(heads))));
    receiver.recv().expect("an answer").expect("a ledger that works")[0]
}

fn failed() -> PortError {
    PortError::new(Failure::NotApplied, "the disk does not answer")
}
