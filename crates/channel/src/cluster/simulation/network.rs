//! What clients have sent and servers have not received yet.

use std::collections::BTreeMap;

use xpush_core::{Monotonic, NodeId};
use xpush_testkit::SeededEntropy;

use crate::session::sid::Sid;

/// Packets under way, those of one connection in order.
#[derive(Default)]
pub(super) struct Mail {
    waiting: BTreeMap<(Monotonic, u64), Parcel>,
    sent: u64,
}

/// The body of one request of long polling.
pub(super) struct Parcel {
    /// Which connection it belongs to.
    pub(super) berth: u64,
    pub(super) node: NodeId,
    pub(super) shard: u16,
    pub(super) sid: Sid,
    pub(super) body: String,
}

impl Mail {
    pub(super) fn send(&mut self, due: Monotonic, parcel: Parcel) {
        self.sent += 1;
        self.waiting.insert((due, self.sent), parcel);
    }

    /// What arrives next, if it does by now.
    pub(super) fn arrived(&mut self, now: Monotonic) -> Option<Parcel> {
        let first = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    /// The connection is cut somewhere: what is behind that place never arrives, the rest still does.
    pub(super) fn cut(&mut self, berth: u64, random: &mut SeededEntropy) {
        let of_it = |parcel: &Parcel| parcel.berth == berth;
        let count = self.waiting.values().filter(|parcel| of_it(parcel)).count() as u64;
        let mut kept = random.below(count + 1);
        self.waiting.retain(|_, parcel| {
            if !of_it(parcel) {
                return true;
            }
            let arrives = kept > 0;
            kept = kept.saturating_sub(1);
            arrives
        });
    }
}
