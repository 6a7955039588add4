//! Real services for tests: started on free loopback ports, with their files in folders that go with them, and ended when they are dropped.

pub mod mongo;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod zookeeper;

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long a service may take to come up, or to get where a test wants it: for machines that are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that are tried, below those that the system gives to connections.
const PORTS: u16 = 12_000;

/// A loopback port on which nobody listens, and which is this process's own for as long as it lives: no connection is given it by the system, and no other test by this
/// function, in whatever process.
pub fn free_port() -> u16 {
    // Held until the process ends, however it does; and who is first in it need not ask the same ports as everybody.
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let folder = std::env::temp_dir().join("xpush-test-ports");
    fs::create_dir_all(&folder).expect("a folder for locks");
    let first = given_to_connections().saturating_sub(PORTS).max(1_024);
    let begin = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or(0);
    for _ in 0..PORTS {
        let port = first + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
        let lock = File::create(folder.join(port.to_string())).expect("a lock for a port");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
    panic!("no port is free");
}

/// The first port that the system gives to connections by itself.
fn given_to_connections() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = range.ok().and_then(|range| range.split_whitespace().next()?.parse().ok());
    first.unwrap_or(32_768)
}

/// Asks again and again until `ready`; panics with `what` when it takes too long.
pub fn wait_until(what: &str, ready: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, ready);
}

fn wait_within(patience: Duration, what: &str, mut ready: impl FnMut() -> bool) {
    let patient = Instant::now() + patience;
    // Nobody sends: a pause that is no sleep of the thread's scheduler slot alone.
    let (_nobody, pause) = mpsc::channel::<()>();
    while !ready() {
        assert!(Instant::now() < patient, "{what}: not within {patience:?}");
        let _ = pause.recv_timeout(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let many = || (0..50).map(|_| free_port()).collect::<Vec<_>>();
        let all = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let first = given_to_connections();
        assert!(all.iter().all(|port| *port < first), "no connection is given one of these");
        // Another process that asks for the same finds them taken.
        let lock = File::create(std::env::temp_dir().join("xpush-test-ports").join(all[0].to_string()));
        assert!(lock.unwrap().try_lock().is_err());
    }
}
