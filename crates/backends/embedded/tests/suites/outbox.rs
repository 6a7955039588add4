//! The outbox in memory keeps the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::outbox::Outbox;
use xpush_embedded::MemoryOutbox;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::outbox::OutboxStore;

fn store() -> OutboxStore {
    let clock = Arc::new(ManualClock::new());
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::new(Arc::clone(&clock) as Arc<dyn Clock>));
    OutboxStore { handles: [Arc::clone(&outbox), outbox], pass: Box::new(move |ms| clock.advance(ms)) }
}

xpush_testkit::outbox_suite!(store);
