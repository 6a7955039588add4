//! Requests to publish that are answered where they are read (the port [`Intake`]): what can be said of them without waiting.

use std::sync::Arc;

use tokio::runtime::Handle;
use xpush_core::ports::backend::{Intake, Publication, PublishRequest};
use xpush_core::ports::directory::{Key, Scope};

use super::{acting, good, messages};
use crate::api::{Api, says_json, token_of};
use crate::api_key::{self, Shown};

/// Reads by what is remembered of keys.
struct Remembered {
    api: Arc<Api>,
    runtime: Handle,
}

/// To be called on the runtime that notes when keys are used.
pub(crate) fn intake(api: Arc<Api>) -> Arc<dyn Intake> {
    Arc::new(Remembered { api, runtime: Handle::current() })
}

impl Intake for Remembered {
    fn publication(&self, request: PublishRequest<'_>) -> Option<Publication> {
        let token = token_of(request.authorization?).filter(|token| token.starts_with(api_key::PREFIX))?;
        let shown = Shown::read(token)?;
        let known = self.api.parts.access.known(&Key::ApiKey(shown.app.clone(), shown.id.clone()))?;
        let record = good(&self.api, &shown, Some(&known), &self.runtime)?;
        let publishes = record.scopes.iter().any(|scope| matches!(scope, Scope::Publish | Scope::Admin));
        self.api
            .parts
            .access
            .app(&shown.app)
            .filter(|_| publishes && request.content_type.is_none_or(says_json))?;
        messages::read(&acting(shown.app).ok()?, request.body, request.idempotency_key).ok()
    }
}
