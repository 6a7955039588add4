//! Reading.

use std::sync::Arc;

use rusqlite::{Connection, params};
use xpush_core::ports::message_log::{Page, Range};
use xpush_core::{ChannelKey, Message, Position};

use super::channels::Channel;
use super::slot::{self, slot_columns};
use super::{Inner, erasure, retention};
use crate::store::Fault;

/// What is set aside for a page before it is read.
const EXPECTED: u64 = 1024;

impl Inner {
    pub(super) fn page(
        &self,
        connection: &Connection,
        key: &ChannelKey,
        range: Range,
        limit: usize,
    ) -> Result<Page, Fault> {
        let Some(channel) = Channel::find(connection, key)? else {
            let epoch = self.epoch_of(erasure::incarnation(connection, key)?);
            return Ok(Page { epoch, first: 1, head: 0, messages: Vec::new() });
        };
        let first = retention::readable(connection, &channel, self.clock.now())?;
        let (limit, behind_last) = (limit as u64, channel.head + 1);
        let (from, to) = match range {
            Range::After(seq) => {
                let from = seq.saturating_add(1).clamp(first, behind_last);
                (from, from.saturating_add(limit).min(behind_last))
            }
            Range::Before(seq) => {
                let to = seq.clamp(first, behind_last);
                (to.saturating_sub(limit).max(first), to)
            }
            Range::Newest => (behind_last.saturating_sub(limit).max(first), behind_last),
        };
        let messages = self.slots(connection, key, &channel, from, to)?;
        Ok(Page { epoch: self.epoch_of(channel.incarnation), first, head: channel.head, messages })
    }

    /// The slots from `from` to before `to`.
    pub(super) fn slots(
        &self,
        connection: &Connection,
        key: &ChannelKey,
        channel: &Channel,
        from: u64,
        to: u64,
    ) -> Result<Vec<Arc<Message>>, Fault> {
        const SQL: &str =
            concat!("SELECT ", slot_columns!(), " WHERE s.slot >= ?1 AND s.slot < ?2 ORDER BY s.slot");
        let epoch = self.epoch_of(channel.incarnation);
        let mut select = connection.prepare_cached(SQL)?;
        let mut rows = select.query(params![slot::key(channel.id, from), slot::key(channel.id, to)])?;
        let mut messages = Vec::with_capacity((to - from).min(EXPECTED) as usize);
        while let Some(row) = rows.next()? {
            messages.push(Arc::new(slot::message(row, key, epoch, None)?));
        }
        Ok(messages)
    }

    pub(super) fn heads(&self, connection: &Connection, keys: &[ChannelKey]) -> Result<Vec<Position>, Fault> {
        let head = |key| {
            let (incarnation, seq) = match Channel::find(connection, key)? {
                Some(channel) => (channel.incarnation, channel.head),
                None => (erasure::incarnation(connection, key)?, 0),
            };
            Ok(Position { epoch: self.epoch_of(incarnation), seq })
        };
        keys.iter().map(head).collect()
    }
}
