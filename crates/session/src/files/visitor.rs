//! Who asks for files: a user, a guest, or the app's own back end.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use xpush_core::ports::access::Credentials;
use xpush_core::{Code, Grant};

use crate::administration::Actor;
use crate::api::{Api, Asked, Caller, Refusal, bearer};
use crate::api_key;
use crate::backend::Server;

/// One who has shown a connection token (`Authorization: Bearer TOKEN`), an API key, or a guest's secret (`Authorization: Guest SECRET`).
pub(crate) struct Visitor(pub(crate) Arc<Grant>);

impl FromRequestParts<Arc<Api>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let token = bearer(parts).map(str::to_owned);
        if token.as_deref().is_some_and(|token| token.starts_with(api_key::PREFIX)) {
            let Server { grant, .. } = Server::from_request_parts(parts, api).await?;
            return Ok(Self(grant));
        }
        let guest = guest(parts).map(str::to_owned);
        if token.is_none() && guest.is_none() {
            return Err(Code::Unauthenticated.into());
        }
        let app = Asked::from_request_parts(parts, api).await?.one("app")?.map(str::to_owned);
        let caller = Caller::from_request_parts(parts, api).await?;
        let credentials =
            Credentials { app, token, guest, address: caller.address, ..Credentials::default() };
        let (decided, decision) = tokio::sync::oneshot::channel();
        let access = &api.filing()?.parts.access;
        access.admit(credentials, Box::new(move |grant| drop(decided.send(grant))));
        let grant = decision.await.map_err(|_| Code::Unavailable)??;
        if let Some(app) = api.parts.access.app(&grant.app) {
            caller.may_use(&app.origins)?;
        }
        Ok(Self(Arc::new(grant)))
    }
}

/// The back end that asks, if it is one, for the audit log: what users do with their own files is not in it.
pub(crate) struct ByBackEnd(pub(crate) Option<Actor>);

impl FromRequestParts<Arc<Api>> for ByBackEnd {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        // Whoever is none may be somebody else: that is for `Visitor` to say.
        Ok(Self(Server::from_request_parts(parts, api).await.ok().map(|server| server.actor)))
    }
}

/// A guest's secret, when there is exactly one `Authorization` header, and it is this.
fn guest(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).into_iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("guest").then(|| secret.trim())
}
