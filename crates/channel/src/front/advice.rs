//! What the log advises an operator to change: each thing once, however many requests ask for it.

use std::collections::HashSet;
use std::sync::Mutex;

/// Different things that are advised at most: strangers choose origins, and must not fill the log.
const MOST: usize = 64;

/// Remembers what was advised.
#[derive(Debug, Default)]
pub(crate) struct Advice(Mutex<HashSet<String>>);

impl Advice {
    /// Whether `line` (of the configuration, to be added) is advised for the first time.
    pub(crate) fn is_new(&self, line: &str) -> bool {
        let mut given = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        given.len() < MOST && given.insert(line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_each_and_not_without_end() {
        let advice = Advice::default();
        assert!(advice.is_new("a"));
        assert!(!advice.is_new("a"));
        let given = (0..1_000).filter(|number| advice.is_new(&number.to_string())).count();
        assert_eq!(given, MOST - 1);
    }
}
