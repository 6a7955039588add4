//! Everything that the file holds, for a store of another kind.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, Row, params};
use xpush_core::ports::directory::{Entry, Key};
use xpush_core::ports::files::FileRecord;
use xpush_core::ports::transfer::{ChannelCopy, MarkerCopy, Origin, SlotCopy};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{App, FileId, UnixMillis, User};

use crate::backup::{CopyError, take_alone};
use crate::store::{Fault, Options, connect_and_migrate};
use crate::{directory, files, log};

/// The store of a server that does not run; nobody else has it open meanwhile.
pub struct Export {
    connection: Connection,
    _alone: File,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Apps, users, devices and so on.
    pub entries: u64,
    /// Channels.
    pub channels: u64,
    /// Messages, edits and deletions.
    pub slots: u64,
    /// Channels that were taken out with their users: of those only a digest is known, which no other store can use.
    pub removed_channels: u64,
    /// Events that wait for apps' hooks; they stay in the store.
    pub waiting: u64,
    /// Events that hooks did not take, and that were given up.
    pub given_up: u64,
}

impl Export {
    /// Of the store at `path`, brought up to date first.
    pub fn open(path: &Path) -> Result<Self, CopyError> {
        if !path.exists() {
            return Err(CopyError::Missing(path.to_owned()));
        }
        let _alone = take_alone(path)?;
        let connection = connect_and_migrate(path, &Options::default())?;
        Ok(Self { connection, _alone })
    }

    /// What is true of it as a whole.
    pub fn origin(&self) -> Result<Origin, Fault> {
        let sql = "SELECT (SELECT value FROM meta WHERE key = 'epoch'),
            (SELECT value FROM meta WHERE key = 'clock'), (SELECT max(placed) FROM channels)";
        let row = |row: &Row<'_>| {
            let number = |column| row.get::<_, Option<i64>>(column).map(|number| number.unwrap_or(0) as u64);
            Ok(Origin { epoch: number(0)?, clock: number(1)?.max(number(2)?) })
        };
        Ok(self.connection.query_row(sql, [], row)?)
    }

    /// How much there is to copy.
    pub fn amount(&self) -> Result<Amount, Fault> {
        let count = |table: &str| -> Result<u64, rusqlite::Error> {
            let sql = format!("SELECT count(*) FROM {table}");
            self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        Ok(Amount {
            entries: count("entries")?,
            channels: count("channels")?,
            slots: count("slots")?,
            removed_channels: count("removed_channels")?,
            waiting: count("outbox_items")?,
            given_up: count("outbox_dead")?,
        })
    }

    /// Whether a user is being erased: that has to end first.
    pub fn is_erasing(&self) -> Result<bool, Fault> {
        Ok(self.connection.query_row("SELECT EXISTS (SELECT 1 FROM erasures)", [], |row| row.get(0))?)
    }

    /// Entries of the directory, those of secrets, too, behind that of the key `after`, at most `limit`.
    pub fn entries(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Entry>, Fault> {
        directory::all(&self.connection, after, limit)
    }

    /// Channels behind the number `after`, at most `limit`; the first of each pair is its number here.
    pub fn channels(&self, after: i64, limit: usize) -> Result<Vec<(i64, ChannelCopy)>, Fault> {
        log::export::channels(&self.connection, after, limit)
    }

    /// Slots of the channel of this number behind `after`, as many as fit into some MB; none at the end.
    pub fn slots(&self, channel: i64, after: u64) -> Result<Vec<SlotCopy>, Fault> {
        log::export::slots(&self.connection, channel, after)
    }

    /// Markers of a channel behind that of the user `after`, at most `limit`.
    pub fn markers(&self, channel: i64, after: &str, limit: usize) -> Result<Vec<MarkerCopy>, Fault> {
        log::export::markers(&self.connection, channel, after, limit)
    }

    /// What is known of files, behind the one of the id `after`, at most `limit`.
    pub fn files(&self, after: Option<&FileId>, limit: usize) -> Result<Vec<FileRecord>, Fault> {
        files::all(&self.connection, after, limit)
    }

    /// When users were last connected, behind `after`, at most `limit`.
    pub fn last_seen(
        &self,
        after: Option<&(App, User, UnixMillis)>,
        limit: usize,
    ) -> Result<Vec<(App, User, UnixMillis)>, Fault> {
        const SQL: &str =
            "SELECT app, user, at FROM last_seen WHERE (app, user) > (?1, ?2) ORDER BY app, user LIMIT ?3";
        let mut select = self.connection.prepare_cached(SQL)?;
        let (app, user) = after.map_or(("", ""), |(app, user, _)| (app.as_str(), user.as_str()));
        let mut rows = select.query(params![app, user, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut seen = Vec::new();
        while let Some(row) = rows.next()? {
            let (app, user) = (App::new(row.get_ref(0)?.as_str()?), User::new(row.get_ref(1)?.as_str()?));
            let (Ok(app), Ok(user)) = (app, user) else {
                return Err(PortError::new(Failure::NotApplied, "a name that is none").into());
            };
            seen.push((app, user, row.get::<_, i64>(2)? as u64));
        }
        Ok(seen)
    }
}
