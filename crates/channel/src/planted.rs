//! Bugs that tests plant, to see them found: a simulation that finds none of them proves nothing. Outside of tests there are none.

/// A bug of a kind that is easily made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A bus that is back is believed to have lost nothing.
    NothingReadAfterReconnect,
    /// Nobody looks whether the last message of a burst was lost.
    HeadsNotCompared,
    /// What has come by the bus is released although something before it has not.
    HolesPassedOver,
    /// What a connection has sent behind a failed publication is appended all the same.
    OthersGoAhead,
    /// What the log has not answered in time is forgotten, and its answer taken for that of what comes next.
    LateAnswerTaken,
    /// A host's answer to an earlier forward is taken for that to the last one.
    OldForwardTaken,
    /// A publication that was given away, and may have been appended, is said to have had no effect.
    DoubtfulRefused,
    /// What was released while somebody joined is not in their answer.
    TailForgotten,
    /// Whoever resumes is told that nothing is missing.
    AlwaysRecovered,
    /// What a dead node has entered into channels stays.
    GhostsStay,
    /// A store of presence that has forgotten is not told again.
    NotRestated,
    /// Clients of a server that drains, who do not go by themselves, are kept.
    DrainedKept,
}

/// Whether a test has planted this one in the thread that asks: a simulation runs in one.
#[cfg(test)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    trial::PLANTED.get() == Some(bug)
}

/// Never.
#[cfg(not(test))]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}

/// What a simulation plants, and what it knows of servers that no client may have heard.
#[cfg(test)]
pub(crate) mod trial {
    use std::cell::{Cell, RefCell};

    use xpush_core::ClientId;

    use super::Bug;

    thread_local! {
        pub(super) static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static REFUSED: RefCell<Vec<ClientId>> = const { RefCell::new(Vec::new()) };
    }

    /// Plants a bug in this thread's servers, or takes out what was planted.
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// A publication has got another answer than a place.
    pub(crate) fn note_refused(id: &ClientId) {
        REFUSED.with_borrow_mut(|refused| refused.push(id.clone()));
    }

    /// All that have since this was asked last.
    pub(crate) fn take_refused() -> Vec<ClientId> {
        REFUSED.take()
    }
}
