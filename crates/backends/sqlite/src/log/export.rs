//! Channels, slots and markers as they are, for a ledger of another kind.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use xpush_core::ports::markers::Marker;
use xpush_core::ports::transfer::{ChannelCopy, MarkerCopy, SlotCopy};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{App, Channel, ChannelKey, ClientId, Code, EventName, Kind, Payload, Sender, User};

use super::slot;
use crate::store::Fault;

/// Bytes of one page of slots, about, and slots.
const BYTES: usize = 4 << 20;
const SLOTS: i64 = 1_000;

/// Channels behind the number `after`, at most `limit`; the first of each pair is its number here.
pub(crate) fn channels(
    connection: &Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, ChannelCopy)>, Fault> {
    const SQL: &str = "SELECT id, app, name, incarnation, head, active, newest, age, first, blanked
        FROM channels WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut channels = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        let app = App::new(row.get_ref(1)?.as_str()?).map_err(unreadable)?;
        let name = Channel::new(row.get_ref(2)?.as_str()?).map_err(unreadable)?;
        let (head, first) = (number(4)?, number(8)?);
        let first = if head == 0 { 1 } else { first.min(head) };
        let copy = ChannelCopy {
            key: ChannelKey::new(app, name),
            incarnation: number(3)?,
            head,
            active: number(5)?,
            newest: number(6)?,
            age_ms: number(7)?,
            first,
            blanked: number(9)?.min(first),
        };
        channels.push((row.get(0)?, copy));
    }
    Ok(channels)
}

/// Slots of a channel behind `after`; empty at the end.
pub(crate) fn slots(connection: &Connection, channel: i64, after: u64) -> Result<Vec<SlotCopy>, Fault> {
    const SQL: &str = "SELECT s.slot, s.kind, s.target, s.placed, s.counted, s.bytes,
        coalesce((SELECT n.bytes FROM slots AS n WHERE n.slot = s.slot + 1), (SELECT bytes FROM channels WHERE id = ?3)) - s.bytes,
        s.user, s.id, s.at, s.revised, r.at, s.withdrawn, s.event, s.display, s.json, s.attachments
        FROM slots AS s LEFT JOIN slots AS r ON r.slot = s.revised
        WHERE s.slot > ?1 AND s.slot <= ?2 ORDER BY s.slot LIMIT ?4";
    let mut select = connection.prepare_cached(SQL)?;
    let (from, to) = (slot::key(channel, after), slot::key(channel + 1, 0) - 1);
    let mut rows = select.query(params![from, to, channel, SLOTS])?;
    let (mut slots, mut bytes) = (Vec::new(), 0);
    while bytes < BYTES {
        let Some(row) = rows.next()? else { break };
        let slot = slot_of(row)?;
        bytes += slot.payload.as_ref().map_or(0, Payload::size);
        slots.push(slot);
    }
    Ok(slots)
}

/// Markers of a channel behind those of the user `after`, at most `limit`.
pub(crate) fn markers(
    connection: &Connection,
    channel: i64,
    after: &str,
    limit: usize,
) -> Result<Vec<MarkerCopy>, Fault> {
    const SQL: &str = "SELECT user, delivered, read, moved, made FROM markers
        WHERE channel = ?1 AND user > ?2 ORDER BY user LIMIT ?3";
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query(params![channel, after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut markers = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        markers.push(MarkerCopy {
            user: User::new(row.get_ref(0)?.as_str()?).map_err(unreadable)?,
            marker: Marker { delivered: number(1)?, read: number(2)? },
            moved: number(3)?,
            made: number(4)?,
        });
    }
    Ok(markers)
}

fn slot_of(row: &Row<'_>) -> Result<SlotCopy, Fault> {
    let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
    let target = row.get::<_, Option<i64>>(2)?.map(slot::seq);
    let revised = row.get::<_, Option<i64>>(10)?.map(slot::seq);
    let at: i64 = row.get(9)?;
    let revised_at = row.get::<_, Option<i64>>(11)?;
    let payload = row.get_ref(15)?.as_blob_or_null()?;
    let attachments = row.get_ref(16)?.as_blob_or_null()?;
    let event = row.get_ref(13)?.as_str_or_null()?;
    Ok(SlotCopy {
        seq: slot::seq(row.get(0)?),
        kind: kind_of(row.get(1)?, target)?,
        placed: number(3)?,
        counted: number(4)?,
        bytes: number(5)?,
        own_bytes: number(6)?,
        from: Sender {
            user: User::new(row.get_ref(7)?.as_str()?).map_err(unreadable)?,
            name: row.get_ref(14)?.as_str_or_null()?.map(Arc::from),
        },
        id: ClientId::new(row.get_ref(8)?.as_str()?).map_err(unreadable)?,
        at: at as u64,
        // Of what changed it nothing may be left but the place: then it was when it was placed itself.
        revised: revised.map(|seq| (seq, revised_at.unwrap_or(at) as u64)),
        deleted: row.get::<_, Option<i64>>(12)?.is_some(),
        event: event.map(|event| EventName::new(event).map_err(unreadable)).transpose()?,
        payload: payload.map(|json| slot::payload(json, attachments)),
    })
}

fn kind_of(kind: i64, target: Option<u64>) -> Result<Kind, Fault> {
    Ok(match (kind, target) {
        (0, _) => Kind::Message,
        (1, _) => Kind::Silent,
        (2, Some(target)) => Kind::Edit { target },
        (3, Some(target)) => Kind::Delete { target },
        _ => return Err(unreadable(Code::Internal)),
    })
}

fn unreadable(code: Code) -> Fault {
    PortError::new(
        Failure::NotApplied,
        format!("a slot, a channel or a marker cannot be read: {}", code.text()),
    )
    .into()
}
