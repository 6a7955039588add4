//! Apps: what they become, and every refusal.

use super::*;

use xpush_core::ports::directory::{Accounts, AppRecord};
use xpush_core::{Permissions, Retention, Who};

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----";

/// Files by the end of their names.
pub(super) const FILES: Files = Files(|path| match path.extension().and_then(|end| end.to_str()) {
    Some("secret") => Ok("a file's secret of 32 bytes or more\n".to_owned()),
    Some("short") => Ok("short\r\n".to_owned()),
    Some("pem") => Ok(format!("{PUBLIC_KEY}\n")),
    _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
});

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The app `a` with these lines, and rules for all channels.
pub(super) fn app(lines: &str) -> AppRecord {
    let settings = from_file(&format!("[apps.a]\n{lines}\n[[apps.a.rules]]\nchannels = '*'")).expect(lines);
    settings.apps.into_iter().next().unwrap().record
}

/// What the rule with these lines lets people do.
fn rule(lines: &str) -> xpush_core::Rule {
    let settings = from_file(&format!("[[apps.a.rules]]\nchannels = '*'\n{lines}")).expect(lines);
    (**settings.apps[0].record.rules.iter().next().unwrap()).clone()
}

#[test]
fn what_a_rule_does_not_say_is_as_for_subscribers() {
    let staff = Permissions::all(Who::Members).moderate;
    assert_eq!(rule("").permissions, Permissions::all(Who::Anyone));
    assert_eq!(rule("subscribe = 'users'").permissions, Permissions::all(Who::Users));
    assert_eq!(rule("members = true").permissions, Permissions::all(Who::Members));
    assert_eq!(rule("subscribe = 'members'").permissions, Permissions::all(Who::Members));
    assert_eq!(rule("members = false").permissions, Permissions::all(Who::Anyone));
    let server = Permissions { publish: vec![Who::Server], ..Permissions::all(Who::Anyone) };
    assert_eq!(rule("publish = 'server'").permissions, server);
    assert_eq!(rule("publish = []").permissions, Permissions { publish: Vec::new(), ..server });
    let public = rule("members = true\nsubscribe = 'anyone'").permissions;
    assert_eq!((public.subscribe, public.publish), (vec![Who::Anyone], vec![Who::Members]));
    let open = rule("publish = 'members'").permissions;
    assert_eq!((open.subscribe, open.moderate, open.invite), (vec![Who::Anyone], staff.clone(), staff));
}

#[test]
fn every_permission_can_be_said() {
    let said = rule(
        "subscribe = ['users', 'role:a']\npublish = 'members'\nread_history = 'token'\nsee_presence = 'server'\n\
         moderate = 'role:b'\ninvite = 'members'\ncreate = ['users', 'role:c']\nnotify = true\npresence = true",
    );
    let role = |name: &str| Who::Role(xpush_core::Role::new(name).unwrap());
    let expected = Permissions {
        subscribe: vec![Who::Users, role("a")],
        publish: vec![Who::Members],
        history: vec![Who::Token],
        presence: vec![Who::Server],
        moderate: vec![role("b")],
        invite: vec![Who::Members],
        create: vec![Who::Users, role("c")],
    };
    assert_eq!(said.permissions, expected);
    assert!(said.notify && said.presence);
}

#[test]
fn durable_channels_keep_everything_unless_told() {
    assert_eq!(rule("history = 'durable'").history, History::Durable(Retention::ENDLESS));
    let bounded = rule("history = 'durable'\nkeep = { age = '365d' }").history;
    assert_eq!(bounded, History::Durable(Retention { age_ms: 365 * 86_400_000, ..Retention::ENDLESS }));
    let recent = Retention { count: 10_000, bytes: 4_000_000, age_ms: 3_600_000 };
    assert_eq!(rule("history = 'recent'").history, History::Recent(recent));
    assert_eq!(rule("").history, History::None);
}

#[test]
fn an_app_is_what_was_said() {
    let record = app(&format!(
        "guests = true\norigins = ['https://A.example:443']\njwks_url = 'https://a.example/keys'\naccounts = 'invited'\nrecovery = true
         keys = [{{ id = 'k1', algorithm = 'HS256', secret = '{SECRET}' }}, {{ id = 'k2', algorithm = 'HS256', secret_file = 'a.secret' }},
           {{ id = 'k3', algorithm = 'ES256', public_key_file = 'a.pem' }}]
         oidc = [{{ name = 'g', issuer = 'https://id.example', client_id = 'c', client_secret_file = 'b.secret', return_to = 'https://a.example/*' }}]"
    ));
    assert!(record.guests && record.recovery);
    assert_eq!(record.origins, [Box::from("https://a.example")]);
    assert_eq!(record.accounts, Accounts::Invited);
    let file = "a file's secret of 32 bytes or more";
    let materials: Vec<_> =
        record.keys.iter().map(|key| (&*key.id, &*key.algorithm, &*key.material)).collect();
    assert_eq!(materials, [("k1", "HS256", SECRET), ("k2", "HS256", file), ("k3", "ES256", PUBLIC_KEY)]);
    assert_eq!(record.oidc[0].client_secret.as_deref(), Some(file));
    let bare = app("");
    assert!(!bare.guests && !bare.recovery && bare.keys.is_empty() && bare.jwks_url.is_none());
    assert_eq!(bare.accounts, Accounts::Off);
}

#[test]
fn accounts_of_the_demo_are_open_only_where_nobody_else_comes() {
    let accounts = |listen: &str, demo| {
        let flags = vec![flag("--listen", "listen", listen)];
        load(&Sources { flags, demo, ..Sources::default() }).unwrap().settings.apps[0].record.accounts
    };
    assert_eq!(accounts("127.0.0.1:1", false), Accounts::Open);
    assert_eq!(accounts("0.0.0.0:1", false), Accounts::Invited);
    assert_eq!(accounts("0.0.0.0:1", true), Accounts::Invited, "guests are another matter");
}

/// A file with `line` in an app is refused, in this line and by these words.
fn refused(line: &str, complaint: &str) {
    let found = complaints(&format!("[apps.a]\n{line}\n[[apps.a.rules]]\nchannels = '*'"));
    let said = found.iter().any(|found| found.starts_with("x.toml:2: ") && found.contains(complaint));
    assert!(said, "{line}\n{found:#?}");
}

#[test]
fn what_cannot_be_an_app_is_refused() {
    for (line, complaint) in [
        (
            "accounts = 'opened'",
            "must be one of \"off\", \"invited\", \"open\", \"loopback\", not \"opened\"",
        ),
        ("accounts = true", "must be one of \"off\", \"invited\", \"open\", \"loopback\", not true"),
        ("guests = 'yes'", "must be true, false or \"loopback\", not \"yes\""),
        ("origins = ['https://a.example/x']", "has \"https://a.example/x\", but an origin has no path"),
        ("jwks_url = 'http://a.example/keys'", "must begin with https://"),
        ("jwks_url = 'a.example'", "must be a URL"),
        ("jwks_url = 'https://u@a.example/'", "must be a URL"),
        ("recovery = 1", "must be true or false, not 1"),
    ] {
        refused(line, complaint);
    }
    let reserved = complaints("[[apps.xpush.rules]]\nchannels = '*'");
    assert!(reserved[0].contains("the app `xpush` is XPUSH's own"), "{reserved:?}");
}

#[test]
fn what_cannot_be_a_key_is_refused() {
    let key = format!("id = 'k', algorithm = 'HS256', secret = '{SECRET}'");
    for (line, complaint) in [
        ("keys = [{ id = 'k', algorithm = 'HS256' }]", "a key must have one of `secret`, `secret_file`"),
        (&format!("keys = [{{ {key}, secret_file = 'a.secret' }}]"), "a key must have one of"),
        ("keys = [{ algorithm = 'HS256', secret_file = 'a.secret' }]", "a key must have `id`"),
        ("keys = [{ id = 'k', secret_file = 'a.secret' }]", "a key must have `algorithm`"),
        ("keys = [{ id = 'k', algorithm = 'none', secret_file = 'a.secret' }]", "must be one of \"HS256\""),
        ("keys = [{ id = 'xpush', algorithm = 'HS256', secret_file = 'a.secret' }]", "cannot be \"xpush\""),
        ("keys = [{ id = '', algorithm = 'HS256', secret_file = 'a.secret' }]", "must have 1 to 64 bytes"),
        (
            "keys = [{ id = 'k', algorithm = 'HS256', secret_file = 'none' }]",
            "cannot be read: none: no such file",
        ),
        ("keys = [{ id = 'k', algorithm = 'HS256', secret_file = ' ' }]", "must name a file"),
        (
            "keys = [{ id = 'k', algorithm = 'HS256', public_key_file = 'a.pem' }]",
            "is for keys with another algorithm",
        ),
        ("keys = [{ id = 'k', algorithm = 'ES256', secret_file = 'a.secret' }]", "is for HS256 alone"),
        (
            "keys = [{ id = 'k', algorithm = 'HS256', secret_file = 'a.short' }]",
            "the key \"k\" cannot be used: an HS256 secret has at least 32 bytes",
        ),
        ("keys = [{ id = 'k', algorithm = 'HS256', secret_file = 'a.pem' }]", "the key \"k\" cannot be used"),
        (
            "keys = [{ id = 'k', algorithm = 'RS256', public_key_file = 'a.pem' }]",
            "the key \"k\" cannot be used",
        ),
        (
            "keys = [{ id = 'k', algorithm = 'EdDSA', public_key_file = 'a.secret' }]",
            "the key \"k\" cannot be used",
        ),
        (&format!("keys = [{{ {key} }}, {{ {key} }}]"), "there is another key \"k\" before this one"),
        (
            &format!("keys = [{{ {key}, sceret = 'x' }}]"),
            "unknown key `sceret` in [apps.a.keys]; did you mean `secret`?",
        ),
    ] {
        refused(line, complaint);
    }
}

#[test]
fn what_cannot_be_a_provider_is_refused() {
    for (line, complaint) in [
        (
            "oidc = [{ issuer = 'https://i', client_id = 'c', return_to = 'https://a/' }]",
            "a provider must have `name`",
        ),
        (
            "oidc = [{ name = 'g', client_id = 'c', return_to = 'https://a/' }]",
            "a provider must have `issuer`",
        ),
        (
            "oidc = [{ name = 'g', issuer = 'https://i', return_to = 'https://a/' }]",
            "a provider must have `client_id`",
        ),
        (
            "oidc = [{ name = 'g', issuer = 'https://i', client_id = 'c' }]",
            "a provider must have `return_to`",
        ),
        ("oidc = [{ name = 'a b' }]", "must have 1 to 64 letters"),
        ("oidc = [{ client_id = ' ' }]", "must not be empty"),
        ("oidc = [{ issuer = 'http://i.example' }]", "must begin with https://"),
        (
            "oidc = [{ return_to = 'https://a.example*' }]",
            "must have a `/` between host and `*`: write \"https://a.example/*\"",
        ),
        ("oidc = [{ return_to = 'https://*.example/' }]", "can have a `*` at its end only"),
        ("oidc = [{ return_to = 'a.example' }]", "must be a URL such as"),
        (
            "oidc = [{ client_secret = 'x', client_secret_file = 'a.secret' }]",
            "is one too many beside `client_secret`",
        ),
    ] {
        refused(line, complaint);
    }
}

#[test]
fn what_cannot_be_a_rule_is_refused() {
    for (line, complaint) in [
        (
            "publish = 'member'",
            "`apps.a.rules.publish` must be one of \"anyone\", \"users\", \"members\", \"token\", \"server\" or \"role:NAME\", not \"member\"; did you mean \"members\"?",
        ),
        ("subscribe = ['users', 'nobody']", "not \"nobody\""),
        ("moderate = 'role:a b'", "a role has 1 to 32 letters"),
        ("publish = 7", "must be a list of strings, not 7"),
        ("history_by = 'users'", "unknown key `history_by` in [apps.a.rules]"),
        ("reed_history = 'users'", "did you mean `read_history`?"),
        ("notify = true", "`apps.a.rules.notify` has nobody to notify"),
        ("create = 'users'", "`apps.a.rules.create` has no meaning here"),
        ("invite = 'users'", "`apps.a.rules.invite` has no meaning here"),
        (
            "members = true\nsubscribe = 'users'\npublish = 'users'\nread_history = 'users'\nsee_presence = 'users'",
            "`apps.a.rules.members` has no meaning here",
        ),
        ("members = true\ncreate = ['users', 'members']", "`apps.a.rules.create` cannot be \"members\""),
        ("members = 'yes'", "must be true or false"),
        ("history = 'recent'\nkeep = { count = 10000001 }", "must be at most 10000000"),
    ] {
        let found = complaints(&format!("[[apps.a.rules]]\nchannels = '*'\n{line}"));
        assert!(found.iter().any(|found| found.contains(complaint)), "{line}\n{found:#?}");
    }
}

#[test]
fn secrets_are_quoted_nowhere() {
    let canary = "canary-0123456789-canary-0123456789-canary";
    let good = format!(
        "[apps.a]\nkeys = [{{ id = 'k', algorithm = 'HS256', secret = '{canary}' }}]\n\
         oidc = [{{ name = 'g', issuer = 'https://i.example', client_id = 'c', client_secret = '{canary}', return_to = 'https://a/' }}]\n\
         [[apps.a.rules]]\nchannels = '*'"
    );
    let load =
        |public| load(&Sources { file: Some(("x.toml", &good)), public, ..Sources::default() }).unwrap();
    let Loaded { settings, warnings } = load(true);
    assert!(!format!("{settings:?}").contains("canary"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("x.toml:2: a secret in a file that everybody on this machine may read"),
        "{warnings:?}"
    );
    assert!(warnings.iter().all(|warning| !warning.contains("canary")));
    assert_eq!(load(false).warnings, [] as [String; 0]);
    for bad in [
        good.replace("HS256", "RS256"),
        good.replace("HS256", "XS256"),
        good.replace("id = 'k', ", ""),
        good.replace(&format!("'{canary}'"), &format!("['{canary}']")),
        good.replace("secret = ", "sicret = "),
        good.replace("secret", "secret_file"),
        good.replace(canary, "canary"),
    ] {
        let said = from_file(&bad).unwrap_err();
        // A file's name is no secret; that one was meant for another key cannot be known.
        assert!(bad.contains("secret_file") || !said.contains("canary"), "{said}");
    }
}

#[test]
fn a_secret_from_the_environment_is_in_no_file() {
    let keys = format!("[{{id = \"k\", algorithm = \"HS256\", secret = \"{SECRET}\"}}]");
    let variables = vec![("XPUSH_APPS__DEMO__KEYS", keys.as_str())];
    let Loaded { settings, warnings } =
        load(&Sources { variables, public: true, ..Sources::default() }).unwrap();
    assert_eq!(settings.apps[0].record.keys.len(), 1);
    assert_eq!(warnings, [] as [String; 0]);
}

#[test]
fn an_app_that_is_written_is_read_as_the_same() {
    let usual = load(&Sources::default()).unwrap().settings.apps.remove(0).record;
    let full = app(&format!(
        "guests = true\norigins = ['https://a.example']\njwks_url = 'https://a.example/keys'\naccounts = 'invited'\nrecovery = true
         keys = [{{ id = 'k1', algorithm = 'HS256', secret = '{SECRET}' }}]
         oidc = [{{ name = 'g', issuer = 'https://id.example', client_id = 'c', client_secret = '{SECRET}', return_to = 'https://a.example/*' }}]"
    ));
    let bounded = from_file(
        "[[apps.a.rules]]\nchannels = 'a'\nhistory = 'durable'\nkeep = { count = 7, age = '90s' }\npublish = []\n[[apps.a.rules]]\nchannels = 'b'\nhistory = 'recent'\nsubscribe = ['users', 'token']\nread_history = 'members'\ninvite = []\ncreate = 'users'",
    );
    let bounded = bounded.unwrap().apps.remove(0).record;
    let name = App::new("a").unwrap();
    for record in [usual, full, bounded] {
        let text = written(&record).to_string();
        assert!(!text.contains(SECRET), "{text}");
        for file in [None, Some(("a.json", text.as_str()))] {
            let again = LiveApp { name: &name, before: &record, file, set: &[] }.read().unwrap();
            assert!(again == record, "{text}\n{again:?}");
        }
        // Whoever knows the app by what was written alone has none of its secrets.
        let elsewhere = AppRecord::default();
        let stolen =
            LiveApp { name: &name, before: &elsewhere, file: Some(("a.json", &text)), set: &[] }.read();
        assert!(record.keys.is_empty() || stolen.is_err());
    }
}
