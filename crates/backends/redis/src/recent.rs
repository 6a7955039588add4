//! Recent history: slots in hashes, one channel in one hash slot, and every append one script.
//!
//! **What a failover can lose.** Redis answers before its replicas have what was written, so the newest messages of a channel may be gone after a failover, or
//! after a restart from a file that is behind. That is never silent: each script compares the server's line of history (`master_replid`) with the one that the
//! channel was used on last, and where it is another one, what is left goes on under a new epoch. Who was ahead is told so (`recovered: false`) instead of
//! meeting other messages under the seqs that it knows. Where Redis does not let us see that line (an ACL without `INFO`), only an empty server is recognized.
//!
//! Who is erased is looked for in every channel that is kept ([`erasure`]).
//!
//! A channel that nobody reads, writes or follows is forgotten a day after its messages are too old.

mod erasure;
mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use tokio::task::JoinSet;
use xpush_core::message::Revision;
use xpush_core::ports::message_log::{Appended, Draft, MessageLog, Page, Placed, Range, Refused};
use xpush_core::ports::{Done, Failure, PortError};
use xpush_core::{ChannelKey, Clock, Epoch, Kind, Message, Position, Retention};

use crate::connection::Connection;
use crate::partition::Time;
use crate::presence::{read, strange};
use crate::script::{Script, script};

/// Bytes of data that one message may have: more would hold up everybody else's commands.
pub const MAX_MESSAGE: usize = 8 << 20;

/// So long a channel is kept beyond its messages' age when nobody uses it.
const KEEP_MS: u64 = 86_400_000;
/// Drafts in one script, and their bytes.
const DRAFTS: usize = 64;
const DRAFT_BYTES: usize = 1 << 20;
/// Messages in one answer, and the bytes after which no more are added.
const PAGE: u64 = 256;
const PAGE_BYTES: usize = 4 << 20;
/// Scripts under way for one call of `heads`.
const AT_ONCE: usize = 128;
/// Beyond it Lua's numbers have gaps.
const MAX_SEQ: u64 = 1 << 53;

/// A [`MessageLog`] for `recent` history that all nodes of a Redis share. Ages go by the server's time.
pub struct RedisLog {
    connection: Connection,
    scripts: Arc<Scripts>,
}

struct Scripts {
    time: Time,
    append: Script,
    read: Script,
    head: Script,
    find: Script,
    blank: Script,
    empty: Script,
    note: Script,
}

/// What a read asks the script for.
struct Asked {
    range: &'static str,
    seq: u64,
    limit: u64,
}

/// One answer of the script.
struct Piece {
    epoch: Epoch,
    first: u64,
    head: u64,
    /// More is too old than was taken out.
    ageing: bool,
    from: u64,
    to: u64,
    messages: Vec<Arc<Message>>,
}

impl RedisLog {
    /// Ages go by the server's time.
    pub fn new(connection: Connection) -> Self {
        Self::with_time(connection, Time::Server)
    }

    /// For tests: ages go by `clock`.
    pub fn with_clock(connection: Connection, clock: Arc<dyn Clock>) -> Self {
        Self::with_time(connection, Time::Given(clock))
    }

    fn with_time(connection: Connection, time: Time) -> Self {
        let scripts = Scripts {
            time,
            append: script!("lua/store.lua", "recent/log.lua", "recent/append.lua"),
            read: script!("lua/store.lua", "recent/log.lua", "recent/read.lua"),
            head: script!("lua/store.lua", "recent/log.lua", "recent/head.lua"),
            find: script!("lua/store.lua", "recent/log.lua", "recent/find.lua"),
            blank: script!("lua/store.lua", "recent/log.lua", "recent/blank.lua"),
            empty: script!("lua/store.lua", "recent/log.lua", "recent/empty.lua"),
            note: script!("lua/store.lua", "recent/note.lua"),
        };
        Self { connection, scripts: Arc::new(scripts) }
    }
}

impl MessageLog for RedisLog {
    fn append(
        &self,
        channel: &ChannelKey,
        retention: Retention,
        mut drafts: Vec<Draft>,
        done: Done<Appended>,
    ) {
        let failing = drafts.iter().position(|draft| draft.payload.size() >= MAX_MESSAGE);
        let failure = failing.map(|_| PortError::new(Failure::Invalid, "larger than redis is given"));
        drafts.truncate(failing.unwrap_or(drafts.len()));
        if drafts.is_empty() {
            return done(Ok(Appended { taken: Vec::new(), failure }));
        }
        let bytes = drafts.iter().map(|draft| draft.payload.size() + 512).sum();
        let (scripts, channel) = (Arc::clone(&self.scripts), channel.clone());
        self.connection.start(bytes, done, move |connection| async move {
            let mut appended = scripts.append(&connection, &channel, retention, drafts).await?;
            appended.failure = appended.failure.or(failure);
            Ok(appended)
        });
    }

    fn read(&self, channel: &ChannelKey, range: Range, limit: usize, done: Done<Page>) {
        let (scripts, channel) = (Arc::clone(&self.scripts), channel.clone());
        self.connection.start(limit.min(1_000) * 64, done, move |connection| async move {
            scripts.page(&connection, &channel, range, limit).await
        });
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        let scripts = Arc::clone(&self.scripts);
        self.connection
            .start(channels.len() * 128, done, move |connection| scripts.heads(connection, channels));
    }
}

impl Scripts {
    async fn append(
        &self,
        connection: &Connection,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
    ) -> Result<Appended, PortError> {
        let mut failure = None;
        let mut drafts = VecDeque::from(drafts);
        let mut taken = Vec::new();
        while !drafts.is_empty() {
            let mut some = Vec::new();
            let mut bytes = 0;
            while some.len() < DRAFTS
                && bytes < DRAFT_BYTES
                && let Some(draft) = drafts.pop_front()
            {
                bytes += draft.payload.size();
                some.push(draft);
            }
            match self.append_some(connection, channel, retention, some).await {
                Ok(these) => taken.extend(these),
                // Any of the drafts may have its place, so nothing can be said of one alone.
                Err(error) if error.kind == Failure::Unknown || taken.is_empty() => return Err(error),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        Ok(Appended { taken, failure })
    }

    async fn append_some(
        &self,
        connection: &Connection,
        channel: &ChannelKey,
        retention: Retention,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Result<Placed, Refused>>, PortError> {
        let text = |number: u64| number.min(MAX_SEQ).to_string().into_bytes();
        let size = |bytes: usize| bytes.to_string().into_bytes();
        let keep = retention.age_ms.saturating_add(KEEP_MS);
        let mut arguments: Vec<Vec<u8>> = vec![
            self.time.argument().into_bytes(),
            fresh_epoch(),
            text(retention.count as u64),
            text(retention.bytes as u64),
            text(retention.age_ms),
            text(keep),
        ];
        for draft in &drafts {
            let event = draft.event.as_str().len();
            arguments.extend([
                letter(draft.kind).into(),
                text(draft.kind.target().unwrap_or(0)),
                if draft.moderates { b"1".to_vec() } else { b"0".to_vec() },
                draft.from.user.as_str().into(),
                draft.id.as_str().into(),
                size(event + draft.payload.size()),
                size(event),
                draft.at.to_string().into_bytes(),
                record::head(channel, draft).to_vec(),
                record::data(&draft.payload),
            ]);
        }
        let keys = keys(connection, channel);
        let answer: Vec<Value> = connection.invoke(&self.append, &keys, &arguments).await?;
        let Some((epoch, answers)) = answer.split_first() else { return Err(strange()) };
        let epoch = read_epoch(epoch)?;
        if answers.len() != drafts.len() {
            return Err(strange());
        }
        let take = |(draft, answer): (Draft, &Value)| {
            let parts: Vec<Value> = read(answer)?;
            let word: String =
                if parts.len() == 6 { String::new() } else { read(parts.first().ok_or_else(strange)?)? };
            Ok(match (&*word, parts.get(1)) {
                ("", _) => Ok(Placed { message: Arc::new(message(epoch, &parts)?), retry: true }),
                ("placed", Some(seq)) => {
                    let position = Position { epoch, seq: read(seq)? };
                    Ok(Placed { message: Arc::new(placed(channel, draft, position)), retry: false })
                }
                ("missing", _) => Err(Refused::NoSuchMessage),
                ("others", _) => Err(Refused::NotYours),
                _ => return Err(strange()),
            })
        };
        drafts.into_iter().zip(answers).map(take).collect()
    }

    async fn page(
        &self,
        connection: &Connection,
        channel: &ChannelKey,
        range: Range,
        limit: usize,
    ) -> Result<Page, PortError> {
        let limit = (limit as u64).min(MAX_SEQ);
        let (range, seq) = match range {
            Range::After(seq) => ("after", seq.min(MAX_SEQ)),
            Range::Before(seq) => ("before", seq.min(MAX_SEQ)),
            Range::Newest => ("newest", 0),
        };
        'anew: loop {
            let mut asked = Asked { range, seq, limit };
            let mut page: Option<(Page, u64)> = None;
            loop {
                let piece = self.piece(connection, channel, &asked).await?;
                if piece.ageing {
                    continue 'anew;
                }
                let to = match &mut page {
                    None => {
                        let Piece { epoch, first, head, messages, to, .. } = piece;
                        page = Some((Page { epoch, first, head, messages }, to));
                        to
                    }
                    Some((page, to)) => {
                        // Between two pieces the history may have been lost, or its beginning blanked.
                        if piece.epoch != page.epoch {
                            continue 'anew;
                        }
                        if piece.from > asked.seq {
                            page.messages.clear();
                        }
                        (page.first, page.head) = (piece.first, piece.head);
                        page.messages.retain(|message| message.seq() >= piece.first);
                        page.messages.extend(piece.messages);
                        *to
                    }
                };
                let next =
                    page.as_ref().and_then(|(page, _)| page.messages.last()).map(|last| last.seq() + 1);
                match (next, page.take()) {
                    (Some(next), Some(so_far)) if next < to => {
                        page = Some(so_far);
                        asked = Asked { range: "span", seq: next, limit: to };
                    }
                    (_, Some((page, _))) => return Ok(page),
                    (_, None) => return Err(strange()),
                }
            }
        }
    }

    async fn piece(
        &self,
        connection: &Connection,
        channel: &ChannelKey,
        asked: &Asked,
    ) -> Result<Piece, PortError> {
        let arguments = [
            self.time.argument().into_bytes(),
            fresh_epoch(),
            asked.range.into(),
            asked.seq.to_string().into_bytes(),
            asked.limit.to_string().into_bytes(),
            PAGE.to_string().into_bytes(),
            PAGE_BYTES.to_string().into_bytes(),
        ];
        let keys = keys(connection, channel);
        let answer: Vec<Value> = connection.invoke(&self.read, &keys, &arguments).await?;
        let [epoch, first, head, ageing, from, to, slots @ ..] = &answer[..] else { return Err(strange()) };
        let epoch = read_epoch(epoch)?;
        let slot = |parts: &[Value]| message(epoch, parts).map(Arc::new);
        Ok(Piece {
            epoch,
            first: read(first)?,
            head: read(head)?,
            ageing: read::<u8>(ageing)? == 1,
            from: read(from)?,
            to: read(to)?,
            messages: slots.chunks(6).map(slot).collect::<Result<_, _>>()?,
        })
    }

    async fn heads(
        self: Arc<Self>,
        connection: Connection,
        channels: Vec<ChannelKey>,
    ) -> Result<Vec<Position>, PortError> {
        let mut heads: Vec<Option<Position>> = channels.iter().map(|_| None).collect();
        let mut waiting = channels.into_iter().enumerate();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some((index, channel)) = waiting.next()
            {
                let (this, connection) = (Arc::clone(&self), connection.clone());
                asking.spawn(async move {
                    let keys = keys(&connection, &channel);
                    let answer: Vec<Value> = connection.invoke(&this.head, &keys, &[fresh_epoch()]).await?;
                    let [epoch, seq] = &answer[..] else { return Err(strange()) };
                    Ok((index, Position { epoch: read_epoch(epoch)?, seq: read(seq)? }))
                });
            }
            let Some(joined) = asking.join_next().await else { break };
            let (index, head) =
                joined.map_err(|error| PortError::new(Failure::NotApplied, error.to_string()))??;
            heads[index] = Some(head);
        }
        heads.into_iter().map(|head| head.ok_or_else(strange)).collect()
    }
}

fn keys(connection: &Connection, channel: &ChannelKey) -> [String; 3] {
    ["log", "log:slots", "log:fence"].map(|part| connection.keys().channel(channel, part))
}

/// For a history that begins with this script, if one does.
fn fresh_epoch() -> Vec<u8> {
    Epoch(getrandom::u64().unwrap_or_default()).to_string().into_bytes()
}

fn read_epoch(value: &Value) -> Result<Epoch, PortError> {
    Epoch::parse(&read::<String>(value)?).ok_or_else(strange)
}

/// Stored: never to be changed.
fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Message => "m",
        Kind::Silent => "s",
        Kind::Edit { .. } => "e",
        Kind::Delete { .. } => "d",
    }
}

fn placed(channel: &ChannelKey, draft: Draft, position: Position) -> Message {
    let Draft { kind, id, event, payload, from, at, .. } = draft;
    let (channel, position) = (channel.clone(), Some(position));
    Message { kind, revision: None, channel, position, id, event, payload, from, at }
}

/// A slot as `tell` of `log.lua` says it.
fn message(epoch: Epoch, parts: &[Value]) -> Result<Message, PortError> {
    let [seq, head, data, became, by, at] = parts else { return Err(strange()) };
    let bytes = |value| read::<Vec<u8>>(value).map(Bytes::from);
    let mut message = Message::decode(&bytes(head)?).map_err(|error| {
        PortError::new(Failure::NotApplied, format!("redis: a record that cannot be read: {error:?}"))
    })?;
    message.position = Some(Position { epoch, seq: read(seq)? });
    message.payload = record::read_data(&bytes(data)?).ok_or_else(strange)?;
    message.revision = match &*read::<String>(became)? {
        "-" => None,
        word => Some(Revision { seq: read(by)?, at: read(at)?, deleted: word == "d" }),
    };
    Ok(message)
}
