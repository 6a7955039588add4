//! One publisher and its listeners: how most scenarios begin.

use super::Audience;
use crate::{Target, ledger::Groups, swarm::Swarm};
use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

/// Listeners of one channel, and one more client that publishes into it.
pub(super) struct Talk {
    pub(super) channel: Rc<str>,
    pub(super) swarm: Swarm,
    pub(super) audience: Audience,
    /// Messages that were published.
    pub(super) sent: u32,
    patience: Duration,
}

impl Talk {
    /// All at the target. The channel is called by the prefix and `name`.
    pub(super) fn begin(target: &Target, name: &str, listeners: usize, payload: usize) -> io::Result<Self> {
        Self::begin_at(target, [&*target.url], name, listeners, payload)
    }

    /// The publisher at the target, and so many listeners at each of these servers.
    pub(super) fn begin_at<'a>(
        target: &Target,
        servers: impl IntoIterator<Item = &'a str>,
        name: &str,
        listeners_each: usize,
        payload: usize,
    ) -> io::Result<Self> {
        let channel: Rc<str> = format!("{}{name}", target.prefix).into();
        let mut swarm = Swarm::new(target, payload)?;
        for server in servers {
            swarm.go_to(server)?;
            swarm.connect(listeners_each, target.patience(), |_| Some(channel.clone()))?;
        }
        let listeners = swarm.len();
        swarm.go_to(&target.url)?;
        swarm.connect(1, target.patience(), |_| None)?;
        let audience = Audience::new(listeners, Groups { listeners_each: listeners, publishers_each: 1 });
        Ok(Self { channel, swarm, audience, sent: 0, patience: target.patience() })
    }

    /// Queues the next message.
    pub(super) fn publish(&mut self) -> io::Result<()> {
        self.swarm.publish(self.audience.len, &self.channel, 0, self.sent)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends what was queued.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.swarm.flush(self.audience.len)
    }

    /// Publishes evenly for so long, whether the messages before have arrived or not.
    pub(super) fn publish_for(&mut self, seconds: f64, rate: f64) -> io::Result<()> {
        let (started, end, mut count) = (Instant::now(), Duration::from_secs_f64(seconds), 0_u32);
        let due = |count: u32| Duration::from_secs_f64(f64::from(count) / rate);
        while due(count) < end {
            let before = count;
            while due(count) <= started.elapsed() && due(count) < end {
                self.publish()?;
                count += 1;
            }
            if count > before {
                self.flush()?;
            }
            self.audience.turn(&mut self.swarm, due(count).saturating_sub(started.elapsed()))?;
        }
        Ok(())
    }

    /// Waits until everybody has everything.
    pub(super) fn wait_for_all(&mut self) -> io::Result<()> {
        let goal = u64::from(self.sent) * self.audience.len as u64;
        self.wait_for(goal)
    }

    /// Waits until as many messages have arrived in all.
    pub(super) fn wait_for(&mut self, goal: u64) -> io::Result<()> {
        self.audience.wait_for(&mut self.swarm, goal, self.patience)
    }
}
