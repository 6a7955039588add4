//! Whether the database still holds what it held.
//!
//! The ledgers' clock is kept in the database and never goes back there. Every process looks at it once a second, and tells it the time now and then; it remembers how far
//! the clock had come. If it is less far one day, a backup was restored, or something was lost: whoever sees that first says so in the database, where all others find it,
//! and nothing is appended until the database has another epoch. Otherwise the places that clients have seen would be given a second time. While the clock cannot be read,
//! it is not known, and looked for before the next append.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use xpush_core::ports::{Failure, PortError};

use super::Inner;
use crate::store::Update;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How often the database is told the time, ms.
const TELL: u64 = 5_000;

/// How often it is said that the database has gone back, ms.
const ALARM: u64 = 60_000;

/// What a process knows of the clock.
pub(super) struct Tide {
    /// How far it had come.
    seen: AtomicU64,
    /// When this process has told it, by itself.
    told: AtomicU64,
    /// The last look has shown nothing.
    in_doubt: AtomicBool,
    has_gone_back: AtomicBool,
    /// When that is to be said next.
    alarm_at: AtomicU64,
}

impl Tide {
    pub(super) const fn at(clock: u64) -> Self {
        Self {
            seen: AtomicU64::new(clock),
            told: AtomicU64::new(0),
            in_doubt: AtomicBool::new(false),
            has_gone_back: AtomicBool::new(false),
            alarm_at: AtomicU64::new(0),
        }
    }

    /// The database did not answer.
    pub(super) fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// Once a second.
    pub(super) async fn watch_tide(&self) {
        if let Err(error) = self.look_at_tide().await {
            tracing::debug!(%error, "the database's clock was not read");
        }
        let (tide, now) = (&self.tide, self.clock.now());
        if tide.has_gone_back.load(Ordering::Relaxed) && now >= tide.alarm_at.load(Ordering::Relaxed) {
            tide.alarm_at.store(now + ALARM, Ordering::Relaxed);
            tracing::error!(
                "MongoDB holds less than it did: it was restored from a backup, or has lost something. Nothing durable is published any more. Stop all servers and run `xpush epoch new`"
            );
        }
    }

    /// Before an append.
    pub(super) async fn check_tide(&self) -> Result<(), PortError> {
        if self.tide.in_doubt.load(Ordering::Relaxed) {
            self.look_at_tide().await?;
        }
        if self.tide.has_gone_back.load(Ordering::Relaxed) {
            return Err(PortError::new(
                Failure::NotApplied,
                "the database holds less than it did: `xpush epoch new` is needed",
            ));
        }
        Ok(())
    }

    async fn look_at_tide(&self) -> Result<(), PortError> {
        let tide = &self.tide;
        // Before it is asked: another look may tell the time while the answer to this one is on its way.
        let seen = tide.seen.load(Ordering::Relaxed);
        let before = self.clock_before(seen).await.inspect_err(|_| tide.doubt())?;
        let (epoch, meta) = (self.store.epoch() as i64, self.store.collection("meta"));
        let marked = self.store.read(meta.find_one(doc! { "_id": "store" })).await;
        let marked = marked.inspect_err(|_| tide.doubt())?;
        let is_marked =
            marked.is_some_and(|store| store.get_i64("gone_back").is_ok_and(|marked| marked == epoch));
        if before < seen && !is_marked {
            // Whoever looks next finds the clock that this process has told, perhaps.
            let change = doc! { "$set": { "gone_back": epoch } };
            let mark = Update { filter: doc! { "_id": "store", "epoch": epoch }, change, upsert: false };
            tide.has_gone_back.store(true, Ordering::Relaxed);
            self.store.update("meta", vec![mark]).await?;
        }
        if is_marked {
            tide.has_gone_back.store(true, Ordering::Relaxed);
        }
        tide.seen.fetch_max(before, Ordering::Relaxed);
        tide.in_doubt.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// How far the clock had come; it is told the time when that is due, and it had come as far as was `seen`.
    async fn clock_before(&self, seen: u64) -> Result<u64, PortError> {
        let (now, meta) = (self.clock.now(), self.store.collection("meta"));
        let number = |document: Option<Document>| {
            let at = document.and_then(|document| document.get_i64("at").ok());
            let gone = || PortError::new(Failure::NotApplied, "the database's clock is gone");
            at.map(|at| at as u64).ok_or_else(gone)
        };
        let is_clock = doc! { "_id": "clock" };
        let is_due = now.saturating_sub(self.tide.told.load(Ordering::Relaxed)) >= TELL;
        // Nothing is told that would hide what is found out at this look.
        let before = number(self.store.read(meta.find_one(is_clock.clone())).await?)?;
        if !is_due || before < seen {
            return Ok(before);
        }
        let tell = doc! { "$max": { "at": now as i64 } };
        let before = number(self.store.write(meta.find_one_and_update(is_clock, tell)).await?)?;
        self.tide.told.store(now, Ordering::Relaxed);
        if before >= seen {
            self.tide.seen.fetch_max(now.max(before), Ordering::Relaxed);
            return Ok(now.max(before));
        }
        Ok(before)
    }
}
