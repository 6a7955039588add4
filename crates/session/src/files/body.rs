//! The bytes of an upload, however they are wrapped.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::{Stream, StreamExt as _};
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::time::{Instant, timeout};
use xpush_core::{Code, Problem};

/// For how long a client may take for [`LEAST`] bytes, or for what is left.
const STALL: Duration = Duration::from_secs(30);

/// Bytes that come within that time, as they do by the slowest of mobile networks: who sends one every now and then keeps a place from others.
const LEAST: u64 = 65_536;

/// Bytes of a form around its file.
pub(super) const AROUND: u64 = 65_536;

/// Bytes that are taken in until a form's next field begins.
const IN_FRONT: u64 = 2 << 20;

/// Fields of a form before its file.
const FIELDS: usize = 16;

/// Bytes that are taken in and thrown away of an upload that was refused, and for how long: who is still sending when the connection is closed may not see the answer.
const LINGER: u64 = 16 << 20;
const LINGER_FOR: Duration = Duration::from_secs(10);

/// Whether a body of this content type is a form around its file.
pub(super) fn is_form(said: &str) -> bool {
    said.trim_start().get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

/// A file on its way in.
pub(crate) struct Incoming {
    source: Source,
    /// What a form calls the file.
    pub(crate) name: Option<String>,
    /// What the client says that it is.
    pub(crate) said: Option<String>,
    /// Bytes of it, if they were announced; of a form, at most so many.
    pub(crate) announced: Option<u64>,
    patience: Duration,
    /// For how long the client was waited for since it moved on, and what has come meanwhile.
    waited: Duration,
    moved: u64,
}

enum Source {
    Plain(BodyDataStream),
    /// The form is kept: its field needs it.
    Form(Box<(Field<'static>, Multipart<'static>)>),
}

impl Incoming {
    /// Reads as far as the file begins; of a form, what comes before it. `largest`: bytes of the file.
    pub(crate) async fn begin(headers: &HeaderMap, body: Body, largest: u64) -> Result<Self, Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let announced: Option<u64> = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let said = text(CONTENT_TYPE).map(str::to_owned);
        let form = said.as_deref().filter(|said| is_form(said));
        let boundary = form.map(|said| multer::parse_boundary(said).map_err(|_| bad_form()));
        let Some(boundary) = boundary.transpose()? else {
            let source = Source::Plain(body.into_data_stream());
            return Ok(Self::of(source, None, said, announced));
        };
        let bounds = SizeLimit::new().whole_stream(largest.saturating_add(AROUND));
        let constraints = Constraints::new().size_limit(bounds);
        let left = Arc::new(AtomicU64::new(IN_FRONT));
        let pieces = Pieces { body: body.into_data_stream(), left: left.clone(), given: false };
        let mut form = Multipart::with_constraints(pieces, boundary, constraints);
        for _ in 0..FIELDS {
            let field = timeout(STALL, form.next_field()).await.map_err(|_| stalled())?;
            let Some(field) = field.map_err(|error| of_form(&error))? else { break };
            left.store(IN_FRONT, Ordering::Relaxed);
            if field.file_name().is_some() {
                left.store(u64::MAX, Ordering::Relaxed);
                let name = field.file_name().map(str::to_owned);
                let said = field.content_type().map(ToString::to_string);
                let source = Source::Form(Box::new((field, form)));
                return Ok(Self::of(source, name, said, announced));
            }
        }
        Err(Problem::new(Code::BadRequest, "the form has no file"))
    }

    const fn of(source: Source, name: Option<String>, said: Option<String>, announced: Option<u64>) -> Self {
        Self { source, name, said, announced, patience: STALL, waited: Duration::ZERO, moved: 0 }
    }

    /// The next bytes; `None` at the file's end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let began = Instant::now();
            let chunk = timeout(self.patience.saturating_sub(self.waited), self.source.next()).await;
            let chunk = chunk.map_err(|_| stalled())??;
            // What the server does between two calls is not the client's to answer for.
            self.waited += began.elapsed();
            self.moved += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            if self.moved >= LEAST {
                (self.waited, self.moved) = (Duration::ZERO, 0);
            }
            if chunk.as_ref().is_none_or(|chunk| !chunk.is_empty()) {
                return Ok(chunk);
            }
        }
    }

    /// Takes in some of what nobody wants.
    pub(crate) async fn linger(mut self) {
        let rest = async {
            let mut seen = 0;
            while let Ok(Some(chunk)) = self.next().await {
                seen += chunk.len() as u64;
                if seen > LINGER {
                    break;
                }
            }
        };
        drop(timeout(LINGER_FOR, rest).await);
    }
}

/// A form's bytes as its reader can take them. Left to itself, it takes in whatever there is, at once and as far as a line has no end: all of a body that comes fast
/// enough, or that is made so.
struct Pieces {
    body: BodyDataStream,
    /// Bytes that may come until a field has begun.
    left: Arc<AtomicU64>,
    /// One was given: the reader looks at that first.
    given: bool,
}

/// More than [`IN_FRONT`].
#[derive(Debug)]
struct NoFileInSight;

impl fmt::Display for NoFileInSight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the form's file does not begin")
    }
}

impl std::error::Error for NoFileInSight {}

impl Stream for Pieces {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Some(Err(Box::new(NoFileInSight))));
        }
        let piece = ready!(self.body.poll_next_unpin(cx));
        if let Some(Ok(piece)) = &piece {
            self.left.store(left.saturating_sub(piece.len() as u64), Ordering::Relaxed);
            self.given = true;
        }
        Poll::Ready(piece.map(|piece| piece.map_err(Into::into)))
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match self {
            Self::Plain(body) => body.next().await.transpose().map_err(|_| cut()),
            Self::Form(form) => form.0.chunk().await.map_err(|error| of_form(&error)),
        }
    }
}

/// The same of a body that nothing was read of.
pub(crate) async fn linger(headers: &HeaderMap, body: Body) {
    let mut headers = headers.clone();
    // As it is: whatever it holds, it goes.
    headers.remove(CONTENT_TYPE);
    if let Ok(incoming) = Incoming::begin(&headers, body, 0).await {
        incoming.linger().await;
    }
}

fn stalled() -> Problem {
    Problem::new(Code::HandshakeTimeout, "the upload has stopped on its way")
}

fn cut() -> Problem {
    Problem::new(Code::BadRequest, "the upload did not arrive whole")
}

fn bad_form() -> Problem {
    Problem::new(Code::BadRequest, "this is no form with a file (multipart/form-data)")
}

fn of_form(error: &multer::Error) -> Problem {
    match error {
        multer::Error::StreamSizeExceeded { .. } | multer::Error::FieldSizeExceeded { .. } => {
            Code::TooLarge.into()
        }
        multer::Error::StreamReadFailed(error) if error.is::<NoFileInSight>() => bad_form(),
        multer::Error::StreamReadFailed(_)
        | multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. } => cut(),
        _ => bad_form(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::AtomicUsize;

    use futures_util::stream;
    use proptest::prelude::*;

    async fn read(said: &str, body: Vec<u8>, chunk: usize) -> Result<(Option<String>, Vec<u8>), Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, said.parse().unwrap());
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        let mut incoming = Incoming::begin(&headers, body, 1_000).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = incoming.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok((incoming.name, bytes))
    }

    fn form(name: &str, content: &[u8]) -> Vec<u8> {
        let head = format!(
            "--B\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhello\r\n--B\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/html\r\n\r\n"
        );
        [head.as_bytes(), content, b"\r\n--B--\r\n"].concat()
    }

    #[tokio::test]
    async fn a_form_is_as_good_as_its_file() {
        let said = "multipart/form-data; boundary=B";
        let read_form = read(said, form("a.txt", b"one\r\n--two"), 3).await.unwrap();
        assert_eq!(read_form, (Some("a.txt".to_owned()), b"one\r\n--two".to_vec()));
        assert_eq!(read("text/plain", b"plain".to_vec(), 2).await.unwrap(), (None, b"plain".to_vec()));
        let code = |got: Result<_, Problem>| got.map(drop).unwrap_err().code;
        assert_eq!(code(read("multipart/form-data", Vec::new(), 1).await), Code::BadRequest);
        assert_eq!(code(read(said, b"--B--\r\n".to_vec(), 1).await), Code::BadRequest);
        assert_eq!(code(read(said, form("a", b"cut")[..120].to_vec(), 9).await), Code::BadRequest);
        assert_eq!(code(read(said, form("a", &[7; 70_000]), 999).await), Code::TooLarge);
        let fields = "--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n".repeat(1_000);
        assert_eq!(code(read(said, fields.into_bytes(), 999).await), Code::BadRequest);
    }

    const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n";

    /// An upload whose body is `head`, and behind it pieces without end, as fast as they are taken; and how many were.
    async fn endless(head: &str) -> (Result<Incoming, Problem>, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let pieces = stream::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 65_536]))
        });
        let head = stream::iter([Ok(Bytes::from(head.to_owned()))]);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "multipart/form-data; boundary=b".parse().unwrap());
        (Incoming::begin(&headers, Body::from_stream(head.chain(pieces)), 1 << 40).await, taken)
    }

    #[tokio::test]
    async fn of_a_form_no_more_is_in_memory_than_is_looked_at() {
        // In front of the first line, in a header, in a field that is no file: none of them ends.
        for head in ["", FORM, "--b\r\nContent-Disposition: form-data; name=\"caption\"\r\n\r\n"] {
            let (incoming, taken) = endless(head).await;
            assert_eq!(incoming.map(|_| ()).map_err(|problem| problem.code), Err(Code::BadRequest), "{head}");
            assert!(taken.load(Ordering::Relaxed) < 64, "{head}");
        }
        let (incoming, taken) = endless(&format!("{FORM}\r\n")).await;
        let mut incoming = incoming.unwrap();
        for number in 1..100 {
            assert!(incoming.next().await.unwrap().is_some());
            assert!(taken.load(Ordering::Relaxed) <= number + 4);
        }
    }

    /// Bytes of a body that comes in pieces of this size, each some ms after the last.
    async fn slow(patience: u64, pieces: usize, size: usize, pause: u64) -> Result<usize, Problem> {
        let piece = move |left: usize| async move {
            if left == 0 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; size])), left - 1))
        };
        let body = Body::from_stream(futures_util::stream::unfold(pieces, piece));
        let mut incoming = Incoming::begin(&HeaderMap::new(), body, 1 << 30).await?;
        incoming.patience = Duration::from_millis(patience);
        let mut seen = 0;
        while let Some(chunk) = incoming.next().await? {
            seen += chunk.len();
        }
        Ok(seen)
    }

    #[tokio::test]
    async fn who_sends_a_byte_every_now_and_then_is_cut_off() {
        for (pieces, size) in [(usize::MAX, 1), (usize::MAX, 100)] {
            let cut = slow(200, pieces, size, 2).await.map_err(|problem| problem.code);
            assert_eq!(cut, Err(Code::HandshakeTimeout), "{size}");
        }
        // It moves on, although it takes longer in all; and one that is small has time enough.
        assert_eq!(slow(1_500, 5, 70_000, 350).await.unwrap(), 350_000);
        assert_eq!(slow(30_000, 9, 1, 1).await.unwrap(), 9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_a_form_or_none(body in prop::collection::vec(any::<u8>(), 0..300), content in prop::collection::vec(any::<u8>(), 0..300), chunk in 1..50_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let said = "multipart/form-data; boundary=B";
            let _ = runtime.block_on(read(said, body, chunk));
            let mut with_boundaries = form("x", &content);
            let got = runtime.block_on(read(said, with_boundaries.clone(), chunk));
            if !content.windows(5).any(|window| window == b"\r\n--B") {
                prop_assert_eq!(got.unwrap().1, content);
            }
            with_boundaries.truncate(chunk * 4);
            let _ = runtime.block_on(read(said, with_boundaries, chunk));
        }
    }
}
