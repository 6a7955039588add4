//! Shared limits: a number for each bucket that is not full.

use std::fmt::Write as _;
use std::sync::Arc;

use xpush_core::Clock;
use xpush_core::ports::rate_limit::{Limit, RateLimit, Taken};
use xpush_core::ports::{Done, Failure, PortError};

use crate::connection::Connection;
use crate::partition::Time;
use crate::script::{Script, script};

/// [`RateLimit`] of all nodes that share a Redis.
pub struct RedisLimits {
    connection: Connection,
    time: Time,
    take: Arc<Script>,
}

impl RedisLimits {
    /// Buckets fill by the server's time.
    pub fn new(connection: Connection) -> Self {
        Self::with_time(connection, Time::Server)
    }

    /// For tests: buckets fill by `clock`.
    pub fn with_clock(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self::with_time(connection, Time::Given(clock))
    }

    fn with_time(connection: Connection, time: Time) -> Self {
        Self { connection, time, take: Arc::new(script!("lua/store.lua", "lua/take.lua")) }
    }
}

impl RateLimit for RedisLimits {
    fn take(&self, key: &str, cost: u32, limit: Limit, done: Done<Taken>) {
        if !limit.can_give(cost) || key.len() > 256 {
            return done(Err(PortError::new(Failure::Invalid, "more than the bucket can ever give")));
        }
        let time_of =
            |tokens: u32| u128::from(tokens) * u128::from(limit.per_ms) * 1_000 / u128::from(limit.tokens);
        let keys = [self.connection.keys().tagged(&format!("limit-{}", hexadecimal(key)), "full")];
        let arguments = [self.time.argument(), time_of(cost).to_string(), time_of(limit.burst).to_string()];
        let take = Arc::clone(&self.take);
        let open: Done<u64> = Box::new(move |result| {
            let wait = result.unwrap_or_else(|error| {
                tracing::debug!(%error, "a shared limit is not asked");
                0
            });
            done(Ok(if wait == 0 { Taken::Allowed } else { Taken::RetryAfter(wait) }));
        });
        self.connection.start(key.len(), open, move |connection| async move {
            connection.invoke(&take, &keys, &arguments).await
        });
    }
}

/// A key may hold braces, which would be another tag.
fn hexadecimal(key: &str) -> String {
    let mut text = String::with_capacity(1 + 2 * key.len());
    text.push('x');
    for byte in key.bytes() {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
