mod apps;
mod hooks;
mod shared;
mod uploads;

use super::*;

use proptest::prelude::*;
use xpush_channel::PeerTrust;
use xpush_core::{App, Channel, History, NodeId};

fn from_file(text: &str) -> Result<Settings, String> {
    load(&Sources { file: Some(("x.toml", text)), files: apps::FILES, ..Sources::default() })
        .map(|loaded| loaded.settings)
        .map_err(|invalid| invalid.to_string())
}

/// The complaints about a file, without the last line that counts them.
fn complaints(text: &str) -> Vec<String> {
    let invalid = from_file(text).expect_err(text);
    let mut lines: Vec<_> = invalid.lines().map(str::to_owned).collect();
    let count = lines.pop().unwrap();
    assert!(count.starts_with(&lines.len().to_string()), "{invalid}");
    lines
}

#[test]
fn files_are_seen_from_where_they_are_named() {
    let beside = Files(|path| match path.to_str() {
        Some("/etc/xpush/a.secret") => Ok("a file's secret of 32 bytes or more".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    });
    let text = "tls = { certificate = 'a.pem', key = '/keys/a.pem' }\ndata_dir = 'data'\n[apps.a]\n\
        keys = [{ id = 'k', algorithm = 'HS256', secret_file = 'a.secret' }]\n[[apps.a.rules]]\nchannels = '*'";
    let load = |variables| {
        let file = Some(("/etc/xpush/xpush.toml", text));
        load(&Sources { file, variables, files: beside, ..Sources::default() }).unwrap().settings
    };
    let settings = load(Vec::new());
    let tls = format!("{:?}", settings.tls);
    assert!(tls.contains("\"/etc/xpush/a.pem\"") && tls.contains("\"/keys/a.pem\""), "{tls}");
    assert_eq!(settings.data_dir.to_str(), Some("data"), "a folder is no file");
    let tls = format!("{:?}", load(vec![("XPUSH_TLS__CERTIFICATE", "a.pem")]).tls);
    assert!(tls.contains("certificate: \"a.pem\""), "{tls}");
}

fn flag(name: &str, path: &str, words: &str) -> Flag {
    Flag { name: name.to_owned(), path: path.to_owned(), words: words.to_owned() }
}

#[test]
fn the_annotated_file_says_the_defaults() {
    let nothing = load(&Sources::default()).unwrap().settings;
    // Who writes the usual apps down has said them.
    let written = Settings { usual_apps: true, ..from_file(ANNOTATED).unwrap() };
    assert_eq!(format!("{written:?}"), format!("{nothing:?}"));
    let limits = xpush_channel::config::Limits::default();
    assert_eq!(format!("{:?}", nothing.limits), format!("{limits:?}"));
}

#[test]
fn the_annotated_file_has_every_key() {
    // Keys that have no default stand in it as comments that can be uncommented.
    let uncommented: Vec<_> = ANNOTATED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            Some(rest) if rest.starts_with("[[") || (rest.starts_with('[') && rest.ends_with(']')) => rest,
            _ => line,
        })
        .collect();
    let uncommented = uncommented.join("\n");
    assert!(from_file(&uncommented).is_ok(), "{:?}", from_file(&uncommented));
    let (tree, _) = tree::parse("x.toml", &uncommented);
    let reading = Reading::with(apps::FILES);
    Settings::read(&tree, &reading);
    for path in reading.finish().known {
        assert!(said(&tree, &path), "config/xpush.toml does not have {path}");
    }
}

/// Whether some value of the tree has this path; lists of tables count as their members.
fn said(table: &Table, path: &str) -> bool {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    match table.get(key).map(|item| &item.value) {
        None => false,
        Some(_) if rest.is_empty() => true,
        Some(Value::Table(inner)) => said(inner, rest),
        Some(Value::List(items)) => {
            items.iter().any(|item| matches!(&item.value, Value::Table(inner) if said(inner, rest)))
        }
        Some(_) => false,
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "listen = '127.0.0.1:1'\ndata_dir = 'file'\n[limits]\npayload = '10kB'\nattachments = 1\n[log]\nlevel = 'warn'";
    let variables =
        [("XPUSH_LISTEN", "127.0.0.1:2"), ("XPUSH_LIMITS__PAYLOAD", "20kB"), ("XPUSH_LOG__LEVEL", "debug")];
    let flags =
        [flag("--listen", "listen", "127.0.0.1:3,[::1]:3"), flag("--log-level", "log.level", "trace")];
    let load = |with_variables: bool, with_flags: bool| {
        let sources = Sources {
            file: Some(("x.toml", file)),
            variables: if with_variables { variables.to_vec() } else { Vec::new() },
            flags: if with_flags { flags.to_vec() } else { Vec::new() },
            ..Sources::default()
        };
        let settings = load(&sources).unwrap().settings;
        (settings.listen[0].port(), settings.limits.payload, settings.log.level, settings.limits.attachments)
    };
    assert_eq!(load(false, false), (1, 10_000, "warn".to_owned(), 1));
    assert_eq!(load(true, false), (2, 20_000, "debug".to_owned(), 1));
    assert_eq!(load(false, true), (3, 10_000, "trace".to_owned(), 1));
    assert_eq!(load(true, true), (3, 20_000, "trace".to_owned(), 1));
}

#[test]
fn a_variable_reaches_every_kind_of_key() {
    let variables = vec![
        ("XPUSH_ALLOWED_ORIGINS", "https://a.example, https://b.example"),
        ("XPUSH_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
        ("XPUSH_LIMITS__CONNECTIONS", "7"),
        ("XPUSH_HEARTBEAT__INTERVAL", "7s"),
        ("XPUSH_APPS__DEMO__GUESTS", "true"),
        ("XPUSH_APPS__SHOP__RULES", "[{channels = \"*\", presence = true}]"),
        ("XPUSH_DEFAULT_APP", "shop"),
    ];
    let settings = load(&Sources { variables, ..Sources::default() }).unwrap().settings;
    assert_eq!(
        settings.allowed_origins,
        ["https://a.example".into(), "https://b.example".into()] as [Box<str>; 2]
    );
    assert_eq!(settings.trusted_proxies.len(), 1);
    assert_eq!((settings.limits.connections, settings.heartbeat.interval_ms), (7, 7_000));
    let apps: Vec<_> = settings
        .apps
        .iter()
        .map(|app| (app.name.as_str(), app.record.guests, app.record.rules.iter().count()))
        .collect();
    assert_eq!(apps, [("demo", true, 5), ("shop", false, 1)]);
    assert_eq!(settings.default_app, App::new("shop").ok());
}

#[test]
fn a_variable_that_is_no_key_is_an_error_when_it_was_meant_for_us() {
    let load = |name| load(&Sources { variables: vec![(name, "x")], ..Sources::default() });
    for (name, complaint) in [
        ("XPUSH_LISTN", "XPUSH_LISTN: unknown key `listn`; did you mean `listen`?\n1 error"),
        (
            "XPUSH_LIMITS__PAYLOD",
            "XPUSH_LIMITS__PAYLOD: unknown key `paylod` in [limits]; did you mean `payload`?\n1 error",
        ),
        ("XPUSH_PAYLOAD", "XPUSH_PAYLOAD: unknown key `payload`; it belongs in [limits]\n1 error"),
    ] {
        assert_eq!(load(name).unwrap_err().to_string(), complaint);
    }
    let warnings = load("XPUSH_BIN").unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("XPUSH_BIN is ignored: unknown key `bin`"),
        "{warnings:?}"
    );
}

#[test]
fn a_wrong_flag_is_named() {
    let flags = vec![flag("--set limits.payload", "limits.payload", "lots")];
    let invalid = load(&Sources { flags, ..Sources::default() }).unwrap_err().to_string();
    assert!(invalid.starts_with("--set limits.payload: `limits.payload` must be a size"), "{invalid}");
}

#[test]
fn every_error_is_said_at_once_with_its_line() {
    let text = "\
lsten = '127.0.0.1:1'
allowed_origins = [
  'https://a.example',
  'https://a.example/page',
  7,
]
[limits]
payload = '1XB'
headers = 2_000_000_000
listen = '127.0.0.1:1'
[heartbeat]
timeout = 0
[apps.demo]
guest = true
[[apps.demo.rules]]
channels = 'a b'
history = 'durible'
";
    let complaints = complaints(text);
    let expected = [
        "x.toml:1: unknown key `lsten`; did you mean `listen`?",
        "x.toml:4: `allowed_origins` has \"https://a.example/page\", but an origin has no path: write \"https://a.example\"",
        "x.toml:5: `allowed_origins` must be a string, not 7",
        "x.toml:8: `limits.payload` must be a size such as \"1MB\", \"64KiB\" or a number of bytes, not \"1XB\"",
        "x.toml:9: `limits.headers` is 2GB, but must be at most 1MiB",
        "x.toml:10: unknown key `listen` in [limits]; it belongs at the top of the file, before the first [section]",
        "x.toml:12: `heartbeat.timeout` is 0s, but must be at least 100ms",
        "x.toml:14: unknown key `guest` in [apps.demo]; did you mean `guests`?",
        "x.toml:16: `apps.demo.rules.channels` cannot be \"a b\": A channel's name has 1 to 128 bytes, without white space, \
         control characters or any of * ? [ ] { } \\ \" '",
        "x.toml:17: `apps.demo.rules.history` must be one of \"none\", \"recent\", \"durable\", not \"durible\"",
    ];
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert_eq!(complaint, expected);
    }
    assert_eq!(complaints.len(), expected.len());
}

#[test]
fn what_cannot_work_is_refused() {
    for (text, complaint) in [
        (
            "[limits]\noutbox = '3MB'",
            "x.toml:2: `limits.outbox` cannot work: an outbox (3MB) must hold at least 4 payloads (1MB)",
        ),
        ("[limits]\npayload = '1.1MB'", "x.toml:2: `limits.payload` must be a size"),
        ("[limits]\npayload = '1001kB'", "x.toml:2: `limits.payload` cannot work: an outbox (4MB) must hold"),
        ("limits = 3", "x.toml:1: `limits` must be a table, as in [limits], not 3"),
        ("listen = []", "x.toml:1: `listen` must name at least one address"),
        ("listen = ':80'", "x.toml:1: `listen` must be ADDRESS:PORT"),
        ("listen = 8000", "x.toml:1: `listen` must be a list of strings, not 8000"),
        ("data_dir = ''", "x.toml:1: `data_dir` must name a folder"),
        ("advertise_url = 'push.example.com'", "x.toml:1: `advertise_url` must be a URL"),
        ("allowed_origins = 'null'", "x.toml:1: `allowed_origins` cannot be \"null\""),
        ("allowed_origins = 'a.example'", "x.toml:1: `allowed_origins` must be an origin"),
        ("allowed_origins = 'https://*.example'", "x.toml:1: `allowed_origins` has \"https://*.example\""),
        ("allowed_origins = 'https://u@a.example'", "x.toml:1: `allowed_origins` must be an origin"),
        ("trusted_proxies = '10.0.0.0/33'", "x.toml:1: `trusted_proxies` must be an address or a range"),
        ("default_app = 'shop'", "x.toml:1: `default_app` names \"shop\", but there is no [apps.shop]"),
        ("[tls]\nkey = 'key.pem'", "x.toml:2: `tls.key` needs `tls.certificate` beside it"),
        ("[tls]\ncertificate = 'c.pem'", "x.toml:2: `tls.certificate` needs `tls.key` beside it"),
        ("[tls]\ncertificate = 'c.pem'\nkey = ' '", "x.toml:3: `tls.key` must name a file"),
        ("[heartbeat]\ntimeout = '0s'", "x.toml:2: `heartbeat.timeout` is 0s, but must be at least 100ms"),
        ("[log]\nlevel = 'inof'", "x.toml:2: `log.level` must be one of"),
        ("[log]\nlevel = 'info,xpush=loud'", "x.toml:2: `log.level` must be one of"),
        ("[shards]\ncount = -1", "x.toml:2: `shards.count` must be a whole number, 0 or more, not -1"),
        ("[apps.'a b']\nrules = [{channels = '*'}]", "x.toml:1: an app's name has 1 to 64 letters"),
        ("[apps.a]", "x.toml:1: the app `a` has no channels"),
        ("[apps.a]\nrules = 3", "x.toml:2: `apps.a.rules` must be a list of tables"),
        ("apps.a = 3", "x.toml:1: `apps.a` must be a table"),
        ("[[apps.a.rules]]\npresence = true", "x.toml:1: a rule must say which `channels` it is for"),
        (
            "[[apps.a.rules]]\nchannels = 'chat:*'\n[[apps.a.rules]]\nchannels = 'chat:*'",
            "x.toml:3: the rule \"chat:*\" is never reached: \"chat:*\" (x.toml:1) comes first",
        ),
        (
            "[[apps.a.rules]]\nchannels = '*'\n[[apps.a.rules]]\nchannels = 'chat:*'",
            "x.toml:3: the rule \"chat:*\" is never reached: \"*\" (x.toml:1) comes first",
        ),
        (
            "[[apps.a.rules]]\nchannels = 'x'\nhistory = 'recent'\nkeep = { count = 0, bites = 1 }",
            "x.toml:4: `apps.a.rules.keep.count` is 0, but must be at least 1",
        ),
        ("a = ", "x.toml:1: "),
        ("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'", "x.toml:2: duplicate key"),
    ] {
        let found = complaints(text);
        assert!(found.iter().any(|found| found.starts_with(complaint)), "{text}\n{found:#?}");
    }
}

#[test]
fn what_can_work_is_accepted() {
    for text in [
        "",
        "listen = ['127.0.0.1:0', '[::1]:0']",
        "allowed_origins = ['*']",
        "allowed_origins = ['http://localhost:3000', 'capacitor://localhost', 'chrome-extension://abcdefgh']",
        "trusted_proxies = ['10.0.0.1', 'fd00::/8']",
        "[limits]\npayload = '16MB'\noutbox = '64MB'",
        "[limits]\nconnections_per_address = 0\nevents_per_second = 0",
        "[[apps.a.rules]]\nchannels = 'chat:vip:*'\n[[apps.a.rules]]\nchannels = 'chat:*'\npublish = 'server'",
        "[log]\nlevel = 'info,xpush_channel=debug'",
    ] {
        assert!(from_file(text).is_ok(), "{text}\n{:?}", from_file(text));
    }
}

#[test]
fn origins_are_compared_as_browsers_send_them() {
    let origins = |text: &str| from_file(&format!("allowed_origins = ['{text}']")).unwrap().allowed_origins;
    for (written, sent) in [
        ("https://Www.Example.com", "https://www.example.com"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://[::1]:80", "http://[::1]"),
    ] {
        assert_eq!(origins(written), [Box::from(sent)], "{written}");
    }
}

#[test]
fn guests_are_welcome_on_loopback_elsewhere_only_with_demo() {
    let guests = |listen: &str, demo: bool, file: &str| {
        let flags = vec![flag("--listen", "listen", listen)];
        let settings = load(&Sources { file: Some(("x.toml", file)), flags, demo, ..Sources::default() })
            .unwrap()
            .settings;
        let channel = settings.channel(NodeId::new("n").unwrap(), PeerTrust::nobody());
        let demo = settings.apps.iter().find(|app| app.name.as_str() == "demo").map(|app| app.record.guests);
        (demo, channel.origins.loopback)
    };
    assert_eq!(guests("127.0.0.1:1", false, ""), (Some(true), true));
    assert_eq!(guests("127.0.0.1:1,[::1]:1,[::ffff:127.0.0.1]:1", false, ""), (Some(true), true));
    assert_eq!(guests("127.0.0.1:1,0.0.0.0:1", false, ""), (Some(false), false));
    assert_eq!(guests("0.0.0.0:1", true, ""), (Some(true), false));
    let shop = "[[apps.shop.rules]]\nchannels = '*'";
    assert_eq!(guests("127.0.0.1:1", false, shop), (None, true));
    assert_eq!(guests("0.0.0.0:1", true, shop), (Some(true), false));
}

#[test]
fn the_only_app_is_the_default_one() {
    let default_app = |text: &str| from_file(text).unwrap().default_app.map(|app| app.as_str().to_owned());
    assert_eq!(default_app("").as_deref(), Some("demo"));
    let shop = "[[apps.shop.rules]]\nchannels = '*'\n";
    let news = "[[apps.news.rules]]\nchannels = '*'\n";
    assert_eq!(default_app(shop).as_deref(), Some("shop"));
    assert_eq!(default_app(&format!("{shop}{news}")), None);
    assert_eq!(default_app(&format!("default_app = 'news'\n{shop}{news}")).as_deref(), Some("news"));
}

#[test]
fn rules_keep_their_order_and_bounds() {
    let settings = from_file("[[apps.a.rules]]\nchannels = 'b*'\nhistory = 'recent'\nkeep = { count = 5, age = '2m' }\n[[apps.a.rules]]\nchannels = '*'").unwrap();
    let config = settings.channel(NodeId::new("n").unwrap(), PeerTrust::nobody());
    let rules = &settings.apps[0].record.rules;
    let history = |name: &str| rules.find(&Channel::new(name).unwrap()).unwrap().history;
    let History::Recent(kept) = history("bb") else { panic!("{:?}", history("bb")) };
    assert_eq!((kept.count, kept.bytes, kept.age_ms), (5, 4_000_000, 120_000));
    assert_eq!(history("a"), History::None);
    assert!(config.shards >= 1, "0 is one a core");
}

/// Changes to a text: where, how many bytes go, what comes instead.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let inserted = prop_oneof![
        Just(String::new()),
        "[ -~]{1,8}",
        "[\\[\\]{}=.,'\"#\n0-9_a-z-]{1,12}",
        Just("\u{0}".to_owned()),
        Just("é\u{2028}".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("[[".repeat(200)),
        Just("{a=".repeat(200)),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, inserted), 1..6)
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(edits in edits()) {
        let mut text = ANNOTATED.to_owned();
        for (at, gone, inserted) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + gone).min(text.len()));
            text.replace_range(start..end.max(start), &inserted);
        }
        if let Err(Invalid(complaints)) = load(&Sources { file: Some(("x.toml", &text)), ..Sources::default() }) {
            let lines = text.matches('\n').count() + 1;
            prop_assert!(!complaints.is_empty());
            for (place, what) in complaints {
                prop_assert!(matches!(place, Place::Line(_, line) if (1..=lines).contains(&line)), "{}: {}", place, what);
            }
        }
    }

    #[test]
    fn any_variable_is_read_or_refused(name in "[A-Z_]{0,24}", words in "[ -~]{0,24}") {
        let name = format!("XPUSH_{name}");
        let _ = load(&Sources { variables: vec![(&name, &words)], ..Sources::default() });
    }
}
