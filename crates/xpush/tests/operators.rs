//! The operators' commands as a shell sees them, on a folder of their own.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A data folder, and nothing else around it.
struct Folder(TempDir);

impl Folder {
    /// One with a store.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.ok(&["token", "--user", "nobody"]);
        folder
    }

    fn run(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xpush"));
        command.args(args).current_dir(self.0.path()).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    fn ok_with(&self, args: &[&str], stdin: &str) -> String {
        let output = self.run(args, stdin);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// What it says instead of doing it.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args, "");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "{args:?}");
        text(&output.stderr).to_owned()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The secret that was shown.
fn secret(shown: &str) -> String {
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("secret")).expect(shown);
    line.trim().to_owned()
}

/// A token's header and claims, if `secret` has signed it.
fn opened(token: &str, secret: &[u8]) -> Option<(Value, Value)> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let data = decode::<Value>(token.trim(), &DecodingKey::from_secret(secret), &validation).ok()?;
    let header = token.split('.').next().unwrap();
    let header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    Some((header, data.claims))
}

#[test]
fn an_app_is_made_changed_and_deleted() {
    let folder = Folder::new();
    let created = folder.ok(&["app", "create", "shop", "--set", "guests=true"]);
    assert!(secret(&created).len() >= 32 && created.contains("xpush token --app shop"), "{created}");
    let shown = folder.json(&["app", "show", "shop"]);
    assert_eq!(shown["guests"], true);
    assert_eq!(shown["keys"], json!([{"id": "main", "algorithm": "HS256"}]));
    assert_eq!(shown["rules"][1]["channels"], "room:*");
    assert_eq!(shown["rules"][1]["subscribe"], "members");
    assert_eq!(shown["rules"][1]["invite"], json!(["role:owner", "role:moderator"]));
    assert!(folder.refused(&["app", "create", "shop"]).contains("there is an app `shop` already"));

    folder.ok(&[
        "app",
        "set",
        "shop",
        "--set",
        "accounts=open",
        "--set",
        "rules=[{channels=\"a\", history=\"durable\", keep={age=\"7d\"}}]",
    ]);
    let shown = folder.json(&["app", "show", "shop"]);
    assert_eq!((&shown["accounts"], &shown["guests"]), (&json!("open"), &json!(true)));
    assert_eq!(shown["rules"][0]["keep"], json!({"age": "7d"}));
    let listed = folder.ok(&["app", "list"]);
    assert!(listed.contains("shop  live") && listed.contains("demo  file"), "{listed}");

    let unsure = folder.refused(&["app", "delete", "shop"]);
    assert!(unsure.contains("--yes"), "{unsure}");
    folder.ok(&["app", "delete", "shop", "--yes"]);
    assert!(folder.refused(&["app", "show", "shop"]).contains("there is no app `shop`"));
    assert!(folder.refused(&["app", "delete", "demo", "--yes"]).contains("configuration file only"));
}

#[test]
fn what_is_shown_can_be_set_and_keys_stay() {
    let folder = Folder::new();
    let secret = secret(&folder.ok(&["app", "create", "shop"]));
    let shown = folder.ok(&["app", "show", "shop"]);
    fs::write(folder.path().join("shop.json"), &shown).unwrap();
    folder.ok(&["app", "set", "shop", "--file", "shop.json"]);
    assert_eq!(folder.ok(&["app", "show", "shop"]), shown);
    assert!(opened(&folder.ok(&["token", "--app", "shop", "--user", "ann"]), secret.as_bytes()).is_some());
    // The same in the form of the configuration file, and by stdin.
    folder.ok_with(&["app", "set", "shop", "--file", "-"], "recovery = true\n[[rules]]\nchannels = '*'\n");
    let shown = folder.json(&["app", "show", "shop"]);
    assert_eq!((&shown["recovery"], &shown["keys"]), (&json!(true), &json!([])));
}

#[test]
fn mistakes_are_told_with_their_place_and_change_nothing() {
    let folder = Folder::new();
    folder.ok(&["app", "create", "shop"]);
    let before = folder.ok(&["app", "show", "shop"]);
    fs::write(
        folder.path().join("shop.toml"),
        "guests = true\n[[rules]]\nchannels = '*'\npublish = 'member'\n",
    )
    .unwrap();
    for (args, why) in [
        (&["--file", "shop.toml"][..], "shop.toml:4: `apps.shop.rules.publish` must be one of"),
        (&["--set", "guest=true"], "--set guest: unknown key `guest` in [apps.shop]; did you mean `guests`?"),
        (&["--set", "guests=loopback"], "can be \"loopback\" in a configuration file only"),
        (&["--file", "missing.toml"], "cannot read missing.toml"),
    ] {
        let said = folder.refused(&[&["app", "set", "shop"], args].concat());
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(folder.ok(&["app", "show", "shop"]), before);
    for (args, why) in [
        (&["app", "show", "shp"][..], "there is no app `shp`; did you mean `shop`?"),
        (&["app", "create", "xpush"], "XPUSH's own"),
        (&["app", "create", "a b"], "1 to 64 letters"),
        (&["user", "list", "--app", "shp"], "did you mean `shop`?"),
        (&["user", "show", "ann"], "there is no user `ann` in demo"),
        (&["member", "add", "chat:a", "ann"], "`chat:a` has no members"),
        (&["member", "add", "other", "ann"], "no rule of demo is for channels such as `other`"),
        (&["token", "--app", "xpush2", "--user", "ann"], "there is no app `xpush2`"),
    ] {
        let said = folder.refused(args);
        assert!(said.contains(why), "{args:?}: {said}");
    }
}

#[test]
fn a_folder_without_data_is_not_taken_for_an_empty_one() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let said = folder.refused(&["user", "list"]);
    assert!(said.contains("there is no data in ./xpush-data"), "{said}");
    assert!(!folder.path().join("xpush-data").exists());
    folder.ok_with(&["admin", "create", "root"], "correct horse\n");
    assert!(folder.path().join("xpush-data/xpush.db").exists());
}

#[test]
fn keys_come_and_go() {
    let folder = Folder::new();
    let first = secret(&folder.ok(&["app", "create", "shop"]));
    let second = secret(&folder.ok(&["app", "add-key", "shop"]));
    assert_ne!(first, second);
    fs::write(folder.path().join("short"), "too short").unwrap();
    for (args, why) in [
        (&["--id", "main"][..], "has a key `main` already"),
        (&["--id", "xpush"], "cannot be \"xpush\""),
        (&["--secret-file", "short"], "at least 32 bytes"),
        (&["--algorithm", "none"], "not `none`"),
        (&["--algorithm", "ES256"], "--public-key-file"),
        (&["--algorithm", "ES256", "--public-key-file", "short"], "public key"),
    ] {
        let said = folder.refused(&[&["app", "add-key", "shop"], args].concat());
        assert!(said.contains(why), "{said}");
    }
    folder.ok(&["app", "remove-key", "shop", "main"]);
    assert!(folder.refused(&["app", "remove-key", "shop", "main"]).contains("has no key `main`"));
    let (header, _) =
        opened(&folder.ok(&["token", "--app", "shop", "--user", "ann"]), second.as_bytes()).unwrap();
    assert_eq!(header["kid"], "key-1");
    let everything = [folder.ok(&["app", "show", "shop"]), folder.ok(&["app", "list", "--json"])].concat();
    assert!(!everything.contains(&second));
}

#[test]
fn a_token_says_what_it_was_told_to() {
    let folder = Folder::new();
    let secret = secret(&folder.ok(&["app", "create", "shop"]));
    let output = folder.run(
        &[
            "token",
            "--app",
            "shop",
            "--user",
            "ann",
            "--ttl",
            "5m",
            "--role",
            "server",
            "--role",
            "a",
            "--device",
            "phone",
            "--name",
            "Ann",
            "--channels",
            "{\"room:*\": [\"subscribe\", \"*\"]}",
        ],
        "",
    );
    assert_eq!(text(&output.stderr), "");
    let token = text(&output.stdout);
    assert!(token.ends_with('\n') && token.trim().split('.').count() == 3 && token.lines().count() == 1);
    let (header, claims) = opened(token, secret.as_bytes()).unwrap();
    assert_eq!(header, json!({"alg": "HS256", "typ": "JWT", "kid": "main"}));
    let lasts = claims["exp"].as_f64().unwrap() - claims["iat"].as_f64().unwrap();
    assert!((300.0..=301.0).contains(&lasts), "{claims}");
    for (claim, value) in [
        ("sub", json!("ann")),
        ("app", json!("shop")),
        ("roles", json!(["server", "a"])),
        ("device", json!("phone")),
        ("name", json!("Ann")),
        ("channels", json!({"room:*": ["subscribe", "*"]})),
        ("iss", Value::Null),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    for args in
        [&["--ttl", "0s"][..], &["--ttl", "5"], &["--channels", "[]"], &["--channels", "{\"a\":[\"red\"]}"]]
    {
        let output = folder.run(&[&["token", "--user", "ann"], args].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn without_a_key_the_installation_signs_always_with_the_same_secret() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // The first ones make the secret, at the same time.
    let tokens: Vec<String> = thread::scope(|scope| {
        let signed = [0; 4].map(|_| scope.spawn(|| folder.ok(&["token", "--user", "ann"])));
        signed.into_iter().map(|signed| signed.join().unwrap()).collect()
    });
    let connection = rusqlite::Connection::open(folder.path().join("xpush-data/xpush.db")).unwrap();
    let secret: Vec<u8> = connection
        .query_row("SELECT body FROM entries WHERE kind = 8 AND first = 'accounts'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(secret.len(), 32);
    for token in tokens {
        let (header, claims) = opened(&token, &secret).unwrap();
        assert_eq!((&header["kid"], &claims["iss"]), (&json!("xpush"), &json!("xpush")));
        assert_eq!((&claims["app"], &claims["sub"]), (&json!("demo"), &json!("ann")));
    }
}

#[test]
fn a_user_is_made_changed_and_deleted() {
    let folder = Folder::new();
    folder.ok_with(&["user", "create", "ann", "--name", "Ann", "--role", "support"], "correct horse\n");
    let taken = folder.run(&["user", "create", "ann"], "another horse\n");
    assert!(text(&taken.stderr).contains("there is a user `ann` already"), "{}", text(&taken.stderr));
    let shown = folder.json(&["user", "show", "ann"]);
    assert_eq!((&shown["password"], &shown["roles"]), (&json!(true), &json!(["support"])));
    let digest = |folder: &Folder| {
        let connection = rusqlite::Connection::open(folder.path().join("xpush-data/xpush.db")).unwrap();
        let body: Vec<u8> = connection
            .query_row("SELECT body FROM entries WHERE kind = 2 AND first = 'ann'", [], |row| row.get(0))
            .unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["password"].as_str().unwrap().to_owned()
    };
    let first = digest(&folder);
    assert!(first.starts_with("$argon2id$"), "{first}");
    assert!(!folder.ok(&["user", "show", "ann"]).contains("$argon2id$"));
    folder.ok_with(&["user", "password", "ann"], "another horse\n");
    assert_ne!(digest(&folder), first);

    folder.ok(&["user", "roles", "ann"]);
    folder.ok(&["user", "disable", "ann"]);
    let shown = folder.json(&["user", "show", "ann"]);
    assert_eq!((&shown["disabled"], &shown["roles"]), (&json!(true), &json!([])));
    assert!(shown["tokens_valid_from"].as_u64().unwrap() > 0);
    folder.ok(&["user", "enable", "ann"]);
    let before = folder.json(&["user", "show", "ann"])["tokens_valid_from"].as_u64().unwrap();
    folder.ok(&["user", "revoke", "ann"]);
    assert!(folder.json(&["user", "show", "ann"])["tokens_valid_from"].as_u64().unwrap() > before);
    assert!(folder.refused(&["user", "revoke", "ann", "--device", "x"]).contains("no device `x`"));

    folder.ok(&["member", "add", "room:a", "ann", "bob", "--role", "owner"]);
    assert_eq!(folder.ok(&["member", "list", "room:a"]), "ann  owner\nbob  owner\n");
    assert_eq!(folder.json(&["user", "show", "ann"])["channels"][0]["channel"], "room:a");
    assert_eq!(folder.ok(&["user", "delete", "ann"]), "ann is gone, and 0 messages with it\n");
    assert_eq!(folder.ok(&["member", "list", "room:a"]), "bob  owner\n");
    folder.ok(&["member", "remove", "room:a", "bob"]);
    assert_eq!(folder.json(&["member", "list", "room:a", "--json"]), json!([]));
    assert!(folder.refused(&["user", "show", "ann"]).contains("there is no user `ann`"));
}

#[test]
fn what_the_command_line_changes_is_in_the_log() {
    let folder = Folder::new();
    folder.ok(&["member", "add", "room:a", "ann", "bob", "--role", "owner"]);
    folder.ok(&["member", "add", "room:a", "ann"]);
    folder.ok(&["member", "remove", "room:a", "bob"]);
    folder.ok(&["backup", "copy.db"]);
    folder.ok(&["epoch", "new"]);
    folder.ok(&["restore", "--replace", "copy.db"]);
    let log = folder.json(&["audit", "--json"]);
    let told: Vec<_> =
        log.as_array().unwrap().iter().map(|entry| (&entry["what"], &entry["after"])).collect();
    let (members, restored) = (json!("members.change"), json!("store.restore"));
    assert_eq!(
        told,
        [
            // What was done after the backup is gone with everything else.
            (&restored, &Value::Null),
            (&members, &json!({"removed": ["bob"]})),
            (&members, &json!({"added": ["ann"], "role": "member"})),
            (&members, &json!({"added": ["ann", "bob"], "role": "owner"})),
        ]
    );
    for entry in log.as_array().unwrap() {
        assert_eq!((&entry["via"], &entry["outcome"]), (&json!("cli"), &json!("done")), "{entry}");
    }
    assert_eq!(folder.json(&["member", "list", "room:a", "--json"])[0]["role"], Value::Null);
    folder.ok(&["epoch", "new"]);
    assert_eq!(folder.json(&["audit", "--json"])[0]["what"], "epoch.new");
}

#[test]
fn passwords_that_are_none_are_refused() {
    let folder = Folder::new();
    for (typed, why) in [("", "no password"), ("\n", "no password"), ("short\n", "8 to 256 characters")] {
        let output = folder.run(&["user", "create", "ann"], typed);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    assert_eq!(folder.ok(&["user", "list"]), "");
}

#[test]
fn an_operator_is_a_user_of_xpushs_own_app() {
    let folder = Folder::new();
    folder.ok_with(&["admin", "create", "root"], "correct horse\n");
    let operators = folder.json(&["user", "list", "--app", "xpush", "--json"]);
    assert_eq!((&operators[0]["user"], &operators[0]["roles"]), (&json!("root"), &json!(["admin"])));
    let again = folder.run(&["admin", "create", "root"], "correct horse\n");
    assert!(text(&again.stderr).contains("xpush user password root --app xpush"));
}

#[test]
fn two_at_once_lose_nothing() {
    let folder = Folder::new();
    folder.ok(&["app", "create", "shop"]);
    thread::scope(|scope| {
        for worker in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                for n in 0..4 {
                    folder.ok(&["app", "add-key", "shop", "--id", &format!("k{worker}-{n}")]);
                    folder.ok(&["member", "add", "room:a", &format!("u{worker}-{n}")]);
                }
            });
        }
    });
    assert_eq!(folder.json(&["app", "show", "shop"])["keys"].as_array().unwrap().len(), 1 + 16);
    assert_eq!(folder.json(&["member", "list", "room:a", "--json"]).as_array().unwrap().len(), 16);
}

#[test]
fn a_backup_brings_everything_back() {
    let folder = Folder::new();
    folder.ok(&["app", "create", "shop"]);
    folder.ok(&["backup", "copy.db"]);
    assert!(folder.refused(&["backup", "copy.db"]).contains("exists already"));
    folder.ok(&["app", "delete", "shop", "--yes"]);
    assert!(folder.refused(&["restore", "copy.db"]).contains("--replace"));
    folder.ok(&["restore", "--replace", "copy.db"]);
    folder.ok(&["app", "show", "shop"]);
    assert!(folder.refused(&["restore", "--replace", "missing.db"]).contains("there is no missing.db"));
}

#[test]
fn nobody_else_may_look_into_the_data() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder(tempfile::tempdir().unwrap());
    // One that was made by somebody else is as it is; what is put into it is not.
    fs::create_dir(folder.path().join("shared")).unwrap();
    folder.ok(&["token", "--user", "ann"]);
    folder.ok(&["token", "--user", "ann", "--data-dir", "shared"]);
    folder.ok(&["backup", "copy.db"]);
    for path in ["xpush-data", "xpush-data/xpush.db", "shared/xpush.db", "copy.db"] {
        let mode = fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
}

#[test]
fn every_help_teaches_by_examples() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for command in ["app", "user", "member", "token", "admin", "backup", "restore"] {
        let help = folder.ok(&[command, "--help"]);
        for word in ["Examples:", &format!("xpush {command}"), "--data-dir"] {
            assert!(help.contains(word), "{command}: {word}\n{help}");
        }
    }
}

#[test]
fn api_keys_are_made_rotated_and_revoked() {
    let folder = Folder::new();
    folder.ok(&["app", "create", "shop"]);
    let made = folder
        .ok(&["app", "key", "create", "shop", "--name", "orders", "--scope", "publish", "--scope", "read"]);
    // Nothing but the key, so that a script can take it.
    let text = made.strip_suffix('\n').and_then(|line| line.strip_prefix("xk_shop.")).unwrap();
    let (id, secret) = text.split_once('.').unwrap();
    assert_eq!(secret.len(), 43);
    let listed = folder.json(&["app", "key", "list", "shop", "--json"]);
    assert_eq!((&listed[0]["id"], &listed[0]["scopes"]), (&json!(id), &json!(["publish", "read"])));
    let told = folder.ok(&["app", "key", "list", "shop"]);
    assert!(told.contains("never used") && told.contains("orders") && !told.contains(secret));
    let rotated = folder.ok(&["app", "key", "rotate", "shop", id, "--grace", "1"]);
    assert!(rotated.contains(&format!("xk_shop.{id}.")) && !rotated.contains(secret));
    folder.ok(&["app", "key", "revoke", "shop", id]);
    assert!(folder.ok(&["app", "key", "list", "shop"]).contains("revoked"));
    assert!(folder.refused(&["app", "key", "rotate", "shop", id]).contains("revoked"));
    assert!(folder.refused(&["app", "key", "revoke", "shop", "none"]).contains("no API key `none`"));
    assert!(folder.refused(&["app", "key", "list", "nowhere"]).contains("there is no app"));
    let unknown = folder.run(&["app", "key", "create", "shop", "--scope", "root"], "");
    assert!(!unknown.status.success());
    let database = fs::read(folder.path().join("xpush-data/xpush.db")).unwrap();
    assert!(
        !database.windows(secret.len()).any(|window| window == secret.as_bytes()),
        "only a digest is kept"
    );
}
