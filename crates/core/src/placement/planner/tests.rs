use proptest::prelude::*;

use super::*;
use crate::placement::Table;

const SECOND: u64 = 1_000;

fn load(name: &str, connections: u64, capacity: u64) -> NodeLoad {
    NodeLoad {
        name: NodeName::new(name).unwrap(),
        standing: Standing::Serving,
        connections,
        capacity: NonZeroU64::new(capacity).unwrap(),
        lag_ms: 0,
    }
}

fn planner() -> Planner {
    Planner::new(7, Epsilon::default())
}

fn points(ring: &Ring) -> Vec<u16> {
    ring.nodes().iter().map(|node| node.weight.points()).collect()
}

/// Plans every second with the same loads; the last ring, and how many there were.
fn settle(
    planner: &mut Planner,
    mut ring: Ring,
    loads: &[NodeLoad],
    from_ms: u64,
    seconds: u64,
) -> (Ring, usize) {
    let mut rings = 0;
    for second in 0..seconds {
        if let Some(next) = planner.plan(&ring, loads, from_ms + second * SECOND) {
            assert_eq!(next.generation(), ring.generation() + 1);
            ring = next;
            rings += 1;
        }
    }
    (ring, rings)
}

#[test]
fn who_comes_drains_or_leaves_is_told_at_once_and_nothing_else() {
    let mut planner = planner();
    let mut loads = vec![load("a", 10, 1_000), load("b", 10, 1_000)];
    let first = planner.plan(&Ring::nobody(), &loads, 0).unwrap();
    assert_eq!(
        (first.generation(), first.term(), first.scale().get(), points(&first)),
        (1, 7, 1_000, vec![4_000; 2])
    );
    assert_eq!(planner.plan(&first, &loads, SECOND), None);

    loads.push(load("c", 0, 500));
    let joined = planner.plan(&first, &loads, 2 * SECOND).unwrap();
    assert_eq!(points(&joined), [4_000, 4_000, 2_000]);

    loads[0].standing = Standing::Draining;
    let drains = planner.plan(&joined, &loads, 3 * SECOND).unwrap();
    assert_eq!(points(&drains), [0, 4_000, 2_000]);
    assert_eq!(planner.plan(&drains, &loads, 4 * SECOND), None);

    let left = planner.plan(&drains, &loads[1..], 5 * SECOND).unwrap();
    assert_eq!(points(&left), [4_000, 2_000]);
    loads[0].standing = Standing::Serving;
    let back = planner.plan(&left, &loads, 6 * SECOND).unwrap();
    assert_eq!((points(&back), back.generation()), (vec![4_000, 4_000, 2_000], 5));
}

#[test]
fn an_empty_view_changes_nothing() {
    let mut planner = planner();
    let ring = planner.plan(&Ring::nobody(), &[load("a", 0, 10)], 0).unwrap();
    assert_eq!(planner.plan(&ring, &[], SECOND), None);
}

#[test]
fn a_server_and_its_successor_are_one() {
    let mut planner = planner();
    let mut old = load("a", 5, 100);
    old.standing = Standing::Draining;
    let loads = [old, load("a", 0, 100), load("b", 0, 100)];
    let ring = planner.plan(&Ring::nobody(), &loads, 0).unwrap();
    assert_eq!(points(&ring), [4_000, 4_000]);
}

#[test]
fn load_that_is_the_same_everywhere_moves_nothing() {
    for connections in [0, 300, 900, 1_000, 5_000] {
        let loads: Vec<NodeLoad> = ["a", "b", "c"].map(|name| load(name, connections, 1_000)).to_vec();
        let (ring, rings) = settle(&mut planner(), Ring::nobody(), &loads, 0, 300);
        assert_eq!((points(&ring), rings), (vec![4_000; 3], 1), "{connections}");
    }
}

#[test]
fn a_full_server_keeps_a_sane_share() {
    let loads = [load("a", 1_000, 1_000), load("b", 100, 1_000), load("c", 100, 1_000)];
    let (ring, rings) = settle(&mut planner(), Ring::nobody(), &loads, 0, 600);
    assert!((400..=600).contains(&points(&ring)[0]), "{:?}", points(&ring));
    assert_eq!(points(&ring)[1..], [4_000, 4_000]);
    // Step by step.
    assert!((9..=11).contains(&(rings - 1)), "{rings}");
}

#[test]
fn a_lag_spike_is_forgiven_and_a_lag_that_stays_is_not() {
    let mut planner = planner();
    let calm: Vec<NodeLoad> = ["a", "b", "c", "d"].map(|name| load(name, 400, 1_000)).to_vec();
    let mut ring = planner.plan(&Ring::nobody(), &calm, 0).unwrap();
    for second in 1..600 {
        let mut loads = calm.clone();
        if second % 60 == 0 {
            loads[(second / 60) as usize % 4].lag_ms = 400;
        }
        assert_eq!(planner.plan(&ring, &loads, second * SECOND), None, "second {second}");
    }
    let mut slow = calm.clone();
    slow[1].lag_ms = 80;
    let (slowed, _) = settle(&mut planner, ring, &slow, 600 * SECOND, 300);
    ring = slowed;
    let weights = points(&ring);
    assert!((2_000..2_600).contains(&weights[1]), "{weights:?}");
    assert_eq!([weights[0], weights[2], weights[3]], [4_000; 3]);
    let (healed, _) = settle(&mut planner, ring, &calm, 900 * SECOND, 300);
    // Near enough: the dead band.
    assert!(points(&healed)[1] >= 3_200, "{:?}", points(&healed));
}

#[test]
fn a_silent_server_keeps_its_weight() {
    let mut planner = planner();
    let mut loads = [load("a", 900, 1_000), load("b", 300, 1_000)];
    let (ring, _) = settle(&mut planner, Ring::nobody(), &loads, 0, 40);
    let before = points(&ring)[0];
    assert!(before < 4_000);
    loads[0].standing = Standing::Silent;
    let (after, _) = settle(&mut planner, ring, &loads, 40 * SECOND, 200);
    assert_eq!(points(&after)[0], before);
}

#[test]
fn weights_mean_the_same_when_servers_of_another_size_come_and_go() {
    let mut planner = planner();
    let small = load("a", 0, 600);
    let ring = planner.plan(&Ring::nobody(), &[small.clone(), load("b", 0, 1_000)], 0).unwrap();
    assert_eq!(points(&ring), [2_400, 4_000]);
    // The largest one goes: nothing moves among the others.
    let ring = planner.plan(&ring, std::slice::from_ref(&small), SECOND).unwrap();
    assert_eq!((points(&ring), ring.scale().get()), (vec![2_400], 1_000));
    // Twice as large: everybody is measured anew.
    let ring = planner.plan(&ring, &[small.clone(), load("c", 0, 2_400)], 2 * SECOND).unwrap();
    assert_eq!((points(&ring), ring.scale().get()), (vec![1_000, 4_000], 2_400));
    let ring = planner.plan(&ring, &[small], 3 * SECOND).unwrap();
    assert_eq!((points(&ring), ring.scale().get()), (vec![4_000], 600));
}

#[test]
fn a_thousand_and_one_are_too_many() {
    let mut planner = planner();
    let mut loads: Vec<NodeLoad> = (0..1_000).map(|number| load(&format!("n{number:04}"), 0, 10)).collect();
    let ring = planner.plan(&Ring::nobody(), &loads, 0).unwrap();
    loads.insert(0, load("a", 0, 10));
    assert_eq!(planner.plan(&ring, &loads, SECOND), None);
}

/// A cluster whose clients come and go: each second a part of them leaves, and as many come, each to the owner of a channel that is drawn by its size. The
/// largest channel stays where it is, as active channels do.
struct World {
    largest_at: Option<usize>,
    random: u64,
    table: Table,
    /// Which channel each client is in, and where.
    clients: Vec<(usize, usize)>,
    /// Where each channel's part of all clients ends, of 1.
    sizes: Vec<f64>,
    capacities: Vec<u64>,
    churn: f64,
}

impl World {
    fn new(seed: u64, capacities: &[u64], clients: usize, hot: f64, churn: f64) -> Self {
        let mut loads: Vec<NodeLoad> = Vec::new();
        for (number, capacity) in capacities.iter().enumerate() {
            loads.push(load(&format!("n{number}"), 0, *capacity));
        }
        let ring = planner().plan(&Ring::nobody(), &loads, 0).unwrap();
        let channels = 5_000_usize;
        let sizes = (0..channels).map(|channel| hot + (1.0 - hot) * (channel as f64 / (channels - 1) as f64));
        let mut world = Self {
            largest_at: None,
            random: seed,
            table: Table::new(ring),
            clients: Vec::new(),
            sizes: sizes.collect(),
            capacities: capacities.to_vec(),
            churn,
        };
        for _ in 0..clients {
            let client = world.arrive();
            world.clients.push(client);
        }
        world
    }

    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(1);
        (crate::placement::point(self.random.wrapping_mul(0x9e37_79b9_7f4a_7c15), 5) >> 11) as f64
            / (1_u64 << 53) as f64
    }

    #[expect(clippy::cast_possible_truncation, reason = "below `count`")]
    fn one_of(&mut self, count: usize) -> usize {
        (self.chance() * count as f64) as usize
    }

    fn arrive(&mut self) -> (usize, usize) {
        let drawn = self.chance();
        let channel = self.sizes.partition_point(|end| *end < drawn);
        let owner = self.table.owner(crate::placement::point(channel as u64 * 977, 3)).unwrap();
        (channel, if channel == 0 { *self.largest_at.get_or_insert(owner) } else { owner })
    }

    fn second(&mut self) {
        let mut leaving = self.clients.len() as f64 * self.churn;
        while leaving >= 1.0 {
            let at = self.one_of(self.clients.len());
            self.clients[at] = self.arrive();
            leaving -= 1.0;
        }
    }

    fn loads(&self) -> Vec<NodeLoad> {
        let mut connections = vec![0; self.capacities.len()];
        for (_, server) in &self.clients {
            connections[*server] += 1;
        }
        let server =
            |number: usize| load(&format!("n{number}"), connections[number], self.capacities[number]);
        (0..self.capacities.len()).map(server).collect()
    }

    fn fullest(&self) -> f64 {
        self.loads().iter().map(pressure).fold(0.0, f64::max)
    }
}

/// Runs the loop for so many seconds. Tells when rings were made, and how often a weight turned around.
fn closed_loop(world: &mut World, planner: &mut Planner, seconds: u64) -> (Vec<u64>, usize) {
    let (mut rings, mut turns) = (Vec::new(), 0);
    let mut heading = vec![0_i32; world.capacities.len()];
    for second in 0..seconds {
        world.second();
        let Some(ring) = planner.plan(world.table.ring(), &world.loads(), second * SECOND) else { continue };
        for (at, (new, old)) in points(&ring).into_iter().zip(points(world.table.ring())).enumerate() {
            let now = (i32::from(new) - i32::from(old)).signum();
            turns += usize::from(now * heading[at] < 0);
            heading[at] = if now == 0 { heading[at] } else { now };
        }
        world.table = world.table.changed(ring);
        rings.push(second);
    }
    (rings, turns)
}

#[test]
fn a_closed_loop_settles_under_skew() {
    // One channel has a tenth of all clients: as many as a server is to carry altogether. From clients who stay for five minutes to those who never stay.
    for (seed, churn, seconds) in [(1, 0.003, 2_400), (2, 0.02, 1_200), (3, 0.5, 900)] {
        let mut world = World::new(seed, &[4_000; 10], 20_000, 0.1, churn);
        let before = world.fullest();
        let (rings, turns) = closed_loop(&mut world, &mut planner(), seconds);
        let (weights, after) = (points(world.table.ring()), world.fullest());
        assert!(
            before >= 0.9 && after <= 0.88 * before,
            "churn {churn}: {before:.2} to {after:.2}, {weights:?}"
        );
        assert!(turns <= 4, "churn {churn}: {turns} turns, {rings:?}");
        let late = rings.iter().filter(|second| **second >= seconds / 2).count();
        assert!(late <= 2, "churn {churn}: still moving, {rings:?}");
        // The crowded server has given; the others are whole, or nearly.
        let mut sorted = weights.clone();
        sorted.sort_unstable();
        assert!(sorted[0] < 3_000 && sorted[1] >= 3_000, "churn {churn}: {weights:?}");
    }
}

#[test]
fn servers_of_different_size_fill_alike() {
    let mut world = World::new(4, &[2_000, 1_000, 1_000, 500, 500, 500], 3_300, 0.0, 0.02);
    let (rings, _) = closed_loop(&mut world, &mut planner(), 900);
    let pressures: Vec<f64> = world.loads().iter().map(pressure).collect();
    assert!(pressures.iter().all(|pressure| (pressure - 0.6).abs() < 0.1), "{pressures:?}");
    assert!(rings.len() <= 3, "{rings:?}");
}

proptest! {
    #[test]
    fn whatever_servers_say_the_ring_is_a_good_one(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0..12_u8, 0..3_u8, any::<u64>(), 1..u64::MAX, any::<u32>()), 0..12), any::<u64>()),
            1..20,
        ),
    ) {
        let (mut first, mut second) = (planner(), planner());
        let mut ring = Ring::nobody();
        for (servers, now_ms) in steps {
            let server = |(name, standing, connections, capacity, lag_ms): &(u8, u8, u64, u64, u32)| NodeLoad {
                standing: [Standing::Serving, Standing::Silent, Standing::Draining][usize::from(*standing)],
                lag_ms: *lag_ms,
                ..load(&format!("n{name}"), *connections, *capacity)
            };
            let loads: Vec<NodeLoad> = servers.iter().map(server).collect();
            let backwards: Vec<NodeLoad> = loads.iter().rev().cloned().collect();
            let next = first.plan(&ring, &loads, now_ms);
            prop_assert_eq!(&next, &second.plan(&ring, &backwards, now_ms));
            if let Some(next) = next {
                prop_assert_eq!(&Ring::decode(&next.encode()), &Ok(next.clone()));
                ring = next;
            }
            if !loads.is_empty() {
                for node in ring.nodes() {
                    let draining = loads.iter().filter(|load| load.name == node.name).all(|load| load.standing == Standing::Draining);
                    prop_assert_eq!(node.weight == Weight::NONE, draining, "{:?}", node);
                }
            }
        }
    }
}

#[test]
fn an_operator_has_weights_at_once_where_load_wants_them() {
    let mut planner = planner();
    let loads = [load("a", 900, 1_000), load("b", 100, 1_000)];
    let first = planner.plan(&Ring::nobody(), &loads, 0).unwrap();
    assert_eq!(planner.plan(&first, &loads, SECOND), None, "by itself it takes its time");
    let settled = planner.settle(&first, &loads, SECOND).unwrap();
    assert_eq!(settled.generation(), first.generation() + 1);
    // Half is full in the mean, and one is 0.4 above that.
    assert_eq!(points(&settled), [1_600, 4_000]);
    assert_eq!(planner.settle(&settled, &loads, 2 * SECOND), None);
    assert_eq!(planner.plan(&settled, &loads, 60 * SECOND), None, "and it stays");
}
