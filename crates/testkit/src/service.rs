//! Real services for tests: started on free loopback ports, with their files in folders that go with them, and ended when they are dropped.

pub mod mongo;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod zookeeper;

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a service may take to come up, or to get where a test wants it: for machines that are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
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
