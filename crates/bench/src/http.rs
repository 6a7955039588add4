//! HTTP/1.1 on a connection that is kept, without an HTTP library: what is measured is the server.

use crate::{Target, caller::connect};
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// A connection.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    /// What every request says behind its path.
    head: String,
}

impl Http {
    /// Connects to the host of the target's URL; shows `key` with every request, if there is one.
    pub(crate) fn open(target: &Target, key: Option<&str>) -> io::Result<Self> {
        let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
        let head = format!("HTTP/1.1\r\nHost: {}\r\n{key}", target.host()?);
        Ok(Self { stream: BufReader::new(connect(target)?), head })
    }

    /// Asks by JSON and waits for the answer.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        self.send(path, body)?;
        self.answer()
    }

    /// Asks by JSON, and leaves the answer for later.
    pub(crate) fn send(&mut self, path: &str, body: &str) -> io::Result<()> {
        let head = self.beginning(path, "application/json", body.len() as u64);
        self.stream.get_mut().write_all((head + body).as_bytes())
    }

    /// The same; the answer must be a good one.
    pub(crate) fn must_post(&mut self, path: &str, body: &str) -> io::Result<Value> {
        good(self.post(path, body)?)
    }

    /// Sends `length` bytes, made by parts, as a body that is no JSON.
    pub(crate) fn upload(&mut self, path: &str, length: u64, part: &[u8]) -> io::Result<Value> {
        let head = self.beginning(path, "application/octet-stream", length);
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
            stream.write_all(&part[..now])?;
            left -= now as u64;
        }
        good(self.answer()?)
    }

    fn beginning(&self, path: &str, kind: &str, length: u64) -> String {
        format!("POST /api/v1/{path} {}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n", self.head)
    }

    /// The answer to what was asked: its status and its body.
    pub(crate) fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (mut status, mut length, mut line) = (None, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server has closed the connection"));
            }
            let header = line.trim_end();
            if status.is_none() {
                status = header.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            } else if header.is_empty() {
                break;
            } else if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status.ok_or_else(|| io::Error::other("no HTTP answer"))?, answer))
    }
}

/// Connections on which one request is asked again and again, all in one thread.
pub(crate) struct Posts {
    poll: Poll,
    events: Events,
    request: Vec<u8>,
    connections: Vec<Asking>,
    buffer: Vec<u8>,
}

struct Asking {
    stream: mio::net::TcpStream,
    /// What has come of the answer.
    answer: Vec<u8>,
}

impl Posts {
    /// So many connections for this request.
    pub(crate) fn open(target: &Target, key: &str, path: &str, body: &str, count: usize) -> io::Result<Self> {
        let (poll, mut connections) = (Poll::new()?, Vec::with_capacity(count));
        let head = Http::open(target, Some(key))?.beginning(path, "application/json", body.len() as u64);
        for number in 0..count {
            let stream = connect(target)?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            connections.push(Asking { stream, answer: Vec::new() });
        }
        let request = (head + body).into_bytes();
        Ok(Self { poll, events: Events::with_capacity(1_024), request, connections, buffer: vec![0; 65_536] })
    }

    /// Asks on a connection that has its answer.
    pub(crate) fn send(&mut self, number: usize) -> io::Result<()> {
        // The socket has room for it: it is empty.
        self.connections[number].stream.write_all(&self.request)
    }

    /// Waits for answers, so long at most; each must be a good one. Whose they are goes into `answered`.
    pub(crate) fn turn(&mut self, wait: Duration, answered: &mut Vec<usize>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            done => done?,
        }
        for event in &self.events {
            let number = event.token().0;
            let Asking { stream, answer } = &mut self.connections[number];
            match stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::Error::other("the server has closed the connection")),
                Ok(n) => answer.extend_from_slice(&self.buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if is_whole(answer)? {
                answer.clear();
                answered.push(number);
            }
        }
        Ok(())
    }
}

/// Whether all of an answer is there, which must be a good one.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    const LENGTH: &[u8] = b"content-length: ";
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Ok(false) };
    let head = &answer[..end];
    let length = memchr::memmem::find(head, LENGTH).map(|at| &head[at + LENGTH.len()..]);
    let digits = length.and_then(|rest| rest.split(|byte| *byte == b'\r').next());
    let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
    match length {
        Some(length) if head.starts_with(b"HTTP/1.1 200 ") => Ok(answer.len() >= end + 4 + length),
        _ => Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(answer)))),
    }
}

fn good((status, answer): (u16, Vec<u8>)) -> io::Result<Value> {
    match status {
        200..300 => Ok(serde_json::from_slice(&answer)?),
        _ => Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(&answer)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_good() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: x\r\n\r\n{}";
        for end in 0..answer.len() {
            assert!(!is_whole(&answer[..end]).unwrap(), "{end}");
        }
        assert!(is_whole(answer).unwrap());
        assert!(is_whole(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}").is_err());
    }
}
