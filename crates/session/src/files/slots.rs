//! Who uploads how many files at the same time: nobody so many that others cannot.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xpush_core::{App, User};

/// One user has at most this part of all uploads.
const OF_USER: usize = 8;

/// And one address this, behind which there may be an office.
const OF_ADDRESS: usize = 2;

/// Uploads that go at the same time. Cheap to clone.
#[derive(Clone)]
pub(super) struct Slots(Arc<Inner>);

struct Inner {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: HashMap<Whose, usize>,
}

/// By whom slots are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    User(App, User),
    Address(IpAddr),
}

/// One of them, until it is dropped.
pub(super) struct Slot {
    slots: Slots,
    whose: Vec<Whose>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, taken: Mutex::default() }))
    }

    /// One for whoever this is; `None` when there is none for all of them, or in all.
    pub(super) fn take(&self, whose: Vec<Whose>) -> Option<Slot> {
        let mut taken = self.taken();
        let room = |one: &Whose| taken.by.get(one).copied().unwrap_or_default() < self.most_of(one);
        if taken.all >= self.0.most || !whose.iter().all(room) {
            return None;
        }
        taken.all += 1;
        for one in &whose {
            *taken.by.entry(one.clone()).or_default() += 1;
        }
        Some(Slot { slots: self.clone(), whose })
    }

    fn most_of(&self, whose: &Whose) -> usize {
        let part = match whose {
            Whose::User(..) => OF_USER,
            Whose::Address(_) => OF_ADDRESS,
        };
        (self.0.most / part).max(1)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whose {
    /// Of version 6 its network: whoever has one address of it has them all.
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.all -= 1;
        for one in &self.whose {
            if let Some(count) = taken.by.get_mut(one) {
                *count -= 1;
                if *count == 0 {
                    taken.by.remove(one);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Whose {
        Whose::User(App::new("demo").unwrap(), User::new(name).unwrap())
    }

    #[test]
    fn nobody_has_so_many_that_others_have_none() {
        let slots = Slots::new(16);
        let take = |name: &str, address: &str| {
            slots.take(vec![user(name), Whose::address(address.parse().unwrap())])
        };
        let anns: Vec<_> = (0..2).map(|_| take("ann", "192.0.2.1").unwrap()).collect();
        assert!(take("ann", "192.0.2.1").is_none() && take("ann", "192.0.2.9").is_none(), "an eighth");
        // Whoever makes users up has an address all the same, of which version 6 gives many.
        let many: Vec<_> =
            (0..20).filter_map(|n| take(&format!("u{n}"), &format!("2001:db8::{n}"))).collect();
        assert_eq!(many.len(), 8, "a half");
        let mapped: Vec<_> = (0..20).filter_map(|n| take(&format!("v{n}"), "::ffff:192.0.2.1")).collect();
        assert_eq!(mapped.len(), 6, "the rest of a half");
        assert!(take("zoe", "198.51.100.1").is_none(), "there are no more");
        drop(anns);
        assert!(take("ann", "192.0.2.1").is_some());
        drop((many, mapped));
        assert!(slots.taken().by.is_empty() && slots.taken().all == 0, "nothing is remembered");
        assert!(Slots::new(1).take(vec![user("ann")]).is_some());
    }
}
