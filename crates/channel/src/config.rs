//! What a channel server is told. Where the values come from (file, environment, flags) is the binary's affair.

use std::net::IpAddr;

use xpush_core::NodeId;

use crate::front::tls::PeerTrust;

/// A channel server's settings; they do not change while it runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's id, new at every start.
    pub node: NodeId,
    /// Shards: threads that own connections. At least 1; one a core is best.
    pub shards: usize,
    /// Bounds.
    pub limits: Limits,
    /// Heartbeats.
    pub heartbeat: Heartbeat,
    /// Which pages may connect, to every app; apps add their own.
    pub origins: Origins,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<Network>,
    /// Which other nodes are believed to be such, when they speak TLS.
    pub peers: PeerTrust,
}

/// Bounds that hold on every transport. 0 switches a rate or a count off where its doc says so.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest message, in bytes: a WebSocket message, a polling body, an event with its attachments.
    pub payload: usize,
    /// Unsent bytes a connection may have before it is cut off.
    pub outbox: usize,
    /// The age in ms of the oldest unsent byte at which a connection is cut off.
    pub outbox_age_ms: u64,
    /// Bytes of a request's headers.
    pub headers: usize,
    /// Connections in all; 0: no bound.
    pub connections: usize,
    /// Connections from one address; loopback is exempt; 0: no bound.
    pub connections_per_address: usize,
    /// Commands a second of one connection, with a burst of twice as many; 0: no bound.
    pub events_per_second: u32,
    /// Channels that one connection may follow.
    pub channels_per_connection: usize,
    /// Binary attachments of one event.
    pub attachments: usize,
    /// Within how many ms a new connection must have sent its request, and said who it is.
    pub handshake_ms: u64,
}

/// Heartbeat times, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// Between two heartbeats.
    pub interval_ms: u64,
    /// For the answer.
    pub timeout_ms: u64,
}

/// Which pages (`Origin` headers) may connect. Requests without an Origin come from programs, not from pages, and pass.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Exactly these, as `scheme://host[:port]`; `*` allows every page.
    pub allowed: Vec<Box<str>>,
    /// Loopback pages of any port (set when the listener itself is on loopback).
    pub loopback: bool,
}

/// A range of addresses (CIDR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload: 1_000_000,
            outbox: 4_000_000,
            outbox_age_ms: 5_000,
            headers: 16_384,
            connections: 0,
            connections_per_address: 1_000,
            events_per_second: 100,
            channels_per_connection: 256,
            attachments: 16,
            handshake_ms: 10_000,
        }
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_ms: 25_000, timeout_ms: 20_000 }
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1`, `127.0.0.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(widest), |prefix| prefix.parse().ok())?;
        (prefix <= widest).then_some(Self { address, prefix })
    }

    /// Whether `address` lies in it. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(shift).unwrap_or(0)
                    == u32::from(ip).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(net).checked_shr(shift).unwrap_or(0)
                    == u128::from(ip).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).map(|network| network.contains(address.parse().unwrap()))
        };
        assert_eq!(contains("10.0.0.0/8", "10.255.0.1"), Some(true));
        assert_eq!(contains("10.0.0.0/8", "11.0.0.1"), Some(false));
        assert_eq!(contains("127.0.0.1", "127.0.0.1"), Some(true));
        assert_eq!(contains("127.0.0.1", "::ffff:127.0.0.1"), Some(true));
        assert_eq!(contains("0.0.0.0/0", "8.8.8.8"), Some(true));
        assert_eq!(contains("fd00::/8", "fd12::1"), Some(true));
        assert_eq!(contains("fd00::/8", "fe80::1"), Some(false));
        assert_eq!(contains("10.0.0.0/33", "10.0.0.1"), None);
        assert_eq!(contains("ten", "10.0.0.1"), None);
    }
}
