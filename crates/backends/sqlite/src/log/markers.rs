//! How far each user has read.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use xpush_core::ports::Done;
use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::{App, Channel as Name, ChannelKey, User};

use super::channels::{Channel, Channels, channel_columns};
use super::{Inner, Ledger, retention, slot};
use crate::lock;
use crate::store::{Fault, Weight, Writing};

impl Inner {
    fn begin(&self, writing: &Writing<'_>, key: &ChannelKey, user: &User) -> Result<Marker, Fault> {
        let mut channels = self.settled(writing)?;
        let channel = channels.get(writing, key)?.clone();
        if let Some(marker) = find(writing, channel.id, user)? {
            return Ok(marker);
        }
        let marker = Marker { delivered: channel.head, read: channel.head };
        self.put(writing, &mut channels, key, user, marker)?;
        Ok(marker)
    }

    fn advance(
        &self,
        writing: &Writing<'_>,
        key: &ChannelKey,
        user: &User,
        mark: Mark,
        seq: u64,
    ) -> Result<Advanced, Fault> {
        let mut channels = self.settled(writing)?;
        let channel = channels.get(writing, key)?.clone();
        let found = find(writing, channel.id, user)?;
        let before = found.unwrap_or_default();
        let seq = seq.min(channel.head);
        let mut marker = Marker { delivered: before.delivered.max(seq), ..before };
        if mark == Mark::Read {
            marker.read = marker.read.max(seq);
        }
        if found != Some(marker) {
            self.put(writing, &mut channels, key, user, marker)?;
        }
        let unread = unread(writing, &channel, marker.read, self.clock.now())?;
        Ok(Advanced { marker, moved: marker != before, unread })
    }

    /// The channels, with the markers of those who have published in this batch where they belong.
    pub(super) fn settled(
        &self,
        writing: &Writing<'_>,
    ) -> Result<std::sync::MutexGuard<'_, Channels>, Fault> {
        let mut channels = lock(&self.channels);
        channels.renew(writing);
        channels.move_senders(writing)?;
        Ok(channels)
    }

    fn put(
        &self,
        writing: &Writing<'_>,
        channels: &mut Channels,
        key: &ChannelKey,
        user: &User,
        marker: Marker,
    ) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO markers (channel, user, app, delivered, read, moved, made)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (channel, user)
            DO UPDATE SET delivered = excluded.delivered, read = excluded.read, moved = excluded.moved";
        let channel = channels.change(writing, key)?;
        channel.moves += 1;
        writing.prepare_cached(SQL)?.execute(params![
            channel.id,
            user.as_str(),
            key.app.as_str(),
            marker.delivered as i64,
            marker.read as i64,
            channel.moves,
            self.clock.wall() as i64
        ])?;
        Ok(())
    }

    fn end(
        &self,
        writing: &Writing<'_>,
        app: &App,
        channel: Option<&Name>,
        user: &User,
    ) -> Result<(), Fault> {
        const ONE: &str = "DELETE FROM markers WHERE user = ?2
            AND channel = (SELECT id FROM channels WHERE app = ?1 AND name = ?3)";
        const ALL: &str = "DELETE FROM markers WHERE app = ?1 AND user = ?2";
        drop(self.settled(writing)?);
        match channel {
            Some(name) => {
                writing.prepare_cached(ONE)?.execute([app.as_str(), user.as_str(), name.as_str()])?
            }
            None => writing.prepare_cached(ALL)?.execute([app.as_str(), user.as_str()])?,
        };
        Ok(())
    }

    fn conversations(
        &self,
        connection: &Connection,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
    ) -> Result<Vec<Conversation>, Fault> {
        const SQL: &str = concat!(
            "SELECT ",
            channel_columns!(),
            ", c.name, m.delivered, m.read, iif(c.head > 0, c.active, m.made) AS moment
            FROM markers AS m JOIN channels AS c ON c.id = m.channel
            WHERE m.app = ?1 AND m.user = ?2 AND (?3 IS NULL OR (moment, c.name) < (?3, ?4))
            ORDER BY moment DESC, c.name DESC LIMIT ?5"
        );
        let (moment, name) = after.unzip();
        let mut select = connection.prepare_cached(SQL)?;
        let mut rows = select.query(params![
            app.as_str(),
            user.as_str(),
            moment.map(|moment| moment as i64),
            name.as_ref().map(Name::as_str),
            i64::try_from(limit).unwrap_or(i64::MAX)
        ])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let Ok(name) = Name::new(row.get_ref(14)?.as_str()?) else { continue };
            let key = ChannelKey::new(app.clone(), name);
            found.push(self.conversation(connection, &key, row)?);
        }
        Ok(found)
    }

    fn conversation(
        &self,
        connection: &Connection,
        key: &ChannelKey,
        row: &Row<'_>,
    ) -> Result<Conversation, Fault> {
        let (channel, now) = (Channel::from_row(row)?, self.clock.now());
        let marker = Marker { delivered: row.get::<_, i64>(15)? as u64, read: row.get::<_, i64>(16)? as u64 };
        let newest = channel.newest;
        let is_kept = newest > 0 && newest >= retention::readable(connection, &channel, now)?;
        let last = match is_kept {
            true => self.slots(connection, key, &channel, newest, newest + 1)?.pop(),
            false => None,
        };
        Ok(Conversation {
            channel: key.name.clone(),
            epoch: self.epoch_of(channel.incarnation),
            head: channel.head,
            marker,
            unread: unread(connection, &channel, marker.read, now)?,
            last,
            active_at: row.get::<_, i64>(17)? as u64,
        })
    }

    fn unread_of(
        &self,
        connection: &Connection,
        key: &ChannelKey,
        users: Vec<User>,
    ) -> Result<Vec<(User, u64)>, Fault> {
        let Some(channel) = Channel::find(connection, key)? else { return Ok(Vec::new()) };
        let now = self.clock.now();
        let mut found = Vec::with_capacity(users.len());
        for user in users {
            if let Some(marker) = find(connection, channel.id, &user)? {
                found.push((user, unread(connection, &channel, marker.read, now)?));
            }
        }
        Ok(found)
    }
}

impl Markers for Ledger {
    fn begin(&self, channel: &ChannelKey, user: &User, done: Done<Marker>) {
        let (inner, channel, user) = (Arc::clone(&self.inner), channel.clone(), user.clone());
        let job = move |writing: &Writing<'_>| inner.begin(writing, &channel, &user);
        self.store.write_checked(Weight::SMALL, job, done);
    }

    fn advance(&self, channel: &ChannelKey, user: &User, mark: Mark, seq: u64, done: Done<Advanced>) {
        let (inner, channel, user) = (Arc::clone(&self.inner), channel.clone(), user.clone());
        let job = move |writing: &Writing<'_>| inner.advance(writing, &channel, &user, mark, seq);
        self.store.write_checked(Weight::SMALL, job, done);
    }

    fn end(&self, app: &App, channel: Option<&Name>, user: &User, done: Done<()>) {
        let (inner, app, user) = (Arc::clone(&self.inner), app.clone(), user.clone());
        let channel = channel.cloned();
        let job = move |writing: &Writing<'_>| inner.end(writing, &app, channel.as_ref(), &user);
        self.store.write_checked(Weight::SMALL, job, done);
    }

    fn of_channel(&self, channel: &ChannelKey, limit: usize, done: Done<Vec<(User, Marker)>>) {
        let channel = channel.clone();
        self.store.read(move |connection| of_channel(connection, &channel, limit), done);
    }

    fn unread(&self, channel: &ChannelKey, users: Vec<User>, done: Done<Vec<(User, u64)>>) {
        let (inner, channel) = (Arc::clone(&self.inner), channel.clone());
        self.store.read(move |connection| inner.unread_of(connection, &channel, users), done);
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<After>,
        limit: usize,
        done: Done<Vec<Conversation>>,
    ) {
        let (inner, app, user) = (Arc::clone(&self.inner), app.clone(), user.clone());
        let job = move |connection: &Connection| inner.conversations(connection, &app, &user, after, limit);
        self.store.read(job, done);
    }
}

fn of_channel(connection: &Connection, key: &ChannelKey, limit: usize) -> Result<Vec<(User, Marker)>, Fault> {
    const SQL: &str = "SELECT user, delivered, read FROM markers
        WHERE channel = (SELECT id FROM channels WHERE app = ?1 AND name = ?2) ORDER BY moved DESC LIMIT ?3";
    let mut select = connection.prepare_cached(SQL)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query(params![key.app.as_str(), key.name.as_str(), limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(user) = User::new(row.get_ref(0)?.as_str()?) {
            found.push((user, marker(row, 1)?));
        }
    }
    Ok(found)
}

fn find(connection: &Connection, channel: i64, user: &User) -> Result<Option<Marker>, Fault> {
    const SQL: &str = "SELECT delivered, read FROM markers WHERE channel = ?1 AND user = ?2";
    let mut select = connection.prepare_cached(SQL)?;
    Ok(select.query_row(params![channel, user.as_str()], |row| marker(row, 0)).optional()?)
}

fn marker(row: &Row<'_>, column: usize) -> Result<Marker, rusqlite::Error> {
    let seq = |column| row.get::<_, i64>(column).map(|seq| seq as u64);
    Ok(Marker { delivered: seq(column)?, read: seq(column + 1)? })
}

/// Countable messages behind `read` that may be read and are not deleted: two sums, without what was withdrawn between them.
fn unread(connection: &Connection, channel: &Channel, read: u64, now: u64) -> Result<u64, Fault> {
    const WITHDRAWN: &str = "SELECT count(*) FROM slots WHERE withdrawn = 1 AND slot >= ?1 AND slot <= ?2";
    let from = retention::readable(connection, channel, now)?.max(read + 1);
    if from > channel.head {
        return Ok(0);
    }
    let from = slot::key(channel.id, from);
    let Some(before) = slot::sums(connection, from)? else { return Ok(0) };
    let mut count = connection.prepare_cached(WITHDRAWN)?;
    let withdrawn: i64 = count.query_row([from, slot::key(channel.id, channel.head)], |row| row.get(0))?;
    Ok(u64::try_from(channel.counted - before.counted - withdrawn).unwrap_or(0))
}
