//! Who a connection is.
//!
//! **While the directory is out of reach** the keys and rules of apps are still known, and so is whatever was remembered, for 60 s. What cannot be known is whether
//! somebody was blocked or revoked. Guests are admitted all the same: a blocked one could as well come as another. So is, for these 60 s, whoever brings a token that the app
//! itself has signed. All of them are asked about when the directory is back. Tokens of accounts need the account, and are refused with `unavailable`.

use std::sync::{Arc, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use jsonwebtoken::Algorithm;

use xpush_core::message::Sender;
use xpush_core::ports::access::{Changed, Credentials};
use xpush_core::ports::directory::{Key, Record, UserRecord};
use xpush_core::{App, Code, Device, Grant, Login, Problem, UnixMillis, User};

use super::Core;
use super::apps::AppKeys;
use super::guest;
use super::keys::VerifyingKey;
use super::token::{Claims, Token, bad};

/// What the tokens that XPUSH signs are named by and issued by; see [`Key::Secret`].
const OURS: &str = "xpush";
/// Grants that are asked about later; when there are more, everybody is.
const UNCHECKED: usize = 10_000;
/// Keys that are tried for a token that names none.
const MOST_TRIED: usize = 16;

/// A token whose signature is good. Whether it holds now, and whether it was revoked, is to be asked each time.
pub(super) struct Verified {
    pub(super) app: App,
    token: Arc<Token>,
    /// XPUSH has signed it.
    pub(super) ours: bool,
    /// Keys as of when it was verified.
    keys: (u64, u64),
}

/// Whose token it is, for the question whether it was revoked.
struct Holder<'a> {
    app: &'a App,
    user: &'a User,
    device: Option<&'a Device>,
    login: Option<&'a Login>,
    issued_at: UnixMillis,
    /// The app has signed it: it holds for a while although the directory cannot be asked.
    own: bool,
}

impl Verified {
    pub(super) fn claims(&self) -> &Claims {
        &self.token.claims
    }
}

impl Core {
    /// Admits whoever shows `credentials`.
    pub(super) async fn admit(self: Arc<Self>, credentials: Credentials) -> Result<Grant, Problem> {
        match &credentials.token {
            Some(token) => self.admit_holder(token, &credentials).await,
            None => self.admit_guest(&credentials).await,
        }
    }

    async fn admit_guest(&self, credentials: &Credentials) -> Result<Grant, Problem> {
        let apps = self.registry().apps.clone();
        let app = apps.find(credentials.app.as_deref())?;
        let grant = guest::grant(app, credentials, || self.chance())?;
        if credentials.guest.is_some() {
            // Nobody can have said anything about a guest that did not exist before.
            self.readmit(&grant).await?;
        }
        Ok(grant)
    }

    async fn admit_holder(&self, token: &str, credentials: &Credentials) -> Result<Grant, Problem> {
        let verified = self.verify(token, credentials.app.as_deref()).await?;
        let (app, claims, ours) = (&verified.app, verified.claims(), verified.ours);
        if claims.channel.is_some() {
            return Err(bad("it is for one channel only: give it to subscribe"));
        }
        // A channel may be opened to a guest by a token; nobody becomes one by a token.
        if claims.user.is_reserved() {
            return Err(bad("sub: a name that XPUSH gives to guests, to 0.1 clients, or to itself"));
        }
        let device = match &claims.device {
            Some(device) => Some(device.clone()),
            None => guest::device(credentials)?,
        };
        let login = claims.login.clone().filter(|_| ours);
        let mut unchecked = false;
        let record = self.check_standing(Holder {
            app,
            user: &claims.user,
            device: device.as_ref(),
            login: login.as_ref(),
            issued_at: claims.issued_at,
            own: !ours,
        });
        let mut record = match record.await {
            Err(problem) if !ours && is_passing(&problem) && self.records.hold() => {
                unchecked = true;
                None
            }
            record => record?,
        };
        if login.is_some() && record.is_none() {
            // It may have been made since somebody asked last.
            self.records.forget(&Key::User(app.clone(), claims.user.clone()));
            record = self.user(app, &claims.user).await?;
        }
        // An operator's token has no login, and needs no account.
        if record.is_none() && login.is_some() {
            return Err(Code::Revoked.into());
        }
        let record = record.unwrap_or_default();
        let name = || record.name.as_deref().and_then(|name| guest::display_name(name).ok());
        let grant = Grant {
            app: app.clone(),
            sender: Sender { user: claims.user.clone(), name: claims.name.clone().or_else(name) },
            device,
            guest: false,
            roles: claims.roles.clone().unwrap_or(record.roles),
            capabilities: claims.capabilities.clone(),
            issued_at: claims.issued_at,
            expires_at: Some(claims.expires_at),
            login,
            info: claims.info.clone().or_else(|| record.info.as_deref().map(Arc::from)),
        };
        if unchecked {
            self.check_later(&grant);
        }
        Ok(grant)
    }

    /// Checks a token of an app: the one that the connection names, the one that the token names, or the default one.
    pub(super) async fn verify(&self, text: &str, named: Option<&str>) -> Result<Arc<Verified>, Problem> {
        let keys = self.key_changes();
        let digest = digest(named.unwrap_or_default(), text);
        let known = self.verified().get(&digest).filter(|verified| verified.keys == keys);
        let verified = match known {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.verify_anew(text, named, keys).await?);
                self.verified().insert(digest, verified.clone(), text.len() + 512);
                verified
            }
        };
        verified.claims().check_time(self.clock.wall())?;
        Ok(verified)
    }

    async fn verify_anew(
        &self,
        text: &str,
        named: Option<&str>,
        keys: (u64, u64),
    ) -> Result<Verified, Problem> {
        let token = Arc::new(Token::read(text)?);
        let registry = self.registry();
        let named = named.or(token.claims.app.as_ref().map(App::as_str));
        let app = registry.apps.find(named)?.app.clone();
        let ours = token.key_id.as_deref() == Some(OURS);
        let candidates = self.candidates(&registry.keys(&app), &token).await?;
        if !self.is_signed(&token, candidates).await {
            return Err(bad("no key of the app has signed it"));
        }
        token.claims.check_app(&app)?;
        // One secret signs for all apps: without a name it would open all of them.
        if ours && (token.claims.app.is_none() || token.claims.issuer.as_deref() != Some(OURS)) {
            return Err(bad("it does not say which app it is for"));
        }
        Ok(Verified { app, token, ours, keys })
    }

    /// The keys that may have signed a token.
    async fn candidates(&self, keys: &AppKeys, token: &Token) -> Result<Vec<Arc<VerifyingKey>>, Problem> {
        let kid = token.key_id.as_deref();
        if kid == Some(OURS) {
            let usable = keys.accounts || token.claims.login.is_none();
            let key = if usable { self.account_key().await? } else { None };
            return Ok(key.into_iter().collect());
        }
        if keys.is_empty() {
            return Err(bad("this app has no key that a token could be checked with"));
        }
        let named = |key: &&Arc<VerifyingKey>| kid.is_none() || key.id.as_deref() == kid;
        let mut found: Vec<_> = keys.own.iter().filter(named).cloned().collect();
        if let Some(url) = &keys.key_set
            && (kid.is_none() || found.is_empty())
        {
            match self.key_sets.keys(url, kid).await {
                Ok(published) => found.extend(published),
                // The app's own keys may do.
                Err(_) if !found.is_empty() => {}
                Err(problem) => return Err(problem),
            }
        }
        // The token's own check is the same; here it keeps keys of other algorithms from counting.
        found.retain(|key| key.algorithm == token.algorithm);
        found.truncate(MOST_TRIED);
        Ok(found)
    }

    /// Public keys take their time, and are kept from taking all of the machine.
    async fn is_signed(&self, token: &Arc<Token>, keys: Vec<Arc<VerifyingKey>>) -> bool {
        if token.algorithm == Algorithm::HS256 || keys.is_empty() {
            return token.is_signed_by(keys.iter().map(|key| &**key));
        }
        let Ok(permit) = self.checking.clone().acquire_owned().await else { return false };
        let token = token.clone();
        let check = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            token.is_signed_by(keys.iter().map(|key| &**key))
        });
        check.await.unwrap_or(false)
    }

    /// The key of XPUSH's own tokens; none as long as it has signed none.
    async fn account_key(&self) -> Result<Option<Arc<VerifyingKey>>, Problem> {
        let secret = self.records.read(&Key::Secret("accounts".into())).await?;
        Ok(match secret.as_deref() {
            Some(Record::Secret(secret)) => Some(Arc::new(VerifyingKey::of_accounts(secret))),
            _ => None,
        })
    }

    /// What the directory says of a user.
    async fn user(&self, app: &App, user: &User) -> Result<Option<UserRecord>, Problem> {
        let record = self.records.read(&Key::User(app.clone(), user.clone())).await?;
        Ok(match record.as_deref() {
            Some(Record::User(user)) => Some((**user).clone()),
            _ => None,
        })
    }

    /// Refuses what was revoked; what the directory says of the user otherwise.
    async fn check_standing(&self, holder: Holder<'_>) -> Result<Option<UserRecord>, Problem> {
        let (app, user) = (holder.app, holder.user);
        let read = async |key: Key| match holder.own {
            true => self.records.read_unless_lost(&key).await,
            false => self.records.read(&key).await,
        };
        let record = async {
            Ok(match read(Key::User(app.clone(), user.clone())).await?.as_deref() {
                Some(Record::User(user)) => Some((**user).clone()),
                _ => None,
            })
        };
        let device = async {
            let Some(device) = holder.device else { return Ok(None) };
            read(Key::Device(app.clone(), user.clone(), device.clone())).await
        };
        let login = async {
            let Some(login) = holder.login else { return Ok(None) };
            read(Key::Login(app.clone(), user.clone(), login.clone())).await
        };
        let (record, device, login) = tokio::try_join!(record, device, login)?;
        let (disabled, valid_from) =
            record.as_ref().map_or((false, 0), |user| (user.disabled, user.tokens_valid_from));
        let device_valid_from = match device.as_deref() {
            Some(Record::Device(device)) => device.tokens_valid_from,
            _ => 0,
        };
        let logged_out = holder.login.is_some() && login.is_none();
        if disabled || logged_out || holder.issued_at < valid_from.max(device_valid_from) {
            return Err(Code::Revoked.into());
        }
        Ok(record)
    }

    /// Whether nothing that a grant came from has been revoked.
    pub(super) async fn readmit(&self, grant: &Grant) -> Result<(), Problem> {
        if grant.guest {
            let key = Key::User(grant.app.clone(), grant.sender.user.clone());
            return match self.records.read_unless_lost(&key).await {
                Ok(record) => match record.as_deref() {
                    Some(Record::User(user)) if user.disabled => Err(Code::Revoked.into()),
                    _ => Ok(()),
                },
                Err(problem) if is_passing(&problem) => {
                    self.check_later(grant);
                    Ok(())
                }
                Err(problem) => Err(problem),
            };
        }
        let standing = self.check_standing(Holder {
            app: &grant.app,
            user: &grant.sender.user,
            device: grant.device.as_ref(),
            login: grant.login.as_ref(),
            issued_at: grant.issued_at,
            own: grant.login.is_none(),
        });
        standing.await.map(drop)
    }

    /// Somebody was admitted without being asked about.
    fn check_later(&self, grant: &Grant) {
        let mut unchecked = self.unchecked();
        if unchecked.len() <= UNCHECKED {
            unchecked.push(grant.clone());
        }
    }

    /// The directory answers: what could not be asked is asked now.
    pub(super) fn check_unchecked(self: &Arc<Self>) {
        let unchecked = std::mem::take(&mut *self.unchecked());
        if unchecked.len() > UNCHECKED {
            return self.tell(Changed::Everything);
        }
        if unchecked.is_empty() {
            return;
        }
        let core = self.clone();
        self.runtime.spawn(async move {
            for grant in unchecked {
                core.check_again(&grant).await;
            }
        });
    }

    fn unchecked(&self) -> MutexGuard<'_, Vec<Grant>> {
        self.unchecked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again whether a grant that was given a moment ago should have been: a change may have come in between, and told to all but this one.
    pub(super) async fn check_again(&self, grant: &Grant) {
        match self.readmit(grant).await {
            Err(Problem { code: Code::Revoked, .. }) => self.tell(Changed::Revoked {
                app: grant.app.clone(),
                user: grant.sender.user.clone(),
                device: grant.device.clone(),
                login: grant.login.clone(),
                issued_before: grant.issued_at + 1,
            }),
            Err(problem) if is_passing(&problem) => self.check_later(grant),
            _ => {}
        }
    }

    /// Whether a subscription token of this user was revoked with everything else.
    pub(super) async fn check_subscription(&self, grant: &Grant, claims: &Claims) -> Result<(), Problem> {
        let standing = self.check_standing(Holder {
            app: &grant.app,
            user: &grant.sender.user,
            device: None,
            login: None,
            issued_at: claims.issued_at,
            own: false,
        });
        standing.await.map(drop)
    }
}

/// Whether the directory is only out of reach.
fn is_passing(problem: &Problem) -> bool {
    matches!(problem.code, Code::Unavailable | Code::Overloaded)
}

fn digest(app: &str, token: &str) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    digest.update(app.as_bytes());
    digest.update(&[0]);
    digest.update(token.as_bytes());
    digest.finish().as_ref().first_chunk().copied().unwrap_or_default()
}
