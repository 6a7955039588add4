//! Following the ledger.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use xpush_core::ChannelKey;
use xpush_core::access::Apps;

use super::source::{After, Compared, Source};
use super::{Rules, index};
use crate::log::indexing::{Due, News, Stretch};
use crate::log::slot;
use crate::store::Fault;

/// Slots that one transaction takes in, and documents that one takes out.
const STEP: u64 = 500;
const REMOVED: usize = 200;

/// Channels that are compared at a time.
const COMPARED: usize = 1_000;

/// How often it is looked whether the rules have changed, and whether another process has erased something.
const PACE: Duration = Duration::from_millis(500);

/// While messages are published faster than they are indexed, it rests for so many times as long as it has worked: what it takes of the disk no priority gives back.
const REST: u32 = 5;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// While there is much to do, what was taken out lies in the write-ahead log for so long.
const LINGER: Duration = Duration::from_secs(2);

/// The lowest priority: whoever publishes comes first.
const NICE: i32 = 19;

struct Follower<'a> {
    index: Connection,
    ledger: &'a dyn Source,
    /// The ledger tells what changes; otherwise channels are compared again and again.
    is_told: bool,
    rules: Option<Rules>,
    /// The rules that hold.
    apps: Arc<Apps>,
    due: BTreeSet<i64>,
    /// Channels that are not searched, as far as is known.
    ignored: HashSet<i64>,
    /// All channels are to be compared.
    compare: bool,
    /// From where on.
    after: After,
    /// All were, since the rules are what they are.
    is_compared: bool,
    /// Since when something is taken out that the write-ahead log still has.
    dirty: Option<Instant>,
}

/// Runs until `due` is closed.
pub(super) fn run(index: Connection, ledger: &dyn Source, is_told: bool, due: &Due, rules: Option<Rules>) {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the search index has the priority of everything else");
    }
    let mut follower = Follower {
        index,
        ledger,
        is_told,
        compare: rules.is_some(),
        after: After::Start,
        is_compared: false,
        rules,
        apps: Arc::default(),
        due: BTreeSet::new(),
        ignored: HashSet::new(),
        dirty: None,
    };
    let mut patience = Duration::ZERO;
    while let Some(news) = due.wait(patience) {
        let (is_published, began) = (!news.channels.is_empty(), Instant::now());
        patience = match follower.round(news) {
            Ok(false) if !follower.is_compared && follower.after != After::Start => {
                (REST * began.elapsed()).min(PACE)
            }
            Ok(false) => PACE,
            Ok(true) => {
                if is_published || !is_told {
                    due.pause((REST * began.elapsed()).min(PACE));
                }
                Duration::ZERO
            }
            Err(error) => {
                tracing::error!(error = %error.into_port(), "the search index is behind");
                follower.compare = follower.rules.is_some();
                due.pause(PAUSE);
                PACE
            }
        };
    }
}

impl Follower<'_> {
    /// One step for each channel that is due; whether there is more to do at once.
    fn round(&mut self, news: News) -> Result<bool, Fault> {
        let mut more = self.take_out_erased()?;
        if let Some(rules) = &self.rules {
            let apps = rules();
            if !Arc::ptr_eq(&apps, &self.apps) {
                self.apps = apps;
                self.ignored.clear();
                (self.compare, self.is_compared, self.after) = (true, false, After::Start);
            }
            self.due.extend(news.channels.iter().filter(|channel| !self.ignored.contains(channel)));
            if self.is_told {
                self.compare |= news.everything;
            } else if self.searches() {
                self.compare = true;
                more |= self.compare_moved()?;
            }
            if std::mem::take(&mut self.compare) {
                self.compare_channels()?;
            }
        }
        for channel in std::mem::take(&mut self.due) {
            if self.step(channel)? {
                self.due.insert(channel);
                more = true;
            }
        }
        if !more || self.dirty.is_some_and(|since| since.elapsed() >= LINGER) {
            self.is_log_empty()?;
        }
        Ok(more)
    }

    /// Where nobody tells: what was written a moment ago; whether there is more at once.
    fn compare_moved(&mut self) -> Result<bool, Fault> {
        let (compared, more) = self.ledger.moved(&|channel| self.covers(channel))?;
        self.find_due(&compared)?;
        Ok(more)
    }

    /// What was written when nobody looked: all of it, or, where nobody tells, the next part.
    fn compare_channels(&mut self) -> Result<(), Fault> {
        loop {
            let compared =
                self.ledger.compare(self.after.clone(), COMPARED, &|channel| self.covers(channel))?;
            self.find_due(&compared)?;
            self.is_compared |= compared.next.is_none();
            self.after = compared.next.unwrap_or(After::Start);
            if !self.is_told || self.after == After::Start {
                return Ok(());
            }
        }
    }

    fn find_due(&mut self, compared: &Compared) -> Result<(), Fault> {
        for channel in &compared.channels {
            let known = index::standing(&self.index, channel.id)?;
            let is_right = match known {
                Some((head, first)) if self.covers(&channel.key) => {
                    head >= channel.head && first >= channel.first
                }
                Some(_) => false,
                None => !self.covers(&channel.key),
            };
            if !is_right {
                self.due.insert(channel.id);
            }
        }
        self.due.extend(&compared.gone);
        Ok(())
    }

    /// Whether anything is searched, or was until now.
    fn searches(&self) -> bool {
        let rules = self.apps.by_name.values().flat_map(|app| app.rules.iter());
        rules.into_iter().any(|rule| rule.is_searched()) || !index::is_empty(&self.index).unwrap_or(false)
    }

    fn covers(&self, channel: &ChannelKey) -> bool {
        let app = self.apps.by_name.get(&channel.app);
        app.and_then(|app| app.rules.find(&channel.name)).is_some_and(|rule| rule.is_searched())
    }

    /// Goes on in one channel; whether there is more.
    fn step(&mut self, channel: i64) -> Result<bool, Fault> {
        // The ledger is read while the index is held: what is erased behind this is taken out behind it, too, by whichever process.
        let step = within(&self.index, || {
            let standing = index::standing(&self.index, channel)?;
            let stretch = self.ledger.stretch(channel, standing.map_or(0, |(head, _)| head), STEP)?;
            match stretch {
                Some(stretch) if self.covers(&stretch.key) => {
                    take_in(&self.index, channel, standing, stretch)
                }
                // One that is gone may come again, or another by its number.
                other => {
                    Ok(Step { ignored: other.is_some(), ..forget(&self.index, channel, standing.is_some())? })
                }
            }
        })?;
        self.note(&step);
        if step.ignored {
            self.ignored.insert(channel);
        }
        Ok(step.more)
    }

    /// What was erased, by whatever process. It stays noted until nothing of it is left here.
    fn take_out_erased(&mut self) -> Result<bool, Fault> {
        let slots = self.ledger.removals(REMOVED)?;
        if slots.is_empty() {
            return Ok(false);
        }
        let step = within(&self.index, || {
            let mut all = Step::default();
            for slot in &slots {
                let one = match slot::seq(*slot) {
                    0 => forget(&self.index, slot::channel(*slot), true)?,
                    _ => Step {
                        took_out: index::take_out(&self.index, *slot, slot + 1, 1)? > 0,
                        ..Step::default()
                    },
                };
                all = Step { more: all.more || one.more, took_out: all.took_out || one.took_out, ..all };
            }
            Ok(all)
        })?;
        self.note(&step);
        if step.more || !self.is_log_empty()? {
            return Ok(step.more);
        }
        for slot in slots.iter().filter(|slot| slot::seq(**slot) == 0) {
            // Another channel may have its number by now.
            self.ignored.remove(&slot::channel(*slot));
            self.due.insert(slot::channel(*slot));
        }
        let more = slots.len() == REMOVED;
        self.ledger.removed(slots)?;
        Ok(more)
    }

    fn note(&mut self, step: &Step) {
        if step.took_out {
            self.dirty.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nothing lies in the write-ahead log any more that was taken out.
    fn is_log_empty(&mut self) -> Result<bool, Fault> {
        if self.dirty.is_some() && index::empty_log(&self.index)? {
            self.dirty = None;
        }
        Ok(self.dirty.is_none())
    }
}

/// What one step came to.
#[derive(Default)]
struct Step {
    /// There is more to do.
    more: bool,
    /// Something was taken out.
    took_out: bool,
    /// The channel is not searched.
    ignored: bool,
}

/// Runs `steps` in one transaction.
fn within<T>(index: &Connection, steps: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    index.execute_batch("BEGIN IMMEDIATE")?;
    let done = steps().and_then(|done| Ok((index.execute_batch("COMMIT")?, done)));
    if done.is_err() && !index.is_autocommit() {
        index.execute_batch("ROLLBACK")?;
    }
    done.map(|((), done)| done)
}

/// Takes the next slots of a channel in, and out what it keeps no more.
fn take_in(
    index: &Connection,
    channel: i64,
    standing: Option<(u64, u64)>,
    stretch: Stretch,
) -> Result<Step, Fault> {
    let (head, first) = standing.unwrap_or((0, stretch.first));
    let mut step = Step::default();
    // As they read now: of several slots about one message the last says no more than the first.
    let messages: BTreeMap<_, _> = stretch.messages.into_iter().collect();
    let mut told = Vec::new();
    for (message, words) in &messages {
        step.took_out |= index::take_out(index, *message, message + 1, 1)? > 0;
        if let Some(words) = words.as_ref().filter(|_| slot::seq(*message) >= stretch.first) {
            told.push(index::put(index, *message, &stretch.key.app, words)?);
        }
    }
    index::tell(index, told)?;
    let mut kept_from = first;
    if first < stretch.first {
        let range = (slot::key(channel, 0), slot::key(channel, stretch.first));
        let taken = index::take_out(index, range.0, range.1, REMOVED)?;
        step.took_out |= taken > 0;
        if taken < REMOVED {
            kept_from = stretch.first;
        }
    }
    let to = stretch.to.max(head);
    step.more = to < stretch.head || kept_from < stretch.first;
    index::stands(index, channel, to, kept_from)?;
    Ok(step)
}

/// Takes a channel out, a part at a time.
fn forget(index: &Connection, channel: i64, known: bool) -> Result<Step, Fault> {
    if !known {
        return Ok(Step::default());
    }
    let taken = index::take_out(index, slot::key(channel, 0), slot::key(channel + 1, 0), REMOVED)?;
    if taken == REMOVED {
        return Ok(Step { more: true, took_out: true, ignored: false });
    }
    index::unknown(index, channel)?;
    Ok(Step { more: false, took_out: taken > 0, ignored: false })
}
