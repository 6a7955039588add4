//! What a connection has still to be sent. Why was this client cut off? Because this grew too large, or too old.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;
use xpush_core::Monotonic;

use crate::transport::io::Io;

/// Chunks in one `writev`: more than this gains nothing measurable.
const VECTOR: usize = 64;

/// Chunks in the order of sending; shared with other outboxes, never copied. Empty ones hold no heap memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The first chunk: most outboxes never have a second one.
    first: Bytes,
    rest: VecDeque<Bytes>,
    bytes: usize,
    /// How many of them a resume has brought at once: they do not count against the bound.
    allowed: usize,
    /// Since when the socket has refused to take more.
    stalled: Option<Monotonic>,
}

/// How far a flush came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket takes no more at the moment; `since` when.
    Stalled {
        /// It has been so from before this flush.
        already: bool,
    },
}

impl Outbox {
    /// Adds a chunk of whole frames.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            self.rest.push_back(chunk);
        }
    }

    /// Unsent bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unsent bytes that count against the bound.
    pub(crate) fn excess(&self) -> usize {
        self.bytes - self.allowed.min(self.bytes)
    }

    /// The next `bytes` that are pushed come by a resume: the client has asked for them, and cannot have read them yet.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.allowed += bytes;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Since when the oldest byte has waited for the socket.
    pub(crate) fn stalled(&self) -> Option<Monotonic> {
        self.stalled
    }

    /// Writes until nothing is left or the socket takes no more.
    pub(crate) fn flush(&mut self, io: &mut Io, now: Monotonic) -> io::Result<Flushed> {
        while self.bytes > 0 || io.unsent() {
            let written = if self.rest.is_empty() {
                io.write_vectored(&[IoSlice::new(&self.first)])
            } else {
                let mut slices = [IoSlice::new(&[]); VECTOR];
                slices[0] = IoSlice::new(&self.first);
                let mut len = 1;
                for (slice, chunk) in slices[1..].iter_mut().zip(&self.rest) {
                    *slice = IoSlice::new(chunk);
                    len += 1;
                }
                io.write_vectored(&slices[..len])
            };
            match written {
                Ok(0) if self.bytes > 0 && !io.unsent() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    // The oldest unsent byte is a new one.
                    self.stalled = None;
                    self.consume(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let already = self.stalled.is_some();
                    self.stalled.get_or_insert(now);
                    return Ok(Flushed::Stalled { already });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stalled = None;
        Ok(Flushed::All)
    }

    /// The next chunk, whole: for long polling, which takes frames and not bytes.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.rest.pop_front().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.first, next);
        self.bytes -= chunk.len();
        self.allowed = self.allowed.min(self.bytes);
        self.release();
        Some(chunk)
    }

    /// Puts back what [`Outbox::pop`] gave and did not fit.
    pub(crate) fn push_front(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        let first = std::mem::replace(&mut self.first, chunk);
        if !first.is_empty() {
            self.rest.push_front(first);
        }
    }

    fn consume(&mut self, mut n: usize) {
        self.bytes -= n;
        self.allowed = self.allowed.min(self.bytes);
        while n >= self.first.len() && n > 0 {
            n -= self.first.len();
            self.first = self.rest.pop_front().unwrap_or_default();
        }
        if n > 0 {
            self.first = self.first.split_off(n);
        }
        self.release();
    }

    /// A burst's queue is given back once it is sent, so that idle connections hold nothing.
    fn release(&mut self) {
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_of_the_stream_is_the_stream(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..9), 1..20),
            cuts in proptest::collection::vec(1usize..30, 1..200),
        ) {
            let mut outbox = Outbox::default();
            let whole = chunks.concat();
            for chunk in chunks {
                outbox.push(Bytes::from(chunk));
            }
            let mut sent = Vec::new();
            for cut in cuts {
                let cut = cut.min(outbox.bytes());
                let pending: Vec<u8> = outbox.first.iter().chain(outbox.rest.iter().flatten()).copied().collect();
                prop_assert_eq!(pending.len(), outbox.bytes());
                sent.extend_from_slice(&pending[..cut]);
                outbox.consume(cut);
            }
            while let Some(chunk) = outbox.pop() {
                sent.extend_from_slice(&chunk);
            }
            prop_assert_eq!(sent, whole);
            prop_assert!(outbox.is_empty());
        }
    }

    #[test]
    fn what_a_resume_brings_does_not_count_and_what_comes_after_it_does() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"live"));
        outbox.allow(6);
        outbox.push(Bytes::from_static(b"missed"));
        assert_eq!((outbox.bytes(), outbox.excess()), (10, 4));
        outbox.push(Bytes::from_static(b"more"));
        assert_eq!(outbox.excess(), 8);
        outbox.consume(14);
        outbox.push(Bytes::from_static(b"later"));
        assert_eq!(outbox.excess(), 5, "nothing is left of the allowance");
    }

    #[test]
    fn an_empty_outbox_holds_no_heap_memory() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.push(Bytes::from_static(b"frame"));
        }
        while outbox.pop().is_some() {}
        assert_eq!(outbox.rest.capacity(), 0);
    }
}
