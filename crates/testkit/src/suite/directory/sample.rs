//! Keys and records for the suite.

use xpush_core::files::FileRule;
use xpush_core::hooks::{CallRecord, HookAsk, HookEvent, HookRecord, OnFailure};
use xpush_core::ports::directory::{
    Accounts, ApiKeyRecord, AppRecord, AuditRecord, DeletionRecord, DeviceRecord, Key, KeyRecord,
    LoginRecord, MemberRecord, Outcome, Provider, Record, Scope, Stamp, UserRecord, VersionRecord, Via,
};
use xpush_core::{
    ApiKeyId, App, AppLimits, Channel, ChannelKey, Device, History, Login, Permissions, Retention, Role,
    Rule, Rules, User, Who,
};

use crate::sample::user;

pub(super) fn app(name: &str) -> App {
    App::new(name).expect("an app")
}

pub(super) fn device(name: &str) -> Device {
    Device::new(name).expect("a device")
}

pub(super) fn user_key(of: &str, name: &str) -> Key {
    Key::User(app(of), user(name))
}

pub(super) fn device_key(of: &str, owner: &str, name: &str) -> Key {
    Key::Device(app(of), user(owner), device(name))
}

pub(super) fn login_key(of: &str, owner: &str, name: &str) -> Key {
    Key::Login(app(of), user(owner), Login::new(name).expect("a login"))
}

pub(super) fn member(of: &str, channel: &str, name: &str) -> Key {
    let channel = Channel::new(channel).expect("a channel");
    Key::Member(ChannelKey::new(app(of), channel), user(name))
}

pub(super) fn block(of: &str, owner: &str, other: &str) -> Key {
    Key::Block(app(of), user(owner), user(other))
}

pub(super) fn api_key(of: &str, id: &str) -> Key {
    Key::ApiKey(app(of), ApiKeyId::new(id).expect("an API key's id"))
}

pub(super) fn identity(of: &str, issuer: &str, sub: &str) -> Key {
    Key::Identity(app(of), issuer.into(), sub.into())
}

pub(super) fn version(of: &str, revision: u64) -> Key {
    Key::Version(app(of), revision)
}

pub(super) fn audit(id: &str) -> Key {
    Key::Audit(id.into())
}

fn stamp() -> Stamp {
    Stamp {
        at: 1,
        by: "root".into(),
        name: Some("Root".into()),
        via: Via::Page,
        note: Some("why \"not\"".into()),
    }
}

/// An entry of the audit log; in an app, or in none.
pub(super) fn audit_record(of: Option<&str>) -> Record {
    Record::Audit(Box::new(AuditRecord {
        stamp: stamp(),
        app: of.map(app),
        what: "rules.change".into(),
        target: Some("room:1".into()),
        user: Some(user("ann")),
        before: Some("{}".into()),
        after: Some(r#"{"rules":[1]}"#.into()),
        outcome: Outcome::Refused,
        code: Some("conflict".into()),
        address: Some("::1".into()),
    }))
}

pub(super) fn secret(name: &str) -> Key {
    Key::Secret(name.into())
}

/// A key of each kind, and what it may hold: everything set, and as little as can be.
pub(super) fn each_kind() -> Vec<(Key, Vec<Record>)> {
    let role = |name: &str| Role::new(name).expect("a role");
    let user_record = UserRecord {
        name: Some("Ann \"the\" 방".into()),
        password: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into()),
        roles: vec![role("admin"), role("support")],
        info: Some(r#"{"city":"Seoul"}"#.into()),
        disabled: true,
        tokens_valid_from: u64::MAX,
        created_at: 1_767_225_600_000,
    };
    let device_record = DeviceRecord {
        name: Some("Ann's phone".into()),
        platform: Some("ios".into()),
        push_token: Some("abc".into()),
        tokens_valid_from: 1,
        created_at: 2,
        seen_at: 3,
    };
    let login = LoginRecord {
        device: Some(device("phone")),
        refresh: "new".into(),
        previous: Some("old".into()),
        rotated_at: 3,
        created_at: 2,
        expires_at: 4,
    };
    let bare_login = LoginRecord { device: None, previous: None, ..login.clone() };
    let member_record = MemberRecord { role: Some(role("owner")), muted: true, since: 5 };
    vec![
        (Key::App(app("demo")), vec![Record::App(Box::new(full_app())), Record::App(Box::default())]),
        (user_key("demo", "ann"), vec![Record::User(Box::new(user_record)), Record::User(Box::default())]),
        (
            device_key("demo", "ann", "phone"),
            vec![Record::Device(Box::new(device_record)), Record::Device(Box::default())],
        ),
        (
            login_key("demo", "ann", "l1"),
            vec![Record::Login(Box::new(login)), Record::Login(Box::new(bare_login))],
        ),
        (
            member("demo", "room:a", "ann"),
            vec![Record::Member(member_record), Record::Member(MemberRecord::default())],
        ),
        (block("demo", "ann", "bob"), vec![Record::Block(0), Record::Block(u64::MAX)]),
        (
            api_key("demo", "k1"),
            vec![Record::ApiKey(Box::new(full_api_key())), Record::ApiKey(Box::default())],
        ),
        (
            identity("demo", "https://id.example", "7"),
            vec![Record::Identity(user("ann")), Record::Identity(user("a/b:c \"d\""))],
        ),
        (secret("accounts"), vec![Record::Secret((0..=255).collect()), Record::Secret(Box::default())]),
        (
            version("demo", 7),
            vec![
                Record::Version(Box::new(VersionRecord {
                    changed: Some(stamp()),
                    what: vec!["rules".into()],
                    settings: r#"{"guests":true}"#.into(),
                })),
                Record::Version(Box::new(VersionRecord {
                    changed: None,
                    what: Vec::new(),
                    settings: "{}".into(),
                })),
            ],
        ),
        (audit("fffffe60a1b2c3d4-1"), vec![audit_record(Some("demo")), audit_record(None)]),
    ]
}

fn full_api_key() -> ApiKeyRecord {
    ApiKeyRecord {
        name: Some("the shop's orders".into()),
        digest: "new".into(),
        previous: Some("old".into()),
        previous_until: 5,
        scopes: Scope::EACH.into(),
        created_at: 1,
        rotated_at: 4,
        expires_at: Some(9),
        revoked_at: Some(8),
        used_at: 7,
    }
}

fn full_app() -> AppRecord {
    let role = Role::new("support").expect("a role");
    let rule = |pattern: &str, history, who| Rule {
        pattern: pattern.into(),
        history,
        presence: true,
        notify: true,
        search: true,
        permissions: Permissions { create: vec![Who::Users], ..Permissions::all(who) },
    };
    let bounded = Retention { count: 5, bytes: 6, age_ms: 7 };
    AppRecord {
        guests: true,
        origins: vec!["https://a.example".into()],
        rules: Rules::new([
            rule("room:*", History::Durable(Retention::ENDLESS), Who::Members),
            rule("chat:*", History::Recent(bounded), Who::Role(role)),
            rule("*", History::None, Who::Token),
        ]),
        keys: vec![KeyRecord {
            id: "main".into(),
            algorithm: "HS256".into(),
            material: "a secret of at least 32 bytes ……".into(),
            created_at: 8,
        }],
        jwks_url: Some("https://a.example/jwks.json".into()),
        accounts: Accounts::Invited,
        oidc: vec![Provider {
            name: "google".into(),
            issuer: "https://accounts.example".into(),
            client_id: "id".into(),
            client_secret: Some("secret".into()),
            return_to: vec!["https://a.example/*".into()],
        }],
        recovery: true,
        hooks: vec![HookRecord {
            name: "main".into(),
            url: "https://a.example/hooks".into(),
            secrets: vec!["a secret of at least 24 bytes …".into()],
            events: HookEvent::EACH.into(),
            asks: HookAsk::EACH.into(),
            channels: vec!["room:*".into()],
            timeout_ms: 9,
            concurrency: 10,
            on_failure: OnFailure::Allow,
            api: true,
        }],
        files: vec![FileRule {
            channels: "chat:*".into(),
            size: 1 << 40,
            types: vec!["image/*".into()],
            keep_ms: Some(7),
            per_day: None,
        }],
        calls: vec![CallRecord {
            event: "chat message".into(),
            channel: "chat:lobby".into(),
            echo: true,
            join: false,
        }],
        limits: AppLimits {
            events_per_second: Some(0),
            channels_per_connection: Some(7),
            payload: Some(1_024),
            files: Some(1 << 40),
        },
        changed: Some(stamp()),
    }
}

/// A record for the key that differs by `stamp`, as far as its kind can.
pub(super) fn stamped(key: &Key, stamp: u64) -> Record {
    match key {
        Key::App(_) => Record::App(Box::new(AppRecord {
            origins: vec![format!("https://{stamp}.example").into()],
            ..AppRecord::default()
        })),
        Key::User(..) => {
            Record::User(Box::new(UserRecord { tokens_valid_from: stamp, ..UserRecord::default() }))
        }
        Key::Device(..) => {
            Record::Device(Box::new(DeviceRecord { seen_at: stamp, ..DeviceRecord::default() }))
        }
        Key::Login(..) => Record::Login(Box::new(LoginRecord {
            device: None,
            refresh: "digest".into(),
            previous: None,
            rotated_at: stamp,
            created_at: 0,
            expires_at: stamp,
        })),
        Key::Member(..) => Record::Member(MemberRecord { since: stamp, ..MemberRecord::default() }),
        Key::Block(..) => Record::Block(stamp),
        Key::ApiKey(..) => {
            Record::ApiKey(Box::new(ApiKeyRecord { used_at: stamp, ..ApiKeyRecord::default() }))
        }
        Key::Identity(..) => Record::Identity(User::new(&stamp.to_string()).expect("a user")),
        Key::Secret(_) => Record::Secret(stamp.to_be_bytes().into()),
        Key::Version(..) => Record::Version(Box::new(VersionRecord {
            changed: None,
            what: Vec::new(),
            settings: stamp.to_string().into(),
        })),
        Key::Audit(_) => match audit_record(Some("a")) {
            Record::Audit(mut audit) => {
                audit.stamp.at = stamp;
                Record::Audit(audit)
            }
            other => other,
        },
        Key::Deletion(_) => Record::Deletion(DeletionRecord { at: stamp, before: stamp, gone: false }),
    }
}

/// Keys that are one and the same to whoever joins their parts, leaves one out, or ignores case.
pub(super) fn look_alikes() -> Vec<Key> {
    vec![
        user_key("a", "b"),
        user_key("A", "b"),
        user_key("a", "B"),
        user_key("a", "b/c"),
        user_key("a", "b "),
        user_key("a", "%62"),
        // Composed and not: é.
        user_key("a", "\u{e9}"),
        user_key("a", "e\u{301}"),
        device_key("a", "b", "c"),
        device_key("a", "b/c", "d"),
        device_key("a", "b", "c/d"),
        device_key("a", "b:c", "d"),
        device_key("a", "b", "c:d"),
        device_key("ab", "c", "d"),
        device_key("a", "bc", "d"),
        login_key("a", "b", "c"),
        member("a", "b:c", "d"),
        member("a", "b", "c:d"),
        member("a", "b", "c"),
        member("a", "c", "b"),
        block("a", "b", "c"),
        block("a", "c", "b"),
        api_key("a", "b"),
        api_key("a", "c"),
        api_key("b", "b"),
        identity("a", "b:c", "d"),
        identity("a", "b", "c:d"),
        identity("a", "b", "c"),
        identity("a", "", "c"),
        identity("a", "c", ""),
        version("a", 0),
        version("a", u64::MAX),
        version("b", 0),
        audit("a"),
        audit("b"),
        audit(""),
        secret("a"),
        secret("b"),
        secret(""),
        Key::App(app("a")),
        Key::App(app("b")),
    ]
}

/// Users that something on the way to a disk may take for more than text.
pub(super) fn odd_texts() -> Vec<String> {
    let texts = [
        "'",
        "\"",
        "a'; DROP TABLE entries; --",
        "%",
        "_",
        "*",
        "?1",
        ":a",
        "a/b",
        "../a",
        "\\",
        "{}",
        "null",
        "1",
        "01",
        "1e0",
        "-0",
        "방",
        "\u{feff}a",
        "\u{202e}a",
        "🔑",
        " ",
    ];
    texts.iter().map(|text| (*text).to_owned()).chain(["x".repeat(128)]).collect()
}
