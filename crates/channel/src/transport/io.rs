//! The socket of a connection, once HTTP is done with it.

use std::io::{self, IoSlice, Read, Write};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A non-blocking byte stream.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
}

impl Io {
    /// A socket that is non-blocking already.
    pub(crate) fn plain(stream: std::net::TcpStream) -> Self {
        Self::Plain(TcpStream::from_std(stream))
    }

    /// Bytes into `buffer`; 0 at the end of the stream.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Io::Plain(stream) => stream.read(buffer),
        }
    }

    /// As many of `chunks` as the kernel takes.
    pub(crate) fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Io::Plain(stream) => match chunks {
                [one] => stream.write(one),
                many => stream.write_vectored(many),
            },
        }
    }

    /// Both directions, edge-triggered: registered once, and again only when an upgrade changes the token.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Io::Plain(stream) => stream.register(registry, token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// The same socket under another token.
    pub(crate) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Io::Plain(stream) => stream.reregister(registry, token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// No more will be written; what is under way still arrives.
    pub(crate) fn finish(&mut self) {
        match self {
            // An error means that the peer is gone already.
            Io::Plain(stream) => drop(stream.shutdown(std::net::Shutdown::Write)),
        }
    }
}
