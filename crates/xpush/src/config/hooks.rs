//! `[[apps.NAME.hooks]]` and `[[apps.NAME.calls]]`: what an app's own back end is told and asked, and what clients' events become.

use xpush_core::hooks::{CallRecord, HookAsk, HookEvent, HookRecord, OnFailure};
use xpush_core::{Channel, EventName, names};
use xpush_hooks::{SHORTEST, usable};

use super::keys::name;
use super::rules::pattern;
use super::section::{Reading, Section};
use super::tree::Place;
use super::values::{boolean, choice, count, duration, shortened, text};

/// How long a question may take, when nothing is said, and at most; in ms.
const TIMEOUT_MS: u64 = 2_000;
const LONGEST_MS: u64 = 10_000;
/// Requests at the same time, when nothing is said.
const CONCURRENCY: u32 = 8;
/// Hooks and calls of an app.
const MOST: usize = 16;

/// Reads an app's hooks.
pub(super) fn read_hooks(given: Vec<(&Place, Section<'_>)>, reading: &Reading) -> Vec<HookRecord> {
    let mut hooks: Vec<HookRecord> = Vec::new();
    for (place, section) in given {
        let Some(hook) = read_hook(place, section, reading) else { continue };
        if hooks.iter().any(|earlier| earlier.name == hook.name) {
            reading.complain(
                place,
                format!("there is another hook \"{}\" before this one: give each a `name`", hook.name),
            );
        }
        if hooks.len() == MOST {
            reading.complain(place, format!("is one too many: an app has at most {MOST} hooks"));
        }
        hooks.push(hook);
    }
    hooks
}

fn read_hook(place: &Place, mut section: Section<'_>, reading: &Reading) -> Option<HookRecord> {
    let name = section.read("name", |value| name(&text(value)?)).unwrap_or_else(|| "main".into());
    let url = section.read("url", |value| url(&text(value)?));
    let secret = secret(&mut section, "secret", "secret_file");
    let previous = self::secret(&mut section, "previous_secret", "previous_secret_file");
    for key in ["url", "secret"] {
        if section.place(key).is_none() && section.place("secret_file").is_none_or(|_| key == "url") {
            reading.complain(place, format!("a hook must have `{key}`"));
        }
    }
    let events = section.list("events", event).unwrap_or_default();
    let asks = section.list("asks", ask).unwrap_or_default();
    if events.is_empty() && asks.is_empty() {
        reading.complain(place, "a hook must have `events` that it is told, or `asks` that it answers");
    }
    let channels = section.list("channels", pattern).unwrap_or_default();
    let timeout = section.read("timeout", duration(100..=LONGEST_MS)).unwrap_or(TIMEOUT_MS);
    let concurrency = section.read("concurrency", count(1..=256));
    let words = &[("refuse", OnFailure::Refuse), ("allow", OnFailure::Allow)];
    let on_failure = section.read("on_failure", choice(words)).unwrap_or_default();
    let api = section.read("api", boolean).unwrap_or(false);
    if api && !asks.contains(&HookAsk::Publish) {
        section.complain("api", "has no meaning here: the hook is not asked about \"publish\"");
    }
    section.finish();
    Some(HookRecord {
        name,
        url: url?,
        secrets: secret.into_iter().chain(previous).collect(),
        events,
        asks,
        channels,
        timeout_ms: timeout,
        concurrency: concurrency.and_then(|count| u32::try_from(count).ok()).unwrap_or(CONCURRENCY),
        on_failure,
        api,
    })
}

/// A secret, or what is in its file.
fn secret(section: &mut Section<'_>, key: &'static str, file: &'static str) -> Option<Box<str>> {
    let (written, read) = (section.secret(key), section.file(file));
    if written.is_some() {
        section.complain(file, &format!("is one too many beside `{key}`"));
    }
    let from = if written.is_some() { key } else { file };
    let secret = written.or(read)?;
    if !usable(&secret) {
        section.complain(
            from,
            &format!("must have at least {SHORTEST} bytes; if it begins with `whsec_`, so many in base64"),
        );
    }
    Some(secret.into())
}

/// Reads the events that are published as they are.
pub(super) fn read_calls(given: Vec<(&Place, Section<'_>)>, reading: &Reading) -> Vec<CallRecord> {
    let mut calls: Vec<CallRecord> = Vec::new();
    for (place, mut section) in given {
        let event = section.read("event", |value| call(&text(value)?));
        let channel = section.read("channel", |value| channel(&text(value)?));
        for key in ["event", "channel"] {
            if section.place(key).is_none() {
                reading.complain(place, format!("a call must have `{key}`"));
            }
        }
        let echo = section.read("echo", boolean).unwrap_or(true);
        let join = section.read("join", boolean).unwrap_or(true);
        section.finish();
        let Some((event, channel)) = event.zip(channel) else { continue };
        if calls.iter().any(|earlier| earlier.event == event) {
            reading.complain(place, format!("the event \"{event}\" has a call before this one"));
        }
        if calls.len() == MOST {
            reading.complain(place, format!("is one too many: an app has at most {MOST} calls"));
        }
        calls.push(CallRecord { event, channel, echo, join });
    }
    calls
}

fn event(word: &str) -> Result<HookEvent, String> {
    let found = HookEvent::EACH.into_iter().find(|event| event.as_str() == word);
    found.ok_or_else(|| unknown(word, &HookEvent::EACH.map(HookEvent::as_str)))
}

fn ask(word: &str) -> Result<HookAsk, String> {
    let found = HookAsk::EACH.into_iter().find(|ask| ask.as_str() == word);
    found.ok_or_else(|| unknown(word, &HookAsk::EACH.map(HookAsk::as_str)))
}

fn unknown(word: &str, known: &[&str]) -> String {
    format!("must be one of \"{}\", not \"{}\"", known.join("\", \""), shortened(word))
}

/// An event's name that no client gives to a command, and no push has.
fn call(event: &str) -> Result<Box<str>, String> {
    if names::reserved_event(event) {
        return Err(format!("cannot be \"{}\", which has a meaning of its own", shortened(event)));
    }
    match EventName::new(event) {
        Ok(_) => Ok(event.into()),
        Err(code) => {
            Err(format!("cannot be \"{}\": {}", shortened(event), code.text().trim_end_matches('.')))
        }
    }
}

fn channel(name: &str) -> Result<Box<str>, String> {
    match Channel::new(name) {
        Ok(channel) if channel.is_system() || channel.owner().is_some() => {
            Err(format!("cannot be \"{}\": it is a user's or the server's own", shortened(name)))
        }
        Ok(_) => Ok(name.into()),
        Err(code) => Err(format!("cannot be \"{}\": {}", shortened(name), code.text().trim_end_matches('.'))),
    }
}

/// `https://…`, or `http://…` where a server lets hooks reach its own network. What it leads to, the server looks at when it connects.
fn url(text: &str) -> Result<Box<str>, String> {
    let wrong =
        || format!("must be a URL such as \"https://www.example.com/xpush\", not \"{}\"", shortened(text));
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if !matches!(scheme, "https" | "http") || !xpush_session::is_authority(authority) || rest.contains(odd) {
        return Err(wrong());
    }
    Ok(text.into())
}
