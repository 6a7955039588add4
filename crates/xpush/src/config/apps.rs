//! `[apps.NAME]`.

use std::net::IpAddr;

use xpush_core::ports::directory::{Accounts, AppRecord};
use xpush_core::{App, AppLimits};

use super::hooks::{read_calls, read_hooks};
use super::keys::{read_keys, read_providers};
use super::rules::read_rules;
use super::section::{Reading, Section};
use super::settings::origin;
use super::tree::{Place, Table, Value};
use super::uploads::read_files;
use super::values::{boolean, count, shortened, size, text, wanted};

/// The app that the operators of an installation are users of.
pub(crate) const OPERATORS: &str = "xpush";

/// An app as the configuration has it.
#[derive(Debug, Clone)]
pub(crate) struct ConfiguredApp {
    pub(crate) name: App,
    pub(crate) record: AppRecord,
    /// It has guests only while nobody else can reach the server.
    pub(crate) guests_on_loopback: bool,
    /// Its accounts where others can.
    accounts_elsewhere: Accounts,
}

/// What may hang by whether others can reach the server.
#[derive(Clone, Copy)]
enum OnLoopback<T> {
    Always(T),
    /// This on loopback, that elsewhere.
    Depends(T, T),
}

impl<T> OnLoopback<T> {
    fn choose(self, on_loopback: bool) -> T {
        match self {
            Self::Depends(there, _) if on_loopback => there,
            Self::Always(value) | Self::Depends(_, value) => value,
        }
    }
}

impl ConfiguredApp {
    /// The app as it may be wherever the server listens.
    pub(crate) fn wherever_it_listens(&self) -> AppRecord {
        let guests = self.record.guests && !self.guests_on_loopback;
        AppRecord { guests, accounts: self.accounts_elsewhere, ..self.record.clone() }
    }
}

/// Reads every app.
pub(super) fn read(mut section: Section<'_>, reading: &Reading, on_loopback: bool) -> Vec<ConfiguredApp> {
    let apps = section.sections().into_iter();
    apps.filter_map(|(name, place, app)| read_app(name, place, app, reading, on_loopback)).collect()
}

/// Reads an app that was not written into the configuration, but in its language. It cannot hang by where a server listens.
pub(super) fn read_live(name: &App, table: &Table, place: &Place, reading: &Reading) -> AppRecord {
    let path = format!("apps.{name}");
    let section = reading.within(path, table);
    for key in ["guests", "accounts"] {
        if matches!(table.get(key).map(|item| &item.value), Some(Value::Text(word) | Value::Raw(word)) if word == "loopback")
        {
            section.complain(key, "can be \"loopback\" in a configuration file only");
        }
    }
    let app = read_app(name.as_str(), place, section, reading, false);
    app.map(|app| app.record).unwrap_or_default()
}

fn read_app(
    name: &str,
    place: &Place,
    mut section: Section<'_>,
    reading: &Reading,
    on_loopback: bool,
) -> Option<ConfiguredApp> {
    let guests = section.read("guests", guests).unwrap_or(OnLoopback::Always(false));
    let accounts = section.read("accounts", accounts).unwrap_or(OnLoopback::Always(Accounts::Off));
    let record = AppRecord {
        guests: guests.choose(on_loopback),
        origins: section.list("origins", origin).unwrap_or_default(),
        rules: read_rules(section.tables("rules"), place, name, reading),
        keys: read_keys(section.tables("keys"), reading),
        jwks_url: section.read("jwks_url", |value| secure_url(&text(value)?)),
        accounts: accounts.choose(on_loopback),
        oidc: read_providers(section.tables("oidc"), reading),
        recovery: section.read("recovery", boolean).unwrap_or(false),
        hooks: read_hooks(section.tables("hooks"), reading),
        calls: read_calls(section.tables("calls"), reading),
        files: read_files(section.tables("files"), reading),
        limits: read_limits(section.section("limits")),
        changed: None,
    };
    section.finish();
    if name == OPERATORS {
        reading.complain(place, format!("the app `{name}` is XPUSH's own: its operators are its users"));
    }
    let guests_on_loopback = matches!(guests, OnLoopback::Depends(..));
    let accounts_elsewhere = accounts.choose(false);
    match App::new(name) {
        Ok(name) => Some(ConfiguredApp { name, record, guests_on_loopback, accounts_elsewhere }),
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

/// An app's own limits.
fn read_limits(mut section: Section<'_>) -> AppLimits {
    let events = section.read("events_per_second", count(0..=1_000_000));
    let channels = section.read("channels_per_connection", count(1..=1_000_000));
    let payload = section.read("payload", size(1..=1 << 30));
    let files = section.read("files", size(1..=1 << 60));
    section.finish();
    AppLimits {
        events_per_second: events.and_then(|events| u32::try_from(events).ok()),
        channels_per_connection: channels.and_then(|channels| usize::try_from(channels).ok()),
        payload: payload.and_then(|payload| usize::try_from(payload).ok()),
        files,
    }
}

fn guests(value: &Value) -> Result<OnLoopback<bool>, String> {
    match value {
        Value::Text(word) | Value::Raw(word) if word == "loopback" => Ok(OnLoopback::Depends(true, false)),
        _ => match boolean(value) {
            Ok(guests) => Ok(OnLoopback::Always(guests)),
            Err(_) => Err(wanted("true, false or \"loopback\"", value)),
        },
    }
}

fn accounts(value: &Value) -> Result<OnLoopback<Accounts>, String> {
    let word = match value {
        Value::Text(word) | Value::Raw(word) => word.as_str(),
        _ => "",
    };
    Ok(match word {
        "off" => OnLoopback::Always(Accounts::Off),
        "invited" => OnLoopback::Always(Accounts::Invited),
        "open" => OnLoopback::Always(Accounts::Open),
        "loopback" => OnLoopback::Depends(Accounts::Open, Accounts::Invited),
        _ => return Err(wanted("one of \"off\", \"invited\", \"open\", \"loopback\"", value)),
    })
}

/// `https://…`; without encryption only from this machine itself.
pub(super) fn secure_url(text: &str) -> Result<Box<str>, String> {
    let wrong =
        || format!("must be a URL such as \"https://www.example.com/keys\", not \"{}\"", shortened(text));
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if !xpush_session::is_authority(authority) || rest.contains(odd) {
        return Err(wrong());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    match scheme {
        "https" => Ok(text.into()),
        "http" if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) => Ok(text.into()),
        "http" => Err(format!(
            "must begin with https://, or anybody on the way could change what \"{}\" says",
            shortened(text)
        )),
        _ => Err(wrong()),
    }
}
