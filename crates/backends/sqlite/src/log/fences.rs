//! Which messages a channel has already, so that a retry is known.
//!
//! Fences are digests. In an index that every append writes, each would dirty a page of its own, and those pages would be most of what a commit puts on disk. So
//! the fences of the newest slots are kept in memory, where they can be found again at any time (the slots have them, too), and when there are many they are put
//! into the table in the order of the table, a part with each commit: many that go into one page go there together. `channels.fenced` says up to where that was done.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use xpush_core::ChannelKey;

use super::channels::Channel;
use super::slot;
use crate::store::Fault;

pub(super) type Fence = [u8; 16];

/// Fences of slots that the table does not have.
#[derive(Default)]
pub(super) struct Fences {
    recent: HashMap<(i64, Fence), u64>,
    /// Channels that have some, all of them here.
    followed: HashMap<i64, ChannelKey>,
    round: Option<Round>,
}

/// What is being put into the table.
struct Round {
    /// The table's order, from its end.
    rest: Vec<(i64, Fence, u64)>,
    done: Vec<(i64, Fence, u64)>,
}

impl Fences {
    /// Has a channel's recent fences here.
    pub(super) fn load(
        &mut self,
        connection: &Connection,
        key: &ChannelKey,
        channel: &Channel,
    ) -> Result<(), Fault> {
        const SQL: &str = "SELECT slot, fence FROM slots WHERE slot > ?1 AND slot <= ?2";
        if channel.fenced >= channel.head || self.followed.contains_key(&channel.id) {
            return Ok(());
        }
        let range = [channel.fenced, channel.head].map(|seq| slot::key(channel.id, seq));
        let mut select = connection.prepare_cached(SQL)?;
        let mut rows = select.query(range)?;
        while let Some(row) = rows.next()? {
            // One that is no digest is nobody's.
            if let Ok(fence) = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?.try_into() {
                self.recent.insert((channel.id, fence), slot::seq(row.get(0)?));
            }
        }
        self.follow(key, channel.id);
        Ok(())
    }

    /// The channel is about to have recent fences.
    pub(super) fn follow(&mut self, key: &ChannelKey, channel: i64) {
        self.followed.entry(channel).or_insert_with(|| key.clone());
    }

    /// The slot that may have this fence: the slot itself knows.
    pub(super) fn find(
        &self,
        connection: &Connection,
        channel: i64,
        fence: &Fence,
    ) -> Result<Option<u64>, Fault> {
        const SQL: &str = "SELECT seq FROM known_fences WHERE channel = ?1 AND fence = ?2";
        if let Some(seq) = self.recent.get(&(channel, *fence)) {
            return Ok(Some(*seq));
        }
        let mut select = connection.prepare_cached(SQL)?;
        let seq = select.query_row(params![channel, fence], |row| row.get::<_, i64>(0)).optional()?;
        Ok(seq.map(|seq| seq as u64))
    }

    pub(super) fn insert(&mut self, channel: i64, fence: Fence, seq: u64) {
        self.recent.insert((channel, fence), seq);
    }

    /// A slot is gone, or nobody's any more: out of the table. In memory that must not be done before it is certain: see [`drop`](Self::drop).
    pub(super) fn delete(connection: &Connection, key: i64, fence: &[u8]) -> Result<(), Fault> {
        const SQL: &str = "DELETE FROM known_fences WHERE channel = ?1 AND fence = ?2 AND seq = ?3";
        let (channel, seq) = (slot::channel(key), slot::seq(key) as i64);
        connection.prepare_cached(SQL)?.execute(params![channel, fence, seq])?;
        Ok(())
    }

    /// The same in memory.
    pub(super) fn drop(&mut self, key: i64, fence: &[u8]) {
        if let Ok(fence) = fence.try_into()
            && self.recent.get(&(slot::channel(key), fence)) == Some(&slot::seq(key))
        {
            self.recent.remove(&(slot::channel(key), fence));
        }
    }

    /// The channel is no more.
    pub(super) fn forget(&mut self, channel: i64) {
        self.recent.retain(|(of, _), _| *of != channel);
        self.followed.remove(&channel);
        // Another one may be given its number.
        if let Some(round) = &mut self.round {
            round.done.retain(|(of, ..)| *of != channel);
        }
    }

    /// Puts at most `budget` fences into the table, once there are `many`. The channels that have all of them there now, and up to which slot.
    pub(super) fn settle(
        &mut self,
        connection: &Connection,
        many: usize,
        budget: usize,
    ) -> Result<Vec<(i64, ChannelKey, u64)>, Fault> {
        const SQL: &str = "INSERT INTO known_fences VALUES (?1, ?2, ?3)
            ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)";
        if self.round.is_none() && self.recent.len() >= many {
            let mut rest: Vec<_> =
                self.recent.iter().map(|((channel, fence), seq)| (*channel, *fence, *seq)).collect();
            rest.sort_unstable_by(|a, b| b.cmp(a));
            self.round = Some(Round { rest, done: Vec::new() });
        }
        let Some(round) = &mut self.round else { return Ok(Vec::new()) };
        let mut insert = connection.prepare_cached(SQL)?;
        for _ in 0..budget {
            let Some((channel, fence, seq)) = round.rest.pop() else { break };
            // What was removed meanwhile stays away.
            if self.recent.get(&(channel, fence)) == Some(&seq) {
                insert.execute(params![channel, fence, seq as i64])?;
                round.done.push((channel, fence, seq));
            }
        }
        Ok(if round.rest.is_empty() { self.end_round() } else { Vec::new() })
    }

    fn end_round(&mut self) -> Vec<(i64, ChannelKey, u64)> {
        let mut ends: HashMap<i64, u64> = HashMap::new();
        for (channel, fence, seq) in self.round.take().map_or_else(Vec::new, |round| round.done) {
            let end = ends.entry(channel).or_default();
            *end = seq.max(*end);
            if self.recent.get(&(channel, fence)) == Some(&seq) {
                self.recent.remove(&(channel, fence));
            }
        }
        let known = |(channel, seq)| Some((channel, self.followed.get(&channel)?.clone(), seq));
        let ends = ends.into_iter().filter_map(known).collect();
        // The others have nothing here any more.
        let with_recent: HashSet<i64> = self.recent.keys().map(|(channel, _)| *channel).collect();
        self.followed.retain(|channel, _| with_recent.contains(channel));
        ends
    }
}
