//! [`Access`] that asks back ends, too: who may connect, and what one may do in a channel.

use std::sync::Arc;

use xpush_core::access::{Actions, Apps, Capabilities};
use xpush_core::hooks::HookAsk;
use xpush_core::ports::access::{Access, AccessSink, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::{Action, ChannelKey, Grant, Permission, Problem};

use crate::asking::Answer;
use crate::hook::Hook;
use crate::{Core, payload, unanswered};

/// Bytes of `info`, and characters of a name.
const INFO: usize = 4_096;
const NAME: usize = 64;

/// Decides as another does, and then as apps' back ends say. The server itself is never asked about.
pub struct HookedAccess {
    inner: Arc<dyn Access>,
    core: Arc<Core>,
}

impl HookedAccess {
    pub(crate) fn new(inner: Arc<dyn Access>, core: Arc<Core>) -> Self {
        Self { inner, core }
    }
}

impl Access for HookedAccess {
    fn apps(&self) -> Arc<Apps> {
        self.inner.apps()
    }

    fn admit(&self, credentials: Credentials, done: Decided<Grant>) {
        let (core, address) = (self.core.clone(), credentials.address);
        let decided = move |result: Result<Grant, Problem>| match result {
            Ok(grant) => match core.hooks(&grant, HookAsk::Connect, None) {
                hooks if hooks.is_empty() => done(Ok(grant)),
                hooks => {
                    let asking = core.clone();
                    drop(
                        core.runtime
                            .spawn(async move { done(asking.connecting(hooks, grant, address).await) }),
                    );
                }
            },
            Err(problem) => done(Err(problem)),
        };
        self.inner.admit(credentials, Box::new(decided));
    }

    fn readmit(&self, grant: &Grant, done: Decided<()>) {
        self.inner.readmit(grant, done);
    }

    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, token: Option<&str>, done: Decided<Permission>) {
        let hooks = self.core.hooks(who, HookAsk::Subscribe, Some(channel));
        if hooks.is_empty() {
            return self.inner.permit(channel, who, token, done);
        }
        let (core, channel_of, grant) = (self.core.clone(), channel.clone(), who.clone());
        let decided = move |result: Result<Permission, Problem>| match result {
            Ok(permission) => {
                let asking = core.clone();
                let asked =
                    async move { done(asking.subscribing(hooks, channel_of, grant, permission).await) };
                drop(core.runtime.spawn(asked));
            }
            Err(problem) => done(Err(problem)),
        };
        self.inner.permit(channel, who, token, Box::new(decided));
    }

    fn members(&self, channel: &ChannelKey, notified: bool, done: Decided<Arc<[MemberOf]>>) {
        self.inner.members(channel, notified, done);
    }

    fn enrol(
        &self,
        channel: &ChannelKey,
        by: &Arc<Grant>,
        may_invite: bool,
        change: Enrolment,
        done: Decided<()>,
    ) {
        self.inner.enrol(channel, by, may_invite, change, done);
    }

    fn watch(&self, sink: Arc<dyn AccessSink>) {
        self.inner.watch(sink);
    }
}

impl Core {
    /// Who is to be asked about somebody.
    fn hooks(&self, grant: &Grant, ask: HookAsk, channel: Option<&ChannelKey>) -> Vec<Arc<Hook>> {
        if grant.is_server() {
            return Vec::new();
        }
        self.table().asked(&grant.app, ask, channel.map(|key| &key.name)).cloned().collect()
    }

    async fn connecting(
        &self,
        hooks: Vec<Arc<Hook>>,
        mut grant: Grant,
        address: Option<std::net::IpAddr>,
    ) -> Result<Grant, Problem> {
        for hook in hooks {
            let id = self.fresh_id();
            let question = payload::connect(&id, self.clock.wall(), &grant, address);
            if let Some(answer) = self.ask_whether(&hook, &id, &question, HookAsk::Connect).await? {
                amend(&mut grant, *answer).ok_or_else(|| {
                    tracing::warn!(app = %hook.app, hook = %hook.record.name, "an answer to connect cannot be used");
                    unanswered()
                })?;
            }
        }
        Ok(grant)
    }

    async fn subscribing(
        &self,
        hooks: Vec<Arc<Hook>>,
        channel: ChannelKey,
        grant: Arc<Grant>,
        mut permission: Permission,
    ) -> Result<Permission, Problem> {
        for hook in hooks {
            let id = self.fresh_id();
            let question =
                payload::subscribe(&id, self.clock.wall(), &grant, &channel, &names(permission.actions));
            let answer = self.ask_whether(&hook, &id, &question, HookAsk::Subscribe).await?;
            if let Some(actions) = answer.and_then(|answer| answer.permissions) {
                permission.actions = of(&actions);
            }
        }
        Ok(permission)
    }
}

/// Changes a grant as the answer says; `None` when that cannot be.
fn amend(grant: &mut Grant, answer: Answer) -> Option<()> {
    if let Some(name) = answer.name {
        if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
            return None;
        }
        grant.sender.name = Some(name.into());
    }
    if let Some(info) = answer.info {
        let info = info.get();
        if info.len() > INFO || !info.starts_with('{') {
            return None;
        }
        grant.info = Some(info.into());
    }
    if let Some(channels) = answer.channels {
        let entries = channels.into_iter().map(|(pattern, actions)| (pattern.into(), of(&actions)));
        grant.capabilities = Some(Capabilities::new(entries));
    }
    Some(())
}

fn of(actions: &[Action]) -> Actions {
    actions.iter().fold(Actions::NONE, |all, action| all.with(*action))
}

/// As a JSON list.
fn names(actions: Actions) -> String {
    let held: Vec<Action> = Actions::EACH.into_iter().filter(|action| actions.contains(*action)).collect();
    serde_json::to_string(&held).unwrap_or_else(|_| "[]".to_owned())
}
