//! What znodes hold, as JSON with a version: what is read has been written by another release, or by anybody.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use xpush_core::ports::cluster::{Load, Node, Roles};
use xpush_core::{NodeId, NodeName};

/// The version that is written. Within it fields may be added: readers pass over what they do not know.
const VERSION: u64 = 1;

/// Longer records are not looked into.
const MAX_BYTES: usize = 1 << 20;

/// Why a record is no good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRecord(Box<str>);

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

#[derive(Serialize, Deserialize)]
struct MemberRecord {
    v: u64,
    id: NodeId,
    name: NodeName,
    installation: u64,
    url: Box<str>,
    peer: Option<Box<str>>,
    /// Earlier releases do not say it: they speak plain HTTP with each other.
    #[serde(default)]
    peer_tls: bool,
    capacity: u64,
    version: Box<str>,
    session: bool,
    channel: bool,
    since: u64,
    /// Earlier releases do not say it.
    #[serde(default)]
    configuration: BTreeMap<Box<str>, u64>,
}

#[derive(Serialize, Deserialize)]
struct LoadsRecord {
    v: u64,
    /// Connections, channels, lag in ms.
    loads: BTreeMap<NodeId, (u64, u64, u64)>,
}

// === impl BadRecord ===

impl BadRecord {
    pub(crate) fn new(why: impl Into<Box<str>>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The data of a member's znode.
pub(crate) fn encode_node(node: &Node) -> Vec<u8> {
    encode(&MemberRecord {
        v: VERSION,
        id: node.id.clone(),
        name: node.name.clone(),
        installation: node.installation,
        url: node.url.clone(),
        peer: node.peer.clone(),
        peer_tls: node.peer_tls,
        capacity: node.capacity,
        version: node.version.clone(),
        session: node.roles.session,
        channel: node.roles.channel,
        since: node.since,
        configuration: node.configuration.clone(),
    })
}

/// The node whose znode has this name.
pub(crate) fn decode_node(name: &NodeName, bytes: &[u8]) -> Result<Node, BadRecord> {
    let record: MemberRecord = decode(bytes)?;
    if record.name != *name {
        return Err(BadRecord::new("the name in it is another"));
    }
    let node = Node {
        id: record.id,
        name: record.name,
        installation: record.installation,
        url: record.url,
        peer: record.peer,
        peer_tls: record.peer_tls,
        capacity: record.capacity,
        version: record.version,
        roles: Roles { session: record.session, channel: record.channel },
        since: record.since,
        configuration: record.configuration,
    };
    node.check().map_err(BadRecord::new)?;
    Ok(node)
}

/// What one node carries, or all of them.
pub(crate) fn encode_loads(loads: &BTreeMap<NodeId, Load>) -> Vec<u8> {
    let numbers = |load: &Load| (load.connections, load.channels, load.lag_ms);
    let loads = loads.iter().map(|(id, load)| (id.clone(), numbers(load))).collect();
    encode(&LoadsRecord { v: VERSION, loads })
}

/// What one node carries, or all of them.
pub(crate) fn decode_loads(bytes: &[u8]) -> Result<BTreeMap<NodeId, Load>, BadRecord> {
    let record: LoadsRecord = decode(bytes)?;
    let load = |(connections, channels, lag_ms)| Load { connections, channels, lag_ms };
    Ok(record.loads.into_iter().map(|(id, numbers)| (id, load(numbers))).collect())
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    // Maps have names as keys, and nothing here refuses to be written.
    serde_json::to_vec(record).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRecord> {
    if bytes.len() > MAX_BYTES {
        return Err(BadRecord::new("it is too long"));
    }
    let unreadable = |error: serde_json::Error| BadRecord::new(format!("it cannot be read: {error}"));
    let Versioned { v } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if v != VERSION {
        return Err(BadRecord::new(format!("its version is {v}, and this release knows {VERSION}")));
    }
    serde_json::from_slice(bytes).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xpush_testkit::sample::{name, server};

    fn names() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}"
    }

    prop_compose! {
        fn nodes()(
            id in names(), name in names(), url in "\\PC{0,40}", version in "\\PC{0,10}",
            numbers in any::<(u64, u64, u64)>(), peer in proptest::option::of("[a-z.]{1,20}:[1-9][0-9]{0,3}"),
            roles in any::<(bool, bool)>(),
        ) -> Node {
            Node {
                id: NodeId::new(&id).unwrap(),
                name: NodeName::new(&name).unwrap(),
                installation: numbers.0,
                url: url.into(),
                peer: peer.map(Into::into),
                peer_tls: roles.0 ^ roles.1,
                capacity: numbers.1,
                version: version.into(),
                roles: Roles { session: roles.0, channel: roles.1 },
                since: numbers.2,
                configuration: [("apps".into(), numbers.0)].into(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(node in nodes(), loads in proptest::collection::btree_map(names(), any::<(u64, u64, u64)>(), 0..20)) {
            prop_assert_eq!(decode_node(&node.name, &encode_node(&node)), Ok(node));
            let load = |(id, numbers): (String, (u64, u64, u64))| {
                (NodeId::new(&id).unwrap(), Load { connections: numbers.0, channels: numbers.1, lag_ms: numbers.2 })
            };
            let loads: BTreeMap<_, _> = loads.into_iter().map(load).collect();
            prop_assert_eq!(decode_loads(&encode_loads(&loads)), Ok(loads));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            prop_assert!(decode_loads(&bytes).is_err());
            let node = server("a");
            let mut record = encode_node(&node);
            prop_assert!(decode_node(&node.name, &bytes).is_err());
            let at = at.index(record.len());
            record[at] = byte;
            if let Ok(read) = decode_node(&node.name, &record) {
                prop_assert_eq!(read.check(), Ok(()));
                prop_assert_eq!(read.name, node.name);
            }
        }
    }

    #[test]
    fn what_is_no_good_is_refused() {
        let good = String::from_utf8(encode_node(&server("a"))).unwrap();
        assert_eq!(decode_node(&name("a"), good.as_bytes()), Ok(server("a")));
        for (from, to) in [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":\"1\""),
            ("\"id\":\"a\"", "\"id\":\"../a\""),
            ("\"name\":\"a\"", "\"name\":\"b\""),
            ("\"name\":\"a\"", "\"name\":\"..\""),
            ("10000", "-1"),
            ("10000", "1e308"),
            ("10000", "NaN"),
            ("10000", "18446744073709551616"),
            ("http://a:8000", "http://a\\n"),
            ("\"peer\":null", "\"peer\":\"a\""),
            ("{", "["),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(decode_node(&name("a"), bad.as_bytes()).is_err(), "{bad}");
        }
        // A later release may add to it.
        let more = good.replacen('{', "{\"more\":[1],", 1);
        assert_eq!(decode_node(&name("a"), more.as_bytes()), Ok(server("a")));
        for loads in [
            "{}",
            "{\"v\":1}",
            "{\"v\":1,\"loads\":{\"a\":[-1,0,0]}}",
            "{\"v\":1,\"loads\":{\"a b\":[1,2,3]}}",
        ] {
            assert!(decode_loads(loads.as_bytes()).is_err(), "{loads}");
        }
        assert!(decode_loads(&vec![b' '; MAX_BYTES + 1]).is_err());
    }

    /// As releases have written them; none is ever changed.
    #[test]
    fn what_releases_have_written_is_read() {
        let before_tls = r#"{"v":1,"id":"n-1","name":"push-1","installation":7,"url":"https://push-1.example.com","peer":"10.0.0.1:8000","capacity":10000,"version":"0.2.0","session":true,"channel":true,"since":1767225600000}"#;
        let node = decode_node(&name("push-1"), before_tls.as_bytes()).unwrap();
        assert_eq!(
            (node.peer.as_deref(), node.peer_tls, node.configuration.len()),
            (Some("10.0.0.1:8000"), false, 0)
        );
        let with_tls = before_tls.replacen(
            "\"capacity\"",
            "\"peer_tls\":true,\"configuration\":{\"apps\":18446744073709551615},\"capacity\"",
            1,
        );
        let node = decode_node(&name("push-1"), with_tls.as_bytes()).unwrap();
        assert_eq!((node.peer_tls, node.configuration.get("apps")), (true, Some(&u64::MAX)));
        // What a later release adds is passed over, also by this one.
        let later = with_tls.replacen('{', r#"{"zone":"eu-1","labels":{"a":[1]},"#, 1);
        assert_eq!(decode_node(&name("push-1"), later.as_bytes()), Ok(node));
        let loads = decode_loads(br#"{"v":1,"loads":{"n-1":[12,3,4]},"more":null}"#).unwrap();
        assert_eq!(loads.values().next(), Some(&Load { connections: 12, channels: 3, lag_ms: 4 }));
    }
}
