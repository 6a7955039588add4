//! The audit log, to be read.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};
use xpush_core::App;

use super::{Operator, Within, short};
use crate::administration::{LogAsked, shown_audit};
use crate::api::openapi::schema::{self, of};
use crate::api::openapi::{Operation, Routes, list_of};
use crate::api::{Answer, Api, Asked, Refusal, named, ok};

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 500;

/// Characters of whoever did something, and of what was done or where a page ends.
const LONGEST_NAME: usize = 128;
const LONGEST_KIND: usize = 64;

pub(super) fn routes() -> Routes {
    let with_filters = |operation: Operation| {
        operation
            .tag("administration")
            .query("by", schema::text(0, LONGEST_NAME), "By this one.")
            .query(
                "what",
                schema::text(0, LONGEST_KIND),
                "Of this kind; `user.` stands for all that begin so.",
            )
            .query("from", schema::number(0), "From this moment on, ms since 1970.")
            .query("to", schema::number(0), "Until this moment.")
            .query(
                "after",
                schema::text(0, LONGEST_KIND),
                "Those before this one: what the page before gave.",
            )
            .query("limit", schema::between(1, LARGEST_PAGE as u64), "50 without it.")
            .ok(list_of(
                "entries",
                json!({"type": "object", "required": ["id", "at", "by", "via", "what", "outcome"]}),
            ))
    };
    let all =
        with_filters(Operation::get("/admin/audit", "adminAudit", "Who has changed what, the newest first"))
            .operator()
            .query("app", of("App"), "In this app.");
    let own = with_filters(Operation::get(
        "/admin/apps/{app}/audit",
        "adminAppAudit",
        "Who has changed what in an app, the newest first",
    ))
    .admin();
    Routes::new().on(all, everything).on(own, of_app)
}

async fn everything(State(api): State<Arc<Api>>, _: Operator, asked: Asked) -> Answer {
    let app = asked.one("app")?.map(|app| named(app, "app", App::new)).transpose()?;
    entries(&api, &asked, app).await
}

async fn of_app(State(api): State<Arc<Api>>, within: Within, asked: Asked) -> Answer {
    entries(&api, &asked, Some(within.app)).await
}

async fn entries(api: &Api, asked: &Asked, app: Option<App>) -> Answer {
    let wanted = LogAsked {
        app,
        by: short(asked, "by", LONGEST_NAME)?.map(str::to_owned),
        what: short(asked, "what", LONGEST_KIND)?.map(str::to_owned),
        from: asked.number("from")?,
        to: asked.number("to")?,
        after: short(asked, "after", LONGEST_KIND)?.map(Into::into),
        limit: asked.limit(PAGE, LARGEST_PAGE)?,
    };
    let page = api.administration.audit(&wanted).await.map_err(Refusal::from)?;
    let shown: Value = page.entries.iter().map(|(id, record)| shown_audit(id, record)).collect();
    let mut answer = json!({"entries": shown});
    if let Some(after) = page.after {
        answer["after"] = json!(after);
    }
    ok(answer)
}
