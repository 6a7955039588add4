//! A channel's members, and how they change.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use xpush_core::ports::access::Enrolment;
use xpush_core::ports::directory::{Change, Expected, Key, MemberRecord, Record};
use xpush_core::ports::message_log::MessageLog;
use xpush_core::ports::{Failure, PortError};
use xpush_core::{ChannelKey, Code, Grant, History, Problem, Role, Rule, UnixMillis, User, Who};

use super::Core;
use super::records::{Enrolled, MOST_MEMBERS};
use crate::port::{ask, unreadable};

/// Names of one call.
const MOST_NAMES: usize = 1_000;
/// Changes that are under way together.
const TOGETHER: usize = 64;
/// How often everything is looked at anew when somebody else changes the same members.
const TRIES: usize = 5;

/// What is wanted, checked by itself.
struct Wanted {
    add: HashSet<User>,
    remove: HashSet<User>,
    /// What those who are added become; `None` leaves those who are members already as they are.
    role: Option<Membership>,
}

/// The name of a role, or `None` for a plain member.
type Membership = Option<Role>;

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The channel's first member, who must be alone with it.
    founder: Option<(User, MemberRecord)>,
    put: Vec<(User, MemberRecord, Expected)>,
    remove: Vec<(User, Expected)>,
}

impl Core {
    /// Changes a channel's members on behalf of `by`.
    pub(super) async fn enrol(
        self: &Arc<Self>,
        channel: &ChannelKey,
        by: &Grant,
        may_invite: bool,
        change: Enrolment,
    ) -> Result<(), Problem> {
        let rule = self.rule(channel)?;
        let special = channel.name.owner().is_some() || channel.name.is_system();
        if channel.app != by.app || special || !rule.has_members() {
            return Err(Problem::new(Code::Forbidden, "this channel has no members"));
        }
        let wanted = Wanted::new(change)?;
        let _turn = self.turn(channel).lock().await;
        for _ in 0..TRIES {
            let members = self.records.enrolled(channel).await?;
            let plan = plan(&members, by, may_invite, &rule, &wanted, self.clock.wall())?;
            if plan.founder.is_some() && self.has_history(channel, &rule).await? {
                // What is kept was said among others.
                let left =
                    "this channel has a history and no members any more: only the server gives it new ones";
                return Err(Problem::new(Code::Forbidden, left));
            }
            let founder = plan.founder.as_ref().map(|(user, _)| user.clone());
            match self.carry_out(channel, plan).await {
                Ok(()) => {
                    let begin = wanted.add.iter().cloned().chain(founder).collect();
                    return self.mark(channel, &rule, begin, wanted.remove).await;
                }
                Err(error) if error.kind == Failure::Conflict => {}
                Err(error) => return Err(error.code().into()),
            }
        }
        Err(Code::Conflict.into())
    }

    /// Whether anything was ever written there, as far as that is still known.
    async fn has_history(&self, channel: &ChannelKey, rule: &Rule) -> Result<bool, Problem> {
        let log: Option<&dyn MessageLog> = match rule.history {
            History::None => None,
            History::Recent(_) => self.recent.as_deref(),
            History::Durable(_) => match &self.ledger {
                Some(ledger) => Some(&**ledger),
                None => None,
            },
        };
        let Some(log) = log else { return Ok(false) };
        let heads = ask(|done| log.heads(vec![channel.clone()], done)).await;
        let heads = heads.map_err(|error| unreadable(&error))?;
        Ok(heads.iter().any(|head| head.seq > 0))
    }

    async fn carry_out(self: &Arc<Self>, channel: &ChannelKey, plan: Plan) -> Result<(), PortError> {
        let change = |user, expected, to| Change {
            key: Key::Member(channel.clone(), user),
            expected,
            to: Option::map(to, Record::Member),
        };
        if let Some((user, record)) = plan.founder {
            self.found(channel, change(user, Expected::Absent, Some(record))).await?;
        }
        let put = plan.put.into_iter().map(|(user, record, expected)| change(user, expected, Some(record)));
        self.apply_all(put).await?;
        self.apply_all(plan.remove.into_iter().map(|(user, expected)| change(user, expected, None))).await
    }

    /// Makes the first member, who has to be alone when looking around afterwards: of two who found a channel at the same moment at most one sees nobody.
    async fn found(self: &Arc<Self>, channel: &ChannelKey, change: Change) -> Result<(), PortError> {
        let key = change.key.clone();
        let revision = self.apply(change).await?;
        let alone = match self.records.enrolled(channel).await {
            Ok(members) => members.len() == 1,
            Err(_) => false,
        };
        if alone {
            return Ok(());
        }
        self.apply(Change { key, expected: Expected::Revision(revision), to: None }).await?;
        Err(PortError::new(Failure::Conflict, "two have founded the channel at once"))
    }

    /// Makes all changes, in no particular order.
    async fn apply_all(self: &Arc<Self>, changes: impl Iterator<Item = Change>) -> Result<(), PortError> {
        let mut changes = changes.peekable();
        while changes.peek().is_some() {
            let together: Vec<_> = changes.by_ref().take(TOGETHER).map(|change| self.apply(change)).collect();
            let mut outcome = Ok(());
            for applied in together {
                let applied = applied.await.map(drop);
                outcome = outcome.and(applied);
            }
            outcome?;
        }
        Ok(())
    }

    /// Begins and ends markers. What is repeated here does no harm: a call that has failed half-way can be made again.
    async fn mark(
        &self,
        channel: &ChannelKey,
        rule: &Rule,
        begin: Vec<User>,
        end: HashSet<User>,
    ) -> Result<(), Problem> {
        let Some(markers) = self.ledger.as_ref().filter(|_| rule.history.is_durable()) else {
            return Ok(());
        };
        for together in begin.chunks(TOGETHER) {
            let begun: Vec<_> =
                together.iter().map(|user| ask(|done| markers.begin(channel, user, done))).collect();
            for begun in begun {
                begun.await.map_err(|error| error.code())?;
            }
        }
        for user in end {
            let ended = ask(|done| markers.end(&channel.app, Some(&channel.name), &user, done));
            ended.await.map_err(|error| error.code())?;
        }
        Ok(())
    }
}

impl Wanted {
    fn new(change: Enrolment) -> Result<Self, Problem> {
        let bad = |what| Err(Problem::new(Code::BadField, what));
        if change.add.len() + change.remove.len() > MOST_NAMES {
            return bad("add, remove: at most 1,000 users together");
        }
        let add: HashSet<User> = change.add.into_iter().collect();
        let remove: HashSet<User> = change.remove.into_iter().collect();
        if !add.is_disjoint(&remove) {
            return bad("add, remove: nobody can be in both");
        }
        let role = change.role.map(|role| Some(role).filter(|role| role.as_str() != "member"));
        Ok(Self { add, remove, role })
    }
}

/// What has to be done so that the members are as wanted; refused when `by` may not.
fn plan(
    members: &[Enrolled],
    by: &Grant,
    may_invite: bool,
    rule: &Rule,
    wanted: &Wanted,
    now: UnixMillis,
) -> Result<Plan, Problem> {
    let before: BTreeMap<&User, &Enrolled> = members.iter().map(|member| (&member.user, member)).collect();
    let me = &by.sender.user;
    let founds = before.is_empty() && !wanted.add.is_empty() && may_found(by, may_invite, rule);
    if !founds {
        authorise(&before, by, may_invite, wanted)?;
    }
    let mut after: BTreeMap<&User, MemberRecord> =
        before.iter().map(|(user, member)| (*user, member.record.clone())).collect();
    after.retain(|user, _| !wanted.remove.contains(*user));
    for user in &wanted.add {
        let fresh = MemberRecord { since: now, ..MemberRecord::default() };
        let record = after.entry(user).or_insert(fresh);
        if let Some(role) = &wanted.role {
            record.role.clone_from(role);
        }
    }
    if after.len() > MOST_MEMBERS && after.len() > before.len() {
        return Err(Problem::new(Code::BadField, "add: a channel has at most 10,000 members"));
    }
    hand_over(&before, &mut after)?;
    let founder = founds.then(|| {
        after.remove(me);
        (me.clone(), MemberRecord { role: Role::new("owner").ok(), muted: false, since: now })
    });
    let expected = |user| before.get(user).map_or(Expected::Absent, |was| Expected::Revision(was.revision));
    let gone = before.keys().filter(|user| !after.contains_key(**user));
    let remove = gone.map(|user| ((*user).clone(), expected(*user))).collect();
    let changed =
        after.iter().filter(|(user, record)| before.get(**user).is_none_or(|was| was.record != **record));
    let put = changed.map(|(user, record)| ((*user).clone(), record.clone(), expected(*user))).collect();
    Ok(Plan { founder, put, remove })
}

/// Whether `by` becomes the owner of a channel that has no members. The server changes members without being one. Where a token says itself what it allows, that
/// must be to invite: the rule has nothing to add.
fn may_found(by: &Grant, may_invite: bool, rule: &Rule) -> bool {
    !by.is_server()
        && (by.capabilities.is_none() || may_invite)
        && rule.permissions.create.iter().any(|who| match who {
            Who::Anyone => true,
            Who::Users => !by.guest,
            Who::Role(role) => by.roles.contains(role),
            Who::Members | Who::Token | Who::Server => false,
        })
}

/// Everybody may leave. Owners, and the server, may everything else; whoever may invite can add and remove, but gives no role but its own and leaves owners alone.
fn authorise(
    members: &BTreeMap<&User, &Enrolled>,
    by: &Grant,
    may_invite: bool,
    wanted: &Wanted,
) -> Result<(), Problem> {
    let me = &by.sender.user;
    let leaves = wanted.add.is_empty() && wanted.remove.iter().all(|user| user == me);
    let role = |user| members.get(user).and_then(|member| member.record.role.as_ref());
    let owns = |user| role(user).is_some_and(is_owner);
    if by.is_server() || leaves {
        return Ok(());
    }
    if !may_invite {
        return Err(Problem::new(Code::Forbidden, "you may not change this channel's members"));
    }
    if owns(me) {
        return Ok(());
    }
    if wanted.role.as_ref().is_some_and(|given| given.is_some() && given.as_ref() != role(me)) {
        return Err(Problem::new(Code::Forbidden, "only an owner gives this role"));
    }
    let touched = wanted.add.iter().filter(|_| wanted.role.is_some()).chain(&wanted.remove);
    if touched.into_iter().any(|user| user != me && owns(user)) {
        return Err(Problem::new(Code::Forbidden, "only an owner changes an owner"));
    }
    Ok(())
}

/// A channel that has an owner keeps one: who has been there longest, moderators first, follows the last one who goes.
fn hand_over(
    before: &BTreeMap<&User, &Enrolled>,
    after: &mut BTreeMap<&User, MemberRecord>,
) -> Result<(), Problem> {
    let owns = |record: &MemberRecord| record.role.as_ref().is_some_and(is_owner);
    let had = before.values().any(|member| owns(&member.record));
    if !had || after.is_empty() || after.values().any(owns) {
        return Ok(());
    }
    let was_owner = |user: &User| before.get(user).is_some_and(|was| owns(&was.record));
    let candidates = after.iter().filter(|(user, _)| !was_owner(user));
    let heir = heir(candidates.map(|(user, record)| (*user, record))).cloned();
    let record = heir.as_ref().and_then(|heir| after.get_mut(heir));
    let record =
        record.ok_or_else(|| Problem::new(Code::Forbidden, "a channel's only owner stays its owner"))?;
    record.role = Role::new("owner").ok();
    Ok(())
}

/// Who of these follows the last owner: who has been there longest, moderators first.
pub(crate) fn heir<'a>(candidates: impl Iterator<Item = (&'a User, &'a MemberRecord)>) -> Option<&'a User> {
    let rank = |record: &MemberRecord| {
        let moderates = record.role.as_ref().is_some_and(|role| role.as_str() == "moderator");
        (!moderates, record.since)
    };
    candidates.min_by_key(|(user, record)| (rank(record), *user)).map(|(user, _)| user)
}

pub(crate) fn is_owner(role: &Role) -> bool {
    role.as_str() == "owner"
}

#[cfg(test)]
mod tests;
