//! The API's description (OpenAPI 3.1). A route is made from its description and cannot be without one.

pub(crate) mod schema;

use std::sync::Arc;

use axum::extract::State;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};
use serde_json::{Map, Value, json};
use xpush_core::Code;
use xpush_core::ports::directory::Scope;

use self::schema::{array, of, text};
use super::{Answer, Api, ok};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    /// Who shows a user's token.
    User,
    /// Who shows a key of this scope, or a token of the role `server`.
    Server(Scope),
    /// Either of these, and a guest by its secret.
    Either(Scope),
    /// The same, or a ticket in the query.
    EitherOrTicket(Scope),
    /// Who operates the installation.
    Operator,
    /// Who operates the installation, or shows a key of the app with the scope `admin`.
    Admin,
    /// Who shows any of these.
    UserOrServer(Scope),
}

/// What a route asks of a back end; see [`crate::backend::Server`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs(pub(crate) Scope);

/// One thing that can be asked for.
pub(crate) struct Operation {
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    about: &'static str,
    tag: &'static str,
    who: Who,
    parameters: Vec<Value>,
    body: Option<Value>,
    body_is_needed: bool,
    takes_bytes: bool,
    answers: Vec<(u16, &'static str, Option<Value>)>,
    codes: Vec<Code>,
}

/// Routes with what is said of them.
#[derive(Default)]
pub(crate) struct Routes {
    router: Router<Arc<Api>>,
    operations: Vec<Operation>,
}

impl Who {
    /// What one shows, one way of each list.
    fn security(self) -> Value {
        match self {
            Self::Anybody => json!([]),
            Self::User => json!([{"user": []}]),
            Self::Server(_) => json!([{"key": []}, {"server": []}]),
            Self::Either(_) => json!([{"user": []}, {"guest": []}, {"key": []}, {"server": []}]),
            Self::UserOrServer(_) => json!([{"user": []}, {"key": []}, {"server": []}]),
            Self::EitherOrTicket(_) => {
                json!([{"user": []}, {"guest": []}, {"key": []}, {"server": []}, {"ticket": []}])
            }
            Self::Operator => json!([{"operator": []}, {"cookie": []}]),
            Self::Admin => json!([{"operator": []}, {"cookie": []}, {"key": []}]),
        }
    }
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            about: "",
            tag: "",
            who: Who::Anybody,
            parameters: Vec::new(),
            body: None,
            body_is_needed: false,
            takes_bytes: false,
            answers: Vec::new(),
            codes: Vec::new(),
        }
    }

    pub(crate) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, summary)
    }

    pub(crate) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, summary)
    }

    pub(crate) fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PUT, path, id, summary)
    }

    pub(crate) fn patch(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PATCH, path, id, summary)
    }

    pub(crate) fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, id, summary)
    }

    /// Under which heading it stands.
    pub(crate) fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// More than the summary says.
    pub(crate) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// For who shows a user's token.
    pub(crate) fn user(mut self) -> Self {
        self.who = Who::User;
        self.refuses(&[Code::Unauthenticated, Code::TokenExpired, Code::Revoked])
    }

    /// For back ends, whose key must have this scope.
    pub(crate) fn server(mut self, scope: Scope) -> Self {
        self.who = Who::Server(scope);
        self.refuses(&[Code::Unauthenticated, Code::TokenExpired, Code::Revoked, Code::Forbidden])
    }

    /// For users, guests, and back ends, whose key must have this scope.
    pub(crate) fn either(self, scope: Scope) -> Self {
        let mut operation = self.server(scope);
        operation.who = Who::Either(scope);
        operation
    }

    /// The same, or for who has a ticket.
    pub(crate) fn either_or_ticket(self, scope: Scope) -> Self {
        let mut operation = self.server(scope);
        operation.who = Who::EitherOrTicket(scope);
        operation
    }

    /// A body that is a file, as it is or in a form.
    pub(crate) fn bytes(mut self) -> Self {
        self.takes_bytes = true;
        self
    }

    /// For operators.
    pub(crate) fn operator(mut self) -> Self {
        self.who = Who::Operator;
        self.refuses(&[Code::Unauthenticated, Code::TokenExpired, Code::Revoked, Code::Forbidden])
    }

    /// For operators, and for API keys of the app with the scope `admin`.
    pub(crate) fn admin(mut self) -> Self {
        self.who = Who::Admin;
        self.refuses(&[Code::Unauthenticated, Code::TokenExpired, Code::Revoked, Code::Forbidden])
    }

    /// For whoever has read what is to be changed.
    pub(crate) fn if_match(self) -> Self {
        self.header(
            "if-match",
            json!({"type": "string", "pattern": "^(\\*|(0|[1-9][0-9]{0,14})|\"(0|[1-9][0-9]{0,14})\")$"}),
        )
    }

    /// A header that must be there.
    pub(crate) fn header(self, name: &'static str, schema: Value) -> Self {
        self.parameter(json!({"name": name, "in": "header", "required": true, "schema": schema}))
    }

    /// For whoever shows a user's token, or what [`server`](Self::server) asks for.
    pub(crate) fn user_or_server(self, scope: Scope) -> Self {
        let mut operation = self.server(scope);
        operation.who = Who::UserOrServer(scope);
        operation
    }

    /// A parameter of the query that may be given once.
    pub(crate) fn query(self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.parameter(json!({"name": name, "in": "query", "description": about, "schema": schema}))
    }

    /// A parameter of the query that must be given once.
    pub(crate) fn needed_query(self, name: &'static str, schema: Value, about: &'static str) -> Self {
        self.parameter(
            json!({"name": name, "in": "query", "required": true, "description": about, "schema": schema}),
        )
    }

    /// A parameter of any kind.
    pub(crate) fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// A body that must be given.
    pub(crate) fn body(mut self, schema: Value) -> Self {
        self.body = Some(schema);
        self.body_is_needed = true;
        self.refuses(&[Code::BadJson, Code::BadField, Code::TooLarge])
    }

    /// A body that need not be given.
    pub(crate) fn optional_body(mut self, schema: Value) -> Self {
        self = self.body(schema);
        self.body_is_needed = false;
        self
    }

    /// What 200 is answered with.
    pub(crate) fn ok(self, schema: Value) -> Self {
        self.answers_with(200, "Done.", Some(schema))
    }

    /// What some other status is answered with.
    pub(crate) fn answers_with(mut self, status: u16, about: &'static str, schema: Option<Value>) -> Self {
        self.answers.push((status, about, schema));
        self
    }

    /// Errors of its own, beside those that everything may be answered with.
    pub(crate) fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes.iter().filter(|code| !self.codes.contains(code)).collect::<Vec<_>>());
        self
    }

    fn document(&self) -> Value {
        let mut codes = vec![
            Code::BadRequest,
            Code::BadField,
            Code::NotFound,
            Code::OriginRefused,
            Code::MethodNotAllowed,
            Code::HandshakeTimeout,
            Code::RateLimited,
            Code::Internal,
            Code::Unavailable,
            Code::Overloaded,
            Code::OutcomeUnknown,
        ];
        codes.extend(self.codes.iter().filter(|code| !codes.contains(code)).collect::<Vec<_>>());
        let mut responses = Map::new();
        for (status, about, schema) in &self.answers {
            let mut response = json!({"description": about});
            if let Some(schema) = schema {
                response["content"] = json!({"application/json": {"schema": schema}});
            }
            responses.insert(status.to_string(), response);
        }
        let mut statuses: Vec<u16> = codes.iter().map(|code| code.status()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let of_status: Vec<_> = codes.iter().filter(|code| code.status() == status).collect();
            let lines: Vec<_> =
                of_status.iter().map(|code| format!("`{}`: {}", code.as_str(), code.text())).collect();
            responses.insert(
                status.to_string(),
                json!({
                    "description": lines.join("\n\n"),
                    "content": {"application/json": {"schema": of("Error")}},
                }),
            );
        }
        let in_path = segments(self.path).map(
            |name| json!({"name": name, "in": "path", "required": true, "schema": schema::segment(name)}),
        );
        let parameters: Vec<Value> = in_path.chain(self.parameters.iter().cloned()).collect();
        let mut document = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "parameters": parameters,
            "responses": responses,
            "security": self.who.security(),
        });
        let about = match self.who {
            Who::Server(scope) => format!("{}\n\nThe scope is `{}`.", self.about, scope.as_str()),
            Who::Either(scope) | Who::EitherOrTicket(scope) | Who::UserOrServer(scope) => {
                format!("{}\n\nA back end's key needs the scope `{}`.", self.about, scope.as_str())
            }
            _ => self.about.to_owned(),
        };
        if !about.is_empty() {
            document["description"] = about.trim().into();
        }
        if let Some(body) = &self.body {
            document["requestBody"] =
                json!({"required": self.body_is_needed, "content": {"application/json": {"schema": body}}});
        }
        if self.takes_bytes {
            let bytes = json!({"type": "string", "format": "binary"});
            let form = json!({"type": "object", "properties": {"file": bytes}, "required": ["file"]});
            document["requestBody"] = json!({"required": true, "content": {
                "application/octet-stream": {"schema": bytes},
                "multipart/form-data": {"schema": form},
            }});
        }
        document
    }
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A route as it is described.
    pub(crate) fn on<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        let filter = match operation.method {
            Method::GET => MethodFilter::GET,
            Method::POST => MethodFilter::POST,
            Method::PUT => MethodFilter::PUT,
            Method::PATCH => MethodFilter::PATCH,
            _ => MethodFilter::DELETE,
        };
        let mut route = on(filter, handler);
        if let Who::Server(scope)
        | Who::Either(scope)
        | Who::EitherOrTicket(scope)
        | Who::UserOrServer(scope) = operation.who
        {
            route = route.layer(Extension(Needs(scope)));
        }
        self.router = self.router.route(operation.path, route);
        self.operations.push(operation);
        self
    }

    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// Everything, and its description: `GET /openapi.json`.
    pub(crate) fn described(self) -> Router<Arc<Api>> {
        let own = Operation::get("/openapi.json", "describe", "This description")
            .tag("the API itself")
            .ok(json!({"type": "object"}));
        let with_own = self.on(own, described);
        let text: Arc<Value> = Arc::new(document(&with_own.operations));
        with_own.router.layer(Extension(Description(text)))
    }
}

/// The whole document.
#[derive(Clone)]
struct Description(Arc<Value>);

async fn described(
    State(_): State<Arc<Api>>,
    Extension(Description(document)): Extension<Description>,
) -> Answer {
    ok((*document).clone())
}

fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = operation.document();
    }
    let mut tags: Vec<&str> = Vec::new();
    tags.extend(operations.iter().map(|operation| operation.tag).filter(|tag| !tag.is_empty()));
    let mut seen = Vec::new();
    tags.retain(|tag| {
        !seen.contains(tag) && {
            seen.push(*tag);
            true
        }
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "XPUSH",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The HTTP API of XPUSH: for an app's own back end, for accounts, and for clients that look for their server.",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "tags": tags.iter().map(|tag| json!({"name": tag})).collect::<Value>(),
        "paths": paths,
        "components": {
            "schemas": schema::named(),
            "securitySchemes": {
                "key": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "xk_APP.ID.SECRET",
                    "description": "An API key of the app (`xpush app key create APP`). It names the app.",
                },
                "server": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A connection token with the role `server`, signed by a key of the app.",
                },
                "guest": {
                    "type": "http", "scheme": "guest",
                    "description": "A guest's secret, as the client connects with (`guest`), where an app welcomes guests.",
                },
                "ticket": {
                    "type": "apiKey", "in": "query", "name": "ticket",
                    "description": "For the files of one channel, in URLs.",
                },
                "operator": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "The access token of an operator: a user of the app `xpush` with the role `admin`.",
                },
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "xpush_admin",
                    "description": "An operator who has signed in. The name goes on with `_` and eight digits, which tell installations apart. What changes something has the header `X-XPUSH-Admin: 1` as well.",
                },
                "user": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A connection token of a user: by the app's own back end, or from a log-in.",
                },
            },
        },
    })
}

const ABOUT: &str = "Requests and answers are JSON objects. What is refused is answered with `{\"error\": {code, message, retry}}`; `retry` is `no`, `now` (the same thing again), `later` (with back-off) \
    or `reconnect`. Unknown fields and unknown parameters are ignored; `null` is as good as absent, but for `data`. What one may not know of is `not_found`.";

/// The names between braces.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// `app`, where it may be named.
pub(crate) fn app_field() -> (&'static str, Value, bool) {
    ("app", schema::about(of("App"), "The server's default app without it."), false)
}

/// A list in a page.
pub(crate) fn list_of(name: &'static str, item: Value) -> Value {
    schema::object(&[
        (name, array(item), true),
        ("after", schema::about(text(1, 512), "There is more: ask for what comes behind this."), false),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_what_stands_between_braces() {
        assert_eq!(segments("/users/{user}/devices/{device}").collect::<Vec<_>>(), ["user", "device"]);
        assert_eq!(segments("/users").count(), 0);
    }

    #[test]
    fn a_code_is_named_once_under_its_status() {
        let operation = Operation::post("/a/{channel}", "a", "A").user().body(json!({})).ok(json!({}));
        let document = operation.document();
        let refused = document["responses"]["401"]["description"].as_str().unwrap();
        assert_eq!(refused.matches("`token_expired`").count(), 1);
        assert_eq!(document["parameters"][0]["name"], "channel");
        assert_eq!(document["requestBody"]["required"], true);
    }
}
