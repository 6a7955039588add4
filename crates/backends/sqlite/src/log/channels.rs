//! What the writer knows of channels, so that an append need not read it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use xpush_core::{ChannelKey, User};

use super::fences::Fences;
use super::{erasure, retention};
use crate::store::{Fault, Writing};

/// Channels that the writer remembers, at some 300 bytes each.
const REMEMBERED: usize = 50_000;

/// A channel's row. What each column means, the schema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) id: i64,
    pub(super) incarnation: i64,
    pub(super) head: u64,
    pub(super) fenced: u64,
    pub(super) counted: i64,
    pub(super) bytes: i64,
    pub(super) placed: u64,
    pub(super) active: u64,
    pub(super) newest: u64,
    pub(super) moves: i64,
    pub(super) age: u64,
    pub(super) first: u64,
    pub(super) blanked: u64,
    pub(super) oldest: u64,
}

/// Channels as the current transaction will have left them; written once for each batch, by [`flush`](Self::flush).
#[derive(Default)]
pub(super) struct Channels {
    view: u64,
    known: HashMap<ChannelKey, Known>,
    changed: Vec<ChannelKey>,
    pub(super) fences: Fences,
    /// Senders' own newest slots.
    sent: HashMap<(ChannelKey, User), u64>,
    /// Slots placed since the last flush.
    placed: u64,
    /// Whether anything was placed since somebody asked.
    wrote: bool,
    /// What has changed since the last commit: by id, and whether others may have changed more.
    news: (Vec<i64>, bool),
}

struct Known {
    channel: Channel,
    changed: bool,
}

/// The columns of [`Channel::from_row`], of a table that the query calls `c`.
macro_rules! channel_columns {
    () => {
        "c.id, c.incarnation, c.head, c.counted, c.bytes, c.placed, c.active, c.newest, c.moves, c.age, c.first, c.blanked, c.oldest, c.fenced"
    };
}
pub(super) use channel_columns;

impl Channel {
    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let unsigned = |column| row.get::<_, i64>(column).map(|value| value as u64);
        Ok(Self {
            id: row.get(0)?,
            incarnation: row.get(1)?,
            head: unsigned(2)?,
            counted: row.get(3)?,
            bytes: row.get(4)?,
            placed: unsigned(5)?,
            active: unsigned(6)?,
            newest: unsigned(7)?,
            moves: row.get(8)?,
            age: unsigned(9)?,
            first: unsigned(10)?,
            blanked: unsigned(11)?,
            oldest: unsigned(12)?,
            fenced: unsigned(13)?,
        })
    }

    /// As it stands in the file.
    pub(super) fn find(connection: &Connection, key: &ChannelKey) -> Result<Option<Self>, Fault> {
        const SQL: &str =
            concat!("SELECT ", channel_columns!(), " FROM channels AS c WHERE app = ?1 AND name = ?2");
        let mut select = connection.prepare_cached(SQL)?;
        Ok(select.query_row([key.app.as_str(), key.name.as_str()], Self::from_row).optional()?)
    }

    /// Makes one that there is not.
    fn insert(connection: &Connection, key: &ChannelKey) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO channels (app, name, incarnation) VALUES (?1, ?2, ?3)";
        let incarnation = erasure::incarnation(connection, key)?;
        let mut insert = connection.prepare_cached(SQL)?;
        insert.execute(params![key.app.as_str(), key.name.as_str(), incarnation])?;
        Ok(())
    }

    fn update(&self, connection: &Connection) -> Result<(), Fault> {
        const SQL: &str = "UPDATE channels SET head = ?2, counted = ?3, bytes = ?4, placed = ?5, active = ?6,
            newest = ?7, moves = ?8, age = ?9, first = ?10, blanked = ?11, oldest = ?12 WHERE id = ?1";
        connection.prepare_cached(SQL)?.execute(params![
            self.id,
            self.head as i64,
            self.counted,
            self.bytes,
            self.placed as i64,
            self.active as i64,
            self.newest as i64,
            self.moves,
            self.age as i64,
            self.first as i64,
            self.blanked as i64,
            self.oldest as i64,
        ])?;
        Ok(())
    }
}

impl Channels {
    /// Forgets what may be wrong by now.
    pub(super) fn renew(&mut self, writing: &Writing<'_>) {
        if self.view != writing.view() {
            *self =
                Self { view: writing.view(), wrote: self.wrote, news: (Vec::new(), true), ..Self::default() };
        }
    }

    /// A channel as it is now, made when it is new.
    pub(super) fn get(&mut self, writing: &Writing<'_>, key: &ChannelKey) -> Result<&Channel, Fault> {
        self.known(writing, key).map(|known| &known.channel)
    }

    /// The same, to be changed.
    pub(super) fn change(&mut self, writing: &Writing<'_>, key: &ChannelKey) -> Result<&mut Channel, Fault> {
        if !self.known(writing, key)?.changed {
            self.changed.push(key.clone());
        }
        let known = self.known(writing, key)?;
        known.changed = true;
        Ok(&mut known.channel)
    }

    fn known(&mut self, writing: &Writing<'_>, key: &ChannelKey) -> Result<&mut Known, Fault> {
        if !self.known.contains_key(key) {
            let channel = match Channel::find(writing, key)? {
                Some(channel) => channel,
                None => {
                    Channel::insert(writing, key)?;
                    Channel::find(writing, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
                }
            };
            self.fences.load(writing, key, &channel)?;
            self.known.insert(key.clone(), Known { channel, changed: false });
        }
        Ok(self.known.get_mut(key).ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    /// A channel is no more.
    pub(super) fn forget(&mut self, id: i64, key: &ChannelKey) {
        self.known.remove(key);
        self.fences.forget(id);
    }

    /// `user` has placed a message of its own.
    pub(super) fn sent(&mut self, key: &ChannelKey, user: &User, seq: u64) {
        self.sent.insert((key.clone(), user.clone()), seq);
    }

    pub(super) fn placed(&mut self, slots: u64) {
        self.placed += slots;
        self.wrote |= slots > 0;
    }

    /// Whether anything was placed since this was asked last.
    pub(super) fn wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    /// The channels that the last batch has changed, and whether others have.
    pub(super) fn take_news(&mut self) -> (Vec<i64>, bool) {
        std::mem::take(&mut self.news)
    }

    /// Moves the markers of those who have published.
    pub(super) fn move_senders(&mut self, writing: &Writing<'_>) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO markers (channel, user, app, delivered, read, moved, made)
            VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6) ON CONFLICT (channel, user)
            DO UPDATE SET delivered = excluded.delivered, read = excluded.read, moved = excluded.moved";
        let mut sent: Vec<_> = std::mem::take(&mut self.sent).into_iter().collect();
        sent.sort_unstable_by_key(|(_, seq)| *seq);
        for ((key, user), seq) in sent {
            let channel = self.change(writing, &key)?;
            channel.moves += 1;
            writing.prepare_cached(SQL)?.execute(params![
                channel.id,
                user.as_str(),
                key.app.as_str(),
                seq as i64,
                channel.moves,
                channel.active as i64
            ])?;
        }
        Ok(())
    }

    /// Writes what has changed, and takes out a few slots that may not be read any more: about twice as many as were placed, so that this keeps up.
    pub(super) fn flush(&mut self, writing: &Writing<'_>, now: u64) -> Result<(), Fault> {
        self.renew(writing);
        self.move_senders(writing)?;
        let mut budget = 2 * std::mem::take(&mut self.placed) + 64;
        self.settle_fences(writing, budget)?;
        for key in std::mem::take(&mut self.changed) {
            let Some(known) = self.known.get_mut(&key) else { continue };
            known.changed = false;
            retention::trim(writing, &mut known.channel, &mut self.fences, now, &mut budget)?;
            known.channel.update(writing)?;
            self.news.0.push(known.channel.id);
        }
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        Ok(())
    }

    fn settle_fences(&mut self, writing: &Writing<'_>, budget: u64) -> Result<(), Fault> {
        const SQL: &str = "UPDATE channels SET fenced = ?2 WHERE id = ?1";
        for (id, key, seq) in self.fences.settle(
            writing,
            writing.recent_fences(),
            usize::try_from(budget).unwrap_or(usize::MAX),
        )? {
            writing.prepare_cached(SQL)?.execute(params![id, seq as i64])?;
            if let Some(known) = self.known.get_mut(&key) {
                known.channel.fenced = seq;
            }
        }
        Ok(())
    }
}
