//! What all apps have set up, as it is looked up.

use std::collections::HashMap;
use std::sync::Arc;

use xpush_core::access::Apps;
use xpush_core::hooks::HookAsk;
use xpush_core::{App, Channel};

use crate::hook::Hook;
use crate::metrics::Metrics;

/// All apps' hooks and calls at one moment.
#[derive(Default)]
pub(crate) struct Table {
    apps: Option<Arc<Apps>>,
    by_app: HashMap<App, Of>,
}

#[derive(Default)]
struct Of {
    hooks: Vec<Arc<Hook>>,
    /// By event: where it is published, and whether its sender gets it, too.
    calls: HashMap<Box<str>, (Channel, bool)>,
    joined: Vec<Channel>,
}

impl Table {
    /// What the apps say. Hooks that are as they were go on; the others are given beside it.
    pub(crate) fn new(apps: Arc<Apps>, before: &Self, metrics: &Metrics) -> (Self, Vec<Arc<Hook>>) {
        let mut fresh = Vec::new();
        let mut by_app = HashMap::new();
        for (app, settings) in &apps.by_name {
            let mut of = Of::default();
            for record in &settings.hooks.hooks {
                let kept = before.of(app).iter().find(|hook| hook.record == *record).cloned();
                of.hooks.push(kept.unwrap_or_else(|| {
                    let hook = Hook::new(app, record.clone(), metrics.of(app.as_str(), &record.name));
                    fresh.push(hook.clone());
                    hook
                }));
            }
            for call in &settings.hooks.calls {
                let Some((event, channel)) = call.names() else { continue };
                if call.join && !of.joined.contains(&channel) {
                    of.joined.push(channel.clone());
                }
                of.calls.insert(event.as_str().into(), (channel, call.echo));
            }
            if !of.hooks.is_empty() || !of.calls.is_empty() {
                by_app.insert(app.clone(), of);
            }
        }
        (Self { apps: Some(apps), by_app }, fresh)
    }

    /// Whether it says what these apps say.
    pub(crate) fn is_of(&self, apps: &Arc<Apps>) -> bool {
        self.apps.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, apps))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_app.is_empty()
    }

    pub(crate) fn hooks(&self) -> impl Iterator<Item = &Arc<Hook>> {
        self.by_app.values().flat_map(|of| &of.hooks)
    }

    pub(crate) fn has(&self, hook: &Arc<Hook>) -> bool {
        self.of(&hook.app).iter().any(|one| Arc::ptr_eq(one, hook))
    }

    /// An app's hooks, in their order.
    pub(crate) fn of(&self, app: &App) -> &[Arc<Hook>] {
        self.by_app.get(app).map_or(&[], |of| &of.hooks)
    }

    /// Which of them are asked; of a channel, if it is about one.
    pub(crate) fn asked<'a>(
        &'a self,
        app: &App,
        ask: HookAsk,
        channel: Option<&'a Channel>,
    ) -> impl Iterator<Item = &'a Arc<Hook>> {
        let covers = move |hook: &&Arc<Hook>| channel.is_none_or(|channel| hook.record.covers(channel));
        self.of(app).iter().filter(move |hook| hook.asks(ask)).filter(covers)
    }

    pub(crate) fn call(&self, app: &App, event: &str) -> Option<(Channel, bool)> {
        self.by_app.get(app)?.calls.get(event).cloned()
    }

    pub(crate) fn joined(&self, app: &App) -> Vec<Channel> {
        self.by_app.get(app).map(|of| of.joined.clone()).unwrap_or_default()
    }
}
