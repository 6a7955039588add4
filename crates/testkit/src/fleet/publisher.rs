//! A client that publishes, edits and deletes, and retries what was not acked.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::{Connection, Said, digest_of, place};
use super::subscriber::secret;
use super::{Harbour, Journal, Plan, back_off};
use crate::checker::{Event, Slot};
use crate::environment::SeededEntropy;

/// How often one thing may fail for good reasons.
const ATTEMPTS: u32 = 1_000;

/// Bytes of data.
const DATA: usize = 200;

pub(super) struct Publisher {
    name: Arc<str>,
    number: usize,
    plan: Plan,
    journal: Arc<Journal>,
    harbour: Arc<Harbour>,
    entropy: SeededEntropy,
    /// What it has begun, in the order in which it was first sent.
    pending: VecDeque<Pending>,
    /// Its own messages that were acked and that it has not deleted: channel and seq.
    own: Vec<(Arc<str>, u64)>,
    count: u64,
}

/// Something that was not acked yet.
struct Pending {
    channel: Arc<str>,
    id: Arc<str>,
    slot: Slot,
    data: Value,
    /// The command that it went out by, on this connection.
    asked: Option<u64>,
    attempts: u32,
}

impl Publisher {
    pub(super) fn new(number: usize, plan: Plan, journal: Arc<Journal>, harbour: Arc<Harbour>) -> Self {
        let entropy = SeededEntropy::new(plan.seed ^ 0xbeef_0000 ^ number as u64);
        let name = format!("pub-{number}").into();
        let (pending, own) = (VecDeque::new(), Vec::new());
        Self { name, number, plan, journal, harbour, entropy, pending, own, count: 0 }
    }

    /// One more, who says one thing in each channel; for when the others have stopped.
    pub(super) fn with_last_words(plan: Plan, journal: Arc<Journal>, harbour: Arc<Harbour>) -> Self {
        let mut last = Self::new(plan.publishers, plan, journal, harbour);
        for channel in last.plan.channels.clone() {
            let (id, data) = last.words();
            let slot = Slot::Message { digest: digest_of(&data) };
            last.pending.push_back(Pending { channel, id, slot, data, asked: None, attempts: 0 });
        }
        last
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let (mut known, mut attempts, mut failures) = (0, self.number, 0);
        while let Some((addresses, server)) =
            self.harbour.server(known, back_off(failures, &mut self.entropy))?
        {
            attempts += 1;
            failures += 1;
            known = server;
            let node = if self.plan.one_node { 0 } else { attempts % addresses.len() };
            let opened = Connection::open_for(addresses[node], &secret(&self.name), self.plan.silence);
            let Ok(mut connection) = opened else { continue };
            failures = 0;
            let finished = self.publish(&mut connection);
            self.connection_ended();
            match finished {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.journal.give_up(&error);
                    return Err(error);
                }
                // The server has died.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Publishes until all is acked after a stop, or until the connection ends, which is an error.
    fn publish(&mut self, connection: &mut Connection) -> io::Result<()> {
        loop {
            while !self.journal.is_stopping() && self.pending.len() < self.plan.window {
                let next = self.next();
                self.pending.push_back(next);
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            self.send_all(connection)?;
            match connection.hear()? {
                Said::Ok(id, answer) => self.acked(id, &answer)?,
                Said::Error(id, error) => self.failed(id, &error)?,
                Said::Push(_) => {}
            }
        }
    }

    /// Everything that is not under way, in order.
    fn send_all(&mut self, connection: &mut Connection) -> io::Result<()> {
        for pending in self.pending.iter_mut().filter(|pending| pending.asked.is_none()) {
            let Pending { channel, id, slot, data, .. } = pending;
            let mut fields = json!({"channel": **channel, "message_id": **id});
            let command = match slot {
                Slot::Message { .. } => "publish",
                Slot::Edit { .. } => "edit",
                Slot::Delete { .. } => "delete",
            };
            if let Some(target) = slot.target() {
                fields["seq"] = target.into();
            }
            if !matches!(slot, Slot::Delete { .. }) {
                fields["data"] = data.clone();
            }
            let sent = Event::Sent { channel: channel.clone(), id: id.clone(), slot: *slot };
            self.journal.note(&self.name, sent);
            pending.attempts += 1;
            // Noted as under way even when this fails: perhaps it has left.
            pending.asked = Some(0);
            pending.asked = Some(connection.send(command, fields)?);
        }
        Ok(())
    }

    fn acked(&mut self, asked: u64, answer: &Value) -> io::Result<()> {
        let Some(index) = self.pending.iter().position(|pending| pending.asked == Some(asked)) else {
            return Ok(());
        };
        let place = place(answer).ok_or_else(|| io::Error::other(format!("no position: {answer}")))?;
        let Some(Pending { channel, id, slot, .. }) = self.pending.remove(index) else { return Ok(()) };
        if matches!(slot, Slot::Message { .. }) {
            self.own.push((channel.clone(), place.seq));
        }
        self.journal.note(&self.name, Event::Acked { channel, id, place });
        Ok(())
    }

    fn failed(&mut self, asked: u64, error: &Value) -> io::Result<()> {
        let Some(index) = self.pending.iter().position(|pending| pending.asked == Some(asked)) else {
            return Ok(());
        };
        let pending = &mut self.pending[index];
        pending.asked = None;
        let (channel, id) = (pending.channel.clone(), pending.id.clone());
        let code = error["code"].as_str().unwrap_or_default();
        let (again, event) = match code {
            "outcome_unknown" => (true, Event::Unknown { channel, id, told: true }),
            _ => (error["retry"] != "no", Event::Refused { channel, id, code: code.into() }),
        };
        self.journal.note(&self.name, event);
        let (attempts, later) = (pending.attempts, error["retry"] == "later");
        if error["retry"] == "reconnect" {
            return Err(io::Error::other(format!("sent away: {error}")));
        }
        if !again || attempts == ATTEMPTS {
            let error = format!("{} {:?} was refused: {error}", pending.id, pending.slot);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if later {
            self.harbour.pause(back_off(attempts.min(3), &mut self.entropy));
        }
        Ok(())
    }

    fn connection_ended(&mut self) {
        for pending in &mut self.pending {
            if pending.asked.take().is_some() {
                let (channel, id) = (pending.channel.clone(), pending.id.clone());
                self.journal.note(&self.name, Event::Unknown { channel, id, told: false });
            }
        }
        self.journal.note(&self.name, Event::Disconnected);
    }

    /// Something new to say.
    fn next(&mut self) -> Pending {
        let (id, data) = self.words();
        let digest = digest_of(&data);
        let revision = (self.plan.revises && !self.own.is_empty()).then(|| self.entropy.below(20));
        let (one, any) = (self.any(self.own.len()), self.any(self.plan.channels.len()));
        let (channel, slot) = match revision {
            // The same message may be changed again, but not once it is deleted; and it is not deleted while a change is under way, which may
            // be refused for now and then come behind.
            Some(0..2) => {
                let (channel, target) = self.own[one].clone();
                (channel, Slot::Edit { target, digest })
            }
            Some(2) if !self.is_changing(&self.own[one]) => {
                let (channel, target) = self.own.swap_remove(one);
                (channel, Slot::Delete { target })
            }
            _ => (self.plan.channels[any].clone(), Slot::Message { digest }),
        };
        Pending { channel, id, slot, data, asked: None, attempts: 0 }
    }

    fn is_changing(&self, (channel, seq): &(Arc<str>, u64)) -> bool {
        self.pending.iter().any(|pending| pending.channel == *channel && pending.slot.target() == Some(*seq))
    }

    fn words(&mut self) -> (Arc<str>, Value) {
        self.count += 1;
        let id: Arc<str> = format!("{}-{}", self.name, self.count).into();
        let data = format!("{id}{}", ".".repeat(DATA.saturating_sub(id.len())));
        (id, data.into())
    }

    fn any(&mut self, of: usize) -> usize {
        usize::try_from(self.entropy.below(of.max(1) as u64)).unwrap_or_default()
    }
}
