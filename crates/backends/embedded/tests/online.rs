//! Who is online keeps the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::online::Online;
use xpush_embedded::{LocalOnline, MemoryLastSeen};
use xpush_testkit::ManualClock;
use xpush_testkit::suite::online::OnlineStore;

const GRACE_MS: u64 = 5_000;

fn store() -> OnlineStore {
    let clock = Arc::new(ManualClock::new());
    let online =
        LocalOnline::new(GRACE_MS, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(MemoryLastSeen::default()));
    let online: Arc<dyn Online> = Arc::new(online);
    OnlineStore {
        handles: [Arc::clone(&online), online],
        pass: Box::new(move |ms| clock.advance(ms)),
        grace_ms: GRACE_MS,
    }
}

xpush_testkit::online_suite!(store);
