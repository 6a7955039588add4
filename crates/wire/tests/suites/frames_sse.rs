//! Server-sent events against a model of the client's parser (WHATWG HTML, 9.2.6).

use proptest::collection::vec;
use proptest::prelude::*;
use xpush_wire::sse::{write_comment, write_event};

#[derive(Debug, Clone, PartialEq)]
struct Event {
    last_id: String,
    kind: String,
    data: String,
}

fn parse(stream: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut last_id, mut kind, mut data) = (String::new(), String::new(), String::new());
    for line in stream.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() {
            if let Some(data) = data.strip_suffix('\n') {
                events.push(Event { last_id: last_id.clone(), kind: kind.clone(), data: data.to_owned() });
            }
            data.clear();
            kind.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => kind = value.to_owned(),
            "id" if !value.contains('\0') => last_id = value.to_owned(),
            "data" => data = data + value + "\n",
            _ => {}
        }
    }
    events
}

proptest! {
    #[test]
    fn a_client_reads_what_was_written(
        written in vec((prop::option::of("[^\r\n\0]{0,20}"), "[^\r\n]{1,20}", any::<String>(), any::<bool>()), 0..6),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut last_id = String::new();
        for (id, kind, data, comment) in written {
            if comment {
                write_comment(&kind, &mut stream);
            }
            write_event(id.as_deref(), &kind, &data, &mut stream);
            if let Some(id) = id {
                last_id = id;
            }
            let data = data.replace('\r', "\n");
            expected.push(Event { last_id: last_id.clone(), kind, data });
        }
        prop_assert_eq!(parse(str::from_utf8(&stream).expect("text")), expected);
    }
}
