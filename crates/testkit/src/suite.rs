//! One conformance suite a port, written against the trait's contract and against no backend.

pub mod blobs;
pub mod bus;
pub mod cluster;
pub mod directory;
pub mod erasure;
pub mod files;
pub mod hosts;
pub mod markers;
pub mod message_log;
pub mod model;
pub mod online;
pub mod outbox;
pub mod presence;
pub mod rate_limit;
pub mod search;

pub use message_log::edits;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use xpush_core::ports::{Done, PortError};

/// How long anything may take before a test gives up: far beyond what any backend needs, for machines that are busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Raises a flag when it is dropped, by a panic, too: a thread that goes on until then ends with the test, whatever its end.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Makes each property of a suite a test.
#[doc(hidden)]
#[macro_export]
macro_rules! properties {
    ($fixture:expr, $suite:ident: $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::suite::$suite::$property(&$fixture());
            }
        )*
    };
}

/// Waits for the answer to what `start` begins.
pub fn answer<T: Send + 'static>(start: impl FnOnce(Done<T>)) -> Result<T, PortError> {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |result| {
        // Nobody listens any more when the test has given up.
        let _ = sender.send(result);
    }));
    receiver.recv_timeout(PATIENCE).expect("`done` is called")
}

/// Runs `within` on a thread of its own and fails when it does not end: what takes a lock twice would hang the test otherwise.
fn ends(within: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        within();
        let _ = sender.send(());
    });
    receiver.recv_timeout(PATIENCE).expect("ends, without a panic and without waiting for itself");
}

#[cfg(test)]
mod tests {
    /// A property that the macro does not name would never run.
    #[test]
    fn every_property_is_a_test() {
        for (suite, source) in [
            ("blobs", include_str!("suite/blobs.rs")),
            ("bus", include_str!("suite/bus.rs")),
            ("cluster", include_str!("suite/cluster.rs")),
            ("directory", include_str!("suite/directory.rs")),
            ("erasure", include_str!("suite/erasure.rs")),
            ("files", include_str!("suite/files.rs")),
            ("edits", include_str!("suite/message_log/edits.rs")),
            ("hosts", include_str!("suite/hosts.rs")),
            ("markers", include_str!("suite/markers.rs")),
            ("message_log", include_str!("suite/message_log.rs")),
            ("online", include_str!("suite/online.rs")),
            ("outbox", include_str!("suite/outbox.rs")),
            ("presence", include_str!("suite/presence.rs")),
            ("rate_limit", include_str!("suite/rate_limit.rs")),
            ("search", include_str!("suite/search.rs")),
        ] {
            let head = format!("$crate::properties!($fixture, {suite}:");
            let (_, list) = source.split_once(&head).expect(suite);
            let (list, _) = list.split_once(");").expect(suite);
            let mut named: Vec<&str> = list.split_whitespace().collect();
            let functions = source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split_once('('));
            // What needs more than the store is called by who has it.
            let of_a_store = functions.filter(|(_, rest)| !rest.contains(','));
            let mut written: Vec<&str> = of_a_store.map(|(name, _)| name).collect();
            named.sort_unstable();
            written.sort_unstable();
            assert_eq!(named, written, "{suite}");
        }
    }
}
