//! Measures the ring: `cargo run --release -p xpush-core --example ring_lookup`
//!
//! Look-ups go to places that are as good as random, one after the other, so caches help as little as in a server. `depends` waits for each answer before
//! the next question, which is the latency; `independent` lets the processor overlap them.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

use std::hint::black_box;
use std::num::NonZeroU64;
use std::time::Instant;

use xpush_core::NodeName;
use xpush_core::placement::{Epsilon, Ring, RingNode, Table, Weight, point};

const LOOKUPS: u32 = 5_000_000;
const ROUNDS: usize = 7;

fn main() {
    println!("servers  points     new        one weight changed  look-up, depends  look-up, independent");
    for servers in [3, 10, 100, 1_000] {
        let ring = ring(servers, Weight::FULL);
        let lighter = ring_but_one(servers);
        let table = Table::new(ring.clone());
        let new = least(|| drop(black_box(Table::new(ring.clone()))));
        let changed = least(|| drop(black_box(table.changed(lighter.clone()))));
        let depends = least(|| {
            let mut hash = 1;
            for number in 0..LOOKUPS {
                let owner = table.owner(hash).unwrap();
                hash = point(u64::from(number), 0) ^ owner as u64;
            }
            black_box(hash);
        });
        let independent = least(|| {
            let owners = (0..LOOKUPS).map(|number| table.owner(point(u64::from(number), 0)).unwrap());
            black_box(owners.sum::<usize>());
        });
        let each = |seconds: f64| seconds * 1e9 / f64::from(LOOKUPS);
        println!(
            "{servers:>7}  {:>9}  {:>6.2} ms  {:>15.2} ms  {:>13.1} ns  {:>17.1} ns",
            servers * usize::from(Weight::FULL.points()),
            new * 1e3,
            changed * 1e3,
            each(depends),
            each(independent),
        );
    }
}

fn ring(servers: usize, first: Weight) -> Ring {
    let node = |number: usize| RingNode {
        name: NodeName::new(&format!("server-{number}")).unwrap(),
        weight: if number == 0 { first } else { Weight::FULL },
    };
    Ring::new(1, 1, Epsilon::default(), NonZeroU64::MIN, (0..servers).map(node).collect()).unwrap()
}

fn ring_but_one(servers: usize) -> Ring {
    ring(servers, Weight::new(3_000).unwrap())
}

/// The shortest of some rounds, in seconds: what else the machine does only adds to it.
fn least(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
