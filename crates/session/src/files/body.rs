//! The bytes of an upload, however they are wrapped.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use futures_util::StreamExt as _;
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::time::timeout;
use xpush_core::{Code, Problem};

/// For how long nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// Bytes of a form around its file.
const AROUND: u64 = 65_536;

/// Fields of a form before its file.
const FIELDS: usize = 16;

/// Bytes that are taken in and thrown away of an upload that was refused, and for how long: who is still sending when the connection is closed may not see the answer.
const LINGER: u64 = 16 << 20;
const LINGER_FOR: Duration = Duration::from_secs(10);

/// A file on its way in.
pub(crate) struct Incoming {
    source: Source,
    /// What a form calls the file.
    pub(crate) name: Option<String>,
    /// What the client says that it is.
    pub(crate) said: Option<String>,
    /// Bytes of it, if they were announced; of a form, at most so many.
    pub(crate) announced: Option<u64>,
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
        let boundary = said.as_deref().and_then(|said| {
            let form =
                said.trim_start().get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
            form.then(|| multer::parse_boundary(said).map_err(|_| bad_form()))
        });
        let Some(boundary) = boundary.transpose()? else {
            let source = Source::Plain(body.into_data_stream());
            return Ok(Self { source, name: None, said, announced });
        };
        let bounds = SizeLimit::new().whole_stream(largest.saturating_add(AROUND));
        let constraints = Constraints::new().size_limit(bounds);
        let mut form = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
        for _ in 0..FIELDS {
            let field = timeout(STALL, form.next_field()).await.map_err(|_| stalled())?;
            let Some(field) = field.map_err(|error| of_form(&error))? else { break };
            if field.file_name().is_some() {
                let name = field.file_name().map(str::to_owned);
                let said = field.content_type().map(ToString::to_string);
                return Ok(Self { name, said, announced, source: Source::Form(Box::new((field, form))) });
            }
        }
        Err(Problem::new(Code::BadRequest, "the form has no file"))
    }

    /// The next bytes; `None` at the file's end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let chunk = match &mut self.source {
                Source::Plain(body) => {
                    let chunk = timeout(STALL, body.next()).await.map_err(|_| stalled())?;
                    chunk.transpose().map_err(|_| cut())?
                }
                Source::Form(form) => {
                    let chunk = timeout(STALL, form.0.chunk()).await.map_err(|_| stalled())?;
                    chunk.map_err(|error| of_form(&error))?
                }
            };
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
        multer::Error::StreamReadFailed(_)
        | multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. } => cut(),
        _ => bad_form(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
