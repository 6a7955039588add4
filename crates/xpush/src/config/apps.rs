//! `[apps.NAME]` and its rules.

use xpush_core::rules::matches;
use xpush_core::{App, History, Permissions, Retention, Rule, Who};

use super::section::{Reading, Section};
use super::tree::{Place, Value};
use super::values::{boolean, choice, count, duration, shortened, size, text, wanted};

/// An app as it was configured.
#[derive(Debug, Clone)]
pub(crate) struct AppSettings {
    pub(crate) name: App,
    pub(crate) guests: Guests,
    pub(crate) rules: Vec<Rule>,
}

/// Where connections without a token are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    Everywhere,
    /// While only this machine can reach the server.
    OnLoopback,
    Nowhere,
}

#[derive(Clone, Copy)]
enum Kept {
    None,
    Recent,
    Durable,
}

const DAY: u64 = 86_400_000;

/// What a channel with recent history keeps, unless its rule says otherwise: a gap of two minutes at 80 messages a second can be filled.
const KEEP: Retention = Retention { count: 10_000, bytes: 4_000_000, age_ms: 3_600_000 };

impl Guests {
    /// Whether they are welcome on such a server.
    pub(crate) fn welcome(self, on_loopback: bool) -> bool {
        match self {
            Self::Everywhere => true,
            Self::OnLoopback => on_loopback,
            Self::Nowhere => false,
        }
    }
}

/// Reads every app.
pub(crate) fn read(mut section: Section<'_>, reading: &Reading) -> Vec<AppSettings> {
    section
        .sections()
        .into_iter()
        .filter_map(|(name, place, app)| read_app(name, place, app, reading))
        .collect()
}

fn read_app(name: &str, place: &Place, mut section: Section<'_>, reading: &Reading) -> Option<AppSettings> {
    let guests = section.read("guests", guests).unwrap_or(Guests::Nowhere);
    let mut rules: Vec<Rule> = Vec::new();
    let mut places: Vec<&Place> = Vec::new();
    let given = section.tables("rules");
    let none = given.is_empty();
    for (place, rule) in given {
        let Some(rule) = read_rule(place, rule, reading) else { continue };
        if let Some(earlier) = rules.iter().position(|earlier| matches(&earlier.pattern, &rule.pattern)) {
            let (pattern, earlier, there) = (&rule.pattern, &rules[earlier].pattern, places[earlier]);
            reading.complain(
                place,
                format!("the rule \"{pattern}\" is never reached: \"{earlier}\" ({there}) comes first and matches the same channels"),
            );
        }
        rules.push(rule);
        places.push(place);
    }
    section.finish();
    if none {
        reading.complain(
            place,
            format!("the app `{name}` has no channels: it needs at least one [[apps.{name}.rules]]"),
        );
    }
    match App::new(name) {
        Ok(name) => Some(AppSettings { name, guests, rules }),
        Err(_) => {
            let name = shortened(name);
            reading.complain(
                place,
                format!("an app's name has 1 to 64 letters, digits, `-` or `_`; \"{name}\" has not"),
            );
            None
        }
    }
}

fn read_rule(place: &Place, mut section: Section<'_>, reading: &Reading) -> Option<Rule> {
    let pattern = section.read("channels", |value| pattern(&text(value)?));
    if section.place("channels").is_none() {
        reading.complain(place, "a rule must say which `channels` it is for, such as \"chat:*\"");
    }
    let kept = section.read(
        "history",
        choice(&[("none", Kept::None), ("recent", Kept::Recent), ("durable", Kept::Durable)]),
    );
    if let Some(Kept::Durable) = kept {
        section.complain(
            "history",
            "is \"durable\", which arrives with a later release; \"recent\" is what there is now",
        );
    }
    let presence = section.read("presence", boolean).unwrap_or(false);
    let publish = section.read("publish", choice(&[("anyone", false), ("server", true)]));
    let retention = read_keep(section.section("keep"));
    section.finish();
    let history = match kept {
        None | Some(Kept::None) => History::None,
        Some(Kept::Recent | Kept::Durable) => History::Recent(retention),
    };
    let mut permissions = Permissions::all(Who::Anyone);
    if publish == Some(true) {
        permissions.publish = vec![Who::Server];
    }
    Some(Rule { pattern: pattern?, history, presence, notify: false, permissions })
}

fn read_keep(mut section: Section<'_>) -> Retention {
    let count = section.read("count", count(1..=10_000_000)).and_then(|count| usize::try_from(count).ok());
    let bytes = section.read("bytes", size(1_024..=1 << 40)).and_then(|bytes| usize::try_from(bytes).ok());
    let age_ms = section.read("age", duration(1_000..=365 * DAY));
    section.finish();
    Retention {
        count: count.unwrap_or(KEEP.count),
        bytes: bytes.unwrap_or(KEEP.bytes),
        age_ms: age_ms.unwrap_or(KEEP.age_ms),
    }
}

fn guests(value: &Value) -> Result<Guests, String> {
    match value {
        Value::Text(word) | Value::Raw(word) if word == "loopback" => Ok(Guests::OnLoopback),
        _ => match boolean(value) {
            Ok(true) => Ok(Guests::Everywhere),
            Ok(false) => Ok(Guests::Nowhere),
            Err(_) => Err(wanted("true, false or \"loopback\"", value)),
        },
    }
}

/// A channel's name in which `*` stands for any run of characters.
fn pattern(text: &str) -> Result<Box<str>, String> {
    // Each `*` stands for at least one good character, so the rest must be a good name.
    match xpush_core::Channel::new(&text.replace('*', "x")) {
        Ok(_) => Ok(text.into()),
        Err(code) => Err(format!("cannot be \"{}\": {}", shortened(text), code.text().trim_end_matches('.'))),
    }
}
