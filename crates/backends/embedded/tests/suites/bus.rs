//! The bus keeps the port's contract.

use std::sync::Arc;

use xpush_embedded::LocalHub;
use xpush_testkit::suite::bus::BusStore;

fn store() -> BusStore {
    let hub = LocalHub::new();
    BusStore { attach: Box::new(move |node, sink| Arc::new(hub.attach(node, sink))) }
}

xpush_testkit::bus_suite!(store);
