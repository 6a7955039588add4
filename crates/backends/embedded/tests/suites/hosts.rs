//! The registry of hosts keeps the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::hosts::Hosts;
use xpush_embedded::LocalHosts;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::hosts::HostsStore;

fn store() -> HostsStore {
    let clock = Arc::new(ManualClock::new());
    let hosts: Arc<dyn Hosts> = Arc::new(LocalHosts::new(Arc::clone(&clock) as Arc<dyn Clock>));
    HostsStore { handles: [Arc::clone(&hosts), hosts], pass: Box::new(move |ms| clock.advance(ms)) }
}

xpush_testkit::hosts_suite!(store);
