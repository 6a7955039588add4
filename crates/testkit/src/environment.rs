//! Time and chance, decided by the test.

use std::sync::atomic::{AtomicU64, Ordering};

use xpush_core::{Clock, Entropy, Monotonic, UnixMillis};

/// A clock that goes when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    monotonic: AtomicU64,
    wall: AtomicU64,
}

/// The same bytes for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct SeededEntropy(u64);

impl ManualClock {
    /// At 0 since its start, on 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self { monotonic: AtomicU64::new(0), wall: AtomicU64::new(1_767_225_600_000) }
    }

    /// Lets both clocks go on by `ms`.
    pub fn advance(&self, ms: u64) {
        self.monotonic.fetch_add(ms, Ordering::SeqCst);
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }

    /// Lets both clocks go on until `moment`; a moment that has passed changes nothing.
    pub fn advance_to(&self, moment: Monotonic) {
        self.advance(moment.since(self.monotonic()));
    }

    /// Sets the time of day, as an operator may, to any value.
    pub fn set_wall(&self, wall: UnixMillis) {
        self.wall.store(wall, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.monotonic.load(Ordering::SeqCst))
    }

    fn wall(&self) -> UnixMillis {
        self.wall.load(Ordering::SeqCst)
    }
}

impl SeededEntropy {
    /// Begins the seed's sequence.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is 2⁻⁶⁴ × bound: nothing beside what a test can see.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn word(&mut self) -> u64 {
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn splitmix64_as_published() {
        // The first values of seed 1234567 in the reference implementation.
        let mut entropy = SeededEntropy::new(1_234_567);
        assert_eq!(entropy.word(), 6_457_827_717_110_365_317);
        assert_eq!(entropy.word(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn chances() {
        let mut entropy = SeededEntropy::new(7);
        let hits = (0..100_000).filter(|_| entropy.chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !entropy.chance(0.0)) && (0..1000).all(|_| entropy.chance(1.0)));
        let seen: BTreeSet<u64> = (0..1000).map(|_| entropy.below(10)).collect();
        assert_eq!(seen, (0..10).collect());
    }

    #[test]
    fn the_clocks_go_together_and_only_when_told() {
        let clock = ManualClock::new();
        let wall = clock.wall();
        clock.advance(5);
        clock.advance_to(Monotonic(20));
        clock.advance_to(Monotonic(3));
        assert_eq!((clock.monotonic(), clock.wall()), (Monotonic(20), wall + 20));
        clock.set_wall(1);
        assert_eq!((clock.monotonic(), clock.wall()), (Monotonic(20), 1));
    }
}
