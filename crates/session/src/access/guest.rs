//! Guests: whom an app welcomes without a token.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use xpush_core::message::Sender;
use xpush_core::ports::access::Credentials;
use xpush_core::{App, AppSettings, Code, Device, Grant, Problem, User};

/// What a guest is admitted as. `chance` makes the user id of one who brings no secret.
pub(super) fn grant(
    app: &AppSettings,
    credentials: &Credentials,
    chance: impl FnOnce() -> u64,
) -> Result<Grant, Problem> {
    if !app.guests {
        return Err(Code::Unauthenticated.into());
    }
    let name = credentials.name.as_deref().map(display_name).transpose()?;
    let user = match credentials.guest.as_deref() {
        Some(secret) if (16..=128).contains(&secret.len()) => user_of(&app.app, secret),
        Some(_) => return Err(Problem::new(Code::BadField, "guest: 16 to 128 characters")),
        None => spell(chance()),
    };
    Ok(Grant {
        app: app.app.clone(),
        sender: Sender { user: User::new(&user).map_err(Problem::from)?, name },
        device: device(credentials)?,
        guest: true,
        roles: Vec::new(),
        capabilities: None,
        issued_at: 0,
        expires_at: None,
        login: None,
        info: None,
    })
}

/// The device that the connection names.
pub(super) fn device(credentials: &Credentials) -> Result<Option<Device>, Problem> {
    let named = credentials.device.as_deref().map(Device::new).transpose();
    named.map_err(|code| Problem::new(code, "device: 1 to 64 characters, none of them a control character"))
}

/// A name to show to others.
pub(super) fn display_name(name: &str) -> Result<Arc<str>, Problem> {
    let name = name.trim();
    if (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(Arc::from(name));
    }
    Err(Problem::new(Code::BadField, "name: 1 to 64 characters, none of them a control character"))
}

/// The same secret is the same guest; from the id nobody finds the secret.
fn user_of(app: &App, secret: &str) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(app.as_str().as_bytes());
    digest.update(&[0]);
    digest.update(secret.as_bytes());
    let digest = digest.finish();
    spell(digest.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes))
}

fn spell(word: u64) -> String {
    format!("g-{}", URL_SAFE_NO_PAD.encode(word.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use xpush_core::Rules;

    use super::*;

    fn app(guests: bool) -> AppSettings {
        AppSettings {
            app: App::new("demo").unwrap(),
            guests,
            origins: Vec::new(),
            rules: Arc::new(Rules::default()),
            recovery: false,
            hooks: Arc::default(),
            limits: xpush_core::AppLimits::default(),
        }
    }

    fn user(guest: Option<&str>) -> Result<String, Problem> {
        let credentials = Credentials { guest: guest.map(str::to_owned), ..Credentials::default() };
        grant(&app(true), &credentials, || 1).map(|grant| grant.sender.user.to_string())
    }

    #[test]
    fn a_secret_is_always_the_same_guest() {
        // printf 'demo\0a secret of 16 bytes' | sha256sum | head -c 16 | xxd -r -p | basenc --base64url
        assert_eq!(user(Some("a secret of 16 bytes")).unwrap(), "g-3D1ax1d47EI");
        assert_eq!(user(None).unwrap(), "g-AAAAAAAAAAE");
        for bad in ["", "fifteen bytes..", &"x".repeat(129)] {
            assert_eq!(user(Some(bad)).unwrap_err().code, Code::BadField, "{bad:?}");
        }
    }

    #[test]
    fn only_where_they_are_welcome_and_well_behaved() {
        let refused = grant(&app(false), &Credentials::default(), || 1).unwrap_err();
        assert_eq!(refused.code, Code::Unauthenticated);
        for (name, device) in
            [(Some(" "), None), (Some("a\u{7}"), None), (None, Some("")), (None, Some("a\n"))]
        {
            let credentials = Credentials {
                name: name.map(str::to_owned),
                device: device.map(str::to_owned),
                ..Credentials::default()
            };
            assert_eq!(grant(&app(true), &credentials, || 1).unwrap_err().code, Code::BadField);
        }
    }
}
