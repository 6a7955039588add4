//! What may be read, and what leaves.
//!
//! An append only moves `first`. The bodies before it are blanked, and slots that are old enough deleted, a few at a time by the
//! batches that follow, and by [`Sweep`] where nothing follows. Age moves on by itself: whoever reads looks where it stands.

use rusqlite::{Connection, params};
use xpush_core::{App, Channel as Name, ChannelKey, Retention};

use super::channels::{Channel, Channels};
use super::fences::Fences;
use super::slot::{self, Sums};
use crate::store::{Fault, Writing};

/// How long a slot is kept, ms: a retry is recognized for 24 h, and a clock may have been a day ahead when the server started.
pub(super) const KEPT: u64 = 48 * 3_600_000;

/// No bound on age, as the file says it.
pub(super) const ENDLESS: u64 = i64::MAX as u64;

/// Slots that a sweep takes out, channels that it looks at, and ids that it looks through for them.
const SWEPT: u64 = 1000;
const CHANNELS: usize = 64;
const IDS: i64 = 1000;

/// How often the file is told the time, ms.
const CLOCK: u64 = 60_000;

/// Goes through all channels, a few at a time.
#[derive(Default)]
pub(super) struct Sweep {
    /// The last channel looked at.
    at: i64,
    /// What the file was told of the clock.
    told: u64,
}

/// Moves `first` to where the bounds let it be; they hold from now on.
pub(super) fn keep(
    connection: &Connection,
    channel: &mut Channel,
    retention: Retention,
    now: u64,
) -> Result<(), Fault> {
    channel.age = retention.age_ms.min(ENDLESS);
    let count = (retention.count as u64).max(1);
    channel.first = channel.first.max((channel.head + 1).saturating_sub(count));
    let bytes = i64::try_from(retention.bytes).unwrap_or(i64::MAX);
    if channel.age < ENDLESS || bytes < channel.bytes {
        let stays = |sums: &Sums| channel.bytes - sums.bytes <= bytes && young(sums, channel.age, now);
        channel.first = bisect(connection, channel, stays)?;
    }
    Ok(())
}

/// The smallest slot that may be read now; head + 1 when there is none.
pub(super) fn readable(connection: &Connection, channel: &Channel, now: u64) -> Result<u64, Fault> {
    if channel.age >= ENDLESS {
        return Ok(channel.first);
    }
    bisect(connection, channel, |sums| young(sums, channel.age, now))
}

/// Blanks and deletes at most `budget` slots.
pub(super) fn trim(
    connection: &Connection,
    channel: &mut Channel,
    fences: &mut Fences,
    now: u64,
    budget: &mut u64,
) -> Result<(), Fault> {
    const DELETE: &str =
        "DELETE FROM slots WHERE slot >= ?1 AND slot < ?2 AND placed < ?3 RETURNING slot, fence";
    const BLANK: &str = "UPDATE slots SET event = NULL, display = NULL, json = NULL, attachments = NULL
        WHERE slot >= ?1 AND slot < ?2";
    if channel.oldest >= channel.first {
        return Ok(());
    }
    // `placed` never falls from slot to slot, so what is deleted is the beginning.
    let to = channel.first.min(channel.oldest + *budget);
    let range = |from, to| (slot::key(channel.id, from), slot::key(channel.id, to));
    let (from_key, to_key) = range(channel.oldest, to);
    let cut = now.saturating_sub(KEPT) as i64;
    let mut delete = connection.prepare_cached(DELETE)?;
    let mut rows = delete.query(params![from_key, to_key, cut])?;
    let mut deleted = 0;
    while let Some(row) = rows.next()? {
        let (key, fence) = (row.get(0)?, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        Fences::delete(connection, key, fence)?;
        fences.drop(key, fence);
        deleted += 1;
    }
    channel.oldest += deleted;
    *budget -= deleted;
    channel.blanked = channel.blanked.max(channel.oldest);
    let to = channel.first.min(channel.blanked + *budget);
    if channel.blanked < to {
        let (from_key, to_key) = range(channel.blanked, to);
        let blanked = connection.prepare_cached(BLANK)?.execute([from_key, to_key])?;
        channel.blanked = to;
        *budget = budget.saturating_sub(blanked as u64);
    }
    Ok(())
}

impl Sweep {
    /// Looks at the next channels; true when there is more to do at once.
    pub(super) fn step(
        &mut self,
        writing: &Writing<'_>,
        channels: &mut Channels,
        now: u64,
    ) -> Result<bool, Fault> {
        channels.renew(writing);
        self.tell_clock(writing, channels, now)?;
        let mut budget = SWEPT;
        let due = self.due(writing)?;
        for (id, key) in &due {
            let mut channel = channels.get(writing, key)?.clone();
            channel.first = readable(writing, &channel, now)?;
            trim(writing, &mut channel, &mut channels.fences, now, &mut budget)?;
            if channel != *channels.get(writing, key)? {
                *channels.change(writing, key)? = channel;
            }
            if budget == 0 {
                // This one again.
                self.at = id - 1;
                return Ok(true);
            }
            self.at = *id;
        }
        if due.len() < CHANNELS {
            self.at += IDS;
            let last = writing.query_row("SELECT max(id) FROM channels", [], |row| row.get(0));
            if self.at >= last.map(|last: Option<i64>| last.unwrap_or(0))? {
                self.at = 0;
            }
        }
        Ok(false)
    }

    /// The next channels in which there may be something to take out.
    fn due(&self, connection: &Connection) -> Result<Vec<(i64, ChannelKey)>, Fault> {
        const SQL: &str = "SELECT id, app, name FROM channels WHERE id > ?1 AND id <= ?2
            AND (oldest < first OR age < ?3 AND first < head) ORDER BY id LIMIT ?4";
        let mut select = connection.prepare_cached(SQL)?;
        let mut rows = select.query(params![self.at, self.at + IDS, ENDLESS as i64, CHANNELS as i64])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let names = (App::new(row.get_ref(1)?.as_str()?), Name::new(row.get_ref(2)?.as_str()?));
            if let (Ok(app), Ok(name)) = names {
                due.push((row.get(0)?, ChannelKey::new(app, name)));
            }
        }
        Ok(due)
    }

    fn tell_clock(&mut self, writing: &Writing<'_>, channels: &mut Channels, now: u64) -> Result<(), Fault> {
        if now >= self.told + CLOCK && channels.wrote() {
            let mut update =
                writing.prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE key = 'clock'")?;
            update.execute([now as i64])?;
            self.told = now;
        }
        Ok(())
    }
}

const fn young(sums: &Sums, age: u64, now: u64) -> bool {
    now.saturating_sub(sums.placed) <= age
}

/// The smallest slot from `first` on that `stays`, when that holds for every slot behind one for which it holds; the newest stays whatever it says.
/// Looks near `first` first: as a rule few leave at a time.
fn bisect(connection: &Connection, channel: &Channel, stays: impl Fn(&Sums) -> bool) -> Result<u64, Fault> {
    let stays = |seq| -> Result<bool, Fault> {
        Ok(seq >= channel.head
            || slot::sums(connection, slot::key(channel.id, seq))?.is_some_and(|sums| stays(&sums)))
    };
    let (mut leaves, mut step) = (channel.first, 1);
    if leaves > channel.head || stays(leaves)? {
        return Ok(channel.first);
    }
    while !stays(leaves + step)? {
        leaves += step;
        step *= 2;
    }
    let mut found = (leaves + step).min(channel.head);
    while found - leaves > 1 {
        let middle = leaves + (found - leaves) / 2;
        if stays(middle)? {
            found = middle;
        } else {
            leaves = middle;
        }
    }
    Ok(found)
}
