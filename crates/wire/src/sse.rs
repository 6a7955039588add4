//! Server-sent events (WHATWG HTML, 9.2).

/// Appends one event. `id` and `event` hold no line break (the caller's names cannot); `data` is JSON text: its line breaks, which JSON allows only
/// between tokens, become several `data:` lines.
pub fn write_event(id: Option<&str>, event: &str, data: &str, out: &mut Vec<u8>) {
    let _ = (id, event, data, out);
    todo!()
}

/// Appends a comment line: keeps proxies from closing an idle stream.
pub fn write_comment(text: &str, out: &mut Vec<u8>) {
    let _ = (text, out);
    todo!()
}
