//! What becomes of drafts, as long as nobody else writes.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, doc};
use xpush_core::ports::PortError;
use xpush_core::ports::message_log::{Draft, Refused};
use xpush_core::{Kind, Retention};

use super::Inner;
use super::channel::without_body;
use super::lanes::{Known, weight};
use super::slot::{self, Slot};
use super::telling;

/// Slots, and bytes, of one insert.
pub(super) const SLOTS: usize = 1000;
const BYTES: usize = 8 << 20;

/// What becomes of a draft.
pub(super) enum Step {
    Refuse(Refused),
    /// It has a slot already; which one is to be found out, and ends the plan.
    Retry,
    Insert(Box<Slot>),
}

/// The first steps, one for each of the first drafts.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) documents: Vec<Document>,
}

/// What edits and deletions of a plan depend on, as of the head.
#[derive(Default)]
struct Targets {
    /// Fences of changes that have a slot.
    placed: HashSet<Vec<u8>>,
    /// Messages: whose each is, and whether it is counted.
    messages: HashMap<u64, (String, bool)>,
    /// The smallest slot that may be read.
    first: u64,
}

impl Inner {
    /// Plans as many of `drafts` as go into one insert. Every place but the first depends on the one before, and all of it on the head that is known.
    pub(super) async fn plan<'a>(
        &self,
        known: &mut Known,
        retention: Retention,
        drafts: impl Iterator<Item = &'a Draft> + Clone + Send,
    ) -> Result<Plan, PortError> {
        let now = self.clock.now().max(known.view.head().map_or(0, |head| head.placed));
        let wall = self.clock.wall();
        let mut targets = self.targets(known, drafts.clone().take(SLOTS)).await?;
        let (mut plan, mut fences, mut bytes) = (Plan::default(), HashSet::new(), 0);
        let mut head = known.view.head().cloned();
        let age = retention.age_ms.min(super::retention::ENDLESS);
        if let Some(head) = head.as_mut().filter(|head| head.age < age) {
            // What was too old until now stays so.
            head.first = self.readable(&known.view).await?;
        }
        for draft in drafts.take(SLOTS) {
            let fence = slot::fence(&draft.from.user, &draft.id).bytes;
            bytes += weight(draft);
            // Its own message comes in the same insert: what it reads like is known only behind it.
            if fences.contains(&fence) || (bytes > BYTES && !plan.steps.is_empty()) {
                break;
            }
            let mut uncounts = false;
            if let Some(target) = draft.kind.target() {
                if targets.placed.contains(&fence) {
                    plan.steps.push(Step::Retry);
                    break;
                }
                match targets.judge(draft, target) {
                    Ok(counted) => uncounts = counted && matches!(draft.kind, Kind::Delete { .. }),
                    Err(refused) => {
                        plan.steps.push(Step::Refuse(refused));
                        continue;
                    }
                }
            }
            let mut slot = behind(head.as_ref(), draft, now, wall);
            slot.uncounts = uncounts;
            slot.age = age;
            slot.first = self.keep(&mut known.edge, &known.view, &slot, retention).await?;
            targets.first = targets.first.max(slot.first);
            targets.note(&slot);
            known.edge.push(&slot);
            let mut document = slot.document(&known.view.id, draft);
            if self.tap.get().is_some_and(|tap| tap.wants(&known.view.key)) {
                document.insert("tell", telling::note(&known.view.key, now));
            }
            plan.documents.push(document);
            fences.insert(fence);
            head = Some(slot.clone());
            plan.steps.push(Step::Insert(Box::new(slot)));
        }
        Ok(plan)
    }

    async fn targets<'a>(
        &self,
        known: &Known,
        drafts: impl Iterator<Item = &'a Draft> + Clone + Send,
    ) -> Result<Targets, PortError> {
        let view = &known.view;
        let head = view.seq();
        let changes = || drafts.clone().filter_map(|draft| Some((draft, draft.kind.target()?)));
        let fences: Vec<_> = changes().map(|(draft, _)| slot::fence(&draft.from.user, &draft.id)).collect();
        if fences.is_empty() {
            return Ok(Targets::default());
        }
        let mut targets = Targets { first: self.readable(view).await?, ..Targets::default() };
        let asked: HashSet<u64> =
            changes().map(|(_, target)| target).filter(|target| *target > 0 && *target <= head).collect();
        let asked: Vec<i64> = asked.into_iter().map(|target| target as i64).collect();
        // As it is: whatever of it is taken back takes with it what is inserted here.
        let messages = doc! { "c": view.id.clone(), "s": { "$in": asked.clone() } };
        let find = self.latest.find(messages).projection(without_body());
        for found in self.store.find(find).await? {
            let slot = Slot::read(&found)?;
            targets.note(&slot);
        }
        // Edits of them come along, and change nothing.
        let changes = doc! { "c": view.id.clone(), "t": { "$in": asked } };
        let find = self.latest.find(changes).projection(without_body());
        for found in self.store.find(find).await? {
            targets.note(&Slot::read(&found)?);
        }
        // Behind them: whatever has made a target what it is has its slot here, too, and is none that is refused when it comes again.
        let find = self.latest.find(doc! { "c": view.id.clone(), "h": { "$in": fences } });
        for found in self.store.find(find.projection(doc! { "h": 1 })).await? {
            let fence = found.get_binary_generic("h").map_err(|_| slot::unreadable())?;
            targets.placed.insert(fence.clone());
        }
        Ok(targets)
    }
}

impl Targets {
    /// Whether the target counts as unread, when the draft may change it.
    fn judge(&self, draft: &Draft, target: u64) -> Result<bool, Refused> {
        let message = self.messages.get(&target).filter(|_| target >= self.first);
        let (user, counted) = message.ok_or(Refused::NoSuchMessage)?;
        if draft.from.user.as_str() == user || draft.moderates {
            Ok(*counted)
        } else {
            Err(Refused::NotYours)
        }
    }

    fn note(&mut self, slot: &Slot) {
        match slot.kind {
            Kind::Message | Kind::Silent if slot.deleted_at.is_none() => {
                self.messages.insert(slot.seq, (slot.user.clone(), slot.kind.is_countable()));
            }
            Kind::Delete { target } => {
                self.messages.remove(&target);
            }
            _ => {}
        }
    }
}

/// The slot behind `head`.
pub(super) fn behind(head: Option<&Slot>, draft: &Draft, now: u64, wall: u64) -> Slot {
    let seq = head.map_or(0, |head| head.seq) + 1;
    Slot {
        seq,
        kind: draft.kind,
        user: draft.from.user.as_str().to_owned(),
        at: draft.at,
        uncounts: false,
        placed: now,
        wall,
        counted: head.map_or(0, Slot::counted_through),
        bytes: head.map_or(0, Slot::bytes_through),
        own_bytes: slot::bytes_of(draft),
        first: head.map_or(1, |head| head.first),
        age: 0,
        newest: if draft.kind.is_message() { seq } else { head.map_or(0, |head| head.newest) },
        revised: 0,
        deleted_at: None,
        is_last: false,
    }
}
