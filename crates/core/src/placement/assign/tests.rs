use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::names::NodeName;
use crate::placement::{Epsilon, Ring, RingNode};

/// Servers `n0`, `n1`, … of these weights, all up, each made for `capacity`.
fn assigner(weights: &[u64], capacity: u64) -> Assigner {
    let node = |(number, weight): (usize, &u64)| RingNode {
        name: NodeName::new(&format!("n{number:02}")).unwrap(),
        weight: Weight::new(*weight).unwrap(),
    };
    let nodes = weights.iter().enumerate().map(node).collect();
    let ring = Ring::new(1, 1, Epsilon::default(), NonZeroU64::MIN, nodes).unwrap();
    let mut assigner = Assigner::new(Arc::new(Table::new(ring)));
    for server in 0..weights.len() {
        assigner.report(server, Occupancy { up: true, connections: 0, capacity });
    }
    assigner
}

fn occupy(assigner: &mut Assigner, server: usize, connections: u64) {
    let before = assigner.occupancy(server).unwrap();
    assigner.report(server, Occupancy { connections, ..before });
}

fn host(server: usize, clients: u64) -> Host {
    Host { server, clients }
}

fn to(server: usize, reason: Reason) -> Assignment {
    Assignment { server: Some(server), reason }
}

/// The order in which a channel goes to servers.
fn order(assigner: &Assigner, channel: u64) -> Vec<usize> {
    assigner.table().walk(channel).collect()
}

#[test]
fn a_new_channel_goes_to_its_owner_and_stays_there() {
    let mut assigner = assigner(&[4_000; 5], 1_000);
    let owner = order(&assigner, 42)[0];
    assert_eq!(assigner.assign(42, &[]), to(owner, Reason::RingOwner));
    assert_eq!(assigner.assign(42, &[host(owner, 1)]), to(owner, Reason::Host));
    // Also where it is not its owner's, and although that has room.
    let other = order(&assigner, 42)[3];
    assert_eq!(assigner.assign(42, &[host(other, 1)]), to(other, Reason::Host));
    assert_eq!(assigner.occupancy(owner).unwrap().connections, 2);
}

#[test]
fn an_owner_past_its_share_is_passed_over() {
    let mut assigner = assigner(&[4_000; 5], 1_000);
    let order = order(&assigner, 42);
    for server in 0..5 {
        occupy(&mut assigner, server, 200);
    }
    // (1,020 + 1) × 1.2 / 5 = 245.04
    occupy(&mut assigner, order[0], 246);
    assert_eq!(assigner.bound(order[0]), 252);
    occupy(&mut assigner, order[0], 260);
    assert_eq!(assigner.bound(order[0]), 255);
    assert_eq!(assigner.assign(42, &[]), to(order[1], Reason::BoundedNext));
    assert_eq!(assigner.assign(42, &[host(order[0], 60)]), to(order[1], Reason::Spilled));
    // Those who come later stay together where the others went.
    assert_eq!(assigner.assign(42, &[host(order[0], 60), host(order[1], 1)]), to(order[1], Reason::Host));
    // With room again the main host gets them.
    occupy(&mut assigner, order[0], 200);
    assert_eq!(assigner.assign(42, &[host(order[1], 1), host(order[0], 60)]), to(order[0], Reason::Host));
}

#[test]
fn hosts_alike_are_taken_in_the_rings_order() {
    let mut assigner = assigner(&[4_000; 5], 1_000);
    let order = order(&assigner, 42);
    let hosts = [host(order[4], 3), host(order[2], 3), host(order[1], 1), host(order[3], 3)];
    assert_eq!(assigner.assign(42, &hosts), to(order[2], Reason::Host));
}

#[test]
fn a_handful_is_no_skew() {
    let mut assigner = assigner(&[4_000; 10], 10_000);
    let owner = order(&assigner, 42)[0];
    for clients in 0..1_000 {
        let hosts = [host(owner, clients)];
        let hosts = if clients == 0 { &[][..] } else { &hosts };
        assert_eq!(assigner.assign(42, hosts).server, Some(owner), "client {clients}");
    }
    assert_eq!(assigner.assign(42, &[host(owner, 1_000)]).reason, Reason::Spilled);
}

#[test]
fn who_drains_or_is_gone_gets_nobody() {
    let mut assigner = assigner(&[4_000, 0, 4_000, 4_000], 1_000);
    let gone = 2;
    assigner.report(gone, Occupancy::default());
    for channel in (0..100).map(|number| number * (u64::MAX / 100)) {
        let hosts = [host(1, 50), host(gone, 50), host(99, 1)];
        let assignment = assigner.assign(channel, &hosts);
        assert!(matches!(assignment.server, Some(0 | 3)), "{assignment:?}");
        assert_eq!(assignment.reason, Reason::RingOwner);
    }
    assigner.report(0, Occupancy::default());
    assert_eq!(assigner.assign(42, &[host(gone, 1)]), to(3, Reason::OnlyOne));
    assigner.report(3, Occupancy::default());
    assert_eq!(assigner.assign(42, &[]), Assignment { server: None, reason: Reason::NobodyLeft });
    assert_eq!(assigner.assign_together(&[]).reason, Reason::NobodyLeft);
}

#[test]
fn full_servers_share_what_comes_anyway() {
    let mut assigner = assigner(&[4_000; 3], 100);
    for (server, connections) in [(0, 100), (1, 103), (2, 101)] {
        occupy(&mut assigner, server, connections);
    }
    assert_eq!(assigner.assign(42, &[host(1, 9)]), to(0, Reason::LeastFull));
    assert_eq!(assigner.occupancy(0).unwrap().connections, 101);
}

#[test]
fn several_channels_go_where_most_of_them_are() {
    let mut assigner = assigner(&[4_000; 5], 1_000);
    let first = order(&assigner, 1);
    assert_eq!(assigner.assign_together(&[(1, &[]), (2, &[])]), to(first[0], Reason::RingOwner));
    let channels: [(u64, &[Host]); 3] =
        [(1, &[host(4, 90)]), (2, &[host(3, 1)]), (3, &[host(3, 1), host(1, 2)])];
    assert_eq!(assigner.assign_together(&channels), to(3, Reason::Host));
    occupy(&mut assigner, 3, 1_000);
    assert_eq!(assigner.assign_together(&channels), to(4, Reason::Host));
}

#[test]
fn another_ring_keeps_what_is_known() {
    let mut assigner = assigner(&[4_000; 3], 1_000);
    occupy(&mut assigner, 2, 77);
    let nodes =
        ["m", "n02", "n01"].map(|name| RingNode { name: NodeName::new(name).unwrap(), weight: Weight::FULL });
    let ring = Ring::new(2, 1, Epsilon::default(), NonZeroU64::MIN, nodes.to_vec()).unwrap();
    assigner.follow(Arc::new(Table::new(ring)));
    let known = |server: usize| assigner.occupancy(server).map(|now| (now.up, now.connections));
    assert_eq!([0, 1, 2, 3].map(known), [Some((false, 0)), Some((true, 0)), Some((true, 77)), None]);
}

/// The clients of each of `channels` channels by Zipf's law, the largest first.
#[expect(clippy::cast_possible_truncation, reason = "no more than there are clients")]
fn zipf(channels: u32, clients: f64, exponent: f64) -> Vec<u64> {
    let weight = |rank: u32| f64::from(rank).powf(-exponent);
    let all: f64 = (1..=channels).map(weight).sum();
    (1..=channels).map(|rank| (weight(rank) / all * clients).round() as u64).collect()
}

#[test]
fn the_busiest_is_near_the_mean_however_skewed_channels_are() {
    for (exponent, seed) in [(0.8, 1_u64), (1.0, 2), (1.2, 3), (1.5, 4)] {
        let sizes = zipf(20_000, 200_000.0, exponent);
        let mut assigner = assigner(&[4_000; 10], 40_000);
        // Clients come in an order that mixes channels.
        let mut coming: Vec<usize> = sizes
            .iter()
            .enumerate()
            .flat_map(|(channel, clients)| (0..*clients).map(move |_| channel))
            .collect();
        coming.sort_by_cached_key(|channel| *channel);
        let mut order: Vec<(u64, usize)> = coming
            .iter()
            .zip(0_u64..)
            .map(|(channel, number)| (mixed(seed << 32 | number), *channel))
            .collect();
        order.sort_unstable();
        let mut hosts: BTreeMap<usize, Vec<Host>> = BTreeMap::new();
        for (_, channel) in order {
            let hosts = hosts.entry(channel).or_default();
            let server = assigner.assign(mixed(channel as u64), hosts).server.unwrap();
            match hosts.iter_mut().find(|host| host.server == server) {
                Some(host) => host.clients += 1,
                None => hosts.push(host(server, 1)),
            }
        }
        let loads: Vec<u64> = (0..10).map(|server| assigner.occupancy(server).unwrap().connections).collect();
        let (busiest, mean) = (*loads.iter().max().unwrap() as f64, loads.iter().sum::<u64>() as f64 / 10.0);
        assert!(busiest <= 1.25 * mean, "s = {exponent}: {loads:?}");
        // Most channels are whole all the same.
        let split = hosts.iter().filter(|(_, hosts)| hosts.len() > 1).count();
        assert!(split * 5 <= hosts.len(), "s = {exponent}: {split} of {} channels are split", hosts.len());
    }
}

fn mixed(number: u64) -> u64 {
    crate::placement::point(0x5eed, 0)
        ^ crate::placement::point(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1)
}

proptest! {
    #[test]
    fn nobody_is_given_more_than_the_bound(
        weights in proptest::collection::vec(0..=4_000_u64, 1..8),
        loads in proptest::collection::vec((any::<bool>(), prop_oneof![0..2_000_u64, any::<u64>()], prop_oneof![0..2_000_u64, any::<u64>()]), 8),
        clients in proptest::collection::vec((any::<u64>(), proptest::collection::vec((0..10_usize, any::<u64>()), 0..4)), 1..20),
    ) {
        let mut assigner = assigner(&weights, 0);
        for (server, (up, connections, capacity)) in loads.into_iter().enumerate() {
            // One below the top, so that the clients to come can be counted.
            let connections = connections.min(u64::MAX - 1_000);
            assigner.report(server, Occupancy { up, connections, capacity });
        }
        for (channel, hosts) in clients {
            let hosts: Vec<Host> = hosts.into_iter().map(|(server, clients)| host(server, clients)).collect();
            let before = assigner.clone();
            let assignment = assigner.assign(channel, &hosts);
            prop_assert_eq!(assignment, before.clone().assign(channel, &hosts));
            let Some(server) = assignment.server else {
                prop_assert_eq!(assignment.reason, Reason::NobodyLeft);
                prop_assert!((0..weights.len()).all(|server| !before.is_eligible(server)));
                continue;
            };
            prop_assert!(before.is_eligible(server));
            let bounded = !matches!(assignment.reason, Reason::OnlyOne | Reason::LeastFull);
            prop_assert!(!bounded || before.has_room(server));
            prop_assert_eq!(
                assignment.reason == Reason::Host,
                bounded && hosts.iter().any(|host| before.is_eligible(host.server) && before.has_room(host.server))
            );
        }
    }
}
