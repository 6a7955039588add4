//! A ledger in memory: the contract of its two ports in the fewest words, for tests and as a model to compare with.

mod hostile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use xpush_core::ports::Done;
use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Placed, Range, Refused};
use xpush_core::{
    App, Channel, ChannelKey, Clock, Epoch, Kind, Message, Monotonic, Position, Retention, Revision,
    UnixMillis, User,
};

pub use hostile::{HostileLedger, Trouble};

/// Messages and markers.
pub struct MemoryLedger {
    epoch: Epoch,
    clock: Arc<dyn Clock>,
    channels: Mutex<HashMap<ChannelKey, Book>>,
}

/// A channel.
#[derive(Default)]
struct Book {
    /// Slot n at n − 1, as it reads now, and when it was placed.
    slots: Vec<Arc<Message>>,
    placed: Vec<Monotonic>,
    /// Slots before this index are blanked: they are there for those who come again with a message.
    blanked: usize,
    retention: Option<Retention>,
    written_at: UnixMillis,
    markers: HashMap<User, Place>,
    moves: u64,
}

/// A user's marker.
struct Place {
    marker: Marker,
    made_at: UnixMillis,
    /// The number of its latest move in its channel.
    moved: u64,
}

impl MemoryLedger {
    /// An empty one.
    pub fn new(epoch: u64, clock: Arc<dyn Clock>) -> Self {
        Self { epoch: Epoch(epoch), clock, channels: Mutex::default() }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelKey, Book>> {
        self.channels.lock().expect("no panic under the ledger's lock")
    }

    /// What a channel comes to at this moment.
    fn look<T>(&self, channel: &ChannelKey, look: impl FnOnce(&mut Book) -> T) -> T {
        let mut channels = self.channels();
        let book = channels.entry(channel.clone()).or_default();
        book.trim(self.clock.monotonic());
        look(book)
    }

    fn place(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>) -> Appended {
        let (wall, now) = (self.clock.wall(), self.clock.monotonic());
        let taken = self.look(channel, |book| {
            book.retention = Some(retention);
            let place = |draft| book.place(channel, self.epoch, draft, wall, now);
            let taken = drafts.into_iter().map(place).collect();
            book.trim(now);
            taken
        });
        Appended { taken, failure: None }
    }
}

impl Book {
    fn head(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Arc<Message>> {
        self.slots.get_mut(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    fn place(
        &mut self,
        channel: &ChannelKey,
        epoch: Epoch,
        draft: Draft,
        wall: UnixMillis,
        now: Monotonic,
    ) -> Result<Placed, Refused> {
        let same = |message: &&Arc<Message>| message.from.user == draft.from.user && message.id == draft.id;
        if let Some(first) = self.slots.iter().find(same) {
            return Ok(Placed { message: first.clone(), retry: true });
        }
        let seq = self.head() + 1;
        if let Some(target) = draft.kind.target() {
            self.fold(target, seq, &draft)?;
        }
        let Draft { kind, id, event, payload, from, at, .. } = draft;
        let position = Some(Position { epoch, seq });
        let channel = channel.clone();
        let user = from.user.clone();
        let message =
            Arc::new(Message { kind, channel, position, id, event, payload, from, at, revision: None });
        self.slots.push(message.clone());
        self.placed.push(now);
        self.written_at = wall;
        if kind.is_message() {
            self.advance(&user, Mark::Read, seq, wall);
        }
        Ok(Placed { message, retry: false })
    }

    /// Lets `target` read as the slot `seq` makes it.
    fn fold(&mut self, target: u64, seq: u64, draft: &Draft) -> Result<(), Refused> {
        let deleted = matches!(draft.kind, Kind::Delete { .. });
        let blanked = self.blanked as u64;
        let slot = self.slot(target).filter(|slot| slot.seq() > blanked).ok_or(Refused::NoSuchMessage)?;
        if !slot.kind.is_message() || slot.is_deleted() {
            return Err(Refused::NoSuchMessage);
        }
        if slot.from.user != draft.from.user && !draft.moderates {
            return Err(Refused::NotYours);
        }
        let message = Arc::make_mut(slot);
        message.payload = draft.payload.clone();
        message.revision = Some(Revision { seq, at: draft.at, deleted });
        if deleted {
            self.forget(target);
        }
        Ok(())
    }

    /// What a deleted message has said is gone, from itself and from its edits.
    fn forget(&mut self, target: u64) {
        let of_it = |slot: &&mut Arc<Message>| slot.seq() == target || slot.kind == Kind::Edit { target };
        for slot in self.slots.iter_mut().filter(of_it) {
            let payload = &mut Arc::make_mut(slot).payload;
            payload.json = Bytes::from_static(b"null");
            payload.attachments.clear();
        }
    }

    /// Blanks what is too much or too old; the newest slot stays.
    fn trim(&mut self, now: Monotonic) {
        let Some(Retention { count, bytes, age_ms }) = self.retention else { return };
        let weight = |slot: &Arc<Message>| slot.event.as_str().len() + slot.payload.size();
        while self.blanked + 1 < self.slots.len() {
            let kept = &self.slots[self.blanked..];
            let too_old = now.since(self.placed[self.blanked]) > age_ms;
            let too_large = || bytes < usize::MAX && kept.iter().map(weight).sum::<usize>() > bytes;
            if !too_old && kept.len() <= count && !too_large() {
                return;
            }
            self.blanked += 1;
        }
    }

    fn begin(&mut self, user: &User, at: u64, now: UnixMillis) -> Marker {
        let marker = Marker { delivered: at, read: at };
        self.moves += 1;
        let moved = self.moves;
        self.markers.entry(user.clone()).or_insert(Place { marker, made_at: now, moved }).marker
    }

    fn advance(&mut self, user: &User, mark: Mark, seq: u64, now: UnixMillis) -> Advanced {
        let seq = seq.min(self.head());
        self.begin(user, 0, now);
        self.moves += 1;
        let moves = self.moves;
        let place = self.markers.get_mut(user).expect("it was just made");
        let before = place.marker;
        place.marker.delivered = before.delivered.max(seq);
        if mark == Mark::Read {
            place.marker.read = before.read.max(seq);
        }
        let (marker, moved) = (place.marker, place.marker != before);
        if moved {
            place.moved = moves;
        }
        Advanced { marker, moved, unread: self.unread(marker.read) }
    }

    fn unread(&self, read: u64) -> u64 {
        let counts = |message: &&Arc<Message>| message.kind.is_countable() && !message.is_deleted();
        let behind = self.slots[self.blanked..].iter().filter(|message| message.seq() > read);
        behind.filter(counts).count() as u64
    }

    fn page(&self, epoch: Epoch, range: Range, limit: usize) -> Page {
        let kept = &self.slots[self.blanked..];
        let messages = match range {
            Range::After(seq) => kept.iter().filter(|slot| slot.seq() > seq).take(limit).cloned().collect(),
            Range::Before(_) | Range::Newest => {
                let end = if let Range::Before(seq) = range { seq } else { u64::MAX };
                let before = kept.iter().filter(|slot| slot.seq() < end).count();
                kept[before.saturating_sub(limit)..before].to_vec()
            }
        };
        Page { epoch, first: self.blanked as u64 + 1, head: self.head(), messages }
    }
}

impl MessageLog for MemoryLedger {
    fn append(&self, channel: &ChannelKey, retention: Retention, drafts: Vec<Draft>, done: Done<Appended>) {
        let appended = self.place(channel, retention, drafts);
        done(Ok(appended));
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let page = self.look(channel, |book| book.page(self.epoch, range, limit));
        done(Ok(page));
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        let books = self.channels();
        let head = |key| Position { epoch: self.epoch, seq: books.get(key).map_or(0, Book::head) };
        let heads = channels.iter().map(head).collect();
        drop(books);
        done(Ok(heads));
    }
}

impl Markers for MemoryLedger {
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>) {
        let now = self.clock.wall();
        let marker = self.look(channel, |book| book.begin(user, book.head(), now));
        done(Ok(marker));
    }

    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>) {
        let now = self.clock.wall();
        let advanced = self.look(channel, |book| book.advance(user, mark, seq, now));
        done(Ok(advanced));
    }

    fn end(&self, app: &App, channel: Option<&Channel>, user: &User, done: Done<()>) {
        for (key, book) in &mut *self.channels() {
            if key.app == *app && channel.is_none_or(|channel| key.name == *channel) {
                book.markers.remove(user);
            }
        }
        done(Ok(()));
    }

    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>) {
        let markers = self.look(channel, |book| {
            let mut places: Vec<_> = book.markers.iter().collect();
            places.sort_by_key(|(_, place)| std::cmp::Reverse(place.moved));
            places.into_iter().take(limit).map(|(user, place)| (user.clone(), place.marker)).collect()
        });
        done(Ok(markers));
    }

    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>) {
        let unread = self.look(channel, |book| {
            let unread = |user: User| {
                let read = book.markers.get(&user)?.marker.read;
                Some((user, book.unread(read)))
            };
            users.into_iter().filter_map(unread).collect()
        });
        done(Ok(unread));
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    ) {
        let mut channels = self.channels();
        channels.values_mut().for_each(|book| book.trim(self.clock.monotonic()));
        let conversation = |(key, book): (&ChannelKey, &Book)| {
            let place = book.markers.get(user).filter(|_| key.app == *app)?;
            Some(Conversation {
                channel: key.name.clone(),
                epoch: self.epoch,
                head: book.head(),
                marker: place.marker,
                unread: book.unread(place.marker.read),
                last: book.slots[book.blanked..].iter().rev().find(|slot| slot.kind.is_message()).cloned(),
                active_at: if book.slots.is_empty() { place.made_at } else { book.written_at },
            })
        };
        let mut found: Vec<_> = channels.iter().filter_map(conversation).collect();
        drop(channels);
        found.retain(|one| {
            after.as_ref().is_none_or(|after| (one.active_at, &one.channel) < (after.0, &after.1))
        });
        found.sort_by(|a, b| (b.active_at, &b.channel).cmp(&(a.active_at, &a.channel)));
        found.truncate(limit);
        done(Ok(found));
    }
}
