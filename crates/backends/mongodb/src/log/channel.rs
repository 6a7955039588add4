//! How a channel stands: its checkpoint and what came behind it.
//!
//! A channel's document says up to which slot (`settled`) everything that follows from slots has been written elsewhere: senders' markers, and what edits and
//! deletions make of their targets. Whoever wants to know how the channel stands reads the checkpoint first and then all slots from it on, bodies apart: the
//! newest of them is the head, and what the others would change is applied in memory. Read in this order nothing is missed, and what is applied twice changes
//! nothing the second time.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use mongodb::Collection;
use mongodb::bson::{Binary, Document, doc};
use xpush_core::ports::PortError;
use xpush_core::ports::erasure::NOBODY;
use xpush_core::{ChannelKey, Epoch, Kind, Position};

use super::Inner;
use super::slot::{self, Slot};

/// Channels asked for in one query.
const AT_ONCE: usize = 100;

/// Between the epochs of one incarnation and the next. An odd number: no two have the same one.
const EPOCHS_APART: u64 = 0x9e37_79b9_7f4a_7c15;
/// By which it becomes 1, modulo 2^64.
pub(super) const EPOCHS_APART_INVERSE: u64 = inverse(EPOCHS_APART);

/// Newton's method: each step doubles the bits that are right, and of an odd number three are right at first.
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut step) = (odd, 0);
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

const _: () = assert!(EPOCHS_APART.wrapping_mul(EPOCHS_APART_INVERSE) == 1);

/// A channel at a moment.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// What its document is known by, whatever lives it has had.
    pub(super) channel: Binary,
    /// What its slots and markers are known by in this life.
    pub(super) id: Binary,
    pub(super) key: ChannelKey,
    pub(super) incarnation: u64,
    /// Everything up to this slot is written wherever it belongs.
    pub(super) settled: u64,
    /// Slots before have no body any more.
    pub(super) blanked: u64,
    /// Changes when a writer finds no place because another one is always faster.
    pub(super) wanted: u64,
    /// The newest settled slot, and all behind it, ascending.
    tail: Vec<Slot>,
}

/// What a change behind the checkpoint makes of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) by: u64,
    pub(super) at: u64,
    pub(super) deletes: bool,
}

impl View {
    fn new(key: &ChannelKey, channel: Binary, document: Option<&Document>) -> Self {
        let number = |field: &str| {
            document.and_then(|document| document.get_i64(field).ok()).map(|value| value as u64)
        };
        let incarnation = number("incarnation").unwrap_or(0);
        Self {
            id: slot::slots_id(&channel, incarnation),
            channel,
            key: key.clone(),
            incarnation,
            settled: number("settled").unwrap_or(0),
            blanked: number("blanked").unwrap_or(1),
            wanted: number("wanted").unwrap_or(0),
            tail: Vec::new(),
        }
    }

    pub(super) fn head(&self) -> Option<&Slot> {
        self.tail.last()
    }

    /// The channel's document, as long as it lives this life.
    pub(super) fn document(&self) -> Document {
        doc! { "_id": self.channel.clone(), "incarnation": self.incarnation as i64 }
    }

    /// Whether the channel has begun anew behind what was read.
    fn has_ended(&self) -> bool {
        self.head().is_some_and(|head| head.is_last)
    }

    /// The next life, of which nothing is read yet.
    fn begin_anew(&mut self) {
        self.incarnation += 1;
        self.id = slot::slots_id(&self.channel, self.incarnation);
        (self.settled, self.blanked) = (0, 1);
        self.tail.clear();
    }

    /// The newest seq.
    pub(super) fn seq(&self) -> u64 {
        self.head().map_or(0, |head| head.seq)
    }

    /// The slots that are not settled.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = &Slot> {
        self.tail.iter().filter(|slot| slot.seq > self.settled)
    }

    /// A slot, when it is among those that were read.
    pub(super) fn slot(&self, seq: u64) -> Option<&Slot> {
        let index = self.tail.binary_search_by_key(&seq, |slot| slot.seq).ok()?;
        self.tail.get(index)
    }

    /// The newest unsettled change of each target.
    pub(super) fn changes(&self) -> HashMap<u64, Change> {
        let mut changes = HashMap::new();
        for slot in self.unsettled() {
            if let Some(target) = slot.kind.target() {
                let deletes = matches!(slot.kind, Kind::Delete { .. });
                changes.insert(target, Change { by: slot.seq, at: slot.at, deletes });
            }
        }
        changes
    }

    /// Each sender's newest unsettled message.
    pub(super) fn senders(&self) -> HashMap<&str, u64> {
        let sent = self.unsettled().filter(|slot| slot.kind.is_message() && slot.user != NOBODY);
        sent.map(|slot| (slot.user.as_str(), slot.seq)).collect()
    }

    /// A slot that was written after the view was made.
    pub(super) fn push(&mut self, slot: Slot) {
        self.tail.push(slot);
        // Only the head is of use to whoever goes on writing.
        if self.tail.len() > 2 * AT_ONCE {
            self.tail.drain(..AT_ONCE);
        }
    }
}

impl Inner {
    pub(super) fn epoch_of(&self, incarnation: u64) -> Epoch {
        Epoch(self.store.epoch().wrapping_add(incarnation.wrapping_mul(EPOCHS_APART)))
    }

    pub(super) fn position(&self, view: &View, seq: u64) -> Position {
        Position { epoch: self.epoch_of(view.incarnation), seq }
    }

    /// How a channel stands, as a majority has it.
    pub(super) async fn look(&self, key: &ChannelKey) -> Result<View, PortError> {
        self.look_in(key, &self.channels, &self.slots).await
    }

    /// The same as the primary has it: for whoever is about to write.
    pub(super) async fn look_latest(&self, key: &ChannelKey) -> Result<View, PortError> {
        self.look_in(key, &self.channels, &self.latest).await
    }

    async fn look_in(
        &self,
        key: &ChannelKey,
        channels: &Collection<Document>,
        slots: &Collection<Document>,
    ) -> Result<View, PortError> {
        let id = slot::channel_id(key);
        let document = self.store.read(channels.find_one(doc! { "_id": id.clone() })).await?;
        let mut view = View::new(key, id, document.as_ref());
        while document.is_some() {
            let tail = doc! { "c": view.id.clone(), "s": { "$gte": view.settled as i64 } };
            let tail = slots.find(tail).projection(without_body());
            view.tail = read_all(self.store.find(tail).await?)?;
            if !view.has_ended() {
                break;
            }
            view.begin_anew();
        }
        Ok(view)
    }

    /// How several channels stand, in the order asked for.
    pub(super) async fn look_at(&self, keys: &[ChannelKey]) -> Result<Vec<View>, PortError> {
        if let [key] = keys {
            return Ok(vec![self.look(key).await?]);
        }
        let ids: Vec<Binary> = keys.iter().map(slot::channel_id).collect();
        let mut documents = HashMap::new();
        for ids in ids.chunks(10 * AT_ONCE) {
            let find = self.channels.find(doc! { "_id": { "$in": ids.to_vec() } });
            for document in self.store.find(find).await? {
                let id = document.get_binary_generic("_id").map_err(|_| slot::unreadable())?.clone();
                documents.insert(id, document);
            }
        }
        let view = |(key, id): (&ChannelKey, Binary)| {
            let document = documents.get(&id.bytes);
            View::new(key, id, document)
        };
        let mut views: Vec<View> = keys.iter().zip(ids).map(view).collect();
        // Most channels are quiet: nothing is behind the checkpoint, which the next place shows. The others are looked at one by one. So all is found by indexes, on every
        // server that speaks the protocol: not all of them plan a `$or` by them.
        let there = views.iter().filter(|view| documents.contains_key(&view.channel.bytes));
        let places = there.flat_map(|view| [(&view.id, view.settled), (&view.id, view.settled + 1)]);
        let found = self.at(places.collect(), without_body()).await?;
        let mut busy = Vec::new();
        for (index, view) in views.iter_mut().enumerate() {
            let slot = |seq| found.get(&*slot::place(&view.id, seq).bytes).map(Slot::read).transpose();
            let settled = slot(view.settled)?;
            let is_quiet = slot(view.settled + 1)?.is_none() && settled.is_some() == (view.settled > 0);
            view.tail = settled.into_iter().collect();
            if !is_quiet || view.has_ended() {
                busy.push(index);
            }
        }
        for some in busy.chunks(AT_ONCE) {
            let looked = try_join_all(some.iter().map(|index| self.look(&keys[*index]))).await?;
            for (index, view) in some.iter().zip(looked) {
                views[*index] = view;
            }
        }
        Ok(views)
    }

    /// The slots in these places, by their `_id`, as far as they are there.
    pub(super) async fn at(
        &self,
        places: Vec<(&Binary, u64)>,
        projection: Document,
    ) -> Result<HashMap<Vec<u8>, Document>, PortError> {
        let ids: Vec<Binary> = places.into_iter().map(|(slots, seq)| slot::place(slots, seq)).collect();
        let mut found = HashMap::new();
        for ids in ids.chunks(10 * AT_ONCE) {
            let find = self.slots.find(doc! { "_id": { "$in": ids.to_vec() } });
            for document in self.store.find(find.projection(projection.clone())).await? {
                let id = document.get_binary_generic("_id").map_err(|_| slot::unreadable())?.clone();
                found.insert(id, document);
            }
        }
        Ok(found)
    }
}

/// Leaves out what may be large.
pub(super) fn without_body() -> Document {
    doc! { "j": 0, "x": 0, "e": 0, "y": 0 }
}

fn read_all(documents: Vec<Document>) -> Result<Vec<Slot>, PortError> {
    let mut slots = documents.iter().map(Slot::read).collect::<Result<Vec<_>, _>>()?;
    slots.sort_unstable_by_key(|slot| slot.seq);
    // A slot is written when the one before it is there. A query that passed the one and met the other ends before them.
    let whole = slots.windows(2).position(|pair| pair[1].seq != pair[0].seq + 1);
    slots.truncate(whole.map_or(slots.len(), |last| last + 1));
    Ok(slots)
}
