//! What of a server's settings endangers what we keep there.

use std::collections::HashMap;

use redis::ErrorKind;
use xpush_core::ports::PortError;

use crate::connection::Connection;
use crate::failure;

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// It takes effect on what users see, sooner or later; otherwise it is good to know.
    pub serious: bool,
    /// One sentence or two, and what to do.
    pub text: Box<str>,
}

/// Looks at the server, or at one of a Cluster's. What this user may not ask is a finding of its own; only a server that does not answer is an error.
pub async fn check(connection: &Connection) -> Result<Vec<Finding>, PortError> {
    let mut findings = Vec::new();
    match setting(connection, "maxmemory-policy").await? {
        Some(policy) => findings.extend(judge_policy(&policy)),
        None => findings.push(Finding {
            serious: false,
            text: "this user may not ask for maxmemory-policy (CONFIG GET); it should be noeviction".into(),
        }),
    }
    if setting(connection, "maxmemory").await?.as_deref() == Some("0") {
        findings.push(Finding {
            serious: false,
            text: "maxmemory is not set: a Redis that grows beyond the machine's memory is killed, and all that it keeps with it".into(),
        });
    }
    Ok(findings)
}

fn judge_policy(policy: &str) -> Option<Finding> {
    let what = match policy {
        "noeviction" => return None,
        _ if policy.starts_with("volatile-") => "recent history and limits",
        _ => "presence, recent history and limits",
    };
    let text = format!(
        "maxmemory-policy is {policy}: a full Redis throws away {what}, without a word; set it to noeviction"
    );
    Some(Finding { serious: true, text: text.into() })
}

/// `None` when this user may not know.
async fn setting(connection: &Connection, name: &str) -> Result<Option<String>, PortError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    match connection.attempt::<HashMap<String, String>>(&command).await {
        Ok(mut settings) => Ok(settings.remove(name)),
        // Not permitted, or renamed away as managed servers do.
        Err(Ok(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => Ok(None),
        Err(Ok(error)) => Err(failure::of(&error)),
        Err(Err(error)) => Err(error),
    }
}
