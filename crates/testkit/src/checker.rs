//! Judges a run after the fact: what clients wrote down, and what the store held in the end, against what the protocol promises.
//!
//! Pure: the same log gives the same verdict, on any machine, as often as one likes. It knows nothing of servers, so it can be
//! wrong only about promises, and [`tests`] break each of them.

mod record;
mod subscriptions;
mod verdict;

#[cfg(test)]
mod tests;

pub use record::{Contents, Event, History, Kept, Line, Place, Revision, Slot, digest, read, write};
pub use verdict::{Promise, Summary, Violation};

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use subscriptions::Subscriptions;
use verdict::{Accusation, broken};

/// What is known of one channel from the log.
#[derive(Default)]
struct Evidence {
    /// Everything that was tried, in the order of the first attempts.
    tries: Vec<Try>,
    tries_by_id: HashMap<Arc<str>, usize>,
    /// Which id holds a place, by whatever told it first.
    places: HashMap<Place, Arc<str>>,
    /// Where an id is.
    ids: HashMap<(Arc<str>, Arc<str>), u64>,
    /// What readers were shown of revised messages: to be judged when all edits are known.
    shown: Vec<Shown>,
}

/// A publication and what became of its attempts.
struct Try {
    id: Arc<str>,
    by: Arc<str>,
    slot: Slot,
    sent: u64,
    refused: u64,
    /// The server has answered an attempt, and not by a place: what was sent behind it may have gone ahead.
    failed: bool,
    acked: Option<Place>,
}

/// A revised message, as a reader saw it.
struct Shown {
    line: usize,
    kept: Kept,
    epoch: Arc<str>,
}

/// Judges a run. The first promise that is broken, in the order of the log, then of the store.
pub fn check(lines: &[Line], contents: &Contents) -> Result<Summary, Box<Violation>> {
    judge(lines, contents, false)
}

/// Judges a run whose log tells of each refusal, also of those that no client has heard: order is judged message by message.
pub fn check_knowing_all(lines: &[Line], contents: &Contents) -> Result<Summary, Box<Violation>> {
    judge(lines, contents, true)
}

fn judge(lines: &[Line], contents: &Contents, knows_all: bool) -> Result<Summary, Box<Violation>> {
    let mut channels = HashMap::<Arc<str>, Evidence>::new();
    let mut subscriptions = Subscriptions::default();
    let mut summary = Summary::default();
    let verdict = lines
        .iter()
        .enumerate()
        .try_for_each(|(index, line)| {
            summary.count(&line.event);
            if let Some(channel) = line.event.channel() {
                let history = contents.get(channel).ok_or_else(|| {
                    broken(Promise::NothingLost, "the store does not know this channel").at(index)
                })?;
                let evidence = channels.entry(channel.clone()).or_default();
                evidence.take(index, line, history).map_err(|accusation| accusation.at(index))?;
            }
            subscriptions.take(line, contents).map_err(|accusation| accusation.at(index))
        })
        .and_then(|()| {
            contents.iter().try_for_each(|(channel, history)| {
                let evidence = channels.entry(channel.clone()).or_default();
                evidence.judge(history, knows_all).map_err(|accusation| accusation.of(channel))
            })
        });
    verdict.map(|()| summary).map_err(|accusation| Box::new(accusation.with_context(lines)))
}

impl Evidence {
    fn take(&mut self, index: usize, line: &Line, history: &History) -> Result<(), Accusation> {
        match &line.event {
            Event::Sent { id, slot, .. } => self.sent(&line.client, id, *slot),
            Event::Acked { id, place, .. } => {
                self.lies_at(id, place, history)?;
                let attempt = self.attempt(id)?;
                attempt.acked = Some(place.clone());
                Ok(())
            }
            Event::Refused { id, .. } => {
                let attempt = self.attempt(id)?;
                attempt.refused += 1;
                attempt.failed = true;
                Ok(())
            }
            Event::Unknown { id, told, .. } => {
                self.attempt(id)?.failed |= told;
                Ok(())
            }
            Event::Delivered { kept, epoch, .. } => {
                let place = Place { epoch: epoch.clone(), seq: kept.seq };
                self.lies_at(&kept.id, &place, history)?;
                self.as_it_was_sent(kept)?;
                if kept.revision.is_some() || kept.is_withdrawn_edit() {
                    self.shown.push(Shown { line: index, kept: kept.clone(), epoch: epoch.clone() });
                }
                Ok(())
            }
            Event::Subscribed { place, .. } | Event::Gap { place, .. } => one_epoch(place, history),
            Event::Disconnected | Event::Killed | Event::Fault { .. } | Event::Finished => Ok(()),
        }
    }

    fn sent(&mut self, client: &Arc<str>, id: &Arc<str>, slot: Slot) -> Result<(), Accusation> {
        match self.tries_by_id.entry(id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(self.tries.len());
                let (id, by) = (id.clone(), client.clone());
                self.tries.push(Try { id, by, slot, sent: 1, refused: 0, failed: false, acked: None });
                Ok(())
            }
            Entry::Occupied(entry) => {
                let attempt = &mut self.tries[*entry.get()];
                attempt.sent += 1;
                let same = attempt.slot == slot && attempt.by == *client;
                if same {
                    Ok(())
                } else {
                    Err(broken(Promise::Log, format!("{id} was sent with two contents")))
                }
            }
        }
    }

    fn attempt(&mut self, id: &Arc<str>) -> Result<&mut Try, Accusation> {
        let index = self.tries_by_id.get(id).copied();
        index
            .map(|index| &mut self.tries[index])
            .ok_or_else(|| broken(Promise::NothingInvented, format!("{id} was never sent")).about(id))
    }

    /// Whoever tells a place tells the same.
    fn lies_at(&mut self, id: &Arc<str>, place: &Place, history: &History) -> Result<(), Accusation> {
        one_epoch(place, history)?;
        let here = self.places.entry(place.clone()).or_insert_with(|| id.clone());
        if here != id {
            let what = format!("seq {} is {id}, and was {here}", place.seq);
            return Err(broken(Promise::OnePlaceOneMessage, what).about(id).about(here).near(place.seq));
        }
        let seq = *self.ids.entry((place.epoch.clone(), id.clone())).or_insert(place.seq);
        if seq != place.seq {
            let what = format!("{id} is at seq {}, and was at {seq}", place.seq);
            return Err(broken(Promise::OneMessageOnePlace, what).about(id).near(seq).near(place.seq));
        }
        Ok(())
    }

    /// Its own data, or those of a revision, which is judged later.
    fn as_it_was_sent(&mut self, kept: &Kept) -> Result<(), Accusation> {
        let sent = self.attempt(&kept.id)?.slot;
        let whole = if kept.revision.is_some() {
            sent.target().is_none() && kept.slot.target().is_none()
        } else if kept.is_withdrawn_edit() {
            matches!(sent, Slot::Edit { .. }) && sent.target() == kept.slot.target()
        } else {
            sent == kept.slot
        };
        if whole {
            return Ok(());
        }
        let what = format!("{} was sent as {sent:?} and came as {:?}", kept.id, kept.slot);
        Err(broken(Promise::Unaltered, what).about(&kept.id))
    }

    /// The store against the log.
    fn judge(&mut self, history: &History, knows_all: bool) -> Result<(), Accusation> {
        without_holes(history)?;
        for kept in &history.slots {
            let place = Place { epoch: history.epoch.clone(), seq: kept.seq };
            self.lies_at(&kept.id, &place, history)?;
            self.as_it_was_sent(kept)?;
        }
        self.attempts_came_true(history)?;
        self.publishers_order(history, knows_all)?;
        self.folded(history)
    }

    fn attempts_came_true(&self, history: &History) -> Result<(), Accusation> {
        for attempt in &self.tries {
            let seq = self.ids.get(&(history.epoch.clone(), attempt.id.clone())).copied();
            let kept = seq.is_some_and(|seq| history.slot(seq).is_some_and(|slot| slot.id == attempt.id));
            if let Some(place) = &attempt.acked {
                let expected = place.epoch == history.epoch && place.seq >= history.first;
                if expected && !kept {
                    let what = format!(
                        "{} was acked at seq {}, and the store does not have it (it goes from {} to {})",
                        attempt.id, place.seq, history.first, history.head
                    );
                    return Err(broken(Promise::NothingLost, what).about(&attempt.id).near(place.seq));
                }
            }
            if kept && attempt.refused == attempt.sent {
                let what = format!("{} was refused each time, and the store has it", attempt.id);
                return Err(broken(Promise::RefusedIsRefused, what).about(&attempt.id));
            }
        }
        Ok(())
    }

    /// What a client sent first comes first, unless the server has refused it: then what was sent behind it may lie before it. Where not all refusals are known, nothing is
    /// said of clients that know of one.
    fn publishers_order(&self, history: &History, knows_all: bool) -> Result<(), Accusation> {
        let mut last = HashMap::<&str, (u64, &Arc<str>)>::new();
        let failed = |by: &str| self.tries.iter().any(|attempt| *attempt.by == *by && attempt.failed);
        let mut exempt = HashMap::<&str, bool>::new();
        for attempt in &self.tries {
            let Some(place) = attempt.acked.as_ref().filter(|place| place.epoch == history.epoch) else {
                continue;
            };
            if !knows_all && *exempt.entry(&attempt.by).or_insert_with(|| failed(&attempt.by)) {
                continue;
            }
            if let Some((seq, before)) = last.get(&*attempt.by)
                && *seq > place.seq
            {
                let what = format!(
                    "{} was sent before {}, by the same client, and lies behind it: {seq} and {}",
                    before, attempt.id, place.seq
                );
                return Err(broken(Promise::SendersOrder, what).about(before).about(&attempt.id));
            }
            if !attempt.failed {
                last.insert(&attempt.by, (place.seq, &attempt.id));
            }
        }
        Ok(())
    }

    /// Every message shows its newest edit, in the store and wherever it was read.
    fn folded(&self, history: &History) -> Result<(), Accusation> {
        let mut newest = HashMap::<u64, &Kept>::new();
        for slot in &history.slots {
            let Some(target) = slot.slot.target() else { continue };
            if let Some(earlier) = newest.insert(target, slot)
                && matches!(earlier.slot, Slot::Delete { .. })
            {
                let what =
                    format!("seq {} changes seq {target}, which was deleted at {}", slot.seq, earlier.seq);
                return Err(broken(Promise::EditsFold, what).near(target).near(slot.seq).near(earlier.seq));
            }
        }
        for kept in history.slots.iter().filter(|kept| kept.slot.target().is_none()) {
            let expected = newest.get(&kept.seq).map(|edit| Revision::by(edit));
            // An edit whose own slot has gone may still show.
            let forgotten = kept.revision.is_some_and(|revision| revision.by < history.first);
            if kept.revision != expected && !forgotten {
                let what =
                    format!("seq {} shows revision {:?}, and is due {expected:?}", kept.seq, kept.revision);
                return Err(broken(Promise::EditsFold, what).near(kept.seq));
            }
            self.shows_its_revision(kept, history)?;
        }
        for kept in history.slots.iter().filter(|kept| kept.is_withdrawn_edit()) {
            withdrawn_with_its_target(kept, &newest, history)?;
        }
        for shown in self.shown.iter().filter(|shown| shown.epoch == history.epoch) {
            let judged = match shown.kept.revision {
                Some(_) => self.shows_its_revision(&shown.kept, history),
                None => withdrawn_with_its_target(&shown.kept, &newest, history),
            };
            judged.map_err(|accusation| accusation.at(shown.line))?;
        }
        Ok(())
    }
}

impl Evidence {
    /// The data of a revised message are those that were sent with the change that it names.
    fn shows_its_revision(&self, kept: &Kept, history: &History) -> Result<(), Accusation> {
        let Some(revision) = kept.revision.filter(|revision| revision.by >= history.first) else {
            return Ok(());
        };
        let edit = history.slot(revision.by);
        let sent = edit.and_then(|edit| self.tries_by_id.get(&edit.id)).map(|index| self.tries[*index].slot);
        let right = sent.is_some_and(|sent| {
            sent.target() == Some(kept.seq)
                && sent.data() == kept.slot.data()
                && matches!(sent, Slot::Delete { .. }) == revision.deleted
        });
        if right {
            return Ok(());
        }
        let what = format!("seq {} shows a revision by seq {}, which is {sent:?}", kept.seq, revision.by);
        Err(broken(Promise::EditsFold, what).near(kept.seq).near(revision.by))
    }
}

impl History {
    /// The slot of that seq.
    fn slot(&self, seq: u64) -> Option<&Kept> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.slots.get(index)
    }
}

impl Kept {
    /// An edit that tells no data: the message that it changed must have been deleted since.
    fn is_withdrawn_edit(&self) -> bool {
        matches!(self.slot, Slot::Edit { .. }) && self.slot.data() == digest(b"null")
    }
}

impl Revision {
    fn by(edit: &Kept) -> Self {
        Self { by: edit.seq, deleted: matches!(edit.slot, Slot::Delete { .. }) }
    }
}

/// A durable history is never replaced.
fn one_epoch(place: &Place, history: &History) -> Result<(), Accusation> {
    if !history.durable || place.epoch == history.epoch {
        return Ok(());
    }
    let what = format!("the epoch is {}, and the store's is {}", place.epoch, history.epoch);
    Err(broken(Promise::OneHistory, what))
}

/// From `first` to `head`, each once.
fn without_holes(history: &History) -> Result<(), Accusation> {
    let expected = history.first..=history.head;
    let found = history.slots.iter().map(|slot| slot.seq);
    if found.clone().eq(expected.clone()) {
        return Ok(());
    }
    let wrong = expected.zip(found).find(|(expected, found)| expected != found);
    let what = match wrong {
        Some((expected, found)) => format!("the store has seq {found} where {expected} is due"),
        None => format!(
            "the store says that it goes from {} to {}, and has {} slots",
            history.first,
            history.head,
            history.slots.len()
        ),
    };
    Err(broken(Promise::NoHoles, what).near(wrong.map_or(history.head, |(expected, _)| expected)))
}

/// What was said of a deleted message is gone, too; of any other it stays.
fn withdrawn_with_its_target(
    kept: &Kept,
    newest: &HashMap<u64, &Kept>,
    history: &History,
) -> Result<(), Accusation> {
    let last = kept.slot.target().and_then(|target| newest.get(&target));
    if last.is_some_and(|last| matches!(last.slot, Slot::Delete { .. })) || kept.seq < history.first {
        return Ok(());
    }
    let what = format!("seq {} has lost its data, and its message was not deleted", kept.seq);
    Err(broken(Promise::EditsFold, what).near(kept.seq))
}
