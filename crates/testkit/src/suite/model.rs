//! Messages, edits, deletions, retention and markers in any order, on two handles that are closed and opened meanwhile, against a model that recounts everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use xpush_core::ports::markers::{Mark, Markers};
use xpush_core::ports::message_log::{Appended, MessageLog, Range, Refused};
use xpush_core::{Clock, Kind, Retention};

use super::answer;
use crate::ManualClock;
use crate::sample::{channel, draft_with, user};

const USERS: [&str; 3] = ["ann", "bob", "cid"];

#[derive(Debug, Clone)]
enum Step {
    /// By whom, what, and whether the id is a used one.
    Append(usize, What, Option<u8>),
    Begin(usize),
    Advance(usize, Mark, u64),
    End(usize),
    Keep(usize, u64),
    Pass(u64),
    /// The handles are closed, whatever they still had to settle, and opened again.
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Message,
    Silent,
    /// Target, counted back from the head; moderating or not.
    Edit(u64, bool),
    Delete(u64, bool),
}

struct Slot {
    kind: Kind,
    from: usize,
    id: String,
    json: String,
    placed: u64,
    /// Seq, and whether it is deleted.
    revision: Option<(u64, bool)>,
}

struct Model {
    slots: Vec<Slot>,
    first: u64,
    retention: Retention,
    age: u64,
    markers: BTreeMap<usize, (u64, u64)>,
    now: u64,
    ids: u64,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => Just(What::Message),
        1 => Just(What::Silent),
        2 => (0..12_u64, any::<bool>()).prop_map(|(back, moderates)| What::Edit(back, moderates)),
        2 => (0..12_u64, any::<bool>()).prop_map(|(back, moderates)| What::Delete(back, moderates)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let mark = prop_oneof![Just(Mark::Read), Just(Mark::Delivered)];
    prop_oneof![
        12 => (0..USERS.len(), what(), proptest::option::weighted(0.2, any::<u8>()))
            .prop_map(|(by, what, again)| Step::Append(by, what, again)),
        1 => (0..USERS.len()).prop_map(Step::Begin),
        6 => (0..USERS.len(), mark, 0..40_u64).prop_map(|(by, mark, seq)| Step::Advance(by, mark, seq)),
        1 => (0..USERS.len()).prop_map(Step::End),
        1 => (1..20_usize, 500..5000_u64).prop_map(|(count, age)| Step::Keep(count, age)),
        2 => (1..1500_u64).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    fn new() -> Self {
        let retention = Retention { count: 10, bytes: usize::MAX, age_ms: 3000 };
        let (slots, markers) = (Vec::new(), BTreeMap::new());
        Self { slots, first: 1, retention, age: u64::MAX, markers, now: 0, ids: 0 }
    }

    fn head(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, seq: u64) -> &Slot {
        &self.slots[usize::try_from(seq).expect("a place in memory") - 1]
    }

    fn readable(&self) -> u64 {
        let young = |seq: &u64| *seq == self.head() || self.now - self.slot(*seq).placed <= self.age;
        (self.first..=self.head()).find(young).unwrap_or(self.first)
    }

    fn unread(&self, read: u64) -> u64 {
        let counts = |seq: &u64| {
            let slot = self.slot(*seq);
            slot.kind == Kind::Message && !slot.revision.is_some_and(|(_, deleted)| deleted)
        };
        (self.readable().max(read + 1)..=self.head()).filter(counts).count() as u64
    }

    fn may_change(&self, target: u64, by: usize, moderates: bool) -> Result<(), Refused> {
        if !(self.readable()..=self.head()).contains(&target) {
            return Err(Refused::NoSuchMessage);
        }
        let slot = self.slot(target);
        match () {
            () if !slot.kind.is_message() || slot.revision.is_some_and(|(_, deleted)| deleted) => {
                Err(Refused::NoSuchMessage)
            }
            () if slot.from != by && !moderates => Err(Refused::NotYours),
            () => Ok(()),
        }
    }

    /// The seq that it has or gets.
    fn append(
        &mut self,
        by: usize,
        kind: Kind,
        moderates: bool,
        id: &str,
        json: &str,
    ) -> Result<u64, Refused> {
        if let Some(at) = self.slots.iter().position(|slot| slot.from == by && slot.id == id) {
            return Ok(at as u64 + 1);
        }
        let seq = self.head() + 1;
        if let Some(target) = kind.target() {
            self.may_change(target, by, moderates)?;
            let deletes = matches!(kind, Kind::Delete { .. });
            for slot in &mut self.slots {
                if deletes && slot.kind == (Kind::Edit { target }) {
                    slot.json = "null".to_owned();
                }
            }
            let slot = &mut self.slots[usize::try_from(target).expect("a place in memory") - 1];
            slot.json = if deletes { "null".to_owned() } else { json.to_owned() };
            slot.revision = Some((seq, deletes));
        } else {
            self.markers.insert(by, (seq, seq));
        }
        // What has left does not come back, whatever age is kept from now on.
        self.first = self.readable();
        let (id, json) = (id.to_owned(), json.to_owned());
        self.slots.push(Slot { kind, from: by, id, json, placed: self.now, revision: None });
        self.age = self.retention.age_ms;
        self.first = self.first.max((seq + 1).saturating_sub(self.retention.count as u64));
        self.first = self.readable();
        Ok(seq)
    }
}

struct Real<'a, L> {
    open: &'a dyn Fn(Arc<dyn Clock>) -> L,
    clock: Arc<ManualClock>,
    ledgers: Vec<L>,
}

impl<'a, L: MessageLog + Markers> Real<'a, L> {
    fn new(open: &'a dyn Fn(Arc<dyn Clock>) -> L) -> Self {
        let mut real = Self { open, clock: Arc::new(ManualClock::new()), ledgers: Vec::new() };
        real.reopen();
        real
    }

    /// Two handles on the store.
    fn reopen(&mut self) {
        self.ledgers.clear();
        for _ in 0..2 {
            self.ledgers.push((self.open)(Arc::clone(&self.clock) as Arc<dyn Clock>));
        }
    }

    fn check(&self, model: &Model, handle: usize) -> Result<(), TestCaseError> {
        let (ledger, key) = (&self.ledgers[handle], channel("chat:a"));
        let page = answer(|done| ledger.read(&key, Range::After(0), usize::MAX, done)).expect("an answer");
        prop_assert_eq!((page.first, page.head), (model.readable(), model.head()));
        let expected: Vec<u64> = (model.readable()..=model.head()).collect();
        prop_assert_eq!(page.messages.iter().map(|message| message.seq()).collect::<Vec<_>>(), expected);
        for message in &page.messages {
            let slot = model.slot(message.seq());
            prop_assert_eq!(&*message.payload.json, slot.json.as_bytes(), "slot {}", message.seq());
            prop_assert_eq!(message.revision.map(|revision| (revision.seq, revision.deleted)), slot.revision);
            prop_assert_eq!((message.kind, message.id.as_str()), (slot.kind, &*slot.id));
        }
        let mut markers = answer(|done| ledger.of_channel(&key, 9, done)).expect("an answer");
        markers.sort_by(|(one, _), (other, _)| one.cmp(other));
        let plain: Vec<_> =
            markers.iter().map(|(user, marker)| (user.as_str(), marker.delivered, marker.read)).collect();
        let expected: Vec<_> =
            model.markers.iter().map(|(by, (delivered, read))| (USERS[*by], *delivered, *read)).collect();
        prop_assert_eq!(plain, expected);
        let users = USERS.iter().map(|id| user(id)).collect();
        let unread = answer(|done| ledger.unread(&key, users, done)).expect("an answer");
        let expected: Vec<_> =
            model.markers.iter().map(|(by, (_, read))| (user(USERS[*by]), model.unread(*read))).collect();
        prop_assert_eq!(unread, expected);
        for by in model.markers.keys() {
            let list = answer(|done| {
                ledger.conversations(&key.app, &user(USERS[*by]), None, 9, done);
            });
            let told = list.expect("an answer").remove(0);
            let newest = (1..=model.head()).rev().find(|seq| model.slot(*seq).kind.is_message());
            let last = newest.filter(|seq| *seq >= model.readable());
            prop_assert_eq!(told.last.map(|last| last.seq()), last);
        }
        Ok(())
    }
}

fn take<L: MessageLog + Markers>(
    real: &mut Real<'_, L>,
    model: &mut Model,
    handle: usize,
    step: &Step,
) -> Result<(), TestCaseError> {
    let key = channel("chat:a");
    match *step {
        Step::Append(by, what, again) => {
            let target = |back| model.head().saturating_sub(back);
            let (kind, moderates) = match what {
                What::Message => (Kind::Message, false),
                What::Silent => (Kind::Silent, false),
                What::Edit(back, moderates) => (Kind::Edit { target: target(back) }, moderates),
                What::Delete(back, moderates) => (Kind::Delete { target: target(back) }, moderates),
            };
            model.ids += 1;
            let used = again.and_then(|again| model.slots.iter().rev().nth(usize::from(again)));
            let id = used.map_or_else(|| model.ids.to_string(), |slot| slot.id.clone());
            let json = model.ids.to_string();
            let mut draft = draft_with(USERS[by], &id, &json);
            (draft.kind, draft.moderates) = (kind, moderates);
            let expected = model.append(by, kind, moderates, &id, &json);
            let appended: Appended =
                answer(|done| real.ledgers[handle].append(&key, model.retention, vec![draft], done))
                    .expect("an answer");
            let taken = appended.taken.into_iter().next().expect("an outcome");
            prop_assert_eq!(taken.map(|placed| placed.message.seq()), expected);
        }
        Step::Begin(by) => {
            let head = model.head();
            let (delivered, read) = *model.markers.entry(by).or_insert((head, head));
            let marker =
                answer(|done| real.ledgers[handle].begin(&key, &user(USERS[by]), done)).expect("an answer");
            prop_assert_eq!((marker.delivered, marker.read), (delivered, read));
        }
        Step::Advance(by, mark, seq) => {
            let to = seq.min(model.head());
            let before = model.markers.get(&by).copied().unwrap_or_default();
            let read = if mark == Mark::Read { before.1.max(to) } else { before.1 };
            model.markers.insert(by, (before.0.max(to), read));
            let advanced = answer(|done| {
                real.ledgers[handle].advance(&key, &user(USERS[by]), mark, seq, done);
            })
            .expect("an answer");
            prop_assert_eq!(advanced.moved, model.markers[&by] != before);
            prop_assert_eq!(advanced.unread, model.unread(read));
        }
        Step::End(by) => {
            model.markers.remove(&by);
            answer(|done| real.ledgers[handle].end(&key.app, Some(&key.name), &user(USERS[by]), done))
                .expect("an answer");
        }
        Step::Keep(count, age_ms) => model.retention = Retention { count, age_ms, ..model.retention },
        Step::Pass(ms) => {
            model.now += ms;
            real.clock.advance(ms);
        }
        Step::Reopen => real.reopen(),
    }
    Ok(())
}

/// What is read is what the model says, in `cases` stores. `empty` makes one that is empty, told by how it is opened; its ages go by the clock.
///
/// # Panics
///
/// With the shortest steps that were found, when it is not.
pub fn recounts<L: MessageLog + Markers, O: Fn(Arc<dyn Clock>) -> L>(cases: u32, empty: impl Fn() -> O) {
    let steps = proptest::collection::vec((0..2_usize, step()), 1..60);
    let told = TestRunner::new(Config { cases, ..Config::default() }).run(&steps, |steps| {
        let open = empty();
        let (mut real, mut model) = (Real::new(&open), Model::new());
        for (handle, step) in &steps {
            take(&mut real, &mut model, *handle, step)?;
            real.check(&model, 1 - handle)?;
        }
        Ok(())
    });
    if let Err(failure) = told {
        panic!("{failure}");
    }
}
