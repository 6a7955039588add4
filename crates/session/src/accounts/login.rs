//! A login: what keeps one device signed in, by a chain of refresh tokens.

use serde_json::{Value, json};
use xpush_core::access::Actions;
use xpush_core::ports::directory::{Entry, Expected, Key, Listing, LoginRecord, Record, UserRecord};
use xpush_core::{App, ChannelKey, Code, Device, Login, UnixMillis, User};

use super::find_user;
use super::token::{Claims, RefreshToken, login_id, sign, sign_ticket};
use crate::api::{Api, Refusal};
use crate::devices::{self, Described};

/// The installation's secret that tokens are made with.
const SECRET: &str = "accounts";

/// How long an access token holds, in ms.
const ACCESS: u64 = 3_600_000;

/// How long a refresh token holds that nobody uses, in ms.
const REFRESH: u64 = 30 * 86_400_000;

/// How long a client may take to ask again for an answer that it has lost, in ms.
const LOST_ANSWER: u64 = 10_000;

/// Logins of one user; the one that was quiet longest goes first.
const MOST: usize = 50;

/// Tries of a refresh that others overtake.
const TRIES: usize = 8;

/// What a client is given. Not `Debug`.
pub(crate) struct Tokens {
    app: App,
    user: User,
    name: Option<Box<str>>,
    access: String,
    expires_at: UnixMillis,
    refresh: String,
}

impl Tokens {
    /// As a client sees them.
    pub(crate) fn object(self) -> Value {
        let mut object = json!({
            "app": self.app,
            "user": self.user,
            "access_token": self.access,
            "expires_at": self.expires_at,
            "refresh_token": self.refresh,
        });
        if let Some(name) = self.name {
            object["name"] = json!(name);
        }
        object
    }
}

/// Begins a login of who has shown who it is.
pub(crate) async fn begin(
    api: &Api,
    app: &App,
    user: &User,
    record: &UserRecord,
    device: Option<Described>,
) -> Result<Tokens, Refusal> {
    let secret = api.store.secret(SECRET).await?;
    make_room(api, app, user).await?;
    let device = match device {
        Some(device) => {
            devices::signed_in(api, app, user, &device).await?;
            Some(device.id)
        }
        None => None,
    };
    let now = api.parts.clock.wall();
    let login = login_id()?;
    let refresh = RefreshToken::first(app, user, &login, &secret)?;
    let kept = LoginRecord {
        device,
        refresh: refresh.digest(),
        previous: None,
        rotated_at: now,
        created_at: now,
        expires_at: now + REFRESH,
    };
    put(api, app, user, login, kept.clone(), record).await?;
    tokens(record, kept.device.as_ref(), refresh, now, &secret)
}

/// A login begins, unless what it begins `by` holds no more: whoever changed that may have ended all logins a moment before this one was there.
pub(crate) async fn put(
    api: &Api,
    app: &App,
    user: &User,
    login: Login,
    record: LoginRecord,
    by: &UserRecord,
) -> Result<(), Refusal> {
    let key = Key::Login(app.clone(), user.clone(), login);
    if !api.store.apply(key.clone(), Expected::Absent, Some(Record::Login(Box::new(record)))).await? {
        return Err(Code::Internal.into());
    }
    let now = find_user(api, app, user).await?;
    if now.is_some_and(|now| !now.disabled && now.password == by.password) {
        return Ok(());
    }
    api.store.remove(key).await?;
    Err(Code::BadCredentials.into())
}

/// Exchanges a refresh token for the next one.
///
/// - The newest one is exchanged for its successor, and void from then on.
/// - The one before it gets the same successor again within [`LOST_ANSWER`]: the first answer may have been lost, or two tabs have asked at once.
/// - Whatever else was issued once has been copied: the login ends.
pub(super) async fn refresh(api: &Api, text: &str) -> Result<Tokens, Refusal> {
    let secret = api.store.secret(SECRET).await?;
    let shown = RefreshToken::read(text, &secret).ok_or(Code::Unauthenticated)?;
    let (digest, next) = (shown.digest(), shown.next(&secret));
    let key = Key::Login(shown.app.clone(), shown.user.clone(), shown.login.clone());
    for _ in 0..TRIES {
        let Some(Entry { record: Record::Login(kept), revision, .. }) = api.store.get(&key).await? else {
            return Err(Code::Revoked.into());
        };
        let now = api.parts.clock.wall();
        let owner = match owner(api, &shown, &kept, now).await? {
            Ok(owner) => owner,
            Err(code) => {
                api.store.apply(key.clone(), Expected::Revision(revision), None).await?;
                return Err(code.into());
            }
        };
        if kept.refresh == digest {
            let rotated = LoginRecord {
                refresh: next.digest(),
                previous: Some(digest.clone()),
                rotated_at: now,
                expires_at: now + REFRESH,
                ..(*kept).clone()
            };
            let to = Record::Login(Box::new(rotated));
            if !api.store.apply(key.clone(), Expected::Revision(revision), Some(to)).await? {
                continue;
            }
            return tokens(&owner, kept.device.as_ref(), next, now, &secret);
        }
        let lost =
            kept.previous.as_ref() == Some(&digest) && now.saturating_sub(kept.rotated_at) <= LOST_ANSWER;
        if lost && kept.refresh == next.digest() {
            return tokens(&owner, kept.device.as_ref(), next, now, &secret);
        }
        if api.store.apply(key.clone(), Expected::Revision(revision), None).await? {
            tracing::warn!(app = %shown.app, user = %shown.user, "a used refresh token was shown again: its login has ended");
            return Err(Code::Revoked.into());
        }
    }
    Err(Code::Unavailable.into())
}

/// Whose login it is, if it still holds.
async fn owner(
    api: &Api,
    shown: &RefreshToken,
    kept: &LoginRecord,
    now: UnixMillis,
) -> Result<Result<UserRecord, Code>, Refusal> {
    if now >= kept.expires_at {
        return Ok(Err(Code::TokenExpired));
    }
    let mut valid_from = 0;
    if let Some(device) = &kept.device {
        let key = Key::Device(shown.app.clone(), shown.user.clone(), device.clone());
        if let Some(Entry { record: Record::Device(device), .. }) = api.store.get(&key).await? {
            valid_from = device.tokens_valid_from;
        }
    }
    let user = find_user(api, &shown.app, &shown.user).await?.filter(|user| {
        !user.disabled && kept.created_at >= user.tokens_valid_from && kept.created_at >= valid_from
    });
    Ok(user.ok_or(Code::Revoked))
}

fn tokens(
    record: &UserRecord,
    device: Option<&Device>,
    refresh: RefreshToken,
    now: UnixMillis,
    secret: &[u8],
) -> Result<Tokens, Refusal> {
    // In whole seconds, as the claim is.
    let expires_at = (now + ACCESS) / 1_000 * 1_000;
    let whose = (&refresh.app, &refresh.user, &refresh.login);
    let access = sign(&Claims::new(whose, record, device, (now, expires_at)), secret)?;
    Ok(Tokens {
        app: refresh.app.clone(),
        user: refresh.user.clone(),
        name: record.name.clone(),
        access,
        expires_at,
        refresh: refresh.into_text(),
    })
}

/// A connection token for one channel and nothing else, of no account: until when it is good, too. It lives for `lifetime` ms.
pub(crate) async fn sign_for_channel(
    api: &Api,
    channel: &ChannelKey,
    user: &User,
    actions: Actions,
    lifetime: u64,
) -> Result<(String, UnixMillis), Refusal> {
    let secret = api.store.secret(SECRET).await?;
    let now = api.parts.clock.wall();
    let expires_at = (now + lifetime) / 1_000 * 1_000;
    Ok((sign_ticket(channel, user, actions, (now, expires_at), &secret)?, expires_at))
}

/// Ends a login.
pub(super) async fn end(api: &Api, app: &App, user: &User, login: &Login) -> Result<(), Refusal> {
    Ok(api.store.remove(Key::Login(app.clone(), user.clone(), login.clone())).await?)
}

/// Ends every login of a user but one.
pub(super) async fn end_all_but(
    api: &Api,
    app: &App,
    user: &User,
    stays: Option<&Login>,
) -> Result<(), Refusal> {
    for entry in api.store.all(&Listing::Logins(app.clone(), user.clone())).await? {
        if !matches!(&entry.key, Key::Login(_, _, login) if Some(login) == stays) {
            api.store.remove(entry.key).await?;
        }
    }
    Ok(())
}

/// Removes logins that have expired, and the quietest while there are too many.
pub(crate) async fn make_room(api: &Api, app: &App, user: &User) -> Result<(), Refusal> {
    let now = api.parts.clock.wall();
    let mut kept = Vec::new();
    for entry in api.store.all(&Listing::Logins(app.clone(), user.clone())).await? {
        match entry.record {
            Record::Login(login) if login.expires_at > now => kept.push((login.rotated_at, entry.key)),
            _ => api.store.remove(entry.key).await?,
        }
    }
    kept.sort_by_key(|(rotated_at, _)| *rotated_at);
    let excess = (kept.len() + 1).saturating_sub(MOST);
    for (_, key) in kept.into_iter().take(excess) {
        api.store.remove(key).await?;
    }
    Ok(())
}
