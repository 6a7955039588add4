//! Which address a request comes from, and how many connections it has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use xpush_core::Code;

use crate::config::{Limits, Network};

/// Connections in all and by address.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    connections: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    addresses: Arc<Addresses>,
    address: IpAddr,
    /// It is counted under its address; loopback is not.
    counted: bool,
}

/// The peer, or whom a trusted proxy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// X-Forwarded-For came from a peer that is not trusted.
    pub(crate) untrusted_proxy: bool,
}

impl Addresses {
    /// Takes a place, within the limits.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Result<Permit, Code> {
        let address = address.to_canonical();
        let mut permit = Permit { addresses: self.clone(), address, counted: false };
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        if limits.connections > 0 && before >= limits.connections {
            return Err(Code::TooManyConnections);
        }
        if limits.connections_per_address > 0 && !address.is_loopback() {
            let mut by_address = self.by_address.lock().unwrap_or_else(|broken| broken.into_inner());
            let count = by_address.entry(address).or_default();
            if *count >= limits.connections_per_address {
                return Err(Code::TooManyConnections);
            }
            *count += 1;
            permit.counted = true;
        }
        Ok(permit)
    }
}

impl Permit {
    /// The client's address.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.addresses.connections.fetch_sub(1, Ordering::Relaxed);
        if !self.counted {
            return;
        }
        let mut by_address = self.addresses.by_address.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Who the client is: the last address in X-Forwarded-For that is not a trusted proxy's, if the peer is one.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Client {
    const FORWARDED: &str = "x-forwarded-for";
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !headers.contains_key(FORWARDED) {
        return Client { address: peer, untrusted_proxy: false };
    }
    if !is_trusted(peer) {
        return Client { address: peer, untrusted_proxy: true };
    }
    let mut address = peer;
    let hops = headers.get_all(FORWARDED).into_iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<_> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Ok(next) = hop.parse::<IpAddr>() else { break };
        address = next;
        if !is_trusted(next) {
            break;
        }
    }
    Client { address, untrusted_proxy: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let trusted = [Network::parse("10.0.0.0/8").unwrap()];
        let ask = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let client = client(ip(peer), &headers, &trusted);
            (client.address.to_string(), client.untrusted_proxy)
        };
        assert_eq!(ask("1.1.1.1", &[]), ("1.1.1.1".into(), false));
        assert_eq!(ask("1.1.1.1", &["9.9.9.9"]), ("1.1.1.1".into(), true));
        assert_eq!(ask("10.0.0.1", &["9.9.9.9"]), ("9.9.9.9".into(), false));
        // What the client itself wrote stands further left.
        assert_eq!(ask("10.0.0.1", &["6.6.6.6, 9.9.9.9, 10.0.0.2"]), ("9.9.9.9".into(), false));
        assert_eq!(ask("10.0.0.1", &["6.6.6.6", "9.9.9.9"]), ("9.9.9.9".into(), false));
        assert_eq!(ask("10.0.0.1", &["garbage"]), ("10.0.0.1".into(), false));
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let addresses = Arc::new(Addresses::default());
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let admit = |address: &str| addresses.admit(ip(address), &limits);
        let (first, second) = (admit("9.9.9.9").unwrap(), admit("9.9.9.9").unwrap());
        assert_eq!(admit("9.9.9.9").unwrap_err(), Code::TooManyConnections);
        let third = admit("127.0.0.1").unwrap();
        assert_eq!(admit("127.0.0.1").unwrap_err(), Code::TooManyConnections);
        drop(first);
        assert!(admit("9.9.9.9").is_ok());
        drop((second, third));
        assert!(addresses.by_address.lock().unwrap().is_empty());
        assert_eq!(addresses.connections.load(Ordering::Relaxed), 0);
    }
}
