//! TLS driven by a shard: rustls does the records, the shard says when to read and write, nothing waits.
//!
//! Architecture invariant: epoll is edge-triggered and knows only the kernel's buffers. So the shard may go back to it only when the kernel holds nothing unread *and* rustls
//! holds no plaintext ([`TlsStream::is_dry`]), and what rustls has encrypted counts as unsent until the kernel has it ([`TlsStream::unsent`]).

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Bytes that rustls encrypts ahead of the kernel: what a slow reader holds here is not seen by the outbox's bounds.
const AHEAD: usize = 64 * 1024;

/// A socket, and the TLS session that was begun on it.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// The kernel had nothing more, and neither has rustls.
    dry: bool,
}

impl TlsStream {
    /// After the handshake. Bytes of it, or behind it, may have been read already.
    pub(super) fn new(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(AHEAD));
        Self { socket, session, dry: false }
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Plaintext until `buffer` is full or there is no more at the moment. 0 at the end, whether the peer said so (`close_notify`) or just went:
    /// every protocol above has an end of its own, so that nothing can be cut off unnoticed.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.dry = false;
        let mut len = 0;
        while len < buffer.len() {
            match self.session.reader().read(&mut buffer[len..]) {
                Ok(0) => return Ok(len),
                Ok(n) => len += n,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Err(error) = self.receive() {
                        self.dry = error.kind() == ErrorKind::WouldBlock;
                        // A peer that breaks the protocol is not heard to the end; what else there is comes again.
                        let broken = error.kind() == ErrorKind::InvalidData;
                        return if len > 0 && !broken { Ok(len) } else { Err(error) };
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(len)
    }

    /// Whether everything was read when [`TlsStream::read`] came back: there may be more behind a read that was short.
    pub(super) fn is_dry(&self) -> bool {
        self.dry
    }

    /// Encrypts what fits, and gives it to the kernel as far as that takes it. Nothing is encrypted while older bytes are unsent.
    pub(super) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.send() {
            Ok(()) => {}
            // It has stalled anew, not since before.
            Err(Stopped { sent: 1.., error }) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(stopped) => return Err(stopped.error),
        }
        let taken = self.session.writer().write_vectored(chunks)?;
        match self.send() {
            Err(Stopped { error, .. }) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    pub(super) fn unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Says `close_notify`, and when that is sent, closes this side of the socket. Until then it may be called again.
    pub(super) fn finish(&mut self) {
        self.session.send_close_notify();
        if self.send().is_ok() {
            // An error means that the peer is gone already.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// One read from the kernel, decrypted.
    fn receive(&mut self) -> io::Result<()> {
        self.session.read_tls(&mut self.socket)?;
        let processed = self.session.process_new_packets();
        // Its answer: an alert, or new keys. What the kernel does not take now goes with the next write.
        let _ = self.send();
        processed.map(drop).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Gives the kernel what is encrypted, until nothing is left.
    fn send(&mut self) -> Result<(), Stopped> {
        let mut sent = 0;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(Stopped { sent, error: ErrorKind::WriteZero.into() }),
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Stopped { sent, error }),
            }
        }
        Ok(())
    }
}

/// Why not everything was sent, and how much was.
struct Stopped {
    sent: usize,
    error: io::Error,
}
