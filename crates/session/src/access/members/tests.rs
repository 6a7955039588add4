use std::collections::HashMap;

use proptest::prelude::*;
use xpush_core::access::Capabilities;
use xpush_core::rules::History;
use xpush_core::{App, Permissions, Sender};

use super::*;

const ROLES: [Option<&str>; 5] = [None, Some("member"), Some("moderator"), Some("owner"), Some("support")];

fn user(number: usize) -> User {
    User::new(&format!("u{number}")).unwrap()
}

fn grant(user: User, server: bool) -> Grant {
    Grant {
        app: App::new("demo").unwrap(),
        sender: Sender { user, name: None },
        device: None,
        guest: false,
        roles: if server { vec![Role::new("server").unwrap()] } else { Vec::new() },
        capabilities: None,
        issued_at: 0,
        expires_at: None,
        login: None,
        info: None,
    }
}

fn rule(create: Vec<Who>) -> Rule {
    let permissions = Permissions { create, ..Permissions::all(Who::Members) };
    Rule {
        pattern: "*".into(),
        history: History::None,
        presence: false,
        notify: false,
        search: false,
        permissions,
    }
}

fn wanted(
    add: impl IntoIterator<Item = usize>,
    remove: impl IntoIterator<Item = usize>,
    role: Option<&str>,
) -> Wanted {
    let users = |numbers: Vec<usize>| numbers.into_iter().map(user).collect();
    Wanted::new(Enrolment {
        add: users(add.into_iter().collect()),
        remove: users(remove.into_iter().collect()),
        role: role.map(|role| Role::new(role).unwrap()),
    })
    .unwrap()
}

/// Members as a plan leaves them; a change of an entry that is not as expected would be refused by the directory.
fn apply(members: &mut Vec<Enrolled>, plan: Plan) {
    let Plan { founder, put, remove } = plan;
    let mut by_user: HashMap<User, Enrolled> =
        members.drain(..).map(|member| (member.user.clone(), member)).collect();
    let founder = founder.map(|(user, record)| (user, record, Expected::Absent));
    for (user, record, expected) in founder.into_iter().chain(put) {
        let revision = by_user.get(&user).map_or(0, |was| was.revision);
        assert_eq!(expected, if revision == 0 { Expected::Absent } else { Expected::Revision(revision) });
        by_user.insert(user.clone(), Enrolled { user, record, revision: revision + 1 });
    }
    for (user, expected) in remove {
        let was = by_user.remove(&user).expect("only who is there is removed");
        assert_eq!(expected, Expected::Revision(was.revision));
    }
    *members = by_user.into_values().collect();
    members.sort_by(|a, b| a.user.cmp(&b.user));
}

#[test]
fn a_token_that_says_what_it_allows_founds_nothing_without_the_right_to_invite() {
    let by = Grant { capabilities: Some(Capabilities::default()), ..grant(user(1), false) };
    let anybody = rule(vec![Who::Anyone, Who::Users]);
    let founds = |may_invite| plan(&[], &by, may_invite, &anybody, &wanted([2], [], None), 0);
    assert_eq!(founds(false).err().map(|problem| problem.code), Some(Code::Forbidden));
    assert!(founds(true).unwrap().founder.is_some());
}

#[test]
fn a_channel_has_at_most_ten_thousand_members() {
    let mut members: Vec<Enrolled> = (0..MOST_MEMBERS - 1)
        .map(|number| Enrolled { user: user(number), record: MemberRecord::default(), revision: 1 })
        .collect();
    members.sort_by(|a, b| a.user.cmp(&b.user));
    let server = grant(user(99_999), true);
    let add = |members: &[Enrolled], add: Vec<usize>, remove: Vec<usize>| {
        plan(members, &server, false, &rule(Vec::new()), &wanted(add, remove, None), 0)
            .map_err(|problem| problem.code)
    };
    assert!(add(&members, vec![10_000], vec![]).is_ok());
    assert_eq!(add(&members, vec![10_000, 10_001], vec![]).unwrap_err(), Code::BadField);
    assert!(add(&members, vec![10_000, 10_001], vec![0]).is_ok(), "one goes");
    assert_eq!(add(&members, vec![0, 1], vec![]).unwrap(), Plan::default(), "they are there already");
}

#[test]
fn the_longest_standing_moderator_follows_the_last_owner_and_then_the_longest_standing_member() {
    let member = |number, role: Option<&str>, since| Enrolled {
        user: user(number),
        record: MemberRecord { role: role.map(|role| Role::new(role).unwrap()), muted: false, since },
        revision: 1,
    };
    let after = |members: &mut Vec<Enrolled>, leaves: usize| {
        let leaver = grant(user(leaves), false);
        let plan = plan(members, &leaver, false, &rule(Vec::new()), &wanted([], [leaves], None), 9).unwrap();
        apply(members, plan);
        let owners = members.iter().filter(|one| one.record.role.as_ref().is_some_and(is_owner));
        owners.map(|one| one.user.to_string()).collect::<Vec<_>>()
    };
    let mut members = vec![
        member(0, Some("owner"), 1),
        member(1, None, 2),
        member(2, Some("moderator"), 5),
        member(3, Some("moderator"), 4),
        member(4, None, 2),
    ];
    assert_eq!(after(&mut members, 0), ["u3"]);
    assert_eq!(after(&mut members, 3), ["u2"]);
    assert_eq!(after(&mut members, 2), ["u1"]);
    assert_eq!(after(&mut members, 1), ["u4"]);
    assert_eq!(after(&mut members, 4), [""; 0]);
}

proptest! {
    /// Whatever is tried by whomever: a channel that had an owner keeps one, and nobody but an owner or the server makes or unmakes one.
    #[test]
    fn owners_are_made_by_owners(
        steps in prop::collection::vec(
            (0..7_usize, any::<bool>(), 0..8_usize, 0..8_usize, 0..ROLES.len()),
            1..40,
        ),
    ) {
        let rule = rule(vec![Who::Users]);
        let mut members = Vec::new();
        for (at, (by, may_invite, add, remove, role)) in steps.into_iter().enumerate() {
            // 6 is the server; 7 adds or removes nobody.
            let by = grant(user(by), by == 6);
            let names = |one: usize| (one < 7).then_some(one);
            if add == remove {
                continue;
            }
            let owners = |members: &[Enrolled]| -> HashSet<User> {
                let owners = members.iter().filter(|one| one.record.role.as_ref().is_some_and(is_owner));
                owners.map(|one| one.user.clone()).collect()
            };
            let (before, was_empty) = (owners(&members), members.is_empty());
            let change = wanted(names(add), names(remove), ROLES[role]);
            let Ok(plan) = plan(&members, &by, may_invite, &rule, &change, at as u64) else { continue };
            apply(&mut members, plan);
            let after = owners(&members);
            prop_assert!(before.is_empty() || members.is_empty() || !after.is_empty());
            let me = &by.sender.user;
            if !by.is_server() && !before.contains(me) && !was_empty {
                prop_assert_eq!(&before, &after);
            }
        }
    }
}
