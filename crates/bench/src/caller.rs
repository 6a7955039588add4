//! A client on `/ws` that asks one thing and waits for the answer: for what is measured one at a time.

use crate::Target;
use serde_json::{Value, json};
use std::{
    io,
    net::{TcpStream, ToSocketAddrs},
};
use tungstenite::{Message, WebSocket};

/// A connection as a guest.
pub(crate) struct Caller {
    socket: WebSocket<TcpStream>,
    asked: u64,
}

impl Caller {
    /// Connects to the host of the target's URL.
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        let host = target.host()?;
        let stream = connect(target)?;
        let url = format!("ws://{host}/ws");
        let (socket, _) =
            tungstenite::client(url, stream).map_err(|error| io::Error::other(error.to_string()))?;
        let mut caller = Self { socket, asked: 0 };
        caller.ask("connect", json!({}))?;
        Ok(caller)
    }

    /// Sends a command and waits for its answer; pushes before it are passed over.
    pub(crate) fn ask(&mut self, name: &str, fields: Value) -> io::Result<Value> {
        let asked = self.send(name, fields)?;
        loop {
            let (id, answer) = self.answer()?;
            if id == asked {
                return Ok(answer);
            }
        }
    }

    /// Sends a command. Its number.
    pub(crate) fn send(&mut self, name: &str, mut fields: Value) -> io::Result<u64> {
        self.asked += 1;
        fields["id"] = self.asked.into();
        fields["cmd"] = name.into();
        self.socket.send(Message::text(fields.to_string())).map_err(io::Error::other)?;
        Ok(self.asked)
    }

    /// The next answer: the command's number and its `ok`.
    pub(crate) fn answer(&mut self) -> io::Result<(u64, Value)> {
        loop {
            let said = self.hear()?;
            let Some(id) = said["id"].as_u64().filter(|_| said.get("push").is_none()) else { continue };
            if said.get("error").is_some() {
                return Err(io::Error::other(format!("refused: {}", said["error"])));
            }
            return Ok((id, said["ok"].clone()));
        }
    }

    /// The next thing that the server says.
    pub(crate) fn hear(&mut self) -> io::Result<Value> {
        loop {
            if let Message::Text(text) = self.socket.read().map_err(io::Error::other)? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }

    /// Publishes as many messages, with `window` of them under way at a time.
    pub(crate) fn fill(&mut self, channel: &str, data: &str, count: u64, window: u64) -> io::Result<()> {
        let mut sent = 0;
        for acked in 0..count {
            while sent < count && sent < acked + window {
                self.send("publish", json!({"channel": channel, "data": data}))?;
                sent += 1;
            }
            self.answer()?;
        }
        Ok(())
    }
}

/// A connection to the target that gives up when nothing is said for too long.
pub(crate) fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut addresses = target.host()?.to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| io::Error::other("the host has no address"))?;
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(target.patience()))?;
    Ok(stream)
}
