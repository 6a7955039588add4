//! A client on `/ws`, by somebody else's WebSocket.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::PATIENCE;
use crate::checker::{History, Kept, Place, Revision, Slot, digest};

/// The largest page that `history` gives.
const PAGE: u64 = 100;

/// A connection as a guest.
pub struct Connection {
    socket: WebSocket<TcpStream>,
    /// Numbers commands.
    asked: u64,
}

/// What a server says.
#[derive(Debug)]
pub enum Said {
    /// To the command of that number.
    Ok(u64, Value),
    /// That command has failed.
    Error(u64, Value),
    /// Without being asked.
    Push(Value),
}

impl Connection {
    /// Connects as the guest who knows `secret`.
    pub fn open(address: SocketAddr, secret: &str) -> io::Result<Self> {
        Self::open_for(address, secret, PATIENCE)
    }

    /// The same for a client that gives a connection up when nothing, not even a heartbeat, has come for as long as `silence`.
    pub fn open_for(address: SocketAddr, secret: &str, silence: Duration) -> io::Result<Self> {
        Self::open_with(address, secret, silence, json!({}))
    }

    /// The same for a client that says more when it connects.
    pub fn open_with(
        address: SocketAddr,
        secret: &str,
        silence: Duration,
        mut more: Value,
    ) -> io::Result<Self> {
        more["guest"] = secret.into();
        Self::open_as(address, more, silence)
    }

    /// The same with all that `connect` takes.
    pub fn open_as(address: SocketAddr, credentials: Value, silence: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, silence)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence))?;
        stream.set_write_timeout(Some(silence))?;
        let url = format!("ws://{address}/ws");
        let (socket, _) =
            tungstenite::client(url, stream).map_err(|error| io::Error::other(error.to_string()))?;
        let mut connection = Self { socket, asked: 0 };
        connection.ask("connect", credentials)?;
        Ok(connection)
    }

    /// To end it from elsewhere.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.socket.get_ref().try_clone()
    }

    /// Sends a command. Its number.
    pub fn send(&mut self, name: &str, mut fields: Value) -> io::Result<u64> {
        self.asked += 1;
        fields["id"] = self.asked.into();
        fields["cmd"] = name.into();
        self.socket.send(Message::text(fields.to_string())).map_err(io::Error::other)?;
        Ok(self.asked)
    }

    /// The next thing that the server says.
    pub fn hear(&mut self) -> io::Result<Said> {
        loop {
            let Message::Text(text) = self.socket.read().map_err(io::Error::other)? else { continue };
            let mut said: Value = serde_json::from_str(&text)?;
            let Some(id) = said.get("id").and_then(Value::as_u64).filter(|_| said.get("push").is_none())
            else {
                return Ok(Said::Push(said));
            };
            return Ok(match said.get("ok").is_some() {
                true => Said::Ok(id, said["ok"].take()),
                false => Said::Error(id, said["error"].take()),
            });
        }
    }

    /// Sends a command and waits for its answer; pushes meanwhile are passed over.
    pub fn ask(&mut self, name: &str, fields: Value) -> io::Result<Value> {
        let asked = self.send(name, fields)?;
        loop {
            match self.hear()? {
                Said::Ok(id, answer) if id == asked => return Ok(answer),
                Said::Error(id, error) if id == asked => {
                    return Err(io::Error::other(format!("{name}: {error}")));
                }
                _ => {}
            }
        }
    }
}

/// Reads all that a channel keeps.
pub fn history(connection: &mut Connection, channel: &str, durable: bool) -> io::Result<History> {
    let mut slots: Vec<Kept> = Vec::new();
    loop {
        let after = slots.last().map_or(0, |kept| kept.seq);
        let page = connection.ask("history", json!({"channel": channel, "after": after, "limit": PAGE}))?;
        let messages = page["messages"].as_array().ok_or_else(|| io::Error::other("no messages"))?;
        slots.extend(messages.iter().filter_map(kept));
        let head = number(&page["head"]);
        if messages.is_empty() || slots.last().is_none_or(|last| last.seq >= head) {
            let epoch = text(&page["epoch"]);
            return Ok(History { durable, epoch, first: number(&page["first"]), head, slots });
        }
    }
}

/// A message, an edit or a deletion.
pub fn kept(message: &Value) -> Option<Kept> {
    let target = message.get("target").and_then(Value::as_u64);
    let data = message.get("data").map(digest_of);
    let slot = match (target, data) {
        (None, data) => Slot::Message { digest: data? },
        (Some(target), Some(digest)) => Slot::Edit { target, digest },
        (Some(target), None) => Slot::Delete { target },
    };
    let revised =
        |field: &str, deleted| message.get(field).map(|by| Revision { by: number(&by["seq"]), deleted });
    let revision = revised("deleted", true).or_else(|| revised("edited", false));
    Some(Kept { seq: message["seq"].as_u64()?, id: message["id"].as_str()?.into(), slot, revision })
}

/// The digest of data: of their shortest JSON text.
pub fn digest_of(data: &Value) -> u64 {
    digest(data.to_string().as_bytes())
}

/// Where an object says that it is.
pub fn place(object: &Value) -> Option<Place> {
    Some(Place { epoch: object["epoch"].as_str()?.into(), seq: object["seq"].as_u64()? })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn text(value: &Value) -> Arc<str> {
    value.as_str().unwrap_or_default().into()
}
