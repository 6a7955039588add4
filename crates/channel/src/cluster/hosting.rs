//! Which channels this node carries, told to the registry that clients are placed by: once a second what has changed, and everything when the registry has
//! forgotten it.

use std::sync::Arc;

use xpush_core::ports::PortError;
use xpush_core::ports::hosts::Hosts;
use xpush_core::{ChannelKey, NodeName};

use crate::fanout::inbox::Inbox;
use crate::shard::Shard;

/// Channels in one report.
const BATCH: usize = 1_000;

/// As what this node is known to the registry.
#[derive(Clone)]
pub struct Hosting {
    /// The server's name, the same at every start.
    pub name: NodeName,
    /// Where it is told what the server carries.
    pub registry: Arc<dyn Hosts>,
}

impl Hosting {
    /// Says that the server carries nothing.
    pub(crate) fn forget(&self) {
        let told = |result: Result<(), PortError>| {
            if let Err(error) = result {
                tracing::debug!(%error, "the registry of hosts was not told that nothing is carried");
            }
        };
        self.registry.evict(&self.name, Box::new(told));
    }
}

impl Shard {
    /// Tells what has changed since the last time.
    pub(crate) fn report_hosting(&mut self) {
        self.counters.hosted.set(self.homes.hosted());
        let Some(hosting) = self.node.hosting().cloned() else { return };
        loop {
            let batch: Vec<(ChannelKey, u64)> = self.homes.take_changed(BATCH);
            if batch.is_empty() {
                return;
            }
            let channels: Vec<ChannelKey> = batch.iter().map(|(channel, _)| channel.clone()).collect();
            let mailbox = self.mailbox();
            let done = Box::new(move |result| mailbox.post(Inbox::Hosted(channels, result)));
            hosting.registry.report(&hosting.name, batch, done);
        }
    }

    /// What could not be told is told with the next report, as it is then.
    pub(crate) fn hosted(&mut self, channels: Vec<ChannelKey>, result: Result<(), PortError>) {
        if let Err(error) = result {
            tracing::debug!(%error, "the registry of hosts was not told");
            self.homes.changed_again(channels);
        }
    }

    /// The registry has forgotten this node.
    pub(crate) fn rehost(&mut self) {
        let all = self.homes.of(None);
        self.homes.changed_again(all);
    }
}
