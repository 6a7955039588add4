//! API keys: what an app's back end shows to the HTTP API. Its text is `xk_APP.ID.SECRET`; of the secret only a digest is kept.

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xpush_core::ports::directory::{ApiKeyRecord, Scope};
use xpush_core::{ApiKeyId, App, Code, Problem, UnixMillis};

/// How an API key's text begins: so it can be told from a token, and found by whoever looks for secrets in sources.
pub const PREFIX: &str = "xk_";

/// Bytes of a secret.
const SECRET: usize = 32;

/// The digest of no secret: what there is none to compare with is compared with this.
const NOBODYS: &str = "-------------------------------------------";

/// How exactly it is known when a key was used last, in ms.
pub(crate) const EXACTNESS: u64 = 3_600_000;

/// A key that was just made. Not `Debug`: it holds the secret.
pub struct Fresh {
    /// By what the directory has it.
    pub id: ApiKeyId,
    /// What the directory keeps.
    pub record: ApiKeyRecord,
    /// What its owner is shown, once.
    pub text: String,
}

/// A key as somebody shows it. Not `Debug`.
pub(crate) struct Shown<'a> {
    pub(crate) app: App,
    pub(crate) id: ApiKeyId,
    secret: &'a str,
}

/// Makes a key.
pub fn issue(
    app: &App,
    name: Option<Box<str>>,
    scopes: Vec<Scope>,
    expires_at: Option<UnixMillis>,
    now: UnixMillis,
) -> Result<Fresh, Problem> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(|_| Problem::from(Code::Internal))?;
    let id = ApiKeyId::new(&URL_SAFE_NO_PAD.encode(id)).map_err(Problem::from)?;
    let mut record = ApiKeyRecord { name, scopes, created_at: now, expires_at, ..ApiKeyRecord::default() };
    let text = renew(&mut record, app, &id)?;
    Ok(Fresh { id, record, text })
}

/// Gives a key another secret; the one before stays good for `grace` ms.
pub fn rotate(
    record: &mut ApiKeyRecord,
    app: &App,
    id: &ApiKeyId,
    now: UnixMillis,
    grace: u64,
) -> Result<String, Problem> {
    record.previous = (grace > 0).then(|| record.digest.clone());
    record.previous_until = now.saturating_add(grace);
    record.rotated_at = now;
    renew(record, app, id)
}

fn renew(record: &mut ApiKeyRecord, app: &App, id: &ApiKeyId) -> Result<String, Problem> {
    let mut secret = [0; SECRET];
    getrandom::fill(&mut secret).map_err(|_| Problem::from(Code::Internal))?;
    let secret = URL_SAFE_NO_PAD.encode(secret);
    record.digest = digest_of(&secret);
    Ok(format!("{PREFIX}{app}.{id}.{secret}"))
}

/// Whether the key opens anything by now.
pub(crate) fn holds(record: &ApiKeyRecord, now: UnixMillis) -> bool {
    record.revoked_at.is_none() && record.expires_at.is_none_or(|end| now < end)
}

impl<'a> Shown<'a> {
    /// Takes a key's text apart, if it can be one.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split('.');
        let (app, id, secret, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let secret = Some(secret).filter(|secret| (1..=128).contains(&secret.len()))?;
        Some(Self { app: App::new(app).ok()?, id: ApiKeyId::new(id).ok()?, secret })
    }

    /// Whether this is the key of `record` and good at `now`. Without a record the same is computed, so that the time tells nothing.
    pub(crate) fn is_good(&self, record: Option<&ApiKeyRecord>, now: UnixMillis) -> bool {
        let digest = digest_of(self.secret);
        let same =
            |kept: &str| constant_time::verify_slices_are_equal(kept.as_bytes(), digest.as_bytes()).is_ok();
        let current = same(record.map_or(NOBODYS, |record| &*record.digest));
        let previous = same(record.and_then(|record| record.previous.as_deref()).unwrap_or(NOBODYS));
        record
            .is_some_and(|record| holds(record, now) && (current | (previous && now < record.previous_until)))
    }
}

fn digest_of(secret: &str) -> Box<str> {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new("shop-1_a").unwrap()
    }

    #[test]
    fn a_key_is_good_until_it_ends() {
        let Fresh { id, record, text } = issue(&app(), None, vec![Scope::Read], Some(1_000), 1).unwrap();
        let shown = Shown::read(&text).unwrap();
        assert!(shown.app == app() && shown.id == id);
        assert!(shown.is_good(Some(&record), 999) && !shown.is_good(Some(&record), 1_000));
        assert!(!shown.is_good(None, 1));
        let revoked = ApiKeyRecord { revoked_at: Some(5), ..record.clone() };
        assert!(!shown.is_good(Some(&revoked), 1));
        let secret = text.rsplit('.').next().unwrap();
        assert!(!record.digest.contains(secret) && secret.len() == 43);
    }

    #[test]
    fn a_rotated_key_has_two_secrets_for_a_while() {
        let Fresh { id, mut record, text: old } = issue(&app(), None, Vec::new(), None, 1).unwrap();
        let new = rotate(&mut record, &app(), &id, 10, 100).unwrap();
        let good = |text: &str, record: &_, now| Shown::read(text).unwrap().is_good(Some(record), now);
        assert!(good(&old, &record, 109) && !good(&old, &record, 110) && good(&new, &record, 110));
        let newest = rotate(&mut record, &app(), &id, 20, 0).unwrap();
        assert!(!good(&old, &record, 21) && !good(&new, &record, 21) && good(&newest, &record, 21));
    }

    #[test]
    fn only_what_can_be_a_key_is_looked_for() {
        let text = issue(&app(), None, Vec::new(), None, 1).unwrap().text;
        for bad in ["", "xk_", "xk_a", "xk_a.b", "xk_a.b.", "xk_a.b.c.d", "xk_a b.c.d", "eyJ.b.c", "xk_..x"] {
            assert!(Shown::read(bad).is_none(), "{bad}");
        }
        assert!(Shown::read(&format!("{text}{}", "x".repeat(200))).is_none());
        assert!(Shown::read(&text.to_uppercase()).is_none());
    }
}
