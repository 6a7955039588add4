//! The two tokens of a login: what they hold and how they are made.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use xpush_core::access::Actions;
use xpush_core::ports::directory::UserRecord;
use xpush_core::{Action, App, ChannelKey, Code, Device, Login, Role, UnixMillis, User};

/// What XPUSH's own tokens name their key by.
const KEY_ID: &str = "xpush";

/// Bytes of a refresh token's secret.
const SECRET: usize = 32;

/// Bytes of what proves that a refresh token was once issued here.
const TAG: usize = 16;

/// Claims of an access token (docs/protocol.md, Tokens).
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'static str,
    pub(super) app: &'a App,
    pub(super) sub: &'a User,
    /// With its milliseconds (RFC 7519, section 2: a NumericDate may have a fraction): what is issued right after a revocation is not revoked.
    pub(super) iat: f64,
    pub(super) exp: u64,
    pub(super) login: &'a Login,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<&'a Device>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Role]>::is_empty")]
    pub(super) roles: &'a [Role],
}

/// A refresh token: whose login it belongs to, a secret, and a tag without which nobody looks for the login. Not `Debug`.
pub(super) struct RefreshToken {
    pub(super) app: App,
    pub(super) user: User,
    pub(super) login: Login,
    text: String,
}

/// Signs access tokens.
pub(super) fn sign(claims: &Claims<'_>, secret: &[u8]) -> Result<String, Code> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(KEY_ID.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        Code::Internal
    })
}

/// Signs a connection token that opens one channel, from one moment to another.
pub(super) fn sign_ticket(
    channel: &ChannelKey,
    user: &User,
    actions: Actions,
    (issued_at, expires_at): (UnixMillis, UnixMillis),
    secret: &[u8],
) -> Result<String, Code> {
    let named = Actions::EACH.into_iter().filter(|action| actions.contains(*action));
    let named: Vec<&str> = named.map(Action::as_str).collect();
    let claims = serde_json::json!({
        "iss": "xpush", "app": channel.app, "sub": user, "iat": issued_at / 1_000, "exp": expires_at / 1_000,
        "channels": {channel.name.as_str(): named}, "roles": [],
    });
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(KEY_ID.to_owned());
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        Code::Internal
    })
}

impl<'a> Claims<'a> {
    /// Of a login, from `issued_at` to `expires_at`.
    pub(super) fn new(
        (app, user, login): (&'a App, &'a User, &'a Login),
        record: &'a UserRecord,
        device: Option<&'a Device>,
        (issued_at, expires_at): (UnixMillis, UnixMillis),
    ) -> Self {
        // Exact for the next 285,000 years.
        #[expect(clippy::cast_precision_loss)]
        let iat = issued_at as f64 / 1_000.0;
        let (name, roles) = (record.name.as_deref(), &*record.roles);
        Self { iss: "xpush", app, sub: user, iat, exp: expires_at / 1_000, login, device, name, roles }
    }
}

impl RefreshToken {
    /// The first of a login.
    pub(super) fn first(app: &App, user: &User, login: &Login, key: &[u8]) -> Result<Self, Code> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).map_err(|_| Code::Internal)?;
        Ok(Self::new(app, user, login, &secret, key))
    }

    /// The one that this one is exchanged for: always the same, so that who has lost the answer gets it again, though it is stored nowhere. Without the
    /// installation's secret nobody can tell it from this one.
    pub(super) fn next(&self, key: &[u8]) -> Self {
        let secret = mac(key, "next refresh token", &self.text);
        Self::new(&self.app, &self.user, &self.login, secret.as_ref(), key)
    }

    /// Reads one that was issued here, at whatever time.
    pub(super) fn read(text: &str, key: &[u8]) -> Option<Self> {
        let (signed, tag) = text.rsplit_once('.')?;
        let expected = mac(key, "refresh token", signed);
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        constant_time::verify_slices_are_equal(&tag, &expected.as_ref()[..TAG]).ok()?;
        let (whose, _) = signed.split_once('.')?;
        let whose = String::from_utf8(URL_SAFE_NO_PAD.decode(whose).ok()?).ok()?;
        // None of the names can hold a line's end.
        let mut names = whose.split('\n');
        let (app, user, login) = (names.next()?, names.next()?, names.next()?);
        Some(Self {
            app: App::new(app).ok()?,
            user: User::new(user).ok()?,
            login: Login::new(login).ok()?,
            text: text.to_owned(),
        })
    }

    fn new(app: &App, user: &User, login: &Login, secret: &[u8], key: &[u8]) -> Self {
        let whose = URL_SAFE_NO_PAD.encode(format!("{app}\n{user}\n{login}"));
        let mut text = format!("{whose}.{}", URL_SAFE_NO_PAD.encode(secret));
        let tag = mac(key, "refresh token", &text);
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(&tag.as_ref()[..TAG]));
        Self { app: app.clone(), user: user.clone(), login: login.clone(), text }
    }

    /// What is stored of it: SHA-256, base64url.
    pub(super) fn digest(&self) -> Box<str> {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, self.text.as_bytes())).into()
    }

    /// What the client is given.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// An id that nobody can guess.
pub(crate) fn login_id() -> Result<Login, Code> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| Code::Internal)?;
    Login::new(&URL_SAFE_NO_PAD.encode(id))
}

/// HMAC-SHA-256. `purpose` keeps what one use has made from passing in another.
fn mac(key: &[u8], purpose: &str, text: &str) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(purpose.as_bytes());
    context.update(&[0]);
    context.update(text.as_bytes());
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];

    fn first() -> RefreshToken {
        let (app, user) = (App::new("demo").unwrap(), User::new("ann.방").unwrap());
        RefreshToken::first(&app, &user, &login_id().unwrap(), KEY).unwrap()
    }

    #[test]
    fn a_token_has_one_successor_which_needs_the_secret() {
        let token = first();
        let read = RefreshToken::read(&token.text, KEY).unwrap();
        assert_eq!((read.app.as_str(), read.user.as_str()), ("demo", "ann.방"));
        assert!(read.login == token.login && read.digest() == token.digest());
        let (next, again) = (token.next(KEY), read.next(KEY));
        assert_eq!(next.text, again.text);
        assert_ne!(next.text, token.text);
        assert_ne!(next.next(KEY).text, next.text);
        let stolen_store = token.next(&[8; 32]);
        assert_ne!(stolen_store.text.split('.').nth(1), next.text.split('.').nth(1));
    }

    #[test]
    fn what_was_not_issued_here_is_not_even_looked_for() {
        let text = first().text;
        let (whose, rest) = text.split_once('.').unwrap();
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            whose,
            &text[..text.len() - 1],
            &format!("{text}x"),
            &format!("{text}."),
            &format!("{}.{rest}", URL_SAFE_NO_PAD.encode("demo\nbob\nx")),
            &"x".repeat(60_000),
        ] {
            assert!(RefreshToken::read(bad, KEY).is_none(), "{bad}");
        }
        assert!(RefreshToken::read(&text, &[8; 32]).is_none(), "another installation's");
    }
}
