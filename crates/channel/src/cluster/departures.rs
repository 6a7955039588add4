//! Which nodes have gone, and when what they left behind is this node's to clear away.
//!
//! A node that is missing from a live view is gone; its users have a while to come back on another node. Then one of the living evicts it: the one that a
//! hash of both names. Two more stand by, each a little later, in case that one dies as well; evicting twice tells nobody twice. From views that cannot be trusted
//! nothing follows: time that passes under them does not count.

use std::collections::{BTreeMap, BTreeSet};

use xpush_core::ports::cluster::{Standing, View};
use xpush_core::{Monotonic, NodeId};

use super::peers::digest;

/// So long after a node has vanished its users are no longer in its channels, in ms.
pub(crate) const ABSENT_MS: u64 = 10_000;
/// So long after the one before, the next in line evicts, too; in ms.
const STEP_MS: u64 = 2_000;
/// How many see to a node that has gone.
const IN_LINE: usize = 3;

/// What a node leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// Its connections, by user: the store gives them a grace time of its own.
    Online,
    /// Its entries in channels.
    Presence,
}

/// The nodes that are gone, as this one knows them.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// The newest view can be trusted.
    trusted: bool,
    living: BTreeSet<NodeId>,
    gone: BTreeMap<NodeId, Gone>,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    since: Monotonic,
    online: bool,
    presence: bool,
}

impl Departures {
    pub(crate) fn see(&mut self, view: &View, now: Monotonic) {
        if view.standing != Standing::Live {
            self.trusted = false;
            return;
        }
        let living: BTreeSet<NodeId> = view.channel_nodes().map(|node| node.id.clone()).collect();
        if !std::mem::replace(&mut self.trusted, true) {
            self.gone.values_mut().for_each(|gone| gone.since = now);
        }
        let before = std::mem::replace(&mut self.living, living);
        for node in before.difference(&self.living) {
            self.gone.insert(node.clone(), Gone { since: now, online: false, presence: false });
        }
        self.gone.retain(|node, _| !self.living.contains(node));
    }

    /// The store knows of nodes whose lease is over: those that do not live have been away for long.
    pub(crate) fn lapsed(&mut self, nodes: Vec<NodeId>, now: Monotonic) {
        for node in nodes.into_iter().filter(|node| !self.living.contains(node)) {
            let since = Monotonic(now.0.saturating_sub(ABSENT_MS));
            self.gone.entry(node).or_insert(Gone { since, online: false, presence: false });
        }
    }

    /// What node `own` has to clear away by now. Each is named once, unless [`Departures::failed`].
    pub(crate) fn due(&mut self, own: &NodeId, grace_ms: u64, now: Monotonic) -> Vec<(NodeId, Left)> {
        let mut due = Vec::new();
        if !self.trusted {
            return due;
        }
        for (node, gone) in &mut self.gone {
            let Some(place) = place(node, own, &self.living) else { continue };
            let waited = now.since(gone.since);
            let step = place * STEP_MS;
            if waited >= ABSENT_MS.saturating_sub(grace_ms) + step
                && !std::mem::replace(&mut gone.online, true)
            {
                due.push((node.clone(), Left::Online));
            }
            if waited >= ABSENT_MS + step && !std::mem::replace(&mut gone.presence, true) {
                due.push((node.clone(), Left::Presence));
            }
        }
        let over = ABSENT_MS + STEP_MS * IN_LINE as u64;
        self.gone.retain(|_, gone| !(gone.online && gone.presence) && now.since(gone.since) < 10 * over);
        due
    }

    /// The store did not do it: it is due again.
    pub(crate) fn failed(&mut self, node: NodeId, left: Left, now: Monotonic) {
        if self.living.contains(&node) {
            return;
        }
        let since = Monotonic(now.0.saturating_sub(ABSENT_MS));
        let gone = self.gone.entry(node).or_insert(Gone { since, online: true, presence: true });
        match left {
            Left::Online => gone.online = false,
            Left::Presence => gone.presence = false,
        }
    }
}

/// How far behind the first `own` stands in the line of those who see to `node`, if it stands there at all.
fn place(node: &NodeId, own: &NodeId, living: &BTreeSet<NodeId>) -> Option<u64> {
    let weight = |candidate: &NodeId| {
        let mixed = u64::from(digest(node)) << 32 | u64::from(digest(candidate));
        // splitmix64's last steps: every bit of the result hangs by every bit of both.
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let ours = (weight(own), own);
    living.contains(own).then_some(())?;
    let before = living.iter().filter(|other| (weight(other), *other) > ours).count();
    (before < IN_LINE).then_some(before as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: u64 = 5_000;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn view(standing: Standing, nodes: &[&str]) -> View {
        crate::cluster::view_of(standing, nodes)
    }

    /// Who of the living does what when, second by second.
    fn watch(nodes: &[&str], mut see: impl FnMut(u64, &str) -> Option<View>) -> Vec<(u64, String, Left)> {
        let mut all: Vec<_> = nodes.iter().map(|name| (*name, Departures::default())).collect();
        let mut done = Vec::new();
        for second in 0..40 {
            for (name, departures) in &mut all {
                let now = Monotonic(second * 1_000);
                let Some(view) = see(second, name) else { continue };
                departures.see(&view, now);
                let due = departures.due(&id(name), GRACE, now);
                done.extend(due.into_iter().map(|(_, left)| (second, (*name).to_owned(), left)));
            }
        }
        done
    }

    #[test]
    fn one_is_first_and_two_stand_by() {
        let living = ["b", "c", "d", "e", "f"];
        let done = watch(&living, |second, _| {
            let all = ["a", "b", "c", "d", "e", "f"];
            Some(view(Standing::Live, if second == 0 { &all } else { &living }))
        });
        let when = |left| done.iter().filter(|one| one.2 == left).map(|one| one.0).collect::<Vec<_>>();
        // Gone since second 1.
        assert_eq!(when(Left::Online), [6, 8, 10]);
        assert_eq!(when(Left::Presence), [11, 13, 15]);
        let who: BTreeSet<_> = done.iter().map(|one| &one.1).collect();
        assert_eq!(who.len(), 3);
    }

    #[test]
    fn who_comes_back_is_not_gone() {
        let done = watch(&["b"], |second, _| {
            Some(view(Standing::Live, if (1..6).contains(&second) { &["b"] } else { &["a", "b"] }))
        });
        assert_eq!(done, []);
    }

    #[test]
    fn under_a_view_that_cannot_be_trusted_no_time_passes_and_nobody_vanishes() {
        let frozen = |second: u64, _: &str| match second {
            0 => Some(view(Standing::Live, &["a", "b", "c"])),
            // Here c goes; then the cluster is out of reach, and says nothing for 20 s.
            1..4 => Some(view(Standing::Live, &["a", "b"])),
            4..24 => Some(view(Standing::Frozen, &[])),
            _ => Some(view(Standing::Live, &["a", "b"])),
        };
        let done = watch(&["b"], frozen);
        let first = done.iter().map(|one| one.0).min().unwrap();
        assert!(first >= 24 + 5, "{done:?}");
        let done = watch(&["b"], |second, _| {
            Some(view(if second == 0 { Standing::Live } else { Standing::Expired }, &["b"]))
        });
        assert_eq!(done, []);
    }

    #[test]
    fn the_next_in_line_steps_in_when_the_first_dies_as_well() {
        let names = ["b", "c", "d"];
        let all = BTreeSet::from(["a", "b", "c", "d"].map(id));
        let first = names.iter().find(|name| place(&id("a"), &id(name), &all) == Some(0));
        // Itself among the living, "a" may stand before all others.
        let first = *first.unwrap_or(&"b");
        let living: Vec<_> = names.into_iter().filter(|name| *name != first).collect();
        let done = watch(&living, |second, _| {
            Some(match second {
                0 => view(Standing::Live, &["a", "b", "c", "d"]),
                1..8 => view(Standing::Live, &names),
                _ => view(Standing::Live, &living),
            })
        });
        assert!(done.contains(&(
            11,
            done.iter().find(|one| one.2 == Left::Presence).unwrap().1.clone(),
            Left::Presence
        )));
    }

    #[test]
    fn what_failed_is_due_again_and_what_lapsed_is_due_at_once() {
        let mut departures = Departures::default();
        let now = Monotonic(100_000);
        departures.see(&view(Standing::Live, &["b"]), now);
        departures.lapsed(vec![id("a"), id("b")], now);
        assert_eq!(departures.due(&id("b"), GRACE, now).len(), 2);
        assert_eq!(departures.due(&id("b"), GRACE, now), []);
        departures.failed(id("a"), Left::Presence, now);
        assert_eq!(departures.due(&id("b"), GRACE, now), [(id("a"), Left::Presence)]);
    }
}
