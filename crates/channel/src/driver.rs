//! Turns a shard with epoll.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::fanout::inbox::Mailbox;
use crate::shard::Shard;

/// The shard's waker; no session ever has this slot.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS: usize = 1_024;
/// With at least so many outboxes to be written, a turn looks once more for what has arrived meanwhile, so that it leaves in the same `writev`.
const GATHER: usize = 16;

/// Runs until the shard is stopped.
pub(crate) fn run(mut shard: Shard, mut poll: Poll, mailbox: &Arc<Mailbox>) {
    // A message does not wait for what else the server does.
    if let Err(error) = xpush_sched::ask_for_slice(xpush_sched::SHORTEST) {
        tracing::debug!(%error, "no shorter slice");
    }
    let mut events = Events::with_capacity(EVENTS);
    while !shard.is_stopped() {
        let wait = if shard.unread.is_empty() { shard.wheel.wait(shard.now) } else { Some(0) };
        mailbox.prepare_sleep();
        // What came before `prepare_sleep` has woken nobody.
        let wait = if shard.take_inbox() { Some(0) } else { wait };
        if wait == Some(0) {
            mailbox.awake();
        }
        let before = shard.now;
        take_events(&mut shard, &mut poll, &mut events, wait);
        if wait == Some(0) {
            // Nobody has slept: so long did the turn take, and whatever came meanwhile waits.
            shard.lag_ms = shard.lag_ms.max(shard.now.since(before));
        }
        mailbox.awake();
        shard.take_inbox();
        if shard.sessions.waiting() >= GATHER {
            take_events(&mut shard, &mut poll, &mut events, Some(0));
            shard.take_inbox();
        }
        shard.take_timers();
        shard.settle();
    }
}

fn take_events(shard: &mut Shard, poll: &mut Poll, events: &mut Events, wait_ms: Option<u64>) {
    if let Err(error) = poll.poll(events, wait_ms.map(Duration::from_millis))
        && error.kind() != io::ErrorKind::Interrupted
    {
        tracing::error!(%error, "epoll failed");
    }
    shard.now = shard.node.clock().monotonic();
    shard.take_unread();
    for event in events.iter().filter(|event| event.token() != WAKER) {
        shard.ready(event.token(), event.is_readable(), event.is_writable(), event.is_read_closed());
    }
}
