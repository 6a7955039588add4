//! How a request is refused.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use xpush_core::ports::{Failure, PortError};
use xpush_core::{Code, Problem};

/// A problem, and when it may be over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
    /// Seconds (RFC 9110, section 10.2.3).
    pub(crate) retry_after: Option<u64>,
    /// More than the error, by its name.
    pub(crate) more: Option<(&'static str, Value)>,
}

impl Refusal {
    /// `{"error": …}`
    pub(crate) fn object(&self) -> Value {
        let code = self.problem.code;
        let error =
            json!({"code": code.as_str(), "message": self.problem.message(), "retry": code.retry().as_str()});
        let mut object = json!({ "error": error });
        if let Some((name, value)) = &self.more {
            object[*name] = value.clone();
        }
        object
    }

    /// Too much at a time; in so many seconds there may be room.
    pub(crate) fn busy(retry_after: u64) -> Self {
        Self { problem: Code::RateLimited.into(), retry_after: Some(retry_after), more: None }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, retry_after: None, more: None }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Problem::from(code).into()
    }
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        if error.kind != Failure::Conflict {
            tracing::warn!(%error, "a store has failed");
        }
        error.code().into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.code.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, axum::Json(self.object())).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1: a 401 says which scheme it wants.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
