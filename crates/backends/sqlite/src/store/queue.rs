//! A bounded queue of which several items are taken at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use xpush_core::ports::{Failure, PortError};

use super::{Weight, closed};
use crate::lock;

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    bound: Weight,
}

struct State<T> {
    items: VecDeque<(T, Weight)>,
    weight: Weight,
    closed: bool,
}

/// What became of waiting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// At least one item.
    Some,
    /// Nothing has come in time.
    None,
    /// Nothing will come any more.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(bound: Weight) -> Self {
        let state = State { items: VecDeque::new(), weight: Weight { rows: 0, bytes: 0 }, closed: false };
        Self { state: Mutex::new(state), came: Condvar::new(), bound }
    }

    /// An empty queue takes anything, whatever it weighs.
    pub(crate) fn push(&self, item: T, weight: Weight) -> Result<(), (PortError, T)> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err((closed(), item));
        }
        let after =
            Weight { rows: state.weight.rows + weight.rows, bytes: state.weight.bytes + weight.bytes };
        if !state.items.is_empty() && (after.rows > self.bound.rows || after.bytes > self.bound.bytes) {
            return Err((PortError::new(Failure::Overloaded, "too much waits for the disk"), item));
        }
        state.weight = after;
        state.items.push_back((item, weight));
        drop(state);
        self.came.notify_one();
        Ok(())
    }

    /// Waits for items, at most for `patience`, and takes those that fit into `bound`, at least one.
    pub(crate) fn take(&self, into: &mut Vec<T>, bound: Weight, patience: Option<Duration>) -> Taken {
        let mut state = lock(&self.state);
        while state.items.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            let Some(patience) = patience else {
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.came.wait_timeout(state, patience);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.items.is_empty() && !state.closed {
                return Taken::None;
            }
        }
        let mut taken = Weight { rows: 0, bytes: 0 };
        while let Some((_, weight)) = state.items.front() {
            taken.rows += weight.rows;
            taken.bytes += weight.bytes;
            if !into.is_empty() && (taken.rows > bound.rows || taken.bytes > bound.bytes) {
                break;
            }
            let Some((item, weight)) = state.items.pop_front() else { break };
            state.weight.rows -= weight.rows;
            state.weight.bytes -= weight.bytes;
            into.push(item);
        }
        Taken::Some
    }

    /// Takes nothing more; what waits is still given out.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(rows: usize) -> Weight {
        Weight { rows, bytes: rows }
    }

    #[test]
    fn takes_what_fits_and_at_least_one() {
        let queue = Queue::new(weight(100));
        for rows in [50, 3, 3, 3] {
            queue.push(rows, weight(rows)).unwrap();
        }
        let take = || {
            let mut taken = Vec::new();
            assert_eq!(queue.take(&mut taken, weight(7), None), Taken::Some);
            taken
        };
        assert_eq!([take(), take(), take()], [vec![50], vec![3, 3], vec![3]]);
    }

    #[test]
    fn is_bounded_and_takes_anything_when_empty() {
        let queue = Queue::new(weight(10));
        queue.push('a', weight(1000)).unwrap();
        assert_eq!(queue.push('b', weight(1)).unwrap_err().0.kind, Failure::Overloaded);
        let mut taken = Vec::new();
        queue.take(&mut taken, weight(1), None);
        assert_eq!((taken, queue.push('b', weight(1)).is_ok()), (vec!['a'], true));
    }

    #[test]
    fn what_waits_when_it_closes_is_given_out() {
        let queue = Queue::new(weight(10));
        queue.push('a', weight(1)).unwrap();
        queue.close();
        assert_eq!(queue.push('b', weight(1)).unwrap_err().0.kind, Failure::NotApplied);
        let mut taken = Vec::new();
        assert_eq!(queue.take(&mut taken, weight(9), None), Taken::Some);
        assert_eq!(queue.take(&mut taken, weight(9), None), Taken::Closed);
        assert_eq!(taken, ['a']);
    }

    #[test]
    fn patience_ends() {
        let queue = Queue::<()>::new(weight(10));
        assert_eq!(queue.take(&mut Vec::new(), weight(9), Some(Duration::from_millis(1))), Taken::None);
    }
}
