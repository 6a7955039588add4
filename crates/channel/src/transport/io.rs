//! The socket of a connection, once HTTP is done with it.

mod tls;

use std::io::{self, IoSlice, Read, Write};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use tls::TlsStream;

/// A non-blocking byte stream.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    /// Boxed, so that a plain connection does not pay for its size.
    Tls(Box<TlsStream>),
}

impl Io {
    /// A socket that is non-blocking already.
    pub(crate) fn plain(stream: std::net::TcpStream) -> Self {
        Self::Plain(TcpStream::from_std(stream))
    }

    /// The same, behind a handshake.
    pub(crate) fn tls(stream: std::net::TcpStream, session: ServerConnection) -> Self {
        Self::Tls(Box::new(TlsStream::new(TcpStream::from_std(stream), session)))
    }

    /// Bytes into `buffer`; 0 at the end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Io::Plain(stream) => stream.read(buffer),
            Io::Tls(stream) => stream.read(buffer),
        }
    }

    /// Whether epoll will tell when there is more to read. `short`: the last read did not fill its buffer.
    pub(crate) fn is_dry(&self, short: bool) -> bool {
        match self {
            Io::Plain(_) => short,
            Io::Tls(stream) => stream.is_dry(),
        }
    }

    /// As many bytes of `chunks` as are taken. 0 while [`Io::unsent`]: bytes taken before have gone on, and more may follow.
    pub(crate) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Io::Plain(stream) => match chunks {
                [one] => stream.write(one),
                many => stream.write_vectored(many),
            },
            Io::Tls(stream) => stream.write_vectored(chunks),
        }
    }

    /// Whether bytes that were taken have still to be given to the kernel, by another write, be it an empty one.
    pub(crate) fn unsent(&self) -> bool {
        match self {
            Io::Plain(_) => false,
            Io::Tls(stream) => stream.unsent(),
        }
    }

    /// Both directions, edge-triggered: registered once, and again only when an upgrade changes the token.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket().register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// The same socket under another token.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket().reregister(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// No more will be written; what is under way still arrives.
    pub(crate) fn finish(&mut self) {
        match self {
            // An error means that the peer is gone already.
            Io::Plain(stream) => drop(stream.shutdown(std::net::Shutdown::Write)),
            Io::Tls(stream) => stream.finish(),
        }
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => stream.socket(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_does_not_pay_for_tls() {
        assert!(size_of::<Io>() <= 2 * size_of::<usize>());
    }
}
