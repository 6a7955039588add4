//! `[[apps.NAME.rules]]`.

use xpush_core::rules::matches;
use xpush_core::{History, Permissions, Retention, Role, Rule, Rules, Who};

use super::nearest::nearest;
use super::section::{Reading, Section};
use super::tree::Place;
use super::values::{boolean, choice, count, duration, shortened, size, text};

#[derive(Clone, Copy, PartialEq)]
enum Kept {
    None,
    Recent,
    Durable,
}

const DAY: u64 = 86_400_000;

/// What a channel with recent history keeps, unless its rule says otherwise: a gap of two minutes at 80 messages a second can be filled.
const RECENT: Retention = Retention { count: 10_000, bytes: 4_000_000, age_ms: 3_600_000 };

/// Who may do something, but for roles.
const WHO: &[&str] = &["anyone", "users", "members", "token", "server"];

/// Reads an app's rules, in their order.
pub(super) fn read_rules(
    given: Vec<(&Place, Section<'_>)>,
    app_place: &Place,
    app: &str,
    reading: &Reading,
) -> Rules {
    let mut rules: Vec<Rule> = Vec::new();
    let mut places: Vec<&Place> = Vec::new();
    if given.is_empty() {
        reading.complain(
            app_place,
            format!("the app `{app}` has no channels: it needs at least one [[apps.{app}.rules]]"),
        );
    }
    for (place, rule) in given {
        let Some(rule) = read_rule(place, rule, reading) else { continue };
        // `*` is not for the server's own channels.
        let reaches = |earlier: &Rule| earlier.pattern.starts_with('$') || !rule.pattern.starts_with('$');
        let covers = |earlier: &Rule| reaches(earlier) && matches(&earlier.pattern, &rule.pattern);
        if let Some(earlier) = rules.iter().position(covers) {
            let (pattern, earlier, there) = (&rule.pattern, &rules[earlier].pattern, places[earlier]);
            reading.complain(
                place,
                format!("the rule \"{pattern}\" is never reached: \"{earlier}\" ({there}) comes first and matches the same channels"),
            );
        }
        rules.push(rule);
        places.push(place);
    }
    Rules::new(rules)
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
    let kept = kept.unwrap_or(Kept::None);
    let presence = section.read("presence", boolean).unwrap_or(false);
    let notify = section.read("notify", boolean).unwrap_or(false);
    let search = section.read("search", boolean).unwrap_or(false);
    let members = section.read("members", boolean).unwrap_or(false);
    let permissions = read_permissions(&mut section, members);
    let retention = read_keep(section.section("keep"), kept);
    let history = match kept {
        Kept::None => History::None,
        Kept::Recent => History::Recent(retention),
        Kept::Durable => History::Durable(retention),
    };
    let rule = Rule { pattern: pattern.unwrap_or_default(), history, presence, notify, search, permissions };
    if rule.search && !rule.is_searched() {
        section.complain(
            "search",
            "has nothing to search: only what is kept by history = \"durable\" can be found",
        );
    }
    check_members(&rule, members, &section);
    section.finish();
    (!rule.pattern.is_empty()).then_some(rule)
}

/// What is not said is as it is for subscribing: who cannot follow a channel does not read it, or write there, by default either.
fn read_permissions(section: &mut Section<'_>, members: bool) -> Permissions {
    let mut given = |key| section.list(key, who);
    let subscribe = given("subscribe").unwrap_or(vec![if members { Who::Members } else { Who::Anyone }]);
    let others = if members { vec![Who::Members] } else { subscribe.clone() };
    let mut permissions = Permissions {
        subscribe,
        publish: given("publish").unwrap_or_else(|| others.clone()),
        history: given("read_history").unwrap_or_else(|| others.clone()),
        presence: given("see_presence").unwrap_or(others),
        moderate: Vec::new(),
        invite: Vec::new(),
        create: given("create").unwrap_or_default(),
    };
    let usual = Permissions::all(if permissions.name_members() { Who::Members } else { Who::Anyone });
    permissions.moderate = given("moderate").unwrap_or(usual.moderate);
    permissions.invite = given("invite").unwrap_or(usual.invite);
    permissions
}

/// What only channels with members can have.
fn check_members(rule: &Rule, members: bool, section: &Section<'_>) {
    if rule.has_members() {
        let mut founders = rule.permissions.create.iter();
        if let Some(late) = founders.find(|who| matches!(who, Who::Members | Who::Token)) {
            section.complain("create", &format!("cannot be \"{late}\": what is not founded yet has none"));
        }
        return;
    }
    if rule.notify {
        section.complain("notify", "has nobody to notify: nothing in this rule is for \"members\"");
    }
    let members = if members { Some("members") } else { None };
    for key in members.into_iter().chain(["create", "invite"]) {
        section.complain(key, "has no meaning here: nothing in this rule is for \"members\"");
    }
}

/// What is not said is kept as long as there is room, on disk; memory is bounded.
fn read_keep(mut section: Section<'_>, kept: Kept) -> Retention {
    let (default, most) = match kept {
        Kept::Durable => (Retention::ENDLESS, 1_000_000_000_000),
        Kept::None | Kept::Recent => (RECENT, 10_000_000),
    };
    let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let count = section.read("count", count(1..=most)).map_or(default.count, narrow);
    let bytes = section.read("bytes", size(1_024..=1 << 50)).map_or(default.bytes, narrow);
    let age_ms = section.read("age", duration(1_000..=36_500 * DAY)).unwrap_or(default.age_ms);
    section.finish();
    Retention { count, bytes, age_ms }
}

fn who(text: &str) -> Result<Who, String> {
    text.parse().map_err(|_| {
        let words: Vec<_> = WHO.iter().map(|word| format!("\"{word}\"")).collect();
        let meant = match text.split_once(':') {
            Some(("role", name)) => {
                Role::new(name).err().map(|_| "; a role has 1 to 32 letters, digits, `-` or `_`".to_owned())
            }
            _ => nearest(text, WHO.iter().copied()).map(|word| format!("; did you mean \"{word}\"?")),
        };
        format!(
            "must be one of {} or \"role:NAME\", not \"{}\"{}",
            words.join(", "),
            shortened(text),
            meant.unwrap_or_default()
        )
    })
}

/// A channel's name in which `*` stands for any run of characters.
pub(super) fn pattern(text: &str) -> Result<Box<str>, String> {
    // Each `*` stands for at least one good character, so the rest must be a good name.
    match xpush_core::Channel::new(&text.replace('*', "x")) {
        Ok(_) => Ok(text.into()),
        Err(code) => Err(format!("cannot be \"{}\": {}", shortened(text), code.text().trim_end_matches('.'))),
    }
}
