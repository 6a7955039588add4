//! What a file is, by its first bytes: what a client says of it counts only where nothing can come of it.

use image::ImageFormat;

/// As many bytes as are looked at.
pub(crate) const LOOKED_AT: usize = 8_192;

/// The type of what nothing is known of: a browser saves it.
const UNKNOWN: &str = "application/octet-stream";

/// Types of text that no browser runs, so that the client's word for it is good enough.
const PLAIN: &[&str] =
    &["text/plain", "text/csv", "text/markdown", "text/calendar", "text/vcard", "application/json"];

/// The type of what begins with `head`, which the client calls `said`.
///
/// Text that a browser would run if it were let (HTML, SVG, XML, scripts) is none of that here: it is plain bytes.
pub(crate) fn kind(head: &[u8], said: Option<&str>) -> &'static str {
    let head = &head[..head.len().min(LOOKED_AT)];
    if let Some(found) = infer::get(head) {
        let kind = found.mime_type();
        return if is_active(kind) { UNKNOWN } else { kind };
    }
    if !is_text(head) || looks_active(head) {
        return UNKNOWN;
    }
    let said = said.and_then(|said| said.split(';').next()).unwrap_or_default().trim();
    PLAIN.iter().find(|plain| plain.eq_ignore_ascii_case(said)).copied().unwrap_or("text/plain")
}

/// The format of images that are written anew. No others are shown in pages.
pub(crate) fn format(kind: &str) -> Option<ImageFormat> {
    match kind {
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/png" => Some(ImageFormat::Png),
        "image/gif" => Some(ImageFormat::Gif),
        "image/webp" => Some(ImageFormat::WebP),
        _ => None,
    }
}

fn is_active(kind: &str) -> bool {
    ["html", "xml", "svg", "script", "shockwave"].iter().any(|part| kind.contains(part))
}

/// UTF-8 without control characters; the last character may have been cut.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}'))
}

/// Whether a browser that guesses might take it for a page (MIME Sniffing, 7.1, and somewhat more).
fn looks_active(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(head.len());
    let tags: &[&[u8]] = &[
        b"<!doctype",
        b"<html",
        b"<script",
        b"<svg",
        b"<iframe",
        b"<body",
        b"<head",
        b"<object",
        b"<embed",
        b"<img",
    ];
    head[start..].starts_with(b"<")
        || tags.iter().any(|tag| head.windows(tag.len()).any(|window| window.eq_ignore_ascii_case(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn bytes_are_believed_and_words_are_not() {
        for (head, said, expected) in [
            (&b"\x89PNG\r\n\x1a\n"[..], Some("text/html"), "image/png"),
            (b"\xff\xd8\xff\xe0", None, "image/jpeg"),
            (b"GIF89a", Some("image/png"), "image/gif"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", None, "image/webp"),
            (b"%PDF-1.7", None, "application/pdf"),
            (b"PK\x03\x04", None, "application/zip"),
            (b"hello", None, "text/plain"),
            (b"a,b\n1,2", Some("text/csv; charset=utf-8"), "text/csv"),
            (b"hello", Some("text/html"), "text/plain"),
            (b"hello", Some("image/png"), "text/plain"),
            (b"hello", Some("application/javascript"), "text/plain"),
            (b"", Some("image/png"), "text/plain"),
            (b"\0\x01\x02", Some("image/png"), UNKNOWN),
            ("caf\u{e9}".as_bytes(), None, "text/plain"),
        ] {
            assert_eq!(kind(head, said), expected, "{head:?} {said:?}");
        }
    }

    #[test]
    fn what_a_browser_would_run_is_plain_bytes() {
        for page in [
            "<!DOCTYPE html><script>alert(1)</script>",
            "  \n<html>",
            "\u{feff}<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>",
            "<?xml version=\"1.0\"?><svg/>",
            "<!-- x --><script>",
            "just text, and then <ScRiPt>alert(1)</ScRiPt>",
        ] {
            assert_eq!(kind(page.as_bytes(), Some("text/plain")), UNKNOWN, "{page}");
        }
    }

    proptest! {
        #[test]
        fn nothing_active_comes_of_any_bytes(head in prop::collection::vec(any::<u8>(), 0..600), said in any::<Option<String>>()) {
            let kind = kind(&head, said.as_deref());
            prop_assert!(!is_active(kind), "{}", kind);
        }
    }
}
