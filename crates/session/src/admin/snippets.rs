//! What is copied to use an app: its first client, and its first back end.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};
use xpush_core::ports::directory::AppRecord;
use xpush_core::{App, Who};

use super::Within;
use crate::api::openapi::schema::{self, array, of};
use crate::api::openapi::{Operation, Routes};
use crate::api::{Answer, Api, Asked, ok, wrong};

/// Where the text is typed, as long as it is no file's.
const TERMINAL: &str = "Terminal";

/// What stands where an API key belongs; pages put theirs there.
pub(crate) const KEY: &str = "YOUR-API-KEY";

/// A language or program, with its texts: each a file's name, or [`TERMINAL`], and what is in it.
type Language = (&'static str, &'static str, Vec<(&'static str, String)>);

pub(super) fn routes() -> Routes {
    let file = schema::object(&[
        ("name", json!({"type": "string"}), true),
        ("text", json!({"type": "string"}), true),
    ]);
    let language = || {
        schema::object(&[
            ("key", json!({"type": "string"}), true),
            ("title", json!({"type": "string"}), true),
            ("files", array(file.clone()), true),
        ])
    };
    let snippets =
        Operation::get("/admin/apps/{app}/snippets", "adminSnippets", "How an app is used, to be copied")
            .tag("administration")
            .admin()
            .about("`YOUR-API-KEY` stands where an API key belongs.")
            .query(
                "url",
                json!({"type": "string", "pattern": "^https?://[A-Za-z0-9.:\\[\\]-]+$"}),
                "Where clients reach the server, when it does not know that itself.",
            )
            .ok(schema::object(&[
                ("url", json!({"type": "string"}), true),
                ("app", of("App"), true),
                ("channel", of("ChannelName"), true),
                ("clients", array(language()), true),
                ("back_ends", array(language()), true),
            ]));
    Routes::new().on(snippets, to_copy)
}

async fn to_copy(State(api): State<Arc<Api>>, within: Within, headers: HeaderMap, asked: Asked) -> Answer {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8000");
    let url = match asked.one("url")? {
        Some(url) if is_origin(url) => url.to_owned(),
        Some(_) => return Err(wrong("url", "must be http:// or https://, and a host").into()),
        None => api.parts.url.as_deref().map_or_else(|| format!("http://{host}"), str::to_owned),
    };
    let found = api.administration.app(&within.app).await?;
    let place = Place { url: url.trim_end_matches('/'), app: &within.app, record: &found.record };
    ok(json!({
        "url": place.url, "app": within.app, "channel": place.channel(),
        "clients": shown(place.clients()), "back_ends": shown(place.back_ends()),
    }))
}

fn is_origin(url: &str) -> bool {
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    authority.is_some_and(crate::is_authority)
}

fn shown(languages: Vec<Language>) -> Value {
    let file = |(name, text): &(&str, String)| json!({"name": name, "text": text});
    let language = |(key, title, files): &Language| json!({"key": key, "title": title, "files": files.iter().map(file).collect::<Value>()});
    languages.iter().map(language).collect()
}

/// Where somebody is to connect.
struct Place<'a> {
    url: &'a str,
    app: &'a App,
    record: &'a AppRecord,
}

impl Place<'_> {
    /// One that the app's first open rule covers.
    fn channel(&self) -> String {
        let open = self.record.rules.iter().find(|rule| {
            let is_open = |who: &Who| matches!(who, Who::Anyone | Who::Users);
            !rule.pattern.starts_with(['@', '$']) && rule.permissions.subscribe.iter().any(is_open)
        });
        let pattern = open.map_or("chat:*", |rule| &*rule.pattern);
        pattern.replacen('*', "hello", 1).replace('*', "")
    }

    /// A template with what belongs into it; `token`: where a token comes from, in its language.
    fn fill(&self, template: &str, token: &str) -> String {
        let app = self.app;
        let is_python = token.starts_with("os.");
        let auth = match (self.record.guests, is_python) {
            (true, false) => format!("{{ app: \"{app}\", name: \"Ann\" }}"),
            (false, false) => format!("{{ app: \"{app}\", token: {token} }}"),
            (true, true) => format!("{{\"app\": \"{app}\", \"name\": \"Ann\"}}"),
            (false, true) => format!("{{\"app\": \"{app}\", \"token\": {token}}}"),
        };
        let kid = self.record.keys.first().map_or("main", |key| &*key.id);
        let texts = [
            ("{url}", self.url),
            ("{app}", app.as_str()),
            ("{channel}", &self.channel()),
            ("{kid}", kid),
            ("{auth}", &auth),
        ];
        texts.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Clients that are in the app after a copy and a paste.
    fn clients(&self) -> Vec<Language> {
        let Self { url, app, record } = self;
        let token = if record.guests { "" } else { " -H \"authorization: Bearer $TOKEN\"" };
        let listen = format!("curl -N '{url}/sse?app={app}&channel={}'{token}\n", self.channel());
        let [javascript, page, python] = [
            self.fill(include_str!("snippets/client.mjs"), "process.env.TOKEN"),
            self.fill(include_str!("snippets/index.html"), "await (await fetch(\"/my-token\")).text()"),
            self.fill(include_str!("snippets/client.py"), "os.environ[\"TOKEN\"]"),
        ];
        vec![
            (
                "javascript",
                "JavaScript",
                vec![(TERMINAL, "npm install socket.io-client\n".to_owned()), ("client.mjs", javascript)],
            ),
            ("page", "Web page", vec![("index.html", page)]),
            (
                "python-client",
                "Python",
                vec![
                    (TERMINAL, "pip install \"python-socketio[client]\"\n".to_owned()),
                    ("client.py", python),
                ],
            ),
            ("listen", "curl", vec![(TERMINAL, listen)]),
        ]
    }

    /// Back ends that publish into the app, and the one that signs its users' tokens.
    fn back_ends(&self) -> Vec<Language> {
        let file = |template: &str| self.fill(template, "");
        let run = |command: &str| format!("XPUSH_KEY='{KEY}' {command}\n");
        vec![
            ("curl", "curl", vec![(TERMINAL, file(include_str!("snippets/publish.sh")))]),
            (
                "node",
                "Node",
                vec![
                    ("server.mjs", file(include_str!("snippets/server.mjs"))),
                    (TERMINAL, run("node server.mjs")),
                ],
            ),
            (
                "python",
                "Python",
                vec![
                    ("server.py", file(include_str!("snippets/server.py"))),
                    (TERMINAL, run("python server.py")),
                ],
            ),
            ("tokens", "Users' tokens", vec![("token.mjs", file(include_str!("snippets/token.mjs")))]),
        ]
    }
}
