//! The loads, one a file: connect, warm up, measure, wait until nothing is under way, judge.

pub(crate) mod ack;
pub(crate) mod across;
pub(crate) mod api;
pub(crate) mod durable;
pub(crate) mod fanout;
pub(crate) mod heal;
pub(crate) mod hooks;
pub(crate) mod idle;
pub(crate) mod login;
pub(crate) mod resume;
pub(crate) mod rooms;
pub(crate) mod search;
pub(crate) mod slow;
pub(crate) mod storm;
mod talk;
pub(crate) mod upload;

use crate::{
    client::{Arrival, Heard},
    ledger::{Groups, Ledger},
    payload::MIN_LEN,
    report::Latencies,
    swarm::Swarm,
};
use std::{
    io,
    time::{Duration, Instant},
};

/// How long a turn may wait for events where nothing else is to be done.
const TURN: Duration = Duration::from_millis(100);

/// Listeners that hear publishers, and the account of it. Clients from number `len` on are publishers only.
struct Audience {
    ledger: Ledger,
    latencies: Latencies,
    len: usize,
    /// The first thing that went wrong, in the server's words.
    trouble: Option<String>,
    /// When something arrived last.
    progress: Instant,
}

impl Audience {
    fn new(len: usize, groups: Groups) -> Self {
        Self {
            ledger: Ledger::new(len, groups),
            latencies: Latencies::new(),
            len,
            trouble: None,
            progress: Instant::now(),
        }
    }

    /// Enters what a client heard; tells the message's number if it arrived for the first time.
    fn hear(&mut self, client: usize, heard: Heard) -> Option<u32> {
        match heard {
            Heard::Message(Arrival { stamp, at_ns }) if client < self.len => {
                if self.ledger.arrived(client, stamp) {
                    self.latencies.record(stamp.sent_ns, at_ns);
                    return Some(stamp.seq);
                }
            }
            Heard::Message(_) => self.ledger.faults.stray += 1,
            Heard::Damaged(packet) => {
                self.ledger.faults.stray += 1;
                self.trouble.get_or_insert(format!("damaged: {packet}"));
            }
            Heard::Refused(why) => {
                self.trouble.get_or_insert(why);
            }
            Heard::Gone(why) => {
                self.ledger.faults.cut += 1;
                self.trouble.get_or_insert(why);
            }
            Heard::Acked(_) | Heard::Ready => {}
        }
        None
    }

    /// One turn of the swarm that only enters what arrives.
    fn turn(&mut self, swarm: &mut Swarm, wait: Duration) -> io::Result<()> {
        let before = self.ledger.deliveries;
        swarm.turn(wait, &mut |client, heard| {
            self.hear(client, heard);
        })?;
        if self.ledger.deliveries > before {
            self.progress = Instant::now();
        }
        Ok(())
    }

    /// Turns until `goal` messages arrived in all, or nothing has arrived for `patience`.
    fn wait_for(&mut self, swarm: &mut Swarm, goal: u64, patience: Duration) -> io::Result<()> {
        self.progress = Instant::now();
        while self.ledger.deliveries < goal && self.progress.elapsed() < patience {
            self.turn(swarm, TURN)?;
        }
        Ok(())
    }

    /// Forgets the latencies of the warm-up.
    fn measure_from_here(&mut self) {
        self.latencies = Latencies::new();
    }
}

/// Reads a `--payload`.
fn payload_len(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(len) if len >= MIN_LEN => Ok(len),
        Ok(_) => Err(format!("a message must hold its stamp: at least {MIN_LEN} bytes")),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests;
