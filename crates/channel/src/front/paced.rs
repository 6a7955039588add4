//! A connection that ends when its peer takes too little of what it is sent: a download that nobody reads holds a file, a buffer and a place.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// In so long [`LEAST`] bytes must be taken, as long as there are more of them than the kernel's buffer holds.
const WITHIN: Duration = Duration::from_secs(30);
/// As many as an upload must send: what 2 kB/s are.
const LEAST: usize = 64 * 1_024;

/// A stream with a bound on how slowly it is read at its other end. Nothing is measured, and nothing allocated, until the kernel's buffer is full.
pub(super) struct Paced<S> {
    stream: S,
    waiting: Option<Waiting>,
}

/// Since the kernel took no more.
struct Waiting {
    end: Pin<Box<Sleep>>,
    taken: usize,
}

/// Whether a connection has ended for this reason.
pub(super) fn is_behind(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

impl<S> Paced<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What became of a write.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(count)) => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken += count;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => loop {
                let waiting =
                    self.waiting.get_or_insert_with(|| Waiting { end: Box::pin(sleep(WITHIN)), taken: 0 });
                ready!(waiting.end.as_mut().poll(context));
                if waiting.taken < LEAST {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "it is read too slowly",
                    )));
                }
                self.waiting = None;
            },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all was written: whatever comes next begins anew.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    /// A connection whose kernel holds 1 kB, and its other end.
    fn connection() -> (Paced<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1_024);
        (Paced::new(ours), theirs)
    }

    /// Reads `count` bytes each `pause`.
    async fn reads(mut stream: DuplexStream, count: usize, pause: Duration) {
        let mut piece = vec![0; count];
        while stream.read_exact(&mut piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_reads() {
        let (mut ours, _theirs) = connection();
        let begun = Instant::now();
        let error = ours.write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn drops_are_no_reading() {
        let (mut ours, theirs) = connection();
        tokio::spawn(reads(theirs, 1_000, Duration::from_secs(1)));
        assert_eq!(ours.write_all(&[0; 1_000_000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_is_good_enough() {
        let (mut ours, theirs) = connection();
        tokio::spawn(reads(theirs, 1_000, Duration::from_millis(400)));
        let begun = Instant::now();
        ours.write_all(&[0; 1_000_000]).await.unwrap();
        assert!(begun.elapsed() > Duration::from_secs(300), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_whole_leaves_no_clock_running() {
        let (mut ours, mut theirs) = connection();
        for _ in 0..3 {
            let (written, read) = tokio::join!(
                async {
                    ours.write_all(&[0; 2_000]).await?;
                    ours.flush().await
                },
                async {
                    tokio::time::sleep(Duration::from_secs(29)).await;
                    theirs.read_exact(&mut [0; 2_000]).await
                }
            );
            written.unwrap();
            read.unwrap();
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
    }
}
