//! `xpush app`: tenants, set up live.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use xpush_core::ports::directory::{Accounts, AppRecord, Key, Listing, Record};
use xpush_core::{App, Code, Problem};
use xpush_session::administration::{Found, Match, Version, created_with};

use super::api_key::Keys;
use super::{Installation, Told, app_name, audit, columns, hooks, json as shown, note, now, token};
use crate::backends;
use crate::cli::{Site, key_and_value};
use crate::config::{self, ALGORITHMS, Files, LiveApp, OPERATORS};

const EXAMPLES: &str = "\
Examples:
  xpush app create shop                        with the demo's rules, and a key, which is shown once
  xpush app create shop --file shop.toml       with the keys of [apps.shop] in a configuration file (TOML or JSON)
  xpush app create game --set guests=true --set 'rules=[{channels=\"*\", history=\"recent\"}]'
  xpush app set shop --set accounts=open       one key; the others stay
  xpush app show shop > shop.json              edit it, then: xpush app set shop --file shop.json
  xpush app add-key shop                       another HS256 secret, to replace one without a break …
  xpush app remove-key shop main               … when no token of the old one is left
  xpush app add-key shop --id login --algorithm ES256 --public-key-file login.pem
  xpush app key create shop --scope publish    what your back end shows to the HTTP API
  xpush app versions shop                      how it was, and who has changed it …
  xpush app restore shop 41                    … and back to that
  xpush app hooks shop                         what waits for its hooks, and what was given up

An app that is set up live wins over the configuration file's app of the same name. A running server follows within
2 seconds. Keys and their meaning: `xpush default-config`.";

/// Apps, set up live.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Apps {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    site: Site,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The apps, live ones and those of the configuration file.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// An app as JSON, in the configuration's language; no secrets.
    Show {
        app: String,
    },
    /// Set up an app, and print a fresh key.
    Create {
        app: String,
        #[command(flatten)]
        said: Said,
        /// Without a key of its own: its tokens come from `jwks_url`, from accounts, or from keys that follow.
        #[arg(long)]
        no_key: bool,
    },
    /// Change an app: single keys, or all of it by a file. Keys of its tokens that are only named stay as they are.
    Set {
        app: String,
        #[command(flatten)]
        said: Said,
    },
    /// Remove an app that was set up live, with its users, and everything that belongs to them.
    Delete {
        app: String,
        /// Really.
        #[arg(long)]
        yes: bool,
    },
    /// Add a key that tokens may be signed with: a fresh HS256 secret, which is printed, or what is in a file.
    AddKey {
        app: String,
        /// What tokens name it by (`kid`) [default: key-1, key-2, …].
        #[arg(long)]
        id: Option<String>,
        /// HS256, RS256, ES256 or EdDSA.
        #[arg(long, default_value = "HS256")]
        algorithm: String,
        /// A file with an HS256 secret of 32 bytes or more.
        #[arg(long, value_name = "FILE", conflicts_with = "public_key_file")]
        secret_file: Option<PathBuf>,
        /// A file with a public key as PEM, for the other algorithms.
        #[arg(long, value_name = "FILE")]
        public_key_file: Option<PathBuf>,
    },
    /// How an app was, the newest first.
    Versions {
        app: String,
        /// As JSON, with everything that it said.
        #[arg(long)]
        json: bool,
    },
    /// Make an app what it was at a revision, but for its keys.
    Restore {
        app: String,
        revision: u64,
    },
    /// Remove a key: its tokens are good no more.
    RemoveKey {
        app: String,
        id: String,
    },
    Key(Keys),
    /// What waits for each hook of an app, and the events that were given up, the last first.
    Hooks {
        app: String,
        /// So many of each hook's.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

/// What is said of an app.
#[derive(Debug, Args)]
struct Said {
    /// The keys of `[apps.NAME]`, as TOML or JSON; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// One key: --set guests=true. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

/// Runs the command.
pub(crate) fn run(apps: &Apps) -> Told {
    let site = &apps.site;
    match &apps.what {
        What::List { json } => list(&Installation::open(site)?, *json),
        What::Show { app } => {
            let installation = Installation::open(site)?;
            let record = installation.record(&known(&installation, app)?)?.unwrap_or_default();
            Ok(shown(&config::written(&record)))
        }
        What::Create { app, said, no_key } => {
            create(&Installation::open_or_make(site)?, &own_name(app)?, said, !no_key)
        }
        What::Set { app, said } => {
            let installation = Installation::open_or_make(site)?;
            let app = known(&installation, app)?;
            change(&installation, &app, ("app.change", None), |before| said.over(&app, before))?;
            Ok(format!("{app} is changed\n"))
        }
        What::Delete { app, yes } => delete(&Installation::open(site)?, &own_name(app)?, *yes),
        What::AddKey { app, id, algorithm, secret_file, public_key_file } => {
            let installation = Installation::open_or_make(site)?;
            let app = known(&installation, app)?;
            let file = secret_file.as_deref().or(public_key_file.as_deref());
            if file.is_some() && (public_key_file.is_some() == (algorithm == "HS256")) {
                return Err("HS256 has a --secret-file, every other algorithm a --public-key-file".to_owned());
            }
            add_key(&installation, &app, id.as_deref(), algorithm, file)
        }
        What::Key(keys) => {
            let installation = Installation::open_or_make(site)?;
            let app = known(&installation, keys.app())?;
            keys.run(&installation, &app)
        }
        What::Hooks { app, limit } => {
            let installation = Installation::open(site)?;
            hooks::list(&installation, &known(&installation, app)?, *limit)
        }
        What::RemoveKey { app, id } => {
            let installation = Installation::open_or_make(site)?;
            let app = known(&installation, app)?;
            tell_that_it_becomes_live(&installation, &app)?;
            if !has_key(&installation.record(&app)?.unwrap_or_default(), id) {
                return Err(format!("{app} has no key `{id}`"));
            }
            installation.administer(async |administration, actor| {
                administration.remove_signing_key(&actor, &app, Match::Any, id, None).await
            })?;
            Ok(format!("tokens of the key {id} are good no more\n"))
        }
        What::Versions { app, json } => {
            let installation = Installation::open(site)?;
            versions(&installation, &known(&installation, app)?, *json)
        }
        What::Restore { app, revision } => {
            let installation = Installation::open(site)?;
            let app = known(&installation, app)?;
            let found = installation.administer(async |administration, actor| {
                administration.restore(&actor, &app, Match::Any, *revision, None).await
            })?;
            Ok(format!(
                "{app} is as it was at {revision}, but for its keys; this is its revision {}\n",
                found.revision
            ))
        }
    }
}

impl Said {
    fn over(&self, name: &App, before: AppRecord) -> Result<AppRecord, String> {
        let text = self.file.as_deref().map(read).transpose()?;
        let file = self.file.as_deref().map(|path| path.display().to_string());
        let file = file.as_deref().zip(text.as_deref());
        let app = LiveApp { name, before: &before, file, set: &self.set };
        app.read().map_err(|invalid| format!("{app} stays as it is:\n{invalid}", app = name))
    }
}

fn create(installation: &Installation, app: &App, said: &Said, with_key: bool) -> Told {
    if installation.record(app)?.is_some() {
        return Err(format!("there is an app `{app}` already: `xpush app set {app}` changes it"));
    }
    let usual = AppRecord { rules: config::usual_rules(), ..AppRecord::default() };
    let record = said.over(app, usual)?;
    let secret = match with_key && record.keys.is_empty() {
        true => Some(token::fresh_secret()?),
        false => None,
    };
    let record = created_with(record, secret.as_deref(), now());
    installation.administer(async |administration, actor| {
        administration.create_app(&actor, app, record, None).await
    })?;
    let told = format!("{app} is there; a running server knows it within 2 seconds\n");
    Ok(told + &secret.map(|secret| snippet(app, "main", &secret)).unwrap_or_default())
}

/// How an app was.
fn versions(installation: &Installation, app: &App, json: bool) -> Told {
    let versions = installation.administer(async |administration, _| {
        let found = administration.app(app).await?;
        administration.versions(&found, None, 101).await
    })?;
    let by = |version: &Version| match &version.record.changed {
        Some(stamp) => {
            let note = stamp.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
            (audit::ago(stamp.at), format!("{stamp}{note}"))
        }
        None if version.revision == 0 => (String::new(), "the configuration file".to_owned()),
        None => (String::new(), String::new()),
    };
    if json {
        let value = |version: &Version| {
            let settings: Value = serde_json::from_str(&version.record.settings).unwrap_or_default();
            json!({
                "revision": version.revision, "current": version.current, "what": version.record.what,
                "changed": version.record.changed, "settings": settings,
            })
        };
        return Ok(shown(&versions.iter().map(value).collect::<Value>()));
    }
    let row = |version: &Version| {
        let (when, who) = by(version);
        let mark = if version.current { "now" } else { "" };
        vec![version.revision.to_string(), mark.to_owned(), when, who, version.record.what.join(" ")]
    };
    Ok(columns(&versions.iter().map(row).collect::<Vec<_>>()))
}

fn list(installation: &Installation, json: bool) -> Told {
    let live =
        installation.all(&Listing::Apps)?.into_iter().filter_map(|entry| match (entry.key, entry.record) {
            (Key::App(app), Record::App(record)) => Some((app, *record, "live")),
            _ => None,
        });
    let mut apps: Vec<_> = live.collect();
    for configured in &installation.settings.apps {
        if apps.iter().all(|(app, ..)| *app != configured.name) {
            apps.push((configured.name.clone(), configured.record.clone(), "file"));
        }
    }
    if json {
        let value = |(app, record, from): &(App, AppRecord, &str)| {
            let mut value = config::written(record);
            value["app"] = json!(app);
            value["from"] = json!(from);
            value
        };
        return Ok(shown(&apps.iter().map(value).collect::<Value>()));
    }
    let row = |(app, record, from): &(App, AppRecord, &str)| {
        let guests = if record.guests { "guests" } else { "no guests" };
        let accounts = match record.accounts {
            Accounts::Off => "no accounts",
            Accounts::Invited => "invited accounts",
            Accounts::Open => "open accounts",
        };
        let patterns: Vec<_> = record.rules.iter().map(|rule| &*rule.pattern).collect();
        let keys = match record.keys.len() {
            1 => "1 key".to_owned(),
            keys => format!("{keys} keys"),
        };
        [app.as_str(), from, guests, accounts, &keys, &patterns.join(" ")].map(str::to_owned).to_vec()
    };
    Ok(columns(&apps.iter().map(row).collect::<Vec<_>>()))
}

fn delete(installation: &Installation, app: &App, yes: bool) -> Told {
    let key = Key::App(app.clone());
    if installation.get(&key)?.is_none() {
        let configured = installation.record(app)?.is_some();
        let why = if configured { "stands in the configuration file only" } else { "does not exist" };
        return Err(format!("`{app}` {why}: there is nothing to delete"));
    }
    let in_file = installation.settings.apps.iter().any(|configured| configured.name == *app);
    let count = if in_file { 0 } else { installation.all(&Listing::Users(app.clone()))?.len() };
    if !yes {
        return Err(match in_file {
            true => format!(
                "this takes the live settings of `{app}` away, so that it is as the configuration file has it again: say --yes as well"
            ),
            false => {
                format!("this deletes the app `{app}` and its users ({count}) for good: say --yes as well")
            }
        });
    }
    let lasting = installation.kept.lasting.clone();
    let reverted = installation.administer(async |administration, actor| {
        // Where files are not to be reached from here, a server removes them.
        let files = backends::files_of(&installation.settings).unwrap_or_default();
        administration.delete_app(&actor, app, Match::Any, None, &*lasting, files.as_ref()).await
    })?;
    Ok(match reverted {
        true => format!("{app} is as the configuration file has it\n"),
        false => format!("{app} is gone\n"),
    })
}

fn add_key(
    installation: &Installation,
    app: &App,
    id: Option<&str>,
    algorithm: &str,
    file: Option<&Path>,
) -> Told {
    if !ALGORITHMS.contains(&algorithm) {
        return Err(format!("an algorithm is one of {}, not `{algorithm}`", ALGORITHMS.join(", ")));
    }
    let fresh = match file {
        None if algorithm != "HS256" => {
            return Err(format!(
                "{algorithm} keys are made elsewhere: name the public one by --public-key-file"
            ));
        }
        None => Some(token::fresh_secret()?),
        Some(_) => None,
    };
    let material = match file {
        Some(file) => Files::default().read(file)?,
        None => fresh.clone().unwrap_or_default(),
    };
    tell_that_it_becomes_live(installation, app)?;
    if let Some(id) = id {
        config::key_id(id).map_err(|why| format!("the key's id {why}"))?;
        if has_key(&installation.record(app)?.unwrap_or_default(), id) {
            return Err(format!("{app} has a key `{id}` already"));
        }
    }
    let (_, id) = installation.administer(async |administration, actor| {
        administration.add_signing_key(&actor, app, Match::Any, (id, algorithm, &material), None).await
    })?;
    let told = format!("{app} has the key {id} ({algorithm})\n");
    Ok(told + &fresh.map(|secret| snippet(app, &id, &secret)).unwrap_or_default())
}

/// Changes an app; one that only the configuration has becomes a live one.
pub(super) fn change(
    installation: &Installation,
    app: &App,
    (what, target): (&'static str, Option<String>),
    change: impl Fn(AppRecord) -> Result<AppRecord, String>,
) -> Result<(), String> {
    tell_that_it_becomes_live(installation, app)?;
    let edit =
        |found: &Found| change(found.record.clone()).map_err(|why| Problem::new(Code::BadField, why).into());
    installation.administer(async |administration, actor| {
        administration.change_app(&actor, app, Match::Any, (what, target, None), edit).await.map(drop)
    })
}

/// The configuration file has nothing to say any more of an app that is changed.
fn tell_that_it_becomes_live(installation: &Installation, app: &App) -> Result<(), String> {
    if installation.get(&Key::App(app.clone()))?.is_none() {
        note(format_args!(
            "from now on {app} is set up live: what the configuration file says of it has no effect"
        ));
    }
    Ok(())
}

/// An app that there is.
pub(super) fn known(installation: &Installation, name: &str) -> Result<App, String> {
    own_name(name)?;
    installation.app(Some(name))
}

fn own_name(name: &str) -> Result<App, String> {
    if name == OPERATORS {
        return Err(format!("the app `{OPERATORS}` is XPUSH's own: see `xpush admin`"));
    }
    app_name(name)
}

fn has_key(record: &AppRecord, id: &str) -> bool {
    record.keys.iter().any(|key| *key.id == *id)
}

/// What to do with a secret that was just made.
fn snippet(app: &App, id: &str, secret: &str) -> String {
    format!(
        "
  key     {id}
  secret  {secret}

The secret is not shown again. With it your back end says who its users are, for example in Node.js:

  import jwt from \"jsonwebtoken\";
  const token = jwt.sign({{ sub: \"ann\", app: \"{app}\" }}, process.env.XPUSH_SECRET, {{ keyid: \"{id}\", expiresIn: \"1h\" }});

and its pages connect:

  import {{ connect }} from \"@xpush/client\";
  const xpush = connect(\"http://127.0.0.1:8000\", {{ app: \"{app}\", token }});

To try it without a back end: xpush token --app {app} --user ann
"
    )
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("cannot read {}: {error}", path.display());
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path).map_err(unreadable);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
