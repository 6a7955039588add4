//! A client that follows every channel, and resumes where it was.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use super::connection::{Connection, Said, kept, place};
use super::{Harbour, Journal, Plan, back_off};
use crate::checker::{Event, Place};
use crate::environment::SeededEntropy;

pub(super) struct Subscriber {
    name: Arc<str>,
    number: usize,
    plan: Plan,
    journal: Arc<Journal>,
    harbour: Arc<Harbour>,
    entropy: SeededEntropy,
    /// The last place that it has, by channel.
    places: HashMap<Arc<str>, Place>,
}

impl Subscriber {
    pub(super) fn new(number: usize, plan: Plan, journal: Arc<Journal>, harbour: Arc<Harbour>) -> Self {
        let entropy = SeededEntropy::new(plan.seed ^ 0xface_0000 ^ number as u64);
        let name = format!("sub-{number}").into();
        Self { name, number, plan, journal, harbour, entropy, places: HashMap::new() }
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        // A connection that it drops itself, and one that is refused in between, go to the same server again.
        let (mut known, mut attempts, mut failures) = (0, self.number, 0);
        while let Some((addresses, server)) =
            self.harbour.server(known, back_off(failures, &mut self.entropy))?
        {
            attempts += 1;
            let address = addresses[attempts % addresses.len()];
            let opened = Connection::open_for(address, &secret(&self.name), self.plan.silence);
            let Ok(mut connection) = opened else {
                known = server;
                failures += 1;
                continue;
            };
            failures = 0;
            self.harbour.moor(connection.stream()?);
            let dropped = self.follow(&mut connection).is_ok();
            self.journal.note(&self.name, Event::Disconnected);
            known = if dropped { server - 1 } else { server };
        }
        Ok(())
    }

    /// Follows until the connection ends, which is an error, or until it drops it.
    fn follow(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut asked = HashMap::new();
        for channel in self.plan.channels.clone() {
            let (id, since) = self.ask(connection, &channel)?;
            asked.insert(id, (channel, since));
        }
        loop {
            match connection.hear()? {
                Said::Ok(id, answer) => {
                    if let Some((channel, since)) = asked.remove(&id) {
                        self.subscribed(channel, since, &answer)?;
                    }
                }
                Said::Error(id, error) => {
                    // "Later": the history moved on while it was read.
                    let Some((channel, _)) = asked.remove(&id) else { continue };
                    if error["retry"] == "no" {
                        return Err(io::Error::other(format!("{}: {error}", self.name)));
                    }
                    if error["retry"] == "later" {
                        self.harbour.pause(back_off(2, &mut self.entropy));
                    }
                    let (asked_again, since) = self.ask(connection, &channel)?;
                    asked.insert(asked_again, (channel, since));
                }
                Said::Push(push) => self.pushed(&push)?,
            }
            if asked.is_empty() && self.entropy.chance(self.plan.drops) {
                return Ok(());
            }
        }
    }

    /// Subscribes from where it is. The command's number, and the place.
    fn ask(&self, connection: &mut Connection, channel: &Arc<str>) -> io::Result<(u64, Option<Place>)> {
        let since = self.places.get(channel).cloned();
        let mut fields = json!({"channel": **channel});
        if let Some(Place { epoch, seq }) = &since {
            fields["since"] = json!({"epoch": **epoch, "seq": seq});
        }
        Ok((connection.send("subscribe", fields)?, since))
    }

    fn subscribed(&mut self, channel: Arc<str>, since: Option<Place>, answer: &Value) -> io::Result<()> {
        let place = place(answer).ok_or_else(|| io::Error::other(format!("no position: {answer}")))?;
        let recovered = answer["recovered"].as_bool();
        let missed = answer["missed"].as_u64().unwrap_or_default();
        let before = Place { epoch: place.epoch.clone(), seq: place.seq.saturating_sub(missed) };
        self.places.insert(channel.clone(), before);
        self.journal.note(&self.name, Event::Subscribed { channel, since, recovered, missed, place });
        Ok(())
    }

    fn pushed(&mut self, push: &Value) -> io::Result<()> {
        let name = push["push"].as_str().unwrap_or_default();
        let Some(place) = place(push) else { return Ok(()) };
        let channel: Arc<str> = push["channel"].as_str().unwrap_or_default().into();
        let event = match name {
            "message" | "edit" | "delete" => {
                let kept = kept(push).ok_or_else(|| io::Error::other(format!("no message: {push}")))?;
                Event::Delivered { channel: channel.clone(), kept, epoch: place.epoch.clone() }
            }
            "gap" => Event::Gap { channel: channel.clone(), place: place.clone() },
            _ => return Ok(()),
        };
        self.journal.note(&self.name, event);
        self.places.insert(channel, place);
        Ok(())
    }
}

/// What makes a client the same guest on every connection.
pub(super) fn secret(name: &str) -> String {
    format!("the secret of {name}")
}
