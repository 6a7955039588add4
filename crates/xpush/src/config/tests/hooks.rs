//! Hooks and calls, in the file and live.

use xpush_core::hooks::{HookAsk, HookEvent, OnFailure};

use super::apps::app;
use super::from_file;

const SECRET: &str = "0123456789abcdefghijklmn";

#[test]
fn hooks_and_calls_are_read() {
    let record = app(&format!(
        "[[apps.a.hooks]]
         url = 'https://a.example/x?y=1'
         secret = '{SECRET}'
         previous_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
         events = ['message', 'offline']
         asks = ['connect']
         channels = 'room:*'
         timeout = '500ms'
         concurrency = 3
         on_failure = 'allow'
         [[apps.a.hooks]]
         name = 'plain'
         url = 'http://10.0.0.1:8080'
         secret = '{SECRET}'
         asks = ['call']
         [[apps.a.calls]]
         event = 'chat message'
         channel = 'chat:lobby'
         [[apps.a.calls]]
         event = 'news'
         channel = 'news'
         echo = false
         join = false"
    ));
    let [main, plain] = &record.hooks[..] else { panic!("two hooks") };
    assert_eq!((&*main.name, &*main.url, main.secrets.len()), ("main", "https://a.example/x?y=1", 2));
    assert_eq!(
        (&main.events[..], &main.asks[..]),
        (&[HookEvent::Message, HookEvent::Offline][..], &[HookAsk::Connect][..])
    );
    assert_eq!((main.timeout_ms, main.concurrency, main.on_failure), (500, 3, OnFailure::Allow));
    assert_eq!((plain.timeout_ms, plain.concurrency, plain.on_failure), (2_000, 8, OnFailure::Refuse));
    let calls: Vec<_> =
        record.calls.iter().map(|call| (&*call.event, &*call.channel, call.echo, call.join)).collect();
    assert_eq!(calls, [("chat message", "chat:lobby", true, true), ("news", "news", false, false)]);
}

#[test]
fn what_cannot_work_is_refused_and_no_secret_is_quoted() {
    let good = format!("name = 'x', url = 'https://a.example', secret = '{SECRET}', events = ['message']");
    for (lines, wanted) in [
        (
            "hooks = [{ secret = '0123456789abcdefghijklmn', asks = ['call'] }]".to_owned(),
            "a hook must have `url`",
        ),
        ("hooks = [{ url = 'https://a', asks = ['call'] }]".to_owned(), "a hook must have `secret`"),
        (
            "hooks = [{ url = 'https://a', secret = 'canary', asks = ['call'] }]".to_owned(),
            "at least 24 bytes",
        ),
        (
            "hooks = [{ url = 'https://a', secret = 'whsec_canary', asks = ['call'] }]".to_owned(),
            "at least 24 bytes",
        ),
        (
            format!("hooks = [{{ url = 'https://a', secret = '{SECRET}' }}]"),
            "`events` that it is told, or `asks`",
        ),
        (format!("hooks = [{{ {good} }}, {{ {good} }}]"), "another hook \"x\" before this one"),
        (format!("hooks = [{{ {good}, asks = ['sbscribe'] }}]"), "must be one of \"connect\", \"subscribe\""),
        (format!("hooks = [{{ {good}, channels = ['a b'] }}]"), "cannot be \"a b\""),
        (format!("hooks = [{{ {good}, timeout = '1m' }}]"), "must be at most 10s"),
        ("hooks = [{ url = 'ftp://a' }]".to_owned(), "must be a URL such as"),
        ("hooks = [{ url = 'https://user@a' }]".to_owned(), "must be a URL such as"),
        ("calls = [{ event = 'x' }]".to_owned(), "a call must have `channel`"),
        ("calls = [{ event = 'presence', channel = 'a' }]".to_owned(), "a meaning of its own"),
        ("calls = [{ event = 'x', channel = '@ann' }]".to_owned(), "a user's or the server's own"),
        (
            "calls = [{ event = 'x', channel = 'a' }, { event = 'x', channel = 'b' }]".to_owned(),
            "has a call before this one",
        ),
    ] {
        let file = format!("[apps.a]\n{lines}\n[[apps.a.rules]]\nchannels = '*'");
        let complaints = from_file(&file).expect_err(&lines).to_string();
        assert!(complaints.contains(wanted), "{lines}: {complaints}");
        assert!(!complaints.contains("canary"), "{complaints}");
    }
}
