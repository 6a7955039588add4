//! `xpush app hooks`: what waits for an app's back end, and what it did not take.

use xpush_core::App;
use xpush_core::ports::outbox::{Backlog, Dead};

use super::{Installation, Told, columns, now, wait};
use crate::backends;

/// One line a hook, and below it one for each event that was given up.
pub(super) fn list(installation: &Installation, app: &App, limit: usize) -> Told {
    let record = installation.record(app)?.unwrap_or_default();
    let outbox = backends::outbox(&installation.settings)?;
    let mut rows = Vec::new();
    for hook in &record.hooks {
        let queue = format!("hook/{app}/{}", hook.name);
        let Backlog { waiting, oldest } = wait(|done| outbox.backlog(&queue, done))?;
        let since = oldest.map(|at| format!("the oldest for {}", ago(at))).unwrap_or_default();
        rows.push(vec![hook.name.to_string(), format!("{waiting} waiting"), since]);
        for Dead { id, key, attempts, died_at, why, .. } in wait(|done| outbox.dead(&queue, limit, done))? {
            let died = format!("given up {} ago", ago(died_at));
            rows.push(vec![
                String::new(),
                format!("event {id}"),
                died,
                named(&key),
                format!("{attempts} attempts"),
                why.to_string(),
            ]);
        }
    }
    if rows.is_empty() { Ok(format!("{app} has no hooks\n")) } else { Ok(columns(&rows)) }
}

/// What an event was about.
fn named(key: &str) -> String {
    match key.split_at_checked(1) {
        Some(("c", channel)) => format!("channel {channel}"),
        Some(("u", user)) => format!("user {user}"),
        _ => String::new(),
    }
}

/// How long ago, to the second.
fn ago(at: u64) -> String {
    format!("{} s", now().saturating_sub(at) / 1_000)
}
