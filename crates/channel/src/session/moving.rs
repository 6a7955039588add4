//! Clients that are asked to go on at another server: all of them when this one drains, some when placement wants it.
//!
//! They are told at different moments, and each has a while to connect elsewhere before it is closed here: so the others are not overrun, and whoever follows
//! `moved` has its new connection before it gives this one up. A stock client hears that too, and is closed when its time is over: it connects again by itself.

use std::sync::Arc;

use xpush_core::{ChannelKey, Code};
use xpush_wire::json;

use crate::dialect::object;
use crate::fanout::inbox::Handle;
use crate::planted::{Bug, is_planted};
use crate::shard::{Shard, Timer};

/// Where a channel's clients should connect: an address; nothing (`""`) when they come to the right server by the address that they have; `None`: nowhere else
/// than here, as far as is known. Called by shards: must not block.
pub type Assign = Arc<dyn Fn(&ChannelKey) -> Option<Box<str>> + Send + Sync>;

/// How long a client has to go on elsewhere at most, in ms.
const WITHIN_MS: u64 = 2_000;
/// Between two clients of a shard that are told, in ms, if there is time for that: 250 a second come to other servers from each shard.
const PACE_MS: u64 = 4;
/// A timer of a session that shall go for no particular channel.
const NO_TICKET: u32 = 0;

impl Shard {
    /// Takes nobody new, and tells every client to go: one after the other when there are servers to go to, at once when there is none.
    pub(crate) fn drain(&mut self, within_ms: u64) {
        self.draining = true;
        let handles = self.sessions.handles();
        if !self.node.has_peers() {
            for handle in handles {
                self.tell_moved(handle, NO_TICKET, within_ms);
                self.close(handle, Code::Draining.into());
            }
            return;
        }
        let all = handles.len() as u64;
        // The last ones have their while, too, and then what is still to be sent leaves.
        let spread = (all * PACE_MS).min(within_ms / 2);
        for (number, handle) in (0..).zip(handles) {
            self.arm(spread * number / all, Timer::Move(handle, NO_TICKET));
        }
    }

    /// Asks clients whose channel is assigned to another server to go on there, at moments of their own within so many ms. Only those who follow `moved`: others
    /// would be cut off, and perhaps come back here.
    pub(crate) fn rebalance(&mut self, within_ms: u64) {
        for handle in self.sessions.handles() {
            let able =
                self.sessions.get(handle).is_some_and(|session| session.follows_moves && !session.closing);
            if able {
                let after = self.entropy.word() % within_ms.max(1);
                self.arm(after, Timer::Move(handle, NO_TICKET));
            }
        }
    }

    /// A client's turn to be told has come.
    pub(crate) fn move_timer(&mut self, handle: Handle, ticket: u32) {
        if self.sessions.get(handle).is_none_or(|session| session.closing) {
            return;
        }
        self.tell_moved(handle, ticket, WITHIN_MS);
        if self.draining {
            self.arm(WITHIN_MS, Timer::Moved(handle));
        }
    }

    /// A client has had its time to go.
    pub(crate) fn moved_timer(&mut self, handle: Handle) {
        if !is_planted(Bug::DrainedKept) {
            self.close(handle, Code::Draining.into());
        }
    }

    fn tell_moved(&mut self, handle: Handle, ticket: u32, within_ms: u64) {
        let Some(session) = self.sessions.get(handle) else { return };
        let named = session.subscriptions.iter().find(|one| ticket == NO_TICKET || one.ticket == ticket);
        let channel = named.map(|one| one.topic).map(|topic| self.topics.get(topic).key.clone());
        let url = channel.and_then(|channel| self.node.assign(&channel));
        let mut push = format!(r#"{{"within_ms":{within_ms}"#).into_bytes();
        match url.as_deref() {
            // Who is not drained and has nowhere to go stays.
            None if !self.draining => return,
            None | Some("") => {}
            Some(url) => {
                push.extend_from_slice(br#","url":"#);
                json::write_string(url, &mut push);
            }
        }
        push.push(b'}');
        self.push(handle, "moved", &object::text(push));
        self.node.metrics.moved();
    }
}
