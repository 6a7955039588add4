//! One timer wheel a shard; no timer of its own for any connection.

use xpush_core::Monotonic;

/// Width of a bucket in ms: the precision of every timer here.
const TICK: u64 = 16;
/// Buckets; a timer further off than `BUCKETS × TICK` goes round more than once.
const BUCKETS: u64 = 1_024;

/// A hashed wheel (Varghese and Lauck, scheme 6). Entries are not cancelled: who is woken checks whether it still matters.
pub(crate) struct Wheel<T> {
    buckets: Vec<Vec<(Monotonic, T)>>,
    /// All ticks before this one have been handled.
    tick: u64,
    /// No bucket before this tick's holds anything: most turns look no further. Far off when nothing is armed.
    earliest: u64,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now: Monotonic) -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), tick: now.0 / TICK, earliest: u64::MAX }
    }

    /// `item` is given out by the first [`Wheel::expire`] at or after `at`, at most one tick late.
    pub(crate) fn arm(&mut self, at: Monotonic, item: T) {
        let tick = at.0.div_ceil(TICK).max(self.tick);
        self.buckets[Self::bucket(tick)].push((at, item));
        // In a bucket that comes up earlier, in another round, it is passed over.
        self.earliest = self.earliest.min(tick);
    }

    /// Moves everything that is due into `due`.
    pub(crate) fn expire(&mut self, now: Monotonic, due: &mut Vec<T>) {
        let current = now.0 / TICK;
        if current < self.earliest {
            return;
        }
        let first = self.earliest.max(current.saturating_sub(BUCKETS - 1));
        for tick in first..=current {
            let bucket = &mut self.buckets[Self::bucket(tick)];
            let mut index = 0;
            while index < bucket.len() {
                if bucket[index].0 <= now { due.push(bucket.swap_remove(index).1) } else { index += 1 }
            }
        }
        self.tick = current;
        // What this tick's bucket still holds belongs to later rounds.
        let filled =
            (current + 1..=current + BUCKETS).find(|tick| !self.buckets[Self::bucket(*tick)].is_empty());
        self.earliest = filled.unwrap_or(u64::MAX);
    }

    /// How many ms from `now` until something may be due; `None` when nothing is armed.
    pub(crate) fn wait(&self, now: Monotonic) -> Option<u64> {
        (self.earliest < u64::MAX).then(|| (self.earliest * TICK).saturating_sub(now.0))
    }

    fn bucket(tick: u64) -> usize {
        (tick % BUCKETS) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_comes_out_once_in_time_and_never_early(
            timers in proptest::collection::vec(0u64..60_000, 1..200),
            steps in proptest::collection::vec(1u64..5_000, 1..100),
        ) {
            let start = Monotonic(123_457);
            let mut wheel = Wheel::new(start);
            for (index, after) in timers.iter().enumerate() {
                wheel.arm(start.after(*after), index);
            }
            let mut now = start;
            let mut seen = vec![0; timers.len()];
            for step in steps.into_iter().chain([60_000]) {
                now = now.after(step);
                let mut due = Vec::new();
                wheel.expire(now, &mut due);
                for index in due {
                    prop_assert!(timers[index] <= now.since(start), "early");
                    seen[index] += 1;
                }
                for (index, after) in timers.iter().enumerate() {
                    prop_assert_eq!(seen[index] == 1, after + TICK <= now.since(start) || seen[index] == 1);
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
        }

        #[test]
        fn sleeping_as_told_is_never_too_long(after in 0u64..60_000) {
            let start = Monotonic(99);
            let mut wheel = Wheel::new(start);
            wheel.arm(start.after(after), ());
            let mut now = start;
            let mut due = Vec::new();
            while due.is_empty() {
                let wait = wheel.wait(now).expect("something is armed");
                now = now.after(wait.max(1));
                wheel.expire(now, &mut due);
            }
            prop_assert!(now.since(start) <= after + 2 * TICK, "{} instead of {after}", now.since(start));
        }
    }
}
