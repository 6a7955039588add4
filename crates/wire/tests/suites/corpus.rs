//! The fuzz targets of `fuzz/`, on stable: each file of their corpora, and some thousand mutations of them, the same in every run.

use std::fs;
use std::path::Path;

#[path = "../../../../fuzz/targets/engine.rs"]
mod engine;
#[path = "../../../../fuzz/targets/json.rs"]
mod json;
#[path = "../../../../fuzz/targets/msgpack.rs"]
mod msgpack;
#[path = "../../../../fuzz/targets/query.rs"]
mod query;
#[path = "../../../../fuzz/targets/socket.rs"]
mod socket;
#[path = "../../../../fuzz/targets/ws.rs"]
mod ws;

/// Mutations of one target's corpus.
const MUTATIONS: usize = 4000;

/// Bytes at which parsers turn.
const EDGES: &[u8] = b"\x00\x01\x7f\x80\xc0\xfe\xff\x1e\"\\,-.:[]{}%&=+/_09beE";

#[test]
fn engine() {
    replay("engine", engine::run);
}

#[test]
fn json() {
    replay("json", json::run);
}

#[test]
fn msgpack() {
    replay("msgpack", msgpack::run);
}

#[test]
fn query() {
    replay("query", query::run);
}

#[test]
fn socket() {
    replay("socket", socket::run);
}

#[test]
fn ws() {
    replay("ws", ws::run);
}

fn replay(target: &str, run: fn(&[u8])) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty());
    for (name, data) in &seeds {
        attempt(run, data, name);
    }
    let mut random = SplitMix(0);
    for number in 0..MUTATIONS {
        let (name, seed) = &seeds[number % seeds.len()];
        let (_, other) = &seeds[random.below(seeds.len())];
        let mut data = seed.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut data, other, &mut random);
        }
        attempt(run, &data, name);
    }
}

/// The files in order of their names: the file system's order is not the same everywhere.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("a folder entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    files
}

/// Runs the target, and shows the input when it fails: to be added to the corpus.
fn attempt(run: fn(&[u8]), data: &[u8], name: &str) {
    struct Report<'a>(&'a [u8], &'a str);
    impl Drop for Report<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed on {} or a mutation of it: b\"{}\"", self.1, self.0.escape_ascii());
            }
        }
    }
    let _report = Report(data, name);
    run(data);
}

fn mutate(data: &mut Vec<u8>, other: &[u8], random: &mut SplitMix) {
    let at = random.below(data.len() + 1);
    let end = (at + random.below(9)).min(data.len());
    match random.below(7) {
        0 => data.truncate(at),
        1 => drop(data.drain(at..end)),
        2 => data.extend_from_within(at..end),
        3 => data.insert(at, EDGES[random.below(EDGES.len())]),
        4 => drop(data.splice(at.., other[other.len().min(at)..].iter().copied())),
        5 if at < data.len() => data[at] = EDGES[random.below(EDGES.len())],
        6 if at < data.len() => data[at] ^= 1 << random.below(8),
        _ => {}
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators".
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }
}
