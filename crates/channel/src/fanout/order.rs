//! One order for everybody: a channel's messages in, in any order and any number of times; out, each once, ascending, without holes.
//!
//! Architecture invariant: every message of a channel with history that reaches a subscriber of this node has come out of [`Order`], or out of the page of a join that [`Order::at`] bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use xpush_core::message::Message;
use xpush_core::ports::message_log::Page;
use xpush_core::{Epoch, Position, Problem};

use crate::planted::{Bug, is_planted};

/// Messages that wait for a hole to be filled; more are let go, for they can be read again.
const WAITING: usize = 1_024;

/// The release point of a channel on this node.
#[derive(Debug, Default)]
pub(crate) struct Order {
    at: Option<Position>,
    waiting: BTreeMap<u64, Arc<Message>>,
}

/// What a page did to the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Nothing is missing between what was released and the page's end.
    Whole,
    /// What lay before this position cannot be had any more: subscribers must be told.
    Lost(Position),
}

impl Order {
    /// The newest position that was released; `None` before the first subscriber.
    pub(crate) fn at(&self) -> Option<Position> {
        self.at
    }

    /// Begins behind `at`; what waited behind it is released.
    pub(crate) fn start(&mut self, at: Position, released: &mut Vec<Arc<Message>>) {
        self.at = Some(at);
        self.drop_other_epochs(at.epoch);
        self.release(released);
    }

    /// Begins behind `head`, or before what has come meanwhile up to there, so that whoever published right behind a first subscription is heard by it. Nothing is
    /// released before [`Order::release`]: the subscription is answered in between.
    pub(crate) fn begin(&mut self, head: Position) {
        self.drop_other_epochs(head.epoch);
        let mut at = head;
        while at.seq > 0 && self.waiting.contains_key(&at.seq) {
            at.seq -= 1;
        }
        self.at = Some(at);
    }

    /// A message from a local append, from the bus, or from the log.
    pub(crate) fn offer(&mut self, message: Arc<Message>, released: &mut Vec<Arc<Message>>) {
        let Some(position) = message.position else {
            released.push(message);
            return;
        };
        match self.at {
            Some(at) if at.epoch == position.epoch && is_next(position.seq, at.seq) => {
                self.at = Some(position);
                released.push(message);
                if !self.waiting.is_empty() {
                    self.release(released);
                }
            }
            Some(at) if at.epoch == position.epoch && position.seq <= at.seq => {}
            _ => {
                self.waiting.insert(position.seq, message);
                if self.waiting.len() > WAITING {
                    self.waiting.pop_last();
                }
            }
        }
    }

    /// Whether something waits for a hole to be filled, or for [`Order::start`].
    pub(crate) fn has_hole(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A page that was read `After(after)`, which was [`Order::at`] then. More may have been released while it was read.
    pub(crate) fn fill(&mut self, after: u64, page: Page, released: &mut Vec<Arc<Message>>) -> Filled {
        let Some(at) = self.at else {
            return Filled::Whole;
        };
        let mut filled = Filled::Whole;
        let reaches = page.messages.first().map_or(page.head + 1, |message| message.seq());
        if page.epoch != at.epoch || page.head < after || reaches > at.seq + 1 {
            let lost = Position { epoch: page.epoch, seq: reaches - 1 };
            if page.epoch == at.epoch && page.head < after {
                tracing::error!(head = page.head, released = after, "a channel's history has gone back");
            }
            self.start(lost, released);
            filled = Filled::Lost(lost);
        }
        for message in page.messages {
            self.offer(message, released);
        }
        filled
    }

    fn drop_other_epochs(&mut self, epoch: Epoch) {
        self.waiting.retain(|_, message| message.position.is_some_and(|position| position.epoch == epoch));
    }

    /// Releases what waits and has its turn.
    pub(crate) fn release(&mut self, released: &mut Vec<Arc<Message>>) {
        let Some(mut at) = self.at else { return };
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > at.seq + 1 {
                break;
            }
            let message = entry.remove();
            let Some(position) = message.position else { continue };
            if position.epoch == at.epoch && position.seq == at.seq + 1 {
                at = position;
                released.push(message);
            }
        }
        self.at = Some(at);
    }
}

fn is_next(seq: u64, released: u64) -> bool {
    seq == released + 1 || (seq > released && is_planted(Bug::HolesPassedOver))
}

/// What a joining subscriber has missed, and whether that goes on exactly at `since`.
///
/// `page` was read behind `after` (or is the newest page, without `after`, when `recovered` is false already); `tail` holds what was released while anybody joined, so that it
/// may reach back behind `after`, too.
pub(crate) fn missed(
    page: Vec<Arc<Message>>,
    tail: &[Arc<Message>],
    after: Option<u64>,
    at: Position,
) -> Result<Vec<Arc<Message>>, Problem> {
    let mut missed: Vec<_> = page.into_iter().filter(|message| message.seq() <= at.seq).collect();
    if is_planted(Bug::TailForgotten) {
        return Ok(missed);
    }
    let read = missed.last().map(|message| message.seq()).or(after);
    missed.extend(tail.iter().filter(|message| read.is_none_or(|read| message.seq() > read)).cloned());
    let whole = missed.windows(2).all(|pair| pair[0].seq() + 1 == pair[1].seq());
    let complete = missed.last().is_none_or(|message| message.seq() == at.seq);
    if whole && complete {
        Ok(missed)
    } else {
        Err(Problem::new(
            xpush_core::Code::Unavailable,
            "the history moved on while it was read; subscribe again",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xpush_core::message::{Payload, Sender};
    use xpush_core::{App, Channel, ChannelKey, ClientId, EventName, Kind, User};

    const EPOCH: Epoch = Epoch(1);

    fn message(seq: u64) -> Arc<Message> {
        Arc::new(Message {
            kind: Kind::Message,
            revision: None,
            channel: ChannelKey::new(App::new("a").unwrap(), Channel::new("c").unwrap()),
            position: Some(Position { epoch: EPOCH, seq }),
            id: ClientId::new(&seq.to_string()).unwrap(),
            event: EventName::new("e").unwrap(),
            payload: Payload::default(),
            from: Sender { user: User::new("u").unwrap(), name: None },
            at: 0,
        })
    }

    fn seqs(messages: &[Arc<Message>]) -> Vec<u64> {
        messages.iter().map(|message| message.seq()).collect()
    }

    fn page(messages: impl IntoIterator<Item = u64>, first: u64, head: u64) -> Page {
        Page { epoch: EPOCH, first, head, messages: messages.into_iter().map(message).collect() }
    }

    proptest! {
        #[test]
        fn any_order_and_any_repetition_comes_out_once_and_ascending(
            start in 0u64..5,
            arrivals in proptest::collection::vec(1u64..40, 0..200),
        ) {
            let mut order = Order::default();
            let mut released = Vec::new();
            order.start(Position { epoch: EPOCH, seq: start }, &mut released);
            for seq in &arrivals {
                order.offer(message(*seq), &mut released);
            }
            let contiguous = (start + 1..).take_while(|seq| arrivals.contains(seq)).collect::<Vec<_>>();
            prop_assert_eq!(seqs(&released), contiguous.clone());
            prop_assert_eq!(order.has_hole(), arrivals.iter().any(|seq| *seq > start + contiguous.len() as u64));
            // The log fills every hole.
            let at = order.at().map_or(0, |at| at.seq);
            prop_assert_eq!(order.fill(at, page(at + 1..=40, 1, 40), &mut released), Filled::Whole);
            prop_assert_eq!(seqs(&released), (start + 1..=40).collect::<Vec<_>>());
            prop_assert!(!order.has_hole());
        }
    }

    #[test]
    fn what_comes_before_the_start_waits_for_it() {
        let (mut order, mut released) = (Order::default(), Vec::new());
        order.offer(message(4), &mut released);
        order.offer(message(3), &mut released);
        assert!(released.is_empty());
        order.start(Position { epoch: EPOCH, seq: 3 }, &mut released);
        assert_eq!(seqs(&released), [4]);
    }

    #[test]
    fn a_hole_that_the_log_no_longer_fills_is_told() {
        let (mut order, mut released) = (Order::default(), Vec::new());
        order.start(Position { epoch: EPOCH, seq: 2 }, &mut released);
        let filled = order.fill(2, page(7..=9, 7, 9), &mut released);
        assert_eq!(filled, Filled::Lost(Position { epoch: EPOCH, seq: 6 }));
        assert_eq!(seqs(&released), [7, 8, 9]);
    }

    #[test]
    fn a_page_that_was_overtaken_while_it_was_read_tells_of_no_loss() {
        let (mut order, mut released) = (Order::default(), Vec::new());
        order.start(Position { epoch: EPOCH, seq: 2 }, &mut released);
        order.offer(message(3), &mut released);
        assert_eq!(order.fill(2, page([], 1, 2), &mut released), Filled::Whole);
        assert_eq!((seqs(&released), order.at().map(|at| at.seq)), (vec![3], Some(3)));
    }

    #[test]
    fn another_epoch_is_another_history() {
        let (mut order, mut released) = (Order::default(), Vec::new());
        order.start(Position { epoch: Epoch(9), seq: 200 }, &mut released);
        order.offer(message(3), &mut released);
        assert!(released.is_empty() && order.has_hole());
        let filled = order.fill(200, page([3], 1, 3), &mut released);
        assert_eq!(filled, Filled::Lost(Position { epoch: EPOCH, seq: 2 }));
        assert_eq!(seqs(&released), [3]);
    }

    #[test]
    fn missed_is_page_and_tail_without_overlap() {
        let at = Position { epoch: EPOCH, seq: 6 };
        let tail: Vec<_> = (4..=6).map(message).collect();
        let page = |range: std::ops::RangeInclusive<u64>| range.map(message).collect::<Vec<_>>();
        assert_eq!(seqs(&missed(page(2..=4), &tail, Some(1), at).unwrap()), [2, 3, 4, 5, 6]);
        assert_eq!(seqs(&missed(page(2..=9), &tail, Some(1), at).unwrap()), [2, 3, 4, 5, 6]);
        assert!(missed(page(1..=2), &tail, None, at).is_err(), "3 is missing");
        assert!(missed(page(1..=2), &[], None, at).is_err(), "3 to 6 are missing");
        assert_eq!(seqs(&missed(Vec::new(), &[], Some(6), at).unwrap()), [0; 0]);
        // Who comes from elsewhere with everything misses nothing that was released for others.
        assert_eq!(seqs(&missed(Vec::new(), &tail, Some(6), at).unwrap()), [0; 0]);
        assert_eq!(seqs(&missed(Vec::new(), &tail, Some(4), at).unwrap()), [5, 6]);
    }
}
