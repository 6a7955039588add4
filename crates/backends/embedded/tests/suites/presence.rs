//! Presence keeps the port's contract.

use std::sync::Arc;

use xpush_core::ports::presence::Presence;
use xpush_embedded::LocalPresence;
use xpush_testkit::suite::presence::PresenceStore;

fn store() -> PresenceStore {
    let presence: Arc<dyn Presence> = Arc::new(LocalPresence::new());
    PresenceStore { handles: [Arc::clone(&presence), presence], pass: Box::new(|_| ()) }
}

xpush_testkit::presence_suite!(store);
