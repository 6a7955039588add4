//! What the search index asks of the ledger, and how it hears that there is something new.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeSeed as _;
use xpush_core::ports::PortError;
use xpush_core::search::text::Strings;
use xpush_core::{App, Channel as Name, ChannelKey, Message};

use super::channels::{Channel, channel_columns};
use super::slot::{self, slot_columns};
use super::{Inner, Ledger, retention};
use crate::lock;
use crate::store::{Fault, Writing};

/// The ledger's channels that the index has to look at.
#[derive(Default)]
pub(crate) struct Due {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    news: News,
    closed: bool,
}

/// What has come since this was asked last.
#[derive(Default)]
pub(crate) struct News {
    /// By their ids.
    pub(crate) channels: BTreeSet<i64>,
    /// What has changed is not known.
    pub(crate) everything: bool,
    /// Something is to be taken out, or may be.
    pub(crate) poked: bool,
}

/// A channel as the index compares it with what it has.
pub(crate) struct Standing {
    pub(crate) id: i64,
    pub(crate) key: ChannelKey,
    pub(crate) head: u64,
    pub(crate) first: u64,
}

/// A part of a channel that the index has not seen yet.
pub(crate) struct Stretch {
    pub(crate) key: ChannelKey,
    pub(crate) head: u64,
    pub(crate) first: u64,
    /// The last slot of this part.
    pub(crate) to: u64,
    /// The messages that its slots are about, as they read now; `None`: not any more.
    pub(crate) messages: Vec<(i64, Option<Words>)>,
}

/// What of a message is indexed.
pub(crate) struct Words {
    pub(crate) at: u64,
    pub(crate) user: String,
    pub(crate) text: String,
}

impl Due {
    pub(crate) fn note(&self, channels: impl IntoIterator<Item = i64>, everything: bool) {
        let mut state = lock(&self.state);
        state.news.channels.extend(channels);
        state.news.everything |= everything;
        drop(state);
        self.came.notify_one();
    }

    pub(crate) fn poke(&self) {
        lock(&self.state).news.poked = true;
        self.came.notify_one();
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.came.notify_one();
    }

    /// Waits for so long, or until it is closed.
    pub(crate) fn pause(&self, time: Duration) {
        let open = |state: &mut State| !state.closed;
        let waited = self.came.wait_timeout_while(lock(&self.state), time, open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for news, for `patience` at most; `None` when it is closed.
    pub(crate) fn wait(&self, patience: Duration) -> Option<News> {
        let idle = |state: &mut State| {
            let news = &state.news;
            !state.closed && !news.poked && !news.everything && news.channels.is_empty()
        };
        let waited = self.came.wait_timeout_while(lock(&self.state), patience, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.closed).then(|| std::mem::take(&mut state.news))
    }
}

impl Ledger {
    /// From now on `due` hears of what is written, and erasures wait until the index has taken out what they have.
    pub(crate) fn index_by(&self, due: Arc<Due>) -> Result<(), PortError> {
        // A second one is no more right than the first.
        let _ = self.inner.due.set(due);
        self.store.write_now(|writing| {
            writing.execute("UPDATE meta SET value = 1 WHERE key = 'search'", [])?;
            Ok(())
        })
    }

    /// What tells this ledger from every other, and from itself before a restore.
    pub(crate) fn identity(&self) -> Result<(i64, i64), PortError> {
        let epoch = self.inner.epoch as i64;
        self.store.read_now(move |connection| {
            let sql = "SELECT value FROM meta WHERE key = 'store'";
            Ok((connection.query_row(sql, [], |row| row.get(0))?, epoch))
        })
    }

    /// At most `limit` channels behind the one with this id.
    pub(crate) fn standings(&self, after: i64, limit: usize) -> Result<Vec<Standing>, PortError> {
        self.store.read_now(move |connection| {
            let sql = "SELECT id, app, name, head, first FROM channels WHERE id > ?1 ORDER BY id LIMIT ?2";
            let mut select = connection.prepare_cached(sql)?;
            let mut rows = select.query(params![after, limit as i64])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let names = (App::new(row.get_ref(1)?.as_str()?), Name::new(row.get_ref(2)?.as_str()?));
                let (Ok(app), Ok(name)) = names else { continue };
                let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                let key = ChannelKey::new(app, name);
                found.push(Standing { id: row.get(0)?, key, head: number(3)?, first: number(4)? });
            }
            Ok(found)
        })
    }

    /// At most `limit` slots of a channel behind `after`; `None` when there is no such channel.
    pub(crate) fn stretch(&self, id: i64, after: u64, limit: u64) -> Result<Option<Stretch>, PortError> {
        self.store.read_now(move |connection| stretch(connection, id, after, limit))
    }

    /// The ids of channels, as far as they have one.
    pub(crate) fn ids(&self, keys: Vec<ChannelKey>) -> Result<Vec<i64>, PortError> {
        self.store.read_now(move |connection| {
            let id = |key| Ok(Channel::find(connection, key)?.map(|channel| channel.id));
            keys.iter().filter_map(|key| id(key).transpose()).collect()
        })
    }

    /// The messages in these slots, as they read now; those that may be read no more are left out.
    pub(crate) fn messages(&self, slots: Vec<i64>) -> Result<Vec<(i64, Arc<Message>)>, PortError> {
        let inner = Arc::clone(&self.inner);
        self.store.read_now(move |connection| {
            let message = |slot: &i64| Ok(inner.find(connection, *slot)?.map(|message| (*slot, message)));
            slots.iter().filter_map(|slot| message(slot).transpose()).collect()
        })
    }

    /// At most `limit` slots that are to be taken out.
    pub(crate) fn removals(&self, limit: usize) -> Result<Vec<i64>, PortError> {
        self.store.read_now(move |connection| {
            let mut select = connection.prepare_cached("SELECT slot FROM search_removals LIMIT ?1")?;
            let slots = select.query_map([limit as i64], |row| row.get(0))?;
            Ok(slots.collect::<Result<_, _>>()?)
        })
    }

    /// They are taken out.
    pub(crate) fn removed(&self, slots: Vec<i64>) -> Result<(), PortError> {
        self.store.write_now(move |writing| {
            let mut delete = writing.prepare_cached("DELETE FROM search_removals WHERE slot = ?1")?;
            for slot in slots {
                delete.execute([slot])?;
            }
            Ok(())
        })
    }
}

impl Inner {
    fn find(&self, connection: &Connection, slot: i64) -> Result<Option<Arc<Message>>, Fault> {
        const CHANNEL: &str =
            concat!("SELECT ", channel_columns!(), ", c.app, c.name FROM channels AS c WHERE c.id = ?1");
        const SLOT: &str = concat!(
            "SELECT ",
            slot_columns!(),
            " WHERE s.slot = ?1 AND s.kind <= 1 AND s.withdrawn IS NULL AND s.event IS NOT NULL"
        );
        let named = |row: &rusqlite::Row<'_>| {
            Ok((Channel::from_row(row)?, row.get::<_, String>("app")?, row.get::<_, String>("name")?))
        };
        let mut select = connection.prepare_cached(CHANNEL)?;
        let Some((channel, app, name)) = select.query_row([slot::channel(slot)], named).optional()? else {
            return Ok(None);
        };
        let (Ok(app), Ok(name)) = (App::new(&app), Name::new(&name)) else { return Ok(None) };
        if slot::seq(slot) < retention::readable(connection, &channel, self.clock.now())? {
            return Ok(None);
        }
        let key = ChannelKey::new(app, name);
        let mut select = connection.prepare_cached(SLOT)?;
        let mut rows = select.query([slot])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Arc::new(slot::message(row, &key, self.epoch_of(channel.incarnation), None)?)))
    }

    /// Whether there is something that the index is still to take out; it is told.
    pub(super) fn awaits_index(&self, writing: &Writing<'_>) -> Result<bool, Fault> {
        let Some(due) = self.due.get() else { return Ok(false) };
        let mut select = writing.prepare_cached("SELECT EXISTS (SELECT 1 FROM search_removals)")?;
        let waits = select.query_row([], |row| row.get(0))?;
        if waits {
            due.poke();
        }
        Ok(waits)
    }
}

/// Notes, where there is an index, that it has to take a slot out.
pub(super) fn unindex(writing: &Writing<'_>, slot: i64) -> Result<(), Fault> {
    const SQL: &str =
        "INSERT INTO search_removals SELECT ?1 WHERE (SELECT value FROM meta WHERE key = 'search')
        ON CONFLICT DO NOTHING";
    writing.prepare_cached(SQL)?.execute([slot])?;
    Ok(())
}

fn stretch(connection: &Connection, id: i64, after: u64, limit: u64) -> Result<Option<Stretch>, Fault> {
    const CHANNEL: &str = "SELECT app, name, head, first FROM channels WHERE id = ?1";
    const SLOTS: &str = "SELECT s.slot, m.slot, m.at, m.user,
        m.kind <= 1 AND m.withdrawn IS NULL AND m.event IS NOT NULL, iif(r.slot IS NULL, m.json, r.json)
        FROM slots AS s LEFT JOIN slots AS m ON m.slot = iif(s.kind <= 1, s.slot, s.target)
        LEFT JOIN slots AS r ON r.slot = m.revised
        WHERE s.slot > ?1 AND s.slot <= ?2 ORDER BY s.slot";
    let mut select = connection.prepare_cached(CHANNEL)?;
    let standing = |row: &rusqlite::Row<'_>| {
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, number(2)?, number(3)?))
    };
    let Some((app, name, head, first)) = select.query_row([id], standing).optional()? else {
        return Ok(None);
    };
    let (Ok(app), Ok(name)) = (App::new(&app), Name::new(&name)) else { return Ok(None) };
    let after = after.max(first - 1);
    let to = head.min(after + limit);
    let mut messages = Vec::new();
    let mut select = connection.prepare_cached(SLOTS)?;
    let mut rows = select.query([slot::key(id, after), slot::key(id, to)])?;
    while let Some(row) = rows.next()? {
        // What an edit was about may be gone.
        let Some(message) = row.get::<_, Option<i64>>(1)? else { continue };
        let words = match (row.get::<_, bool>(4)?, row.get_ref(5)?.as_blob_or_null()?) {
            (true, Some(json)) => {
                let mut text = String::new();
                // What cannot be read has no words.
                let _ = Strings(&mut text).deserialize(&mut serde_json::Deserializer::from_slice(json));
                Some(Words { at: row.get::<_, i64>(2)?.unsigned_abs(), user: row.get(3)?, text })
            }
            _ => None,
        };
        messages.push((message, words));
    }
    Ok(Some(Stretch { key: ChannelKey::new(app, name), head, first, to, messages }))
}
