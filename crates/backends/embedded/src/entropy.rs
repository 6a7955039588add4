//! The operating system's randomness.

use xpush_core::Entropy;

/// One system call fetches this much: an id takes 8 to 32 bytes.
const BLOCK: usize = 4096;

/// Bytes from the operating system, fetched in blocks.
pub struct OsEntropy {
    block: Box<[u8; BLOCK]>,
    used: usize,
}

impl OsEntropy {
    /// Fetches nothing yet.
    pub fn new() -> Self {
        Self { block: Box::new([0; BLOCK]), used: BLOCK }
    }
}

impl Default for OsEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        if bytes.len() > BLOCK {
            return fetch(bytes);
        }
        if bytes.len() > BLOCK - self.used {
            fetch(self.block.as_mut_slice());
            self.used = 0;
        }
        let given = &mut self.block[self.used..self.used + bytes.len()];
        bytes.copy_from_slice(given);
        // What was given out is a secret of its owner.
        given.fill(0);
        self.used += bytes.len();
    }
}

fn fetch(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        // A panic could be caught, and the process would go on with ids that can be guessed.
        eprintln!("the operating system gives no randomness: {error}");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_word_comes_twice() {
        let mut entropy = OsEntropy::new();
        let words: HashSet<u64> = (0..BLOCK).map(|_| entropy.word()).collect();
        assert_eq!(words.len(), BLOCK);
        assert!(!words.contains(&0));
    }

    #[test]
    fn any_length_is_filled() {
        let mut entropy = OsEntropy::new();
        for len in [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let (mut first, mut second) = (vec![0; len], vec![0; len]);
            entropy.fill(&mut first);
            entropy.fill(&mut second);
            // The last 16 bytes show that nothing was left out.
            if len >= 16 {
                assert_ne!(first[len - 16..], [0; 16]);
                assert_ne!(first, second);
            }
        }
    }
}
