//! `[[apps.NAME.keys]]` and `[[apps.NAME.oidc]]`: what tokens are checked with, and whom else to believe.

use xpush_core::ports::directory::{KeyRecord, Provider};
use xpush_session::access::usable;

use super::apps::secure_url;
use super::section::{Reading, Section};
use super::tree::{Place, Value};
use super::values::{choice, shortened, text};

/// Algorithms that tokens may have (RFC 7518, 3.1; RFC 8037).
pub(crate) const ALGORITHMS: &[&str] = &["HS256", "RS256", "ES256", "EdDSA"];

/// What the tokens are named by that XPUSH signs itself.
const OWN: &str = "xpush";

/// Reads an app's keys.
pub(super) fn read_keys(given: Vec<(&Place, Section<'_>)>, reading: &Reading) -> Vec<KeyRecord> {
    let mut keys: Vec<KeyRecord> = Vec::new();
    for (place, section) in given {
        let Some(key) = read_key(place, section, reading) else { continue };
        if keys.iter().any(|earlier| earlier.id == key.id) {
            reading.complain(place, format!("there is another key \"{}\" before this one", key.id));
        } else if let Err(why) = usable(&key) {
            reading.complain(place, format!("the key \"{}\" cannot be used: {why}", key.id));
        }
        keys.push(key);
    }
    keys
}

fn read_key(place: &Place, mut section: Section<'_>, reading: &Reading) -> Option<KeyRecord> {
    let id = section.read("id", |value| key_id(&text(value)?));
    let algorithms: Vec<_> = ALGORITHMS.iter().map(|name| (*name, *name)).collect();
    let algorithm = section.read("algorithm", choice(&algorithms));
    let materials = [section.secret("secret"), section.file("secret_file"), section.file("public_key_file")];
    for key in ["id", "algorithm"] {
        if section.place(key).is_none() {
            reading.complain(place, format!("a key must have `{key}`"));
        }
    }
    let named: Vec<_> = ["secret", "secret_file", "public_key_file"]
        .into_iter()
        .filter(|key| section.place(key).is_some())
        .collect();
    match (named.as_slice(), algorithm) {
        ([one], Some(algorithm)) if (algorithm == "HS256") == (*one == "public_key_file") => section
            .complain(
                one,
                match algorithm {
                    "HS256" => "is for keys with another algorithm; HS256 has a `secret` or a `secret_file`",
                    _ => "is for HS256 alone; the others have a `public_key_file`",
                },
            ),
        ([_], _) => {}
        _ => reading.complain(
            place,
            "a key must have one of `secret`, `secret_file` (HS256) and `public_key_file` (the others)",
        ),
    }
    section.finish();
    let material = materials.into_iter().flatten().next()?.into();
    Some(KeyRecord { id: id?, algorithm: algorithm?.into(), material, created_at: 0 })
}

/// Reads an app's identity providers.
pub(super) fn read_providers(given: Vec<(&Place, Section<'_>)>, reading: &Reading) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::new();
    for (place, section) in given {
        let Some(provider) = read_provider(place, section, reading) else { continue };
        if providers.iter().any(|earlier| earlier.name == provider.name) {
            reading
                .complain(place, format!("there is another provider \"{}\" before this one", provider.name));
        }
        providers.push(provider);
    }
    providers
}

fn read_provider(place: &Place, mut section: Section<'_>, reading: &Reading) -> Option<Provider> {
    let name = section.read("name", |value| name(&text(value)?));
    let issuer = section.read("issuer", |value| secure_url(&text(value)?));
    let client_id = section.read("client_id", filled);
    let secret = section.secret("client_secret");
    let secret_file = section.file("client_secret_file");
    let return_to = section.list("return_to", return_to).unwrap_or_default();
    for key in ["name", "issuer", "client_id", "return_to"] {
        if section.place(key).is_none() {
            reading.complain(place, format!("a provider must have `{key}`"));
        }
    }
    if section.place("client_secret").is_some() {
        section.complain("client_secret_file", "is one too many beside `client_secret`");
    }
    section.finish();
    Some(Provider {
        name: name?,
        issuer: issuer?,
        client_id: client_id?,
        client_secret: secret.or(secret_file).map(Into::into),
        return_to,
    })
}

/// What a token's header may name a key by.
pub(crate) fn key_id(id: &str) -> Result<Box<str>, String> {
    if id == OWN {
        return Err(format!("cannot be \"{OWN}\", which names XPUSH's own key"));
    }
    if id.is_empty() || id.len() > 64 || id.chars().any(char::is_control) {
        return Err(format!("must have 1 to 64 bytes, not \"{}\"", shortened(id)));
    }
    Ok(id.into())
}

pub(super) fn name(text: &str) -> Result<Box<str>, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.into())
    } else {
        Err(format!("must have 1 to 64 letters, digits, `-` or `_`, not \"{}\"", shortened(text)))
    }
}

fn filled(value: &Value) -> Result<Box<str>, String> {
    match text(value)?.trim() {
        "" => Err("must not be empty".to_owned()),
        text => Ok(text.into()),
    }
}

/// A page that a sign-in may return to. A prefix that ends within the host would be met by hosts of others.
fn return_to(text: &str) -> Result<Box<str>, String> {
    let shown = || shortened(text);
    let whole = text.strip_suffix('*').unwrap_or(text);
    let (scheme, rest) = whole.split_once("://").ok_or_else(|| {
        format!("must be a URL such as \"https://www.example.com/signed-in\", not \"{}\"", shown())
    })?;
    if whole.contains('*') {
        return Err(format!("can have a `*` at its end only, not as in \"{}\"", shown()));
    }
    if text.ends_with('*') && !rest.contains('/') {
        return Err(format!("must have a `/` between host and `*`: write \"{whole}/*\""));
    }
    if scheme.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(format!("must be a URL, not \"{}\"", shown()));
    }
    Ok(text.into())
}
