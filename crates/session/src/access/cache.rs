//! What is remembered, within bounds.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map that forgets what was not asked for lately. Two generations: when the newer one is full it becomes the older one, and what the older one still held is
/// forgotten. So it holds between `bound` and twice `bound`, and every step takes constant time.
pub(super) struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    /// Of `young`.
    weight: usize,
    bound: usize,
}

impl<K: Eq + Hash, V: Clone> Generations<K, V> {
    /// Each generation weighs at most `bound`, in whatever unit the weights are.
    pub(super) fn new(bound: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, bound }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.bound {
            return;
        }
        if self.weight + weight > self.bound {
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight += weight;
        self.young.insert(key, (value, weight));
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some((_, weight)) = self.young.remove(key) {
            self.weight -= weight;
        }
        self.old.remove(key);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.bound);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let mut cache = Generations::new(4);
        for key in 0..100 {
            cache.insert(key, key, 1);
            assert_eq!(cache.get(&0), Some(0), "asked for each time, after {key}");
        }
        assert_eq!((cache.get(&1), cache.get(&99)), (None, Some(99)));
        cache.insert(7, 7, 5);
        assert_eq!(cache.get(&7), None, "weighs more than all");
    }

    proptest! {
        #[test]
        fn it_never_tells_what_was_replaced_and_never_grows(
            steps in prop::collection::vec((0..30_u8, 0..4_u8, 1..5_usize), 0..400),
        ) {
            let mut cache = Generations::new(20);
            let mut last: HashMap<u8, usize> = HashMap::new();
            for (at, (key, what, weight)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        cache.remove(&key);
                        last.remove(&key);
                    }
                    1 => {
                        if let Some(found) = cache.get(&key) {
                            prop_assert_eq!(Some(&found), last.get(&key));
                        }
                    }
                    _ => {
                        cache.insert(key, at, weight);
                        last.insert(key, at);
                        prop_assert_eq!(cache.get(&key), Some(at));
                    }
                }
                let young: usize = cache.young.values().map(|(_, weight)| weight).sum();
                let old: usize = cache.old.values().map(|(_, weight)| weight).sum();
                prop_assert_eq!(young, cache.weight);
                prop_assert!(young <= 20 && old <= 20);
            }
        }
    }
}
