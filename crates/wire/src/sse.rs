//! Server-sent events (WHATWG HTML, 9.2).

/// Appends one event. `id` and `event` hold no line break (the caller's names cannot); `data` is JSON text: its line breaks, which JSON allows only
/// between tokens, become several `data:` lines.
pub fn write_event(id: Option<&str>, event: &str, data: &str, out: &mut Vec<u8>) {
    if let Some(id) = id {
        write_field("id", id, out);
    }
    write_field("event", event, out);
    // A CRLF makes an empty line between: white space more, to a JSON parser nothing.
    for line in data.split(['\r', '\n']) {
        write_field("data", line, out);
    }
    out.push(b'\n');
}

/// Appends a comment line: keeps proxies from closing an idle stream.
pub fn write_comment(text: &str, out: &mut Vec<u8>) {
    write_field("", text, out);
}

/// The space after the colon is the one that the client strips: a value may begin with its own.
fn write_field(name: &str, value: &str, out: &mut Vec<u8>) {
    debug_assert!(!value.contains(['\r', '\n']), "a line break in an event stream's field");
    for part in [name, ": ", value, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: Option<&str>, event: &str, data: &str) -> String {
        let mut out = Vec::new();
        write_event(id, event, data, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_event_is_its_fields_and_an_empty_line() {
        assert_eq!(
            event(Some("a:7"), "message", r#"{"n":1}"#),
            "id: a:7\nevent: message\ndata: {\"n\":1}\n\n"
        );
        assert_eq!(event(None, "message", ""), "event: message\ndata: \n\n");
    }

    #[test]
    fn no_line_break_in_the_data_ends_the_event_or_begins_another_field() {
        assert_eq!(
            event(None, "message", "{\n\"n\":\r1\r\n\n}"),
            "event: message\ndata: {\ndata: \"n\":\ndata: 1\ndata: \ndata: \ndata: }\n\n",
        );
    }

    #[test]
    fn a_comment_is_one_line() {
        let mut out = Vec::new();
        write_comment("still here", &mut out);
        assert_eq!(out, b": still here\n");
    }
}
