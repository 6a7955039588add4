//! Taking users out of what the memory holds: a stripe in each step.

use bytes::Bytes;
use xpush_core::ports::Done;
use xpush_core::ports::erasure::{Erasure, NOBODY, Pending, Step, is_about};
use xpush_core::{App, ClientId, EventName, Kind, Message, Payload, Revision, Sender, UnixMillis, User};

use super::history::History;
use super::{MemoryLog, STRIPES, Stripe};
use crate::lock;

/// One that has begun.
pub(super) struct Begun {
    pending: Pending,
    /// The next stripe.
    at: usize,
    erased: u64,
}

impl Erasure for MemoryLog {
    fn begin(&self, app: &App, user: &User, since: UnixMillis, done: Done<()>) {
        let mut erasures = lock(&self.erasures);
        if !erasures.iter().any(|begun| begun.is_of(app, user)) {
            let pending = Pending { app: app.clone(), user: user.clone(), since };
            erasures.push(Begun { pending, at: 0, erased: 0 });
        }
        drop(erasures);
        done(Ok(()));
    }

    fn pending(&self, done: Done<Vec<Pending>>) {
        let mut pending: Vec<Pending> =
            lock(&self.erasures).iter().map(|begun| begun.pending.clone()).collect();
        pending.sort_by_key(|pending| pending.since);
        done(Ok(pending));
    }

    fn step(&self, app: &App, user: &User, done: Done<Step>) {
        let at = lock(&self.erasures).iter().find(|begun| begun.is_of(app, user)).map(|begun| begun.at);
        let Some(at) = at else { return done(Ok(Step { ended: true, ..Step::default() })) };
        let erased = self.stripes.get(at).map_or(0, |stripe| self.erase(&mut lock(stripe), app, user));
        let mut erasures = lock(&self.erasures);
        let mut step = Step { ended: true, ..Step::default() };
        if let Some(begun) = erasures.iter_mut().find(|begun| begun.is_of(app, user)) {
            begun.erased += erased;
            begun.at = begun.at.max((at + 1).min(STRIPES));
            let (looked_at, of) = (begun.at as u64, STRIPES as u64);
            step = Step { looked_at, of, erased: begun.erased, ended: looked_at == of };
        }
        drop(erasures);
        done(Ok(step));
    }

    fn end(&self, app: &App, user: &User, done: Done<()>) {
        lock(&self.erasures).retain(|begun| !begun.is_of(app, user));
        done(Ok(()));
    }
}

impl Begun {
    fn is_of(&self, app: &App, user: &User) -> bool {
        self.pending.app == *app && self.pending.user == *user
    }
}

impl MemoryLog {
    fn erase(&self, stripe: &mut Stripe, app: &App, user: &User) -> u64 {
        let mut erased = 0;
        let mut own = Vec::new();
        for (key, history) in stripe.histories.iter_mut().filter(|(key, _)| key.app == *app) {
            if key.name.owner().is_some_and(|(owner, _)| owner == *user) {
                own.push(key.clone());
                continue;
            }
            let before = history.weight();
            erased += history.erase(user, key.name.is_system());
            self.weighed(before, history.weight());
        }
        for key in own {
            if let Some(history) = stripe.histories.remove(&key) {
                stripe.by_write.remove(&history.written);
                erased += history.kept();
                self.forget(stripe, &key, &history);
            }
        }
        erased
    }
}

impl History {
    /// Blanks what `user` has written, and, where only the server writes, what it has written about `user`; how many slots.
    fn erase(&mut self, user: &User, is_system: bool) -> u64 {
        let is_meant = |message: &Message| {
            message.from.user == *user || is_system && is_about(&message.payload.json, user)
        };
        let first = self.first();
        let found: Vec<u64> = (first..)
            .zip(self.messages())
            .filter(|(_, message)| is_meant(message))
            .map(|(seq, _)| seq)
            .collect();
        for seq in &found {
            self.blank(*seq);
        }
        found.len() as u64
    }

    fn blank(&mut self, seq: u64) {
        let old = self.message(seq);
        let (Ok(user), Ok(id), Ok(event)) =
            (User::new(NOBODY), ClientId::new(&format!("erased-{seq}")), EventName::new("message"))
        else {
            return;
        };
        let revision = old.kind.is_message().then(|| match old.revision {
            Some(revision) => Revision { deleted: true, ..revision },
            None => Revision { seq, at: old.at, deleted: true },
        });
        let from = Sender { user, name: None };
        self.replace(seq, Message { id, event, from, payload: nothing(), revision, ..Message::clone(&old) });
        if old.kind.is_message() {
            for edit in self.edits_of(seq) {
                let edit_message = self.message(edit);
                self.replace(edit, Message { payload: nothing(), ..Message::clone(&edit_message) });
            }
        }
        // Words of the user are what another's message reads as.
        if let Kind::Edit { target } = old.kind
            && target >= self.first()
        {
            let changed = self.message(target);
            if let Some(revision) = changed.revision.filter(|revision| revision.seq == seq) {
                let revision = Some(Revision { deleted: true, ..revision });
                self.replace(target, Message { payload: nothing(), revision, ..Message::clone(&changed) });
            }
        }
    }

    fn edits_of(&self, target: u64) -> Vec<u64> {
        let edits = (self.first()..).zip(self.messages());
        edits.filter(|(_, message)| message.kind == (Kind::Edit { target })).map(|(seq, _)| seq).collect()
    }
}

fn nothing() -> Payload {
    Payload { json: Bytes::from_static(b"null"), attachments: Vec::new() }
}
