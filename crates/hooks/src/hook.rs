//! One hook of an app, as it works: its signer, its breakers, its slots, its counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};
use xpush_core::hooks::{HookAsk, HookEvent, HookRecord};
use xpush_core::{App, UnixMillis};

use crate::breaker::Breaker;
use crate::metrics::Counts;
use crate::signature::Signer;

/// One hook, as long as nothing in its record changes.
pub(crate) struct Hook {
    pub(crate) app: App,
    pub(crate) record: HookRecord,
    /// Where its events wait.
    pub(crate) queue: Box<str>,
    pub(crate) signer: Signer,
    /// Of events, and of questions: a back end that cannot take the ones may well answer the others.
    pub(crate) telling: Breaker,
    pub(crate) asking: Breaker,
    /// Requests with events at the same time, and questions at the same time.
    pub(crate) tells: Arc<Semaphore>,
    pub(crate) asks: Arc<Semaphore>,
    pub(crate) counts: Counts,
    /// Something waits, or nothing will any more.
    pub(crate) woken: Notify,
    /// The newest failure: when, and what.
    failure: Mutex<Option<(UnixMillis, Box<str>)>>,
    ended: AtomicBool,
}

impl Hook {
    pub(crate) fn new(app: &App, record: HookRecord, counts: Counts) -> Arc<Self> {
        let slots = record.concurrency.max(1) as usize;
        Arc::new(Self {
            queue: format!("hook/{app}/{}", record.name).into(),
            signer: Signer::new(&record.secrets),
            telling: Breaker::default(),
            asking: Breaker::default(),
            tells: Arc::new(Semaphore::new(slots)),
            asks: Arc::new(Semaphore::new(slots)),
            app: app.clone(),
            record,
            counts,
            woken: Notify::new(),
            failure: Mutex::default(),
            ended: AtomicBool::new(false),
        })
    }

    pub(crate) fn wants(&self, event: HookEvent) -> bool {
        self.record.events.contains(&event)
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, at: UnixMillis, what: &str) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, what.into()));
    }

    /// The newest failure: when, and what.
    pub(crate) fn failure(&self) -> Option<(UnixMillis, Box<str>)> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn asks(&self, ask: HookAsk) -> bool {
        self.record.asks.contains(&ask)
    }

    /// It is not the app's any more, or not as it is.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}
