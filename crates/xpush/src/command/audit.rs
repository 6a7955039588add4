//! `xpush audit`: who has changed what.

use clap::Args;
use serde_json::Value;
use xpush_core::ports::directory::{AuditRecord, Outcome};
use xpush_session::administration::{LogAsked, shown_audit};

use super::{Installation, Told, app_name, columns, json as shown, now};
use crate::cli::Site;
use crate::config;

const EXAMPLES: &str = "\
Examples:
  xpush audit                                  the newest changes, whoever made them, by page, API or command line
  xpush audit --app shop --since 7d
  xpush audit --by root --what user.           what root did with users
  xpush audit --json --limit 500               with what it was before and after; no secrets";

/// Who has changed what, the newest first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Audit {
    /// In this app only.
    #[arg(long)]
    app: Option<String>,
    /// By this one only: an operator, an API key's id, a user of the operating system.
    #[arg(long)]
    by: Option<String>,
    /// Of this kind only: `rules.change`; what ends with a `.` stands for all that begin so.
    #[arg(long)]
    what: Option<String>,
    /// Not older than this: 90s, 12h, 7d.
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    /// So many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: Site,
}

/// Runs the command.
pub(crate) fn run(audit: &Audit) -> Told {
    let installation = Installation::open(&audit.site)?;
    let since = audit.since.as_deref().map(|since| config::duration(since, 1_000..=u64::MAX / 2));
    let since = since.transpose().map_err(|why| format!("--since {why}"))?;
    let mut asked = LogAsked {
        app: audit.app.as_deref().map(app_name).transpose()?,
        by: audit.by.clone(),
        what: audit.what.clone(),
        from: since.map(|since| now().saturating_sub(since)),
        to: None,
        after: None,
        limit: audit.limit as usize,
    };
    let entries = installation.administer(async |administration, _| {
        let mut entries = Vec::new();
        loop {
            let page = administration.audit(&asked).await?;
            entries.extend(page.entries);
            asked.limit = (audit.limit as usize).saturating_sub(entries.len());
            asked.after = page.after;
            if asked.after.is_none() || asked.limit == 0 {
                return Ok(entries);
            }
        }
    })?;
    if audit.json {
        let value = |(id, record): &(Box<str>, AuditRecord)| shown_audit(id, record);
        return Ok(shown(&entries.iter().map(value).collect::<Value>()));
    }
    Ok(columns(&entries.iter().map(|(_, record)| row(record)).collect::<Vec<_>>()))
}

fn row(record: &AuditRecord) -> Vec<String> {
    let AuditRecord { stamp, app, what, target, user, after, before, outcome, code, .. } = record;
    let app = app.as_ref().map(ToString::to_string).unwrap_or_default();
    let target =
        target.clone().or_else(|| user.as_ref().map(|user| user.as_str().into())).unwrap_or_default();
    let outcome = match (outcome, code) {
        (Outcome::Done, _) => String::new(),
        (Outcome::Begun, _) => "cut short".to_owned(),
        (Outcome::Refused, code) => format!("refused: {}", code.as_deref().unwrap_or_default()),
    };
    let names = |text: &Option<Box<str>>| -> Vec<String> {
        let object = text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        object.and_then(|object| Some(object.as_object()?.keys().cloned().collect())).unwrap_or_default()
    };
    let mut changed = names(after);
    changed.extend(names(before).into_iter().filter(|name| !names(after).contains(name)));
    vec![ago(stamp.at), stamp.to_string(), app, what.to_string(), target.into(), changed.join(" "), outcome]
}

/// How long ago it was.
pub(super) fn ago(at: u64) -> String {
    let seconds = now().saturating_sub(at) / 1_000;
    let (number, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit} ago")
}
