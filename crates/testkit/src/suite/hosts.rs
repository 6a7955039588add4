//! What every [`Hosts`] does.

#![expect(missing_docs, reason = "a property's name says what must hold")]

use std::sync::Arc;
use std::thread;

use xpush_core::ChannelKey;
use xpush_core::ports::hosts::Hosts;
use xpush_core::ports::lease::{LEASE_MS, Lease};

use crate::sample::{channel, channel_of, name};
use crate::suite::{answer, ends};

/// A new, empty registry.
pub struct HostsStore {
    /// Two handles on it, as two nodes have them.
    pub handles: [Arc<dyn Hosts>; 2],
    /// Lets so many ms pass, as the store counts them.
    pub pass: Box<dyn Fn(u64)>,
}

/// Makes each property of a [`Hosts`] a test; `$fixture` is a function that gives a [`HostsStore`].
#[macro_export]
macro_rules! hosts_suite {
    ($fixture:expr) => {
        $crate::properties!($fixture, hosts:
            what_is_reported_is_found_on_every_handle
            a_report_replaces_the_one_before
            who_has_no_connections_is_no_host
            channels_come_in_the_order_asked_for
            channels_are_apart
            many_channels_in_one_report
            eviction_forgets_all_of_one_server
            who_does_not_renew_is_not_found
            who_renews_is_found
            a_server_is_told_when_its_reports_are_gone
            reports_of_one_caller_keep_their_order
            servers_report_at_once
            done_may_call_the_registry
        );
    };
}

impl HostsStore {
    fn report(&self, handle: usize, name: &str, connections: &[(&ChannelKey, u64)]) {
        let connections = connections.iter().map(|(channel, count)| ((*channel).clone(), *count)).collect();
        answer(|done| self.handles[handle].report(&crate::sample::name(name), connections, done))
            .expect("a report");
    }

    fn hosts(&self, channel: &ChannelKey) -> Vec<(String, u64)> {
        let [one, other] = [0, 1].map(|handle| find(&self.handles[handle], vec![channel.clone()]).remove(0));
        assert_eq!(one, other, "both handles say the same");
        one
    }

    fn renew(&self, handle: usize, name: &str) -> Lease {
        answer(|done| self.handles[handle].renew(&crate::sample::name(name), done)).expect("a renewal")
    }

    fn evict(&self, handle: usize, name: &str) {
        answer(|done| self.handles[handle].evict(&crate::sample::name(name), done)).expect("an eviction");
    }
}

pub fn what_is_reported_is_found_on_every_handle(store: &HostsStore) {
    let channel = channel("chat:a");
    assert_eq!(store.hosts(&channel), []);
    store.report(0, "s2", &[(&channel, 5)]);
    store.report(1, "s1", &[(&channel, 7)]);
    assert_eq!(store.hosts(&channel), [("s1".to_owned(), 7), ("s2".to_owned(), 5)], "by name");
}

pub fn a_report_replaces_the_one_before(store: &HostsStore) {
    let channel = channel("chat:a");
    for count in [3, 9, 1, 1, u64::from(u32::MAX)] {
        store.report(0, "s1", &[(&channel, count)]);
        assert_eq!(store.hosts(&channel), [("s1".to_owned(), count)]);
    }
    store.report(0, "s1", &[(&channel, 1), (&channel, 2)]);
    assert_eq!(store.hosts(&channel), [("s1".to_owned(), 2)], "the later one of a call counts");
}

pub fn who_has_no_connections_is_no_host(store: &HostsStore) {
    let channel = channel("chat:a");
    store.report(0, "s1", &[(&channel, 0)]);
    assert_eq!(store.hosts(&channel), []);
    store.report(0, "s1", &[(&channel, 1)]);
    store.report(1, "s2", &[(&channel, 1)]);
    store.report(0, "s1", &[(&channel, 0)]);
    assert_eq!(store.hosts(&channel), [("s2".to_owned(), 1)]);
}

pub fn channels_come_in_the_order_asked_for(store: &HostsStore) {
    let [a, b, none] = ["chat:a", "chat:b", "chat:none"].map(channel);
    store.report(0, "s1", &[(&a, 1), (&b, 2)]);
    let counts: Vec<Vec<u64>> = find(&store.handles[1], vec![b.clone(), none, a, b])
        .into_iter()
        .map(|hosts| hosts.into_iter().map(|(_, count)| count).collect())
        .collect();
    assert_eq!(counts, [vec![2], vec![], vec![1], vec![2]]);
    assert!(find(&store.handles[0], Vec::new()).is_empty());
}

pub fn channels_are_apart(store: &HostsStore) {
    let channels = [channel("chat:a"), channel("chat:b"), channel_of("other", "chat:a")];
    for (count, channel) in (1..).zip(&channels) {
        store.report(0, "s1", &[(channel, count)]);
    }
    for (count, channel) in (1..).zip(&channels) {
        assert_eq!(store.hosts(channel), [("s1".to_owned(), count)]);
    }
}

pub fn many_channels_in_one_report(store: &HostsStore) {
    let channels: Vec<ChannelKey> = (0..3_000).map(|number| channel(&format!("chat:{number}"))).collect();
    let report: Vec<_> = channels.iter().zip(1..).collect();
    store.report(0, "s1", &report);
    let found = find(&store.handles[1], channels.clone());
    let expected: Vec<_> = (1..=3_000).map(|count| vec![("s1".to_owned(), count)]).collect();
    assert_eq!(found, expected);
    store.evict(1, "s1");
    assert!(find(&store.handles[0], channels).iter().all(Vec::is_empty));
}

pub fn eviction_forgets_all_of_one_server(store: &HostsStore) {
    let [a, b] = ["chat:a", "chat:b"].map(channel);
    store.report(0, "s1", &[(&a, 1), (&b, 1)]);
    store.report(0, "s2", &[(&b, 1)]);
    store.evict(1, "s1");
    store.evict(1, "never");
    assert_eq!((store.hosts(&a), store.hosts(&b)), (vec![], vec![("s2".to_owned(), 1)]));
    store.report(0, "s1", &[(&a, 4)]);
    assert_eq!(store.hosts(&a), [("s1".to_owned(), 4)], "it may report again");
}

pub fn who_does_not_renew_is_not_found(store: &HostsStore) {
    let channel = channel("chat:a");
    store.renew(0, "s1");
    store.report(0, "s1", &[(&channel, 1)]);
    store.report(0, "s2", &[(&channel, 1)]);
    (store.pass)(LEASE_MS - 1);
    assert_eq!(store.hosts(&channel).len(), 2);
    (store.pass)(1);
    assert_eq!(store.hosts(&channel), []);
}

pub fn who_renews_is_found(store: &HostsStore) {
    let channel = channel("chat:a");
    assert_eq!(store.renew(0, "s1"), Lease::Anew, "the first time");
    store.report(0, "s1", &[(&channel, 1)]);
    for _ in 0..3 {
        (store.pass)(LEASE_MS - 1);
        assert_eq!(store.renew(0, "s1"), Lease::Kept);
        assert_eq!(store.hosts(&channel), [("s1".to_owned(), 1)]);
    }
}

pub fn a_server_is_told_when_its_reports_are_gone(store: &HostsStore) {
    store.renew(0, "s1");
    store.evict(1, "s1");
    assert_eq!(store.renew(0, "s1"), Lease::Anew);
    assert_eq!(store.renew(0, "s1"), Lease::Kept);
    (store.pass)(LEASE_MS);
    assert_eq!(
        store.renew(0, "s1"),
        Lease::Anew,
        "it was not found for a while, and may have been forgotten"
    );
}

pub fn reports_of_one_caller_keep_their_order(store: &HostsStore) {
    let channel = channel("chat:a");
    for round in 0..20 {
        for count in 1..20 {
            store.handles[0].report(&name("s1"), vec![(channel.clone(), count)], Box::new(|_| ()));
        }
        store.report(0, "s1", &[(&channel, 100 + round)]);
        assert_eq!(store.hosts(&channel), [("s1".to_owned(), 100 + round)]);
    }
}

pub fn servers_report_at_once(store: &HostsStore) {
    let channel = channel("chat:a");
    thread::scope(|scope| {
        for thread in 0..8 {
            let (channel, hosts) = (&channel, &store.handles[thread % 2]);
            let report = move |count| {
                let report = vec![(channel.clone(), count)];
                answer(|done| hosts.report(&name(&format!("s{thread}")), report, done)).expect("a report");
            };
            scope.spawn(move || (1..=20).for_each(report));
        }
    });
    assert_eq!(store.hosts(&channel), (0..8).map(|thread| (format!("s{thread}"), 20)).collect::<Vec<_>>());
}

pub fn done_may_call_the_registry(store: &HostsStore) {
    let hosts = Arc::clone(&store.handles[0]);
    ends(move || {
        let again = Arc::clone(&hosts);
        let found = answer(|done| {
            let reported = move |_| again.find(vec![channel("chat:a")], done);
            hosts.report(&name("s1"), vec![(channel("chat:a"), 1)], Box::new(reported));
        });
        assert_eq!(found.expect("hosts")[0].len(), 1);
    });
}

fn find(hosts: &Arc<dyn Hosts>, channels: Vec<ChannelKey>) -> Vec<Vec<(String, u64)>> {
    let asked = channels.len();
    let found = answer(|done| hosts.find(channels, done)).expect("hosts");
    assert_eq!(found.len(), asked);
    let told = |host: xpush_core::ports::hosts::Host| (host.name.to_string(), host.connections);
    found.into_iter().map(|hosts| hosts.into_iter().map(told).collect()).collect()
}
