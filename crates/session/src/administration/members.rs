//! Members of channels, as the command line changes them and as the log tells of them.

use serde_json::{Map, Value, json};
use xpush_core::ports::access::Enrolment;
use xpush_core::ports::directory::{Key, MemberRecord, Record};
use xpush_core::ports::erasure::NOBODY;
use xpush_core::{ChannelKey, User};

use super::{Act, Actor, Administration, Refused};

/// Users that an entry names: of more it says how many.
const NAMED: usize = 50;

/// The fields of an entry that name users.
const LISTS: [&str; 2] = ["added", "removed"];

impl Administration {
    /// Changes a channel's members beside a running server, whatever they are now.
    pub async fn change_members(
        &self,
        actor: &Actor,
        channel: &ChannelKey,
        change: &Enrolment,
    ) -> Result<(), Refused> {
        let Enrolment { add, remove, role } = change;
        let key = |user: &User| Key::Member(channel.clone(), user.clone());
        let work = async {
            for user in add {
                let put = |record: Option<&Record>| {
                    let mut member = match record {
                        Some(Record::Member(member)) => member.clone(),
                        _ => MemberRecord { since: self.now(), ..MemberRecord::default() },
                    };
                    if let Some(role) = role {
                        member.role = Some(role.clone()).filter(|role| role.as_str() != "member");
                    }
                    Some(Record::Member(member))
                };
                self.0.store.change(&key(user), put).await?;
            }
            for user in remove {
                self.0.store.remove(key(user)).await?;
            }
            Ok(())
        };
        self.audited(actor, entry(channel, change), work).await
    }
}

/// The entry of a change of members.
pub(crate) fn entry<'a>(channel: &'a ChannelKey, change: &Enrolment) -> Act<'a> {
    let mut after = Map::new();
    for (field, users) in LISTS.into_iter().zip([&change.add, &change.remove]) {
        match users.len() {
            0 => continue,
            1..=NAMED => after.insert(field.to_owned(), json!(users)),
            many => after.insert(field.to_owned(), json!(many)),
        };
    }
    if let Some(role) = &change.role {
        after.insert("role".to_owned(), json!(role));
    }
    Act {
        what: "members.change",
        app: Some(&channel.app),
        target: Some(channel.name.to_string()),
        after: Some(after),
        ..Act::default()
    }
}

/// What an entry said of a change of members, without one of them; `None` when it did not name that user.
pub(crate) fn without(user: &User, after: &str) -> Option<Box<str>> {
    let mut after: Value = serde_json::from_str(after).ok()?;
    let mut named = false;
    for field in LISTS {
        for one in after.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            if one == user.as_str() {
                *one = json!(NOBODY);
                named = true;
            }
        }
    }
    named.then(|| after.to_string().into())
}
