//! Who and what there is: apps, users, devices, members.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::access::AppLimits;
use crate::environment::UnixMillis;
use crate::error::Code;
use crate::files::FileRule;
use crate::hooks::{CallRecord, HookRecord};
use crate::names::{ApiKeyId, App, Channel, ChannelKey, Device, Login, Role, User};
use crate::ports::Done;
use crate::rules::Rules;

/// What an entry is about. Every entry has exactly one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// An app.
    App(App),
    /// A user of an app.
    User(App, User),
    /// One of a user's devices.
    Device(App, User, Device),
    /// A login of a built-in account.
    Login(App, User, Login),
    /// A member of a channel.
    Member(ChannelKey, User),
    /// `.1` wants nothing from `.2`.
    Block(App, User, User),
    /// What one of an app's back ends shows to the HTTP API.
    ApiKey(App, ApiKeyId),
    /// Somebody's account at an identity provider: its issuer and its `sub`.
    Identity(App, Box<str>, Box<str>),
    /// A secret of this installation, by its name. Whoever needs one first makes it ([`Expected::Absent`]), and reads it again after a conflict.
    ///
    /// `accounts` are 32 random bytes: what XPUSH signs its own connection tokens with, by HMAC over these very bytes. Such a token is a JWT of the algorithm
    /// HS256 whose header has `"kid":"xpush"` (a name that no key of an app may have); its claims are those of docs/protocol.md, `app`, `iat` and `exp` among
    /// them, and `"iss":"xpush"`. Those of an account's login have the claim `login`, and end with it. Those without it were made by an operator (`xpush token`):
    /// they are good in every app, and ask for no account; revocation holds for them as for any other.
    Secret(Box<str>),
    /// How an app was, by the revision that its entry had; 0: as the configuration had it.
    Version(App, u64),
    /// What an operator did, or tried to. The id begins with 16 hexadecimal digits, those of all ones less the time in ms since 1970: the newest comes first.
    Audit(Box<str>),
    /// An app that is being deleted, or was a moment ago.
    Deletion(App),
}

/// A key's kind and names, as stores spell it. Kinds are numbers that are never given to anything else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spelling<'a> {
    /// One of [`kind`].
    pub kind: u8,
    /// What has no app of its own has the empty one, which no app is called.
    pub app: &'a str,
    /// The rest of the key, empty where it has none.
    pub first: Cow<'a, str>,
    /// The same.
    pub second: &'a str,
}

/// The numbers of keys' kinds, in the order in which they came.
pub mod kind {
    /// [`Key::App`](super::Key::App)
    pub const APP: u8 = 1;
    /// [`Key::User`](super::Key::User)
    pub const USER: u8 = 2;
    /// [`Key::Device`](super::Key::Device)
    pub const DEVICE: u8 = 3;
    /// [`Key::Login`](super::Key::Login)
    pub const LOGIN: u8 = 4;
    /// [`Key::Member`](super::Key::Member)
    pub const MEMBER: u8 = 5;
    /// [`Key::Block`](super::Key::Block)
    pub const BLOCK: u8 = 6;
    /// [`Key::Identity`](super::Key::Identity)
    pub const IDENTITY: u8 = 7;
    /// [`Key::Secret`](super::Key::Secret)
    pub const SECRET: u8 = 8;
    /// [`Key::ApiKey`](super::Key::ApiKey)
    pub const API_KEY: u8 = 9;
    /// [`Key::Version`](super::Key::Version)
    pub const VERSION: u8 = 10;
    /// [`Key::Audit`](super::Key::Audit)
    pub const AUDIT: u8 = 11;
    /// [`Key::Deletion`](super::Key::Deletion)
    pub const DELETION: u8 = 12;
}

/// An app: as the configuration file has it, or as it was set up live, which wins over the file's app of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRecord {
    /// Whether connections without a token are welcome.
    #[serde(default)]
    pub guests: bool,
    /// Pages that may connect.
    #[serde(default)]
    pub origins: Vec<Box<str>>,
    /// Channels.
    pub rules: Rules,
    /// What tokens are checked with.
    #[serde(default)]
    pub keys: Vec<KeyRecord>,
    /// Where more keys are published (RFC 7517).
    #[serde(default)]
    pub jwks_url: Option<Box<str>>,
    /// Built-in accounts.
    #[serde(default)]
    pub accounts: Accounts,
    /// Identity providers whose users may sign in.
    #[serde(default)]
    pub oidc: Vec<Provider>,
    /// Whether stock Socket.IO clients are offered connection state recovery.
    #[serde(default)]
    pub recovery: bool,
    /// What its back end is told and asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRecord>,
    /// Events of clients that are published as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallRecord>,
    /// Which files may be uploaded; where none of these says so, none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRule>,
    /// Its own limits, in the place of the server's.
    #[serde(default, skip_serializing_if = "AppLimits::is_empty")]
    pub limits: AppLimits,
    /// Who has made it what it is; `None`: the configuration, or a release that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Stamp>,
}

/// By whom, how and when something was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Ms since 1970.
    pub at: UnixMillis,
    /// An operator's name, an API key's id, or a user of the operating system.
    pub by: Box<str>,
    /// What an API key is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    /// By which way.
    pub via: Via,
    /// Why, in the words of who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<str>>,
}

impl std::fmt::Display for Stamp {
    /// `root (page)`, `orders k7Qm2 (key)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name} ")?;
        }
        write!(f, "{} ({})", self.by, self.via.as_str())
    }
}

/// The way by which something was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The page: an operator with a cookie.
    Page,
    /// An operator with a token.
    Api,
    /// An API key of the app, or a token of the role `server`.
    Key,
    /// The command line.
    Cli,
    /// The server by itself.
    Server,
}

/// How an app was. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Who had made it so.
    #[serde(default)]
    pub changed: Option<Stamp>,
    /// Which settings differ from the version before.
    #[serde(default)]
    pub what: Vec<Box<str>>,
    /// What it said: a JSON object in the configuration's language, without secrets.
    pub settings: Box<str>,
}

/// How far an app's deletion is. Written before anything is removed, so that whatever cuts it short, somebody goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionRecord {
    /// When it began, ms since 1970.
    pub at: UnixMillis,
    /// What was made in it before this moment goes: servers that had not heard of the deletion yet may have taken something in. Ms since 1970.
    pub before: UnixMillis,
    /// Nothing that was known is left.
    pub gone: bool,
}

/// What was done, or tried. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Who, how, when, and why.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// In which app.
    #[serde(default)]
    pub app: Option<App>,
    /// What: `app.change`, `sign_in`, …
    pub what: Box<str>,
    /// With what: a key's id, a channel.
    #[serde(default)]
    pub target: Option<Box<str>>,
    /// With whom: nobody's any more once that user is erased.
    #[serde(default)]
    pub user: Option<User>,
    /// What differs, as it was: a JSON object.
    #[serde(default)]
    pub before: Option<Box<str>>,
    /// What differs, as it was to be: a JSON object.
    #[serde(default)]
    pub after: Option<Box<str>>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was refused: an error's code.
    #[serde(default)]
    pub code: Option<Box<str>>,
    /// From which address.
    #[serde(default)]
    pub address: Option<Box<str>>,
}

/// What came of what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is not known: whoever did it was cut short.
    Begun,
    /// It was done.
    Done,
    /// It was not.
    Refused,
}

/// Whether an app has accounts of its own, and who may make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounts {
    /// None: who one is says the app's own back end, by tokens.
    #[default]
    Off,
    /// Made by operators.
    Invited,
    /// Made by whoever registers.
    Open,
}

/// A key of an app. Not `Debug`: it may hold a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What a token's header names it by (`kid`).
    pub id: Box<str>,
    /// The one algorithm that tokens of this key may have: HS256, RS256, ES256, EdDSA.
    pub algorithm: Box<str>,
    /// HS256: the secret, at least 32 bytes. The others: the public key as PEM (SubjectPublicKeyInfo).
    pub material: Box<str>,
    /// When it was added, ms since 1970.
    #[serde(default)]
    pub created_at: UnixMillis,
}

/// What a back end shows to the HTTP API: its id, and a secret of which only a digest is kept. Not `Debug`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// What its owner calls it.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// SHA-256 of the secret, base64url.
    pub digest: Box<str>,
    /// Of the secret before: good until `previous_until`, so that a back end can be given the new one without a break.
    #[serde(default)]
    pub previous: Option<Box<str>>,
    /// Ms since 1970.
    #[serde(default)]
    pub previous_until: UnixMillis,
    /// What it opens.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Ms since 1970.
    #[serde(default)]
    pub created_at: UnixMillis,
    /// When its secret was changed last, ms since 1970; 0: never.
    #[serde(default)]
    pub rotated_at: UnixMillis,
    /// When it ends; `None`: by being revoked only.
    #[serde(default)]
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked: it opens nothing any more, and is kept so that one can see that it was there.
    #[serde(default)]
    pub revoked_at: Option<UnixMillis>,
    /// When it was used last, to the hour; 0: never.
    #[serde(default)]
    pub used_at: UnixMillis,
}

/// A part of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Messages and signals go out.
    Publish,
    /// Histories, and who is where, are read.
    Read,
    /// Users, their devices, and members of channels are seen and changed.
    Users,
    /// Everything.
    Admin,
}

/// An OpenID Connect provider. Not `Debug`: it may hold a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// In URLs: `google`.
    pub name: Box<str>,
    /// Its issuer URL; configuration is discovered from there.
    pub issuer: Box<str>,
    /// What it knows this app by.
    pub client_id: Box<str>,
    /// What it checks this app with; public clients have none.
    #[serde(default)]
    pub client_secret: Option<Box<str>>,
    /// Pages that a sign-in may return to, by exact URL or by prefix when they end with `*`.
    #[serde(default)]
    pub return_to: Vec<Box<str>>,
}

/// A user. Not `Debug`: it holds a digest of a password.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserRecord {
    /// The display name.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// Argon2id, as a PHC string; none for users who sign in elsewhere.
    #[serde(default)]
    pub password: Option<Box<str>>,
    /// What the user is in the app.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// What the app tells of the user: a JSON object.
    #[serde(default)]
    pub info: Option<Box<str>>,
    /// May not connect.
    #[serde(default)]
    pub disabled: bool,
    /// Tokens issued before are void, ms since 1970.
    #[serde(default)]
    pub tokens_valid_from: UnixMillis,
    /// Ms since 1970.
    #[serde(default)]
    pub created_at: UnixMillis,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What its user calls it.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// `ios`, `android`, `web`, …
    #[serde(default)]
    pub platform: Option<Box<str>>,
    /// What push services know it by.
    #[serde(default)]
    pub push_token: Option<Box<str>>,
    /// Grants for this device issued before are void, ms since 1970.
    #[serde(default)]
    pub tokens_valid_from: UnixMillis,
    /// Ms since 1970.
    #[serde(default)]
    pub created_at: UnixMillis,
    /// When it signed in or connected last, to the hour; ms since 1970.
    #[serde(default)]
    pub seen_at: UnixMillis,
}

/// A login: a chain of refresh tokens of which only the newest is good. Not `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRecord {
    /// On which device.
    pub device: Option<Device>,
    /// SHA-256 of the refresh token that is good now, base64url.
    pub refresh: Box<str>,
    /// SHA-256 of the one before: who still shows it has lost an answer (within seconds) or stolen it (later).
    #[serde(default)]
    pub previous: Option<Box<str>>,
    /// When `refresh` was issued, ms since 1970.
    pub rotated_at: UnixMillis,
    /// Ms since 1970.
    pub created_at: UnixMillis,
    /// Ms since 1970.
    pub expires_at: UnixMillis,
}

/// A member of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberRecord {
    /// What it is there; a plain member has none.
    #[serde(default)]
    pub role: Option<Role>,
    /// Wants no notifications from here.
    #[serde(default)]
    pub muted: bool,
    /// Ms since 1970.
    #[serde(default)]
    pub since: UnixMillis,
}

/// An entry's content. Which kind it is, its key says.
#[derive(Clone, PartialEq, Eq)]
pub enum Record {
    /// Of [`Key::App`].
    App(Box<AppRecord>),
    /// Of [`Key::User`].
    User(Box<UserRecord>),
    /// Of [`Key::Device`].
    Device(Box<DeviceRecord>),
    /// Of [`Key::Login`].
    Login(Box<LoginRecord>),
    /// Of [`Key::Member`].
    Member(MemberRecord),
    /// Of [`Key::Block`]: since when, ms since 1970.
    Block(UnixMillis),
    /// Of [`Key::ApiKey`].
    ApiKey(Box<ApiKeyRecord>),
    /// Of [`Key::Identity`]: whose it is.
    Identity(User),
    /// Of [`Key::Secret`].
    Secret(Box<[u8]>),
    /// Of [`Key::Version`].
    Version(Box<VersionRecord>),
    /// Of [`Key::Audit`].
    Audit(Box<AuditRecord>),
    /// Of [`Key::Deletion`].
    Deletion(DeletionRecord),
}

/// An entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub key: Key,
    /// What it says.
    pub record: Record,
    /// Larger after every change; never used again for another state of this key.
    pub revision: u64,
}

/// What can be listed, in the order of the keys' parts that differ: by the bytes of their text, part after part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listing {
    /// All apps.
    Apps,
    /// An app's users.
    Users(App),
    /// A user's devices.
    Devices(App, User),
    /// A user's logins.
    Logins(App, User),
    /// A channel's members.
    Members(ChannelKey),
    /// The channels that a user is a member of, by channel.
    Memberships(App, User),
    /// Whom a user has blocked.
    Blocks(App, User),
    /// Who has blocked a user, by those.
    BlockedBy(App, User),
    /// An app's API keys.
    ApiKeys(App),
    /// A user's accounts at identity providers.
    Identities(App, User),
    /// How an app was, the newest first: by the revisions, falling.
    Versions(App),
    /// What was done, the newest first.
    Audit,
    /// What was done in an app, the newest first.
    AuditOf(App),
    /// Apps that are being deleted.
    Deletions,
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Any,
    /// There is no entry of this key.
    Absent,
    /// The entry has this revision.
    Revision(u64),
}

/// A change of one entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Of which.
    pub key: Key,
    /// If this holds; else nothing is changed ([`Failure::Conflict`](super::Failure::Conflict)).
    pub expected: Expected,
    /// To what; `None` removes it.
    pub to: Option<Record>,
}

/// Changes since a position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The keys that were changed, the earliest change first; a key may come more than once.
    pub keys: Vec<Key>,
    /// Where to go on.
    pub next: u64,
    /// Some changes since then are no longer known: everything may have changed.
    pub gap: bool,
}

/// Keeps entries, each changed atomically by itself.
///
/// - **Atomic**: a change is made whole, if what it expects holds over all handles, or not at all.
/// - **Visible**: a change is seen by every later `get`, `page` and `changes`, on every handle.
/// - **Durable**: a change that was answered survives a crash.
/// - `changes` tells every change at least once to whoever goes on at `next`; the store remembers at least the last 10,000, but for what named a user that was erased.
/// - Removing an app or a user removes nothing else: whoever does it removes what belongs to it, by the listings.
pub trait Directory: Send + Sync {
    /// One entry.
    fn get(&self, key: &Key, done: Done<Option<Entry>>);
    /// At most `limit` entries of a listing, those behind `after`: a key of the listing's kind, whose entry may be gone.
    fn page(&self, listing: &Listing, after: Option<Key>, limit: usize, done: Done<Vec<Entry>>);
    /// Makes a change: the entry's new revision. A record of another kind than its key is [`Invalid`](super::Failure::Invalid).
    fn apply(&self, change: Change, done: Done<u64>);
    /// What was changed since `since`, the first `limit` of it; 0 is the beginning, and `u64::MAX` asks only where to go on. A position that the store has
    /// not reached is from before something was lost: a gap.
    fn changes(&self, since: u64, limit: usize, done: Done<Changes>);
}

impl Key {
    /// How stores spell it: no two keys alike.
    pub fn spelling(&self) -> Spelling<'_> {
        fn spelling<'a>(kind: u8, app: &'a str, first: &'a str, second: &'a str) -> Spelling<'a> {
            Spelling { kind, app, first: Cow::Borrowed(first), second }
        }
        match self {
            Self::App(app) => spelling(kind::APP, "", app.as_str(), ""),
            Self::User(app, user) => spelling(kind::USER, app.as_str(), user.as_str(), ""),
            Self::Device(app, user, device) => {
                spelling(kind::DEVICE, app.as_str(), user.as_str(), device.as_str())
            }
            Self::Login(app, user, login) => {
                spelling(kind::LOGIN, app.as_str(), user.as_str(), login.as_str())
            }
            Self::Member(channel, user) => {
                spelling(kind::MEMBER, channel.app.as_str(), channel.name.as_str(), user.as_str())
            }
            Self::Block(app, user, other) => {
                spelling(kind::BLOCK, app.as_str(), user.as_str(), other.as_str())
            }
            Self::ApiKey(app, id) => spelling(kind::API_KEY, app.as_str(), id.as_str(), ""),
            Self::Identity(app, issuer, sub) => spelling(kind::IDENTITY, app.as_str(), issuer, sub),
            Self::Secret(name) => spelling(kind::SECRET, "", name, ""),
            // The newest comes first.
            Self::Version(app, revision) => Spelling {
                kind: kind::VERSION,
                app: app.as_str(),
                first: format!("{:016x}", !revision).into(),
                second: "",
            },
            Self::Audit(id) => spelling(kind::AUDIT, "", id, ""),
            Self::Deletion(app) => spelling(kind::DELETION, "", app.as_str(), ""),
        }
    }

    /// The key that is spelled so, if its names are good ones.
    pub fn read(Spelling { kind, app, first, second }: Spelling<'_>) -> Result<Self, Code> {
        let app = || App::new(app);
        let first = &*first;
        Ok(match kind {
            kind::APP => Self::App(App::new(first)?),
            kind::USER => Self::User(app()?, User::new(first)?),
            kind::DEVICE => Self::Device(app()?, User::new(first)?, Device::new(second)?),
            kind::LOGIN => Self::Login(app()?, User::new(first)?, Login::new(second)?),
            kind::MEMBER => Self::Member(ChannelKey::new(app()?, Channel::new(first)?), User::new(second)?),
            kind::BLOCK => Self::Block(app()?, User::new(first)?, User::new(second)?),
            kind::API_KEY => Self::ApiKey(app()?, ApiKeyId::new(first)?),
            kind::IDENTITY => Self::Identity(app()?, first.into(), second.into()),
            kind::SECRET => Self::Secret(first.into()),
            kind::VERSION => {
                let falling = u64::from_str_radix(first, 16).map_err(|_| Code::Internal)?;
                Self::Version(app()?, !falling)
            }
            kind::AUDIT => Self::Audit(first.into()),
            kind::DELETION => Self::Deletion(App::new(first)?),
            _ => return Err(Code::Internal),
        })
    }

    /// Whose entry it is, for the listings that go by it.
    pub fn owner<'a>(&'a self, record: &'a Record) -> Option<&'a str> {
        match (self, record) {
            (Self::Member(_, user), _) | (Self::Identity(..), Record::Identity(user)) => Some(user.as_str()),
            (Self::Block(_, _, blocked), _) => Some(blocked.as_str()),
            (Self::Audit(_), Record::Audit(audit)) => audit.app.as_ref().map(App::as_str),
            _ => None,
        }
    }
}

impl Listing {
    /// Everything that belongs to a user or names it, but for its own entry.
    pub fn of_user(app: &App, user: &User) -> [Self; 6] {
        [Self::Logins, Self::Identities, Self::Devices, Self::Memberships, Self::Blocks, Self::BlockedBy]
            .map(|listing| listing(app.clone(), user.clone()))
    }
}

impl Via {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Api => "api",
            Self::Key => "key",
            Self::Cli => "cli",
            Self::Server => "server",
        }
    }
}

impl UserRecord {
    /// The `tokens_valid_from` of an account that is made at `now`. Who had the id before may have left tokens behind, which are none for this one; they are older than the
    /// time that an erasure takes at least. Those who sign tokens may have other clocks, and count in whole seconds.
    pub const fn fresh_from(now: UnixMillis) -> UnixMillis {
        now.saturating_sub(5_000)
    }
}

impl Record {
    /// Whether this is what a key of this kind may hold.
    pub const fn belongs_to(&self, key: &Key) -> bool {
        matches!(
            (key, self),
            (Key::App(..), Self::App(..))
                | (Key::User(..), Self::User(..))
                | (Key::Device(..), Self::Device(..))
                | (Key::Login(..), Self::Login(..))
                | (Key::Member(..), Self::Member(..))
                | (Key::Block(..), Self::Block(..))
                | (Key::ApiKey(..), Self::ApiKey(..))
                | (Key::Identity(..), Self::Identity(..))
                | (Key::Secret(..), Self::Secret(..))
                | (Key::Version(..), Self::Version(..))
                | (Key::Audit(..), Self::Audit(..))
                | (Key::Deletion(..), Self::Deletion(..))
        )
    }
}

impl Scope {
    /// Each of them, in order.
    pub const EACH: [Self; 4] = [Self::Publish, Self::Read, Self::Users, Self::Admin];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Users => "users",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|scope| scope.as_str() == name)
    }
}

macro_rules! no_secrets {
    ($($name:ident)*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), " { … }"))
            }
        })*
    };
}

no_secrets! { KeyRecord ApiKeyRecord Provider UserRecord LoginRecord Record Entry Change }
