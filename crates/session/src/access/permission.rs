//! What somebody may do in a channel, where that hangs by more than the rule and the grant.

use std::sync::Arc;

use xpush_core::access::{Actions, Decision};
use xpush_core::ports::directory::{Key, MemberRecord, Record};
use xpush_core::{Action, ChannelKey, Code, Grant, Permission, Problem, Rule, Who};

use super::Core;

impl Core {
    /// What `who` may do in `channel`.
    pub(super) async fn permit(
        self: Arc<Self>,
        channel: ChannelKey,
        who: Arc<Grant>,
        token: Option<String>,
    ) -> Result<Permission, Problem> {
        let rule = self.rule(&channel)?;
        if channel.app != who.app {
            return Err(Code::Forbidden.into());
        }
        let allowed = match who.decide(&channel.name, &rule) {
            Decision::Known(permission) => return Ok(permission),
            Decision::Ask(allowed) => allowed,
        };
        if let Some((owner, _)) = channel.name.owner() {
            let block = Key::Block(channel.app.clone(), owner, who.sender.user.clone());
            let blocked = self.records.read(&block).await?.is_some();
            return Ok(Permission::of(if blocked { allowed } else { allowed.with(Action::Publish) }));
        }
        let key = Key::Member(channel.clone(), who.sender.user.clone());
        let member = self.records.read(&key).await?;
        let allowed = match member.as_deref() {
            Some(Record::Member(member)) => allowed.and(as_member(&rule, member)),
            _ => allowed,
        };
        let by_token = actions(&rule, |who| *who == Who::Token);
        match token {
            Some(token) if by_token != Actions::NONE => {
                self.permit_by_token(&channel, &who, &token, allowed, by_token).await
            }
            _ => Ok(Permission::of(allowed)),
        }
    }

    /// Adds what a subscription token allows among what the rule leaves to tokens.
    async fn permit_by_token(
        &self,
        channel: &ChannelKey,
        who: &Grant,
        token: &str,
        allowed: Actions,
        by_token: Actions,
    ) -> Result<Permission, Problem> {
        let verified = self.verify(token, Some(channel.app.as_str())).await.map_err(of_channel)?;
        let claims = verified.claims();
        let for_channel = claims.channel.as_ref().filter(|meant| meant.channel == channel.name);
        let Some(for_channel) = for_channel.filter(|_| !verified.ours) else {
            return Err(Problem::new(Code::Forbidden, "token: it is not for this channel"));
        };
        if claims.user != who.sender.user {
            return Err(Problem::new(Code::Forbidden, "token: it is for another user"));
        }
        if claims.expires_at <= self.clock.wall() {
            // However much leeway there is: the subscription would end as it begins.
            return Err(Code::TokenExpired.into());
        }
        self.check_subscription(who, claims).await?;
        let given = Actions::EACH
            .into_iter()
            .filter(|action| by_token.contains(*action) && for_channel.actions.contains(*action))
            .fold(allowed, Actions::with);
        let expires_at = (given != allowed).then_some(claims.expires_at);
        Ok(Permission { actions: given, expires_at })
    }

    /// The rule of a channel.
    pub(super) fn rule(&self, channel: &ChannelKey) -> Result<Arc<Rule>, Problem> {
        let registry = self.registry();
        let app = registry.apps.by_name.get(&channel.app).ok_or(Code::UnknownApp)?;
        let rule = app.rules.find(&channel.name).cloned();
        rule.ok_or_else(|| Problem::new(Code::Forbidden, "no rule of this app covers this channel"))
    }
}

/// What a rule allows a member, beyond what it allows everybody.
fn as_member(rule: &Rule, member: &MemberRecord) -> Actions {
    actions(rule, |who| match who {
        Who::Members => true,
        Who::Role(role) => member.role.as_ref() == Some(role),
        _ => false,
    })
}

fn actions(rule: &Rule, holds: impl Fn(&Who) -> bool) -> Actions {
    let held = |action: &Action| rule.permissions.of(*action).iter().any(&holds);
    Actions::EACH.into_iter().filter(held).fold(Actions::NONE, Actions::with)
}

/// The connection's own token is as good as it was: only the channel is refused.
fn of_channel(problem: Problem) -> Problem {
    match problem.code {
        Code::Unauthenticated => Problem { code: Code::Forbidden, ..problem },
        _ => problem,
    }
}
