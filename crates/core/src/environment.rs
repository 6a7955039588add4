//! Clock and randomness, injected so that everything above them can be simulated.

/// Milliseconds on a clock that never goes back; meaningful only as a difference within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// This moment plus `ms`.
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How many ms `earlier` lies back; 0 when it does not.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z, for people: it may jump, so nothing is ordered or timed out by it.
pub type UnixMillis = u64;

/// Both clocks of a process.
pub trait Clock: Send + Sync {
    /// For timers, leases and ages.
    fn monotonic(&self) -> Monotonic;
    /// For `at` fields.
    fn wall(&self) -> UnixMillis;
}

/// A source of bytes that nobody can guess.
pub trait Entropy: Send {
    /// Fills `bytes`. A source that cannot must end the process: ids made without it could be guessed.
    fn fill(&mut self, bytes: &mut [u8]);

    /// Eight of them.
    fn word(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
