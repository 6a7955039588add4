//! The record by which all nodes agree where channels belong: written by the elected planner, read by everybody.
//!
//! It is text, so that an operator can read it where it is kept, and each ring has one spelling:
//!
//! ```text
//! xpush-ring 1
//! generation 12
//! term 3
//! epsilon 200
//! scale 20000
//! node channel-1 4000
//! node channel-2 1250
//! ```
//!
//! A number is decimal without leading zeros; nodes ascend by name; each line ends with a line feed. Whoever finds a version that it does not know keeps the
//! ring that it has: a planner writes the newest version that all members know.

use std::fmt::{self, Write as _};
use std::num::NonZeroU64;

use bytes::Bytes;

use crate::names::NodeName;

/// The version that is written.
const VERSION: u64 = 1;

const TITLE: &str = "xpush-ring";

/// How many points of its fixed sequence a server has on the ring: `0..=4000`. With 0 it gets nothing new: it drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// A server that drains.
    pub const NONE: Self = Self(0);
    /// A whole server.
    pub const FULL: Self = Self(4_000);

    /// So many points, if a server may have so many.
    pub fn new(points: u64) -> Result<Self, BadRing> {
        match u16::try_from(points) {
            Ok(points) if points <= Self::FULL.0 => Ok(Self(points)),
            _ => Err(BadRing::Weight),
        }
    }

    /// A share of a whole server, `0.0..=1.0`, to the nearest point. Every other number is refused, NaN and infinity too. What is more than nothing has a
    /// point at least: rounding drains nobody.
    pub fn of_share(share: f64) -> Result<Self, BadRing> {
        if !(0.0..=1.0).contains(&share) {
            return Err(BadRing::Weight);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0..=4000.0")]
        let points = (share * f64::from(Self::FULL.0)).round() as u16;
        Ok(Self(if share > 0.0 { points.max(1) } else { 0 }))
    }

    /// How many points count.
    pub const fn points(self) -> u16 {
        self.0
    }

    /// As a share of a whole server, `0.0..=1.0`.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }
}

/// How far above its fair share a server may be before new channels and clients go elsewhere, in thousandths: `1..=10000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epsilon(u16);

impl Epsilon {
    /// So many thousandths.
    pub fn new(thousandths: u64) -> Result<Self, BadRing> {
        match u16::try_from(thousandths) {
            Ok(thousandths) if (1..=10_000).contains(&thousandths) => Ok(Self(thousandths)),
            _ => Err(BadRing::Epsilon),
        }
    }

    /// In thousandths.
    pub const fn thousandths(self) -> u16 {
        self.0
    }
}

impl Default for Epsilon {
    /// A fifth above the fair share.
    fn default() -> Self {
        Self(200)
    }
}

/// A server on the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingNode {
    /// Its stable name; its points come from it.
    pub name: NodeName,
    /// How many of them count.
    pub weight: Weight,
}

/// Where channels belong, until a record of a higher generation says otherwise. Whatever is in here has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    generation: u64,
    term: u64,
    epsilon: Epsilon,
    scale: NonZeroU64,
    nodes: Vec<RingNode>,
}

/// Why something is no ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadRing {
    /// More than [`Ring::MAX_BYTES`].
    TooLong,
    /// It does not begin as a ring does.
    NotARing,
    /// Written by a later release, in this version.
    Version(u64),
    /// This line, counted from 1, is not as it has to be.
    Line(usize),
    /// A weight outside `0..=4000` points.
    Weight,
    /// An ε outside `1..=10000` thousandths.
    Epsilon,
    /// Two servers have this name.
    Twice(NodeName),
    /// More than [`Ring::MAX_NODES`].
    TooManyNodes,
}

// === impl Ring ===

impl Ring {
    /// The most servers of a ring.
    pub const MAX_NODES: usize = 1_000;
    /// The most bytes of a record.
    pub const MAX_BYTES: usize = 1 << 20;

    /// The ring before the first one: generation 0, and nobody is on it.
    pub fn nobody() -> Self {
        let (epsilon, scale) = (Epsilon::default(), NonZeroU64::MIN);
        Self { generation: 0, term: 0, epsilon, scale, nodes: Vec::new() }
    }

    /// The ring of a planner's `term`; of two rings the one of the higher generation counts. The nodes may come in any order.
    pub fn new(
        generation: u64,
        term: u64,
        epsilon: Epsilon,
        scale: NonZeroU64,
        mut nodes: Vec<RingNode>,
    ) -> Result<Self, BadRing> {
        if nodes.len() > Self::MAX_NODES {
            return Err(BadRing::TooManyNodes);
        }
        nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match nodes.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(BadRing::Twice(pair[0].name.clone())),
            None => Ok(Self { generation, term, epsilon, scale, nodes }),
        }
    }

    /// Counts up with every ring that is published; the first one has 1.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Which planner wrote it: counts up with every election, and fences those before.
    pub const fn term(&self) -> u64 {
        self.term
    }

    /// How far above its fair share a server may be.
    pub const fn epsilon(&self) -> Epsilon {
        self.epsilon
    }

    /// How many connections a server of full weight is made for. Only planners need it: weights of servers that differ stay comparable when one of them goes.
    pub const fn scale(&self) -> NonZeroU64 {
        self.scale
    }

    /// The servers, ascending by name, each once; also those of weight 0.
    pub fn nodes(&self) -> &[RingNode] {
        &self.nodes
    }

    /// A server's weight, when it is on the ring.
    pub fn weight(&self, name: &NodeName) -> Option<Weight> {
        let at = self.nodes.binary_search_by(|node| node.name.cmp(name)).ok()?;
        Some(self.nodes[at].weight)
    }

    /// The record. Equal rings have equal bytes.
    pub fn encode(&self) -> Bytes {
        let Self { generation, term, epsilon, scale, nodes } = self;
        let mut text = format!(
            "{TITLE} {VERSION}\ngeneration {generation}\nterm {term}\nepsilon {}\nscale {scale}\n",
            epsilon.thousandths()
        );
        for RingNode { name, weight } in nodes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "node {name} {}", weight.points());
        }
        Bytes::from(text)
    }

    /// Reads a record from anywhere: what comes out is a good ring, and [`encode`](Self::encode) makes the same bytes of it.
    pub fn decode(record: &[u8]) -> Result<Self, BadRing> {
        if record.len() > Self::MAX_BYTES {
            return Err(BadRing::TooLong);
        }
        let mut lines = Lines { rest: record, number: 0 };
        match lines.next().and_then(|line| line.strip_prefix(TITLE)?.strip_prefix(' ')).map(number) {
            Some(Some(version)) if version == VERSION => {}
            Some(Some(version)) if version > VERSION => return Err(BadRing::Version(version)),
            _ => return Err(BadRing::NotARing),
        }
        let generation = lines.field("generation")?;
        let term = lines.field("term")?;
        let epsilon = Epsilon::new(lines.field("epsilon")?)?;
        let scale = NonZeroU64::new(lines.field("scale")?).ok_or(BadRing::Line(lines.number))?;
        let mut nodes: Vec<RingNode> = Vec::new();
        while !lines.rest.is_empty() {
            let bad = BadRing::Line(lines.number + 1);
            let line = lines.next().and_then(|line| line.strip_prefix("node ")?.split_once(' '));
            let (name, weight) = line.ok_or(bad.clone())?;
            let name = NodeName::new(name).map_err(|_| bad.clone())?;
            let weight = Weight::new(number(weight).ok_or(bad.clone())?)?;
            match nodes.last().map(|last| last.name.cmp(&name)) {
                Some(std::cmp::Ordering::Equal) => return Err(BadRing::Twice(name)),
                Some(std::cmp::Ordering::Greater) => return Err(bad),
                _ if nodes.len() == Self::MAX_NODES => return Err(BadRing::TooManyNodes),
                _ => nodes.push(RingNode { name, weight }),
            }
        }
        Ok(Self { generation, term, epsilon, scale, nodes })
    }
}

// === impl BadRing ===

impl fmt::Display for BadRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a ring has at most {} bytes", Ring::MAX_BYTES),
            Self::NotARing => f.write_str("not a ring"),
            Self::Version(version) => {
                write!(f, "version {version} of a ring; this release knows {VERSION}: upgrade it")
            }
            Self::Line(line) => write!(f, "line {line} of the ring is wrong"),
            Self::Weight => write!(f, "a weight is from 0 to {} points", Weight::FULL.points()),
            Self::Epsilon => f.write_str("ε is from 1 to 10000 thousandths"),
            Self::Twice(name) => write!(f, "two servers have the name {name}"),
            Self::TooManyNodes => write!(f, "a ring has at most {} servers", Ring::MAX_NODES),
        }
    }
}

impl std::error::Error for BadRing {}

/// Lines that end with a line feed, all of them.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line that was taken last, from 1.
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&self.rest[..end]).ok()?;
        self.rest = &self.rest[end + 1..];
        self.number += 1;
        Some(line)
    }

    /// The next line, which is `name` and a number.
    fn field(&mut self, name: &str) -> Result<u64, BadRing> {
        let bad = BadRing::Line(self.number + 1);
        self.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' ')).and_then(number).ok_or(bad)
    }
}

/// The one spelling of a number.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str =
        "xpush-ring 1\ngeneration 12\nterm 3\nepsilon 200\nscale 20000\nnode a 4000\nnode b 0\n";

    fn decode(text: &str) -> Result<Ring, BadRing> {
        Ring::decode(text.as_bytes())
    }

    fn rings() -> impl Strategy<Value = Ring> {
        let name = "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}";
        let nodes = proptest::collection::btree_map(name, 0..=4_000_u64, 0..40);
        (any::<u64>(), any::<u64>(), 1..=10_000_u64, 1..u64::MAX, nodes).prop_map(
            |(generation, term, epsilon, scale, nodes)| {
                let node = |(name, weight): (String, u64)| RingNode {
                    name: NodeName::new(&name).unwrap(),
                    weight: Weight::new(weight).unwrap(),
                };
                // Backwards: the order in which they come does not count.
                let nodes = nodes.into_iter().rev().map(node).collect();
                let scale = NonZeroU64::new(scale).unwrap();
                Ring::new(generation, term, Epsilon::new(epsilon).unwrap(), scale, nodes).unwrap()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ring in rings()) {
            let record = ring.encode();
            let read = Ring::decode(&record).unwrap();
            prop_assert_eq!(&read, &ring);
            prop_assert_eq!(read.encode(), record);
        }

        #[test]
        fn a_ring_has_one_spelling(ring in rings(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut record = ring.encode().to_vec();
            let at = at.index(record.len());
            record[at] = byte;
            if let Ok(read) = Ring::decode(&record) {
                prop_assert_eq!(&read.encode()[..], &record[..]);
            }
            // What was cut off in the middle of a line is no ring.
            prop_assert!(Ring::decode(&record[..at]).is_err() || record[at - 1] == b'\n');
        }

        #[test]
        fn garbage_is_no_ring(record in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Ring::decode(&record), Err(BadRing::NotARing));
        }

        #[test]
        fn a_share_is_a_weight_or_refused(share in any::<f64>()) {
            match Weight::of_share(share) {
                Ok(weight) => prop_assert!((weight.share() - share).abs() <= 1.0 / 4_000.0),
                Err(why) => prop_assert!(why == BadRing::Weight && !(0.0..=1.0).contains(&share)),
            }
        }
    }

    #[test]
    fn the_record_is_text_that_people_can_read() {
        let ring = decode(SAMPLE).unwrap();
        assert_eq!(ring.encode(), SAMPLE);
        assert_eq!(
            (ring.generation(), ring.term(), ring.epsilon().thousandths(), ring.scale().get()),
            (12, 3, 200, 20_000)
        );
        assert_eq!(ring.weight(&NodeName::new("a").unwrap()), Some(Weight::FULL));
        assert_eq!(ring.weight(&NodeName::new("b").unwrap()), Some(Weight::NONE));
        assert_eq!(ring.weight(&NodeName::new("c").unwrap()), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let head = "xpush-ring 1\ngeneration 12\nterm 3\nepsilon 200\nscale 1\n";
        let with = |nodes: &str| decode(&format!("{head}{nodes}"));
        for (nodes, why) in [
            ("node a 4001\n", BadRing::Weight),
            ("node a 18446744073709551615\n", BadRing::Weight),
            ("node a 18446744073709551616\n", BadRing::Line(6)),
            ("node a -1\n", BadRing::Line(6)),
            ("node a NaN\n", BadRing::Line(6)),
            ("node a 1e308\n", BadRing::Line(6)),
            ("node a 01\n", BadRing::Line(6)),
            ("node a +1\n", BadRing::Line(6)),
            ("node a\n", BadRing::Line(6)),
            ("node a 1", BadRing::Line(6)),
            ("node a 1\r\n", BadRing::Line(6)),
            ("node a 1\n\n", BadRing::Line(7)),
            ("node .a 1\n", BadRing::Line(6)),
            ("node .. 1\n", BadRing::Line(6)),
            ("node a/b 1\n", BadRing::Line(6)),
            ("node b 1\nnode a 1\n", BadRing::Line(7)),
            ("node a 1\nnode a 1\n", BadRing::Twice(NodeName::new("a").unwrap())),
            ("colour blue\n", BadRing::Line(6)),
        ] {
            assert_eq!(with(nodes), Err(why), "{nodes:?}");
        }
        for (text, why) in [
            ("", BadRing::NotARing),
            ("xpush-ring 0\n", BadRing::NotARing),
            ("xpush-ring 1", BadRing::NotARing),
            ("xpush-ring 2\nwhatever comes", BadRing::Version(2)),
            ("xpush-ring 1\nterm 3\ngeneration 12\nepsilon 200\n", BadRing::Line(2)),
            ("xpush-ring 1\ngeneration 12\n", BadRing::Line(3)),
            ("xpush-ring 1\ngeneration 1\nterm 1\nepsilon 1\nscale 0\n", BadRing::Line(5)),
            ("xpush-ring 1\ngeneration 1\nterm 1\nepsilon 0\n", BadRing::Epsilon),
            ("xpush-ring 1\ngeneration 1\nterm 1\nepsilon 10001\n", BadRing::Epsilon),
        ] {
            assert_eq!(decode(text), Err(why), "{text:?}");
        }
        assert_eq!(Ring::decode(&vec![b'x'; Ring::MAX_BYTES + 1]), Err(BadRing::TooLong));
        let mut invalid = head.as_bytes().to_vec();
        invalid.extend(b"node \xff 1\n");
        assert_eq!(Ring::decode(&invalid), Err(BadRing::Line(6)));
    }

    #[test]
    fn a_ring_has_a_thousand_servers_each_once() {
        let node =
            |i: usize| RingNode { name: NodeName::new(&format!("n{i:04}")).unwrap(), weight: Weight::FULL };
        let ring =
            |count| Ring::new(1, 1, Epsilon::default(), NonZeroU64::MIN, (0..count).map(node).collect());
        let largest = ring(Ring::MAX_NODES).unwrap();
        let mut record = largest.encode().to_vec();
        assert_eq!(Ring::decode(&record), Ok(largest));
        record.extend(b"node o 1\n");
        assert_eq!(Ring::decode(&record), Err(BadRing::TooManyNodes));
        assert_eq!(ring(Ring::MAX_NODES + 1), Err(BadRing::TooManyNodes));
        let twice = Ring::new(1, 1, Epsilon::default(), NonZeroU64::MIN, vec![node(1), node(0), node(1)]);
        assert_eq!(twice, Err(BadRing::Twice(node(1).name)));
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        for share in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, 1.000_001, 1e308]
        {
            assert_eq!(Weight::of_share(share), Err(BadRing::Weight), "{share}");
        }
        assert_eq!(Weight::of_share(0.0), Ok(Weight::NONE));
        assert_eq!(Weight::of_share(1.0), Ok(Weight::FULL));
        assert_eq!(Weight::of_share(1e-300).unwrap().points(), 1);
        assert_eq!(Weight::new(4_001), Err(BadRing::Weight));
    }
}
