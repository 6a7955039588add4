//! `GET /files/{file}` and its thumbnail.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use xpush_core::ports::blobs::{BlobId, Content, Part};
use xpush_core::ports::files::FileRecord;
use xpush_core::{Code, Problem};

use super::ticket::Ticket;
use super::{Filing, Visitor, id, name, sniff, store};
use crate::api::{Answer, Api, Asked, Refusal, Segment};

/// A browser may show it again for so long without asking: it never changes, but who has it may be a reader no more.
const FRESH: &str = "private, max-age=600";

/// What a file may do where it is a page of its own: nothing.
const POLICY: &str = "default-src 'none'; sandbox";

/// Ranges of a request.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Some(Range<u64>),
    Nothing,
}

pub(super) async fn content(State(api): State<Arc<Api>>, path: Segment, request: Request) -> Answer {
    give(&api, path, request, Part::Content).await
}

pub(super) async fn thumbnail(State(api): State<Arc<Api>>, path: Segment, request: Request) -> Answer {
    give(&api, path, request, Part::Thumbnail).await
}

async fn give(api: &Arc<Api>, path: Segment, request: Request, part: Part) -> Answer {
    let (mut parts, _) = request.into_parts();
    let file = find(api, &path, &mut parts).await?;
    api.filing()?.give(&file, part, &parts.headers, Given::ToAnyPage).await
}

/// Which pages may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// Whoever has a ticket may show it in a page of theirs.
    ToAnyPage,
    /// Nobody but the page of this server.
    ToOwnPage,
}

impl Filing {
    /// One of a file's contents, or a part of it, as its headers ask for it (RFC 9110, 13 and 14).
    pub(crate) async fn give(&self, file: &FileRecord, part: Part, headers: &HeaderMap, to: Given) -> Answer {
        let (size, kind, etag) = match (part, &file.thumbnail) {
            (Part::Thumbnail, Some(small)) => (small.size, &small.kind, format!("\"{}-t\"", file.hash)),
            (Part::Thumbnail, None) => return Err(Code::NotFound.into()),
            _ => (file.size, &file.kind, format!("\"{}\"", file.hash)),
        };
        if names(headers, header::IF_NONE_MATCH, &etag) {
            let known = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, FRESH)];
            return Ok((StatusCode::NOT_MODIFIED, known).into_response());
        }
        let (status, bytes) = match wanted(headers, size, &etag) {
            Wanted::All => (StatusCode::OK, 0..size),
            Wanted::Some(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::Nothing => {
                let mut refused = Refusal::from(Code::BadRange).into_response();
                refused.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{size}"))?);
                return Ok(refused);
            }
        };
        let blob = BlobId::new(file.id.clone(), part);
        let blobs = &self.parts.blobs;
        let opened = store(|done| blobs.open(&blob, bytes.clone(), done)).await?;
        // It may have been removed a moment ago.
        let content = opened.ok_or(Code::NotFound)?.content;
        let mut response = Response::new(streamed(content));
        *response.status_mut() = status;
        let told = response.headers_mut();
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
            told.insert(header::CONTENT_RANGE, value(&range)?);
        }
        told.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.end - bytes.start));
        let shown = sniff::format(kind).is_some();
        for (name, text) in [
            (header::CONTENT_TYPE, &**kind),
            (header::ETAG, &etag),
            (header::ACCEPT_RANGES, "bytes"),
            (header::CACHE_CONTROL, FRESH),
            (header::CONTENT_DISPOSITION, &name::disposition(shown, &file.name)),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            // A ticket in the address is nobody else's.
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), to.policy()),
        ] {
            told.insert(name, value(text)?);
        }
        Ok(response)
    }
}

impl Given {
    const fn policy(self) -> &'static str {
        match self {
            Self::ToAnyPage => "cross-origin",
            Self::ToOwnPage => "same-origin",
        }
    }
}

/// The file, if whoever asks may read its channel: by a ticket, or by who they are.
async fn find(api: &Arc<Api>, path: &Segment, parts: &mut Parts) -> Result<FileRecord, Refusal> {
    let filing = api.filing()?;
    let asked = Asked::from_request_parts(parts, api).await?;
    let Some(sealed) = asked.one("ticket")? else {
        let Visitor(who) = Visitor::from_request_parts(parts, api).await?;
        return Ok(filing.readable(&id(path)?, &who).await?.0);
    };
    let ticket = Ticket::open(sealed, filing.key(&api.store).await?);
    let now = filing.parts.clock.wall();
    let ticket = ticket.filter(|ticket| ticket.expires_at > now);
    let ticket =
        ticket.ok_or_else(|| Problem::new(Code::Unauthenticated, "this ticket is not good (any more)"))?;
    let file = filing.ready(&ticket.app, &id(path)?).await?;
    if file.channel == ticket.channel { Ok(file) } else { Err(Code::NotFound.into()) }
}

/// The content, piece by piece, as fast as it is taken.
fn streamed(content: Box<dyn Content>) -> Body {
    let pieces = stream::unfold(Some(content), |content| async move {
        let mut content = content?;
        match store(|done| content.read(done)).await {
            Ok(Some(piece)) => Some((Ok::<Bytes, io::Error>(piece), Some(content))),
            Ok(None) => None,
            // The client sees that it is not whole.
            Err(error) => {
                tracing::warn!(%error, "a file was not given whole");
                Some((Err(io::Error::other("the store has failed")), None))
            }
        }
    });
    Body::from_stream(pieces)
}

/// Whether a header's list of tags has this one, or everything.
fn names(headers: &HeaderMap, header: HeaderName, etag: &str) -> bool {
    let lists = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

/// RFC 9110, 14.2: whatever cannot be understood is as if it were not there, and so are several ranges, which nobody needs.
fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Wanted {
    let mut ranges = headers.get_all(header::RANGE).into_iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Wanted::All };
    if headers.get(header::IF_RANGE).is_some_and(|given| given.as_bytes() != etag.as_bytes()) {
        return Wanted::All;
    }
    let spec = range.to_str().ok().and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else { return Wanted::All };
    let number = |text: &str| -> Option<u64> {
        // So many digits that they mean no number mean the end.
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", "") => return Wanted::All,
        ("", last) => match number(last) {
            None => return Wanted::All,
            Some(0) => return Wanted::Nothing,
            Some(count) => (size.saturating_sub(count), size),
        },
        (first, "") => match number(first) {
            None => return Wanted::All,
            Some(first) => (first, size),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
            _ => return Wanted::All,
        },
    };
    if start < end { Wanted::Some(start..end) } else { Wanted::Nothing }
}

fn value(text: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(text).map_err(|_| Code::Internal.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn of(range: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        wanted(&headers, size, "\"x\"")
    }

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Some(0..1)),
            ("bytes=2-", Wanted::Some(2..10)),
            ("bytes=-3", Wanted::Some(7..10)),
            ("bytes=-99", Wanted::Some(0..10)),
            ("bytes=5-99999999999999999999999", Wanted::Some(5..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(of(range, 10), expected, "{range}");
        }
        assert_eq!((of("bytes=0-", 0), of("bytes=-1", 0)), (Wanted::Nothing, Wanted::Nothing));
    }

    #[test]
    fn a_range_of_another_content_is_all_of_this_one() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-1".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"x\"".parse().unwrap());
        assert_eq!(wanted(&headers, 10, "\"x\""), Wanted::Some(0..2));
        assert_eq!(wanted(&headers, 10, "\"y\""), Wanted::All);
        assert!(names(&headers, header::IF_RANGE, "\"x\"") && !names(&headers, header::IF_RANGE, "\"y\""));
    }

    proptest! {
        #[test]
        fn no_range_goes_beyond_the_end(range in "(bytes=)?[0-9,-]{0,24}", size in 0..100_u64) {
            if let Wanted::Some(range) = of(&range, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
