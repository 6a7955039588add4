//! Publications by other people's back ends: what `@socket.io/redis-emitter` and its ports to other languages write to Redis for socket.io servers.
//!
//! An emitter addresses rooms, which are our channels, and publishes on `KEY#NSP#` or, for one room, `KEY#NSP#ROOM#`: `[uid, {type, data, nsp}, {rooms, except,
//! flags}]` as msgpack. Every node hears each emission and serves its own subscribers only, as a socket.io server does: none is passed on over the bus, and
//! none has a position. Emitters that use sharded pub/sub are not heard.

mod msgpack;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use xpush_core::{App, Channel, ChannelKey, EventName, Payload};

use crate::options::{BadOptions, Deployment, Options};
use crate::resp::{self, Frame};
use crate::server::{Backoff, ConnectError, master};
use crate::stream::{Socket, refused};
use msgpack::Emitted;

/// Names that Socket.IO keeps for itself; our own are judged by whoever takes the emission.
const RESERVED: &[&str] =
    &["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
/// Channels that one emission may address.
const MOST_ROOMS: usize = 100;
/// At most one line in the log for each so long.
const QUIET: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Listens to emitters until it is dropped.
pub struct Emitters {
    counters: Arc<EmitterCounters>,
    task: AbortHandle,
}

/// Whom to listen to.
#[derive(Debug, Clone)]
pub struct Listening {
    /// The emitters' `key`; `socket.io` unless they say otherwise.
    pub key: Box<str>,
    /// The app whose channels the rooms are.
    pub app: App,
    /// The most bytes of one emission.
    pub max_bytes: usize,
}

/// One publication for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// For whom.
    pub channel: ChannelKey,
    /// The event.
    pub event: EventName,
    /// The data: the event's one argument, or `null`.
    pub payload: Payload,
}

/// Takes emissions; says why when it does not take one. Called from the runtime's threads; must not block.
pub type TakeEmission = Arc<dyn Fn(Emission) -> Result<(), EmissionRefused> + Send + Sync>;

/// Why an emission is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmissionRefused {
    /// The channel keeps a history, so what is published needs a position; or it is not one that an emitter may write to.
    Channel,
    /// No channel has the room's name, no room is named, or there are too many.
    Room,
    /// The event's name is reserved, or none.
    Event,
    /// `except` or `compress: false`-like flags that we do not know: who would get it is not who was meant.
    Flags,
    /// Too long.
    Size,
    /// Several arguments, dates, or whatever else a publication's data cannot be.
    Data,
    /// Not the protocol of an emitter.
    Unreadable,
    /// A request to servers, such as `disconnectSockets` or `socketsJoin`.
    Request,
}

/// What has come so far.
#[derive(Debug, Default)]
pub struct EmitterCounters {
    /// Publications that were taken; one for each channel.
    pub taken: AtomicU64,
    /// Refused, for each channel or as a whole.
    pub refused: AtomicU64,
}

impl Emitters {
    /// Listens on `runtime`, by a connection of its own that is made anew whenever it breaks. What is emitted meanwhile is lost, as it is with socket.io.
    pub fn listen(
        options: Options,
        listening: Listening,
        take: TakeEmission,
        runtime: &Handle,
    ) -> Result<Self, BadOptions> {
        options.check()?;
        let counters = Arc::new(EmitterCounters::default());
        let ear = Ear { listening, take, counters: counters.clone(), told: None };
        let task = runtime.spawn(listen(options, ear)).abort_handle();
        Ok(Self { counters, task })
    }

    /// What has come so far.
    pub fn counters(&self) -> &EmitterCounters {
        &self.counters
    }
}

impl Drop for Emitters {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Display for EmissionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "the channel is not one that an emitter may write to",
            Self::Room => "not the names of channels",
            Self::Event => "a reserved event, or none",
            Self::Flags => "flags or exceptions that are not known here",
            Self::Size => "too long",
            Self::Data => "data that no publication can have",
            Self::Unreadable => "not the protocol of an emitter",
            Self::Request => "a request to servers",
        })
    }
}

impl std::error::Error for EmissionRefused {}

/// Judges what comes.
struct Ear {
    listening: Listening,
    take: TakeEmission,
    counters: Arc<EmitterCounters>,
    told: Option<Instant>,
}

impl Ear {
    fn hear(&mut self, channel: &Bytes, message: &Bytes) {
        if channel.starts_with(format!("{}-request#", self.listening.key).as_bytes()) {
            return self.refuse(EmissionRefused::Request);
        }
        match self.read(message) {
            Ok(emissions) => {
                for emission in emissions {
                    match (self.take)(emission) {
                        Ok(()) => {
                            self.counters.taken.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => self.refuse(why),
                    }
                }
            }
            Err(why) => self.refuse(why),
        }
    }

    /// The emissions of one message: all of them, or none.
    fn read(&self, message: &Bytes) -> Result<Vec<Emission>, EmissionRefused> {
        if message.len() > self.listening.max_bytes {
            return Err(EmissionRefused::Size);
        }
        let Emitted { event, payload, rooms } = msgpack::read(message)?;
        if RESERVED.contains(&event) {
            return Err(EmissionRefused::Event);
        }
        let event = EventName::new(event).map_err(|_| EmissionRefused::Event)?;
        if rooms.is_empty() || rooms.len() > MOST_ROOMS {
            return Err(EmissionRefused::Room);
        }
        let emission = |room: &str| {
            let channel = Channel::new(room).map_err(|_| EmissionRefused::Room)?;
            if channel.is_system() {
                return Err(EmissionRefused::Room);
            }
            let channel = ChannelKey::new(self.listening.app.clone(), channel);
            Ok(Emission { channel, event: event.clone(), payload: payload.clone() })
        };
        rooms.into_iter().map(emission).collect()
    }

    fn refuse(&mut self, why: EmissionRefused) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            tracing::warn!(%why, "an emission on redis is refused");
            self.told = Some(Instant::now());
        }
    }
}

async fn listen(options: Options, mut ear: Ear) {
    let mut backoff = Backoff::default();
    loop {
        let why = match connect(&options).await {
            Ok(socket) => {
                backoff = Backoff::default();
                serve(&options, socket, &mut ear).await
            }
            Err(why) => why,
        };
        backoff.tell("redis for emitters", &why);
        sleep(backoff.next()).await;
    }
}

/// Any server hears them all: in a Cluster, what is not sharded is sent everywhere.
async fn connect(options: &Options) -> Result<Socket, ConnectError> {
    let addresses = match &options.deployment {
        Deployment::Single(address) => vec![address.clone()],
        Deployment::Cluster(nodes) => nodes.clone(),
        Deployment::Sentinel { .. } => vec![master(options).await?],
    };
    let mut trouble = ConnectError::silent();
    for address in addresses {
        match Socket::open(options, &address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

async fn serve(options: &Options, mut socket: Socket, ear: &mut Ear) -> ConnectError {
    let key = &ear.listening.key;
    let pattern = format!("{}#/#*", escape(key));
    let requests = format!("{key}-request#/#");
    let failed = |error: &dyn fmt::Display| ConnectError::new(error.to_string());
    let mut out = BytesMut::new();
    resp::command(&mut out, &[b"PSUBSCRIBE", pattern.as_bytes()]);
    resp::command(&mut out, &[b"SUBSCRIBE", requests.as_bytes()]);
    let mut silent = false;
    loop {
        if let Err(error) = socket.stream.write_all(&out).await {
            return failed(&error);
        }
        if let Err(error) = socket.stream.flush().await {
            return failed(&error);
        }
        out.clear();
        match resp::take(&mut socket.buffer) {
            Ok(Some(Frame::Push(parts))) => {
                let bytes = |at: usize| parts.get(at).and_then(Frame::bytes);
                match (parts.first().and_then(Frame::text), bytes(1), bytes(2), bytes(3)) {
                    (Some("pmessage"), _, Some(channel), Some(message)) => ear.hear(channel, message),
                    (Some("message"), Some(channel), Some(message), _) => ear.hear(channel, message),
                    _ => {}
                }
                continue;
            }
            Ok(Some(Frame::Error(text))) => return refused(&socket.address, &text),
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(resp::Garbled) => return failed(&"does not speak the protocol of Redis"),
        }
        socket.buffer.reserve(16 << 10);
        let patience = if silent { options.command_timeout } else { HEARTBEAT };
        match timeout(patience, socket.stream.read_buf(&mut socket.buffer)).await {
            Ok(Ok(0)) => return failed(&"the server closes the connection"),
            Ok(Ok(_)) => silent = false,
            Ok(Err(error)) => return failed(&error),
            Err(_) if silent => return ConnectError::silent(),
            Err(_) => {
                silent = true;
                resp::command(&mut out, &[b"PING"]);
            }
        }
    }
}

/// A text as a pattern that only it matches.
fn escape(text: &str) -> String {
    text.chars().flat_map(|c| "*?[]\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests;
