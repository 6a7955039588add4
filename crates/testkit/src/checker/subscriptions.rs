//! What each subscriber has to see: one order, without holes, to the end.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::{Contents, Event, History, Line, Place};
use super::verdict::{Accusation, Promise, broken};

/// A server need not resume over more than this (docs/protocol.md, subscribe).
const RESUMABLE: u64 = 10_000;

/// Every live subscription, by client and channel.
#[derive(Default)]
pub(super) struct Subscriptions(HashMap<(Arc<str>, Arc<str>), Subscription>);

struct Subscription {
    epoch: Arc<str>,
    /// What must come next.
    next: u64,
    /// Up to here it was told that nothing is missing.
    recovered: u64,
}

impl Subscriptions {
    pub(super) fn take(&mut self, line: &Line, contents: &Contents) -> Result<(), Accusation> {
        match &line.event {
            Event::Disconnected => self.0.retain(|(client, _), _| *client != line.client),
            Event::Subscribed { channel, since, recovered, missed, place } => {
                let history = &contents[channel];
                let subscription = begin(history, since.as_ref(), *recovered, *missed, place)?;
                self.0.insert((line.client.clone(), channel.clone()), subscription);
            }
            Event::Delivered { channel, kept, epoch } => {
                self.of(line, channel)?.delivered(kept.seq, epoch)?;
            }
            Event::Gap { channel, place } => {
                let history = &contents[channel];
                if history.epoch == place.epoch && place.seq >= history.first {
                    let what = format!(
                        "told that {} is gone, and the store goes back to {}",
                        place.seq, history.first
                    );
                    return Err(broken(Promise::GapsAreTrue, what).near(place.seq));
                }
                self.of(line, channel)?.next = place.seq + 1;
            }
            Event::Finished => return self.finished(contents),
            _ => {}
        }
        Ok(())
    }

    fn of(&mut self, line: &Line, channel: &Arc<str>) -> Result<&mut Subscription, Accusation> {
        self.0
            .get_mut(&(line.client.clone(), channel.clone()))
            .ok_or_else(|| broken(Promise::OneOrder, "came to a client that is not subscribed"))
    }

    fn finished(&self, contents: &Contents) -> Result<(), Accusation> {
        let mut behind = self.0.iter().filter(|((_, channel), subscription)| {
            subscription.epoch == contents[channel].epoch && subscription.next <= contents[channel].head
        });
        let Some(((client, channel), subscription)) = behind.next() else { return Ok(()) };
        let what = format!(
            "{client} is subscribed and has nothing from seq {} on; the head is {}",
            subscription.next, contents[channel].head
        );
        Err(broken(Promise::NoSilentEnd, what).of(channel).near(subscription.next))
    }
}

impl Subscription {
    fn delivered(&mut self, seq: u64, epoch: &Arc<str>) -> Result<(), Accusation> {
        if self.epoch != *epoch {
            let what = format!("subscribed in epoch {}, and gets {epoch}", self.epoch);
            return Err(broken(Promise::OneHistory, what).near(seq));
        }
        if seq == self.next {
            self.next += 1;
            return Ok(());
        }
        let what = format!("seq {seq} came where {} is due", self.next);
        let promise = match () {
            () if seq < self.next => Promise::OneOrder,
            () if self.next <= self.recovered => Promise::RecoveredIsWhole,
            () => Promise::NoHoles,
        };
        Err(broken(promise, what).near(seq).near(self.next))
    }
}

/// Judges the answer to a `subscribe`.
fn begin(
    history: &History,
    since: Option<&Place>,
    recovered: Option<bool>,
    missed: u64,
    place: &Place,
) -> Result<Subscription, Accusation> {
    let head = place.seq;
    let subscription = |next, recovered| Ok(Subscription { epoch: place.epoch.clone(), next, recovered });
    let Some(since) = since else {
        return subscription(head + 1, 0);
    };
    let behind = (since.epoch == place.epoch).then(|| head.checked_sub(since.seq)).flatten();
    if recovered == Some(true) {
        let what = format!("recovered from {since:?} to {place:?}, {missed} missed");
        if behind != Some(missed) {
            return Err(broken(Promise::RecoveredIsWhole, what).near(since.seq));
        }
        return subscription(since.seq + 1, head);
    }
    let kept = history.epoch == place.epoch && history.first <= since.seq + 1;
    if kept && behind.is_some_and(|behind| behind <= RESUMABLE) {
        let what =
            format!("not recovered from {since:?} to {place:?}; the store goes back to {}", history.first);
        return Err(broken(Promise::RecoversWhereItCan, what).near(since.seq));
    }
    // A durable history never was shorter than what its clients have seen.
    if history.durable && behind.is_none() {
        let what = format!("{since:?} was seen, and the history ends at {place:?}");
        return Err(broken(Promise::NothingLost, what).near(since.seq));
    }
    subscription(head + 1 - missed.min(head), 0)
}
