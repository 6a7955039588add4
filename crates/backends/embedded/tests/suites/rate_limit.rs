//! Limits keep the port's contract.

use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::rate_limit::RateLimit;
use xpush_embedded::LocalLimits;
use xpush_testkit::ManualClock;
use xpush_testkit::suite::rate_limit::LimitStore;

fn store() -> LimitStore {
    let clock = Arc::new(ManualClock::new());
    let limits: Arc<dyn RateLimit> = Arc::new(LocalLimits::new(Arc::clone(&clock) as Arc<dyn Clock>));
    LimitStore { handles: [Arc::clone(&limits), limits], pass: Box::new(move |ms| clock.advance(ms)) }
}

xpush_testkit::rate_limit_suite!(store);
