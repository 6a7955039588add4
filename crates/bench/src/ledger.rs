//! Counts what arrived: each message exactly once at every listener, in order for each publisher.

use crate::payload::Stamp;
use std::ops::Range;

/// Which publishers a listener hears: listeners and publishers are dealt out to groups in sequence.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub(crate) listeners_each: usize,
    pub(crate) publishers_each: usize,
}

/// The account of one run.
pub(crate) struct Ledger {
    groups: Groups,
    /// Of listener `l`: `streams[l * publishers_each ..][.. publishers_each]`.
    streams: Vec<Stream>,
    excused: Vec<bool>,
    pub(crate) faults: Faults,
    /// Messages that arrived for the first time.
    pub(crate) deliveries: u64,
}

/// What must not happen; all zero in a good run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Sent, and never arrived.
    pub(crate) lost: u64,
    /// Arrived again.
    pub(crate) doubled: u64,
    /// Arrived after a later one of the same publisher.
    pub(crate) misordered: u64,
    /// Unreadable, altered, or for somebody else.
    pub(crate) stray: u64,
    /// Connections that the server ended.
    pub(crate) cut: u64,
}

/// What one listener heard of one publisher.
#[derive(Clone, Default)]
struct Stream {
    /// The lowest number that is later than all that arrived.
    next: u32,
    /// Numbers below `next` that are still missing; in a good run there are none.
    holes: Vec<Range<u32>>,
}

impl Ledger {
    pub(crate) fn new(listeners: usize, groups: Groups) -> Self {
        Self {
            groups,
            streams: vec![Stream::default(); listeners * groups.publishers_each],
            excused: vec![false; listeners],
            faults: Faults::default(),
            deliveries: 0,
        }
    }

    /// Enters an arrival. True when it was the first of this message at this listener.
    pub(crate) fn arrived(&mut self, listener: usize, stamp: Stamp) -> bool {
        let each = self.groups.publishers_each;
        let first = listener / self.groups.listeners_each * each;
        let place = (stamp.publisher as usize).wrapping_sub(first);
        if place >= each {
            self.faults.stray += 1;
            return false;
        }
        let arrival = self.streams[listener * each + place].enter(stamp.seq);
        match arrival {
            Arrival::InOrder => {}
            Arrival::Late => self.faults.misordered += 1,
            Arrival::Again => {
                self.faults.doubled += 1;
                return false;
            }
        }
        self.deliveries += 1;
        true
    }

    /// This listener may miss the end (it stopped reading on purpose), but nothing in between.
    pub(crate) fn excuse(&mut self, listener: usize) {
        self.excused[listener] = true;
    }

    /// Closes the account: publisher `p` sent `sent[p]` messages.
    pub(crate) fn close(&mut self, sent: &[u32]) -> Faults {
        let each = self.groups.publishers_each;
        let missing = |listener: usize| -> u64 {
            let first = listener / self.groups.listeners_each * each;
            let streams = self.streams[listener * each..][..each].iter().zip(&sent[first..]);
            let excused = self.excused[listener];
            streams
                .map(|(stream, &sent)| stream.skipped() + if excused { 0 } else { stream.tail(sent) })
                .sum()
        };
        self.faults.lost = (0..self.excused.len()).map(missing).sum();
        self.faults
    }
}

impl Faults {
    /// Nothing lost, doubled, out of order or damaged, and nobody cut off.
    pub(crate) fn none(self) -> bool {
        self == Self::default()
    }
}

enum Arrival {
    InOrder,
    Late,
    Again,
}

impl Stream {
    fn enter(&mut self, seq: u32) -> Arrival {
        if seq < self.next {
            return if self.fill(seq) { Arrival::Late } else { Arrival::Again };
        }
        if seq > self.next {
            self.holes.push(self.next..seq);
        }
        self.next = seq + 1;
        Arrival::InOrder
    }

    /// Takes `seq` out of the missing ones; false when it was not missing.
    fn fill(&mut self, seq: u32) -> bool {
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&seq)) else { return false };
        let Range { start, end } = self.holes[at];
        self.holes.splice(at..=at, [start..seq, seq + 1..end].into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// How many are missing although later ones came.
    fn skipped(&self) -> u64 {
        self.holes.iter().map(|hole| u64::from(hole.end - hole.start)).sum()
    }

    /// How many of the `sent` ones are missing at the end.
    fn tail(&self, sent: u32) -> u64 {
        sent.saturating_sub(self.next).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One group of one listener and one publisher that sent 0 to 4.
    fn faults(arrivals: &[u32]) -> (Faults, u64) {
        let mut ledger = Ledger::new(1, Groups { listeners_each: 1, publishers_each: 1 });
        for &seq in arrivals {
            ledger.arrived(0, Stamp { publisher: 0, seq, sent_ns: 0 });
        }
        (ledger.close(&[5]), ledger.deliveries)
    }

    #[test]
    fn every_fault_is_told_apart() {
        let none = Faults::default();
        assert_eq!(faults(&[0, 1, 2, 3, 4]), (none, 5));
        assert_eq!(faults(&[0, 1, 3, 4]), (Faults { lost: 1, ..none }, 4), "a hole");
        assert_eq!(faults(&[0, 1]), (Faults { lost: 3, ..none }, 2), "the end is missing");
        assert_eq!(faults(&[]), (Faults { lost: 5, ..none }, 0));
        assert_eq!(faults(&[0, 1, 1, 2, 3, 4]), (Faults { doubled: 1, ..none }, 5));
        assert_eq!(faults(&[0, 2, 1, 3, 4]), (Faults { misordered: 1, ..none }, 5));
        assert_eq!(faults(&[4, 2, 0, 1, 3]), (Faults { misordered: 4, ..none }, 5));
        assert_eq!(faults(&[0, 2, 1, 1, 3, 4]), (Faults { misordered: 1, doubled: 1, ..none }, 5));
    }

    #[test]
    fn a_message_for_another_group_is_a_stray() {
        let mut ledger = Ledger::new(4, Groups { listeners_each: 2, publishers_each: 2 });
        let from = |publisher| Stamp { publisher, seq: 0, sent_ns: 0 };
        assert!(ledger.arrived(3, from(2)));
        assert!(!ledger.arrived(3, from(1)));
        assert!(!ledger.arrived(0, from(2)));
        assert_eq!(ledger.faults.stray, 2);
        assert_eq!(ledger.close(&[0, 0, 1, 0]).lost, 1, "listener 2 heard nothing of publisher 2");
    }

    #[test]
    fn the_excused_may_miss_the_end_only() {
        let mut ledger = Ledger::new(2, Groups { listeners_each: 2, publishers_each: 1 });
        ledger.excuse(1);
        ledger.arrived(1, Stamp { publisher: 0, seq: 2, sent_ns: 0 });
        assert_eq!(ledger.close(&[7]).lost, 7 + 2);
    }
}
