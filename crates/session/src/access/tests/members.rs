//! Members: what they may, and how they change.

use xpush_core::access::Actions;
use xpush_core::ports::directory::MemberRecord;
use xpush_core::ports::markers::{Advanced, After, Conversation, Mark, Marker, Markers};
use xpush_core::ports::message_log::{Appended, Draft, Page, Range};
use xpush_core::rules::Retention;
use xpush_core::{Action, Epoch, Position};

use super::*;

/// Notes what is begun and ended. In `room:used` somebody has said something.
#[derive(Default)]
struct Notes(Mutex<Vec<(bool, String)>>);

impl MessageLog for Notes {
    fn append(&self, _: &ChannelKey, _: Retention, _: Vec<Draft>, done: Done<Appended>) {
        done(Err(PortError::new(Failure::Invalid, "nobody writes here")));
    }

    fn read(&self, _: &ChannelKey, _: Range, _: usize, done: Done<Page>) {
        done(Err(PortError::new(Failure::Invalid, "nobody reads here")));
    }

    fn heads(&self, channels: Vec<ChannelKey>, done: Done<Vec<Position>>) {
        let seq = |key: &ChannelKey| u64::from(key.name.as_str() == "room:used");
        done(Ok(channels.iter().map(|key| Position { epoch: Epoch(7), seq: seq(key) }).collect()));
    }
}

impl Markers for Notes {
    fn begin(&self, _: &ChannelKey, user: &User, done: Done<Marker>) {
        self.0.lock().unwrap().push((true, user.to_string()));
        done(Ok(Marker::default()));
    }

    fn advance(&self, _: &ChannelKey, _: &User, _: Mark, _: u64, done: Done<Advanced>) {
        done(Err(PortError::new(Failure::Invalid, "nobody reads here")));
    }

    fn end(&self, _: &App, channel: Option<&Channel>, user: &User, done: Done<()>) {
        assert!(channel.is_some(), "only this one");
        self.0.lock().unwrap().push((false, user.to_string()));
        done(Ok(()));
    }

    fn of_channel(&self, _: &ChannelKey, _: usize, done: Done<Vec<(User, Marker)>>) {
        done(Ok(Vec::new()));
    }

    fn unread(&self, _: &ChannelKey, _: Vec<User>, done: Done<Vec<(User, u64)>>) {
        done(Ok(Vec::new()));
    }

    fn conversations(&self, _: &App, _: &User, _: Option<After>, _: usize, done: Done<Vec<Conversation>>) {
        done(Ok(Vec::new()));
    }
}

/// Rooms of members, which users may found and owners and moderators change.
fn rooms() -> AppRecord {
    let permissions = Permissions { create: vec![Who::Users], ..Permissions::all(Who::Members) };
    let mut room = rule("room:*", permissions);
    room.history = History::Durable(Retention::ENDLESS);
    let support = Permissions::all(Who::Role(role("support")));
    app([
        room,
        rule("open:*", Permissions::all(Who::Anyone)),
        rule("token:*", Permissions::all(Who::Token)),
        rule("desk", Permissions { subscribe: vec![Who::Members], ..support }),
        rule("@*", Permissions::all(Who::Anyone)),
    ])
}

fn grant(name: &str) -> Arc<Grant> {
    Arc::new(Grant {
        app: demo(),
        sender: xpush_core::Sender { user: user(name), name: None },
        device: None,
        guest: false,
        roles: Vec::new(),
        capabilities: None,
        issued_at: NOW * 1000,
        expires_at: None,
        login: None,
        info: None,
    })
}

fn server() -> Arc<Grant> {
    Arc::new(Grant { roles: vec![role("server")], ..(*grant("backend")).clone() })
}

fn users<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<User> {
    names.into_iter().map(user).collect()
}

impl World {
    /// As a channel server asks: with what the permission says about inviting.
    async fn enrol(&self, room: &str, by: &Arc<Grant>, change: Enrolment) -> Result<(), Code> {
        let room = channel(room);
        let may = self.permit(&room, by, None).await.unwrap().actions.contains(Action::Invite);
        let done = decided(|done| self.access.enrol(&room, by, may, change, done)).await;
        done.map_err(|problem| problem.code)
    }

    async fn add(
        &self,
        room: &str,
        by: &Arc<Grant>,
        names: &[&str],
        given: Option<&str>,
    ) -> Result<(), Code> {
        let add = users(names.iter().copied());
        self.enrol(room, by, Enrolment { add, remove: Vec::new(), role: given.map(role) }).await
    }

    async fn remove(&self, room: &str, by: &Arc<Grant>, names: &[&str]) -> Result<(), Code> {
        let remove = users(names.iter().copied());
        self.enrol(room, by, Enrolment { remove, ..Enrolment::default() }).await
    }

    /// `name:role` of each.
    async fn members(&self, room: &str) -> Vec<String> {
        let members = decided(|done| self.access.members(&channel(room), false, done)).await.unwrap();
        let shown = |member: &MemberOf| match &member.role {
            Some(role) => format!("{}:{role}", member.user),
            None => member.user.to_string(),
        };
        members.iter().map(shown).collect()
    }
}

#[tokio::test]
async fn a_room_from_its_founding_to_its_end() {
    let mut world = World::new(rooms()).await;
    let notes = Arc::new(Notes::default());
    let mut with_markers = parts(
        open(&world.folder),
        world.clock.clone(),
        Configured { apps: vec![(demo(), rooms())], default_app: None },
    );
    with_markers.ledger = Some(notes.clone());
    world.access = DirectoryAccess::start(with_markers).await.unwrap();
    let (ann, bob, cid) = (grant("ann"), grant("bob"), grant("cid"));

    assert_eq!(world.add("room:1", &ann, &["bob", "cid"], None).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["ann:owner", "bob", "cid"]);
    assert_eq!(world.add("room:1", &bob, &["eve"], None).await, Err(Code::Forbidden));
    assert_eq!(world.add("room:1", &grant("eve"), &["eve"], None).await, Err(Code::Forbidden));
    assert_eq!(world.add("room:1", &ann, &["bob"], Some("moderator")).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["ann:owner", "bob:moderator", "cid"]);
    // Adding somebody again takes nothing away.
    assert_eq!(world.add("room:1", &bob, &["bob", "dan"], None).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["ann:owner", "bob:moderator", "cid", "dan"]);

    // A moderator is no owner, and makes none.
    assert_eq!(world.add("room:1", &bob, &["bob"], Some("owner")).await, Err(Code::Forbidden));
    assert_eq!(world.add("room:1", &bob, &["bob"], Some("support")).await, Err(Code::Forbidden));
    assert_eq!(world.add("room:1", &bob, &["ann"], Some("member")).await, Err(Code::Forbidden));
    assert_eq!(world.remove("room:1", &bob, &["ann"]).await, Err(Code::Forbidden));
    assert_eq!(world.add("room:1", &bob, &["cid"], Some("moderator")).await, Ok(()));
    assert_eq!(world.add("room:1", &bob, &["cid"], Some("member")).await, Ok(()));
    // The only owner stays one, unless it goes.
    assert_eq!(world.remove("room:1", &ann, &["ann"]).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["bob:owner", "cid", "dan"]);
    assert_eq!(world.remove("room:1", &cid, &["dan"]).await, Err(Code::Forbidden));
    assert_eq!(world.remove("room:1", &cid, &["cid"]).await, Ok(()));
    assert_eq!(world.remove("room:1", &cid, &["cid"]).await, Ok(()), "again");
    assert_eq!(world.remove("room:1", &bob, &["bob"]).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["dan:owner"]);
    assert_eq!(world.add("room:1", &grant("dan"), &["dan"], Some("member")).await, Err(Code::Forbidden));
    assert_eq!(world.remove("room:1", &server(), &["dan"]).await, Ok(()));
    assert_eq!(world.members("room:1").await, [""; 0]);

    let notes = notes.0.lock().unwrap();
    for (begun, name) in
        [(true, "ann"), (true, "bob"), (true, "dan"), (false, "ann"), (false, "cid"), (false, "dan")]
    {
        assert!(notes.contains(&(begun, name.to_owned())), "{begun} {name}");
    }
    assert!(!notes.iter().any(|(_, name)| name == "eve"));
}

#[tokio::test]
async fn what_was_said_in_a_room_that_all_have_left_is_nobodys() {
    let mut world = World::new(rooms()).await;
    let configured = Configured { apps: vec![(demo(), rooms())], default_app: None };
    let mut with_history = parts(open(&world.folder), world.clock.clone(), configured);
    with_history.ledger = Some(Arc::new(Notes::default()));
    world.access = DirectoryAccess::start(with_history).await.unwrap();
    let eve = grant("eve");
    assert_eq!(world.add("room:used", &eve, &["eve"], None).await, Err(Code::Forbidden));
    assert_eq!(world.members("room:used").await, [""; 0]);
    assert_eq!(world.add("room:fresh", &eve, &["eve"], None).await, Ok(()));
    // Who it belongs to now, the app may know.
    assert_eq!(world.add("room:used", &server(), &["bob"], None).await, Ok(()));
    assert_eq!(world.members("room:used").await, ["bob"]);
}

#[tokio::test]
async fn who_may_found_and_where() {
    let world = World::new(rooms()).await;
    let guest = Arc::new(Grant { guest: true, ..(*grant("g-1")).clone() });
    assert_eq!(world.add("room:1", &guest, &["g-1"], None).await, Err(Code::Forbidden));
    // The server is nobody's member.
    assert_eq!(world.add("room:1", &server(), &["ann"], None).await, Ok(()));
    assert_eq!(world.members("room:1").await, ["ann"]);
    for (room, code) in [("open:1", Code::Forbidden), ("@ann", Code::Forbidden), ("token:1", Code::Forbidden)]
    {
        assert_eq!(world.add(room, &server(), &["ann"], None).await, Err(code), "{room}");
    }
    let both = Enrolment { add: users(["a"]), remove: users(["a"]), role: None };
    assert_eq!(world.enrol("room:2", &server(), both).await, Err(Code::BadField));
    let names: Vec<String> = (0..1001).map(|number| format!("u{number}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(world.add("room:2", &server(), &many, None).await, Err(Code::BadField));
}

#[tokio::test]
async fn of_two_who_found_a_room_at_once_at_most_one_owns_it() {
    let world = World::new(rooms()).await;
    let configured = Configured { apps: vec![(demo(), rooms())], default_app: None };
    let other = parts(world.elsewhere.clone(), world.clock.clone(), configured);
    let other = DirectoryAccess::start(other).await.unwrap();
    for number in 0..20 {
        let room = channel(&format!("room:{number}"));
        let found = |access: &DirectoryAccess, name: &str| {
            let (access, room, by) = (access.clone(), room.clone(), grant(name));
            let change = Enrolment { add: users([name]), ..Enrolment::default() };
            async move { decided(|done| access.enrol(&room, &by, false, change, done)).await }
        };
        let (ann, bob) = tokio::join!(found(&world.access, "ann"), found(&other, "bob"));
        assert!(!(ann.is_ok() && bob.is_ok()), "{number}: two founders");
        let members = world.access.0.records.enrolled(&room).await.unwrap();
        let expected = usize::from(ann.is_ok() || bob.is_ok());
        assert_eq!(members.len(), expected, "{number}: who has failed has left nothing");
    }
}

#[tokio::test]
async fn what_members_may_and_when_it_ends() {
    let world = World::new(rooms()).await;
    let (room, bob) = (channel("room:1"), grant("bob"));
    world.add("room:1", &grant("ann"), &["bob"], None).await.unwrap();
    let permission = world.permit(&room, &bob, None).await.unwrap();
    let expected = [Action::Subscribe, Action::Publish, Action::History, Action::Presence];
    assert_eq!(permission, Permission::of(expected.into_iter().fold(Actions::NONE, Actions::with)));
    let owner = world.permit(&room, &grant("ann"), None).await.unwrap();
    assert_eq!(owner, Permission::of(Actions::ALL));

    // On another node.
    world.put(Key::Member(room.clone(), user("bob")), None).await;
    let mut permission = permission;
    while permission != Permission::default() {
        // The first news may still be of the founding.
        world.ear.hears(&Changed::Permission(room.clone(), user("bob"))).await;
        permission = world.permit(&room, &bob, None).await.unwrap();
    }
    assert_eq!(world.members("room:1").await, ["ann:owner"]);

    // A role may be one in the channel alone.
    let desk = channel("desk");
    let support = MemberRecord { role: Some(role("support")), muted: true, since: 1 };
    world.put(Key::Member(desk.clone(), user("bob")), Record::Member(support)).await;
    let permission = world.permit(&desk, &bob, None).await.unwrap();
    assert!(permission.actions.contains(Action::Publish) && permission.actions.contains(Action::Subscribe));
    let notified = decided(|done| world.access.members(&desk, true, done)).await.unwrap();
    assert_eq!((world.members("desk").await.len(), notified.len()), (1, 0));

    assert_eq!(world.permit(&channel("none"), &bob, None).await.unwrap_err().code, Code::Forbidden);
    let others = ChannelKey::new(App::new("other").unwrap(), room.name.clone());
    assert!(world.permit(&others, &bob, None).await.is_err());
}

#[tokio::test]
async fn whom_one_has_blocked_may_not_write() {
    let world = World::new(rooms()).await;
    let (inbox, bob) = (channel("@ann"), grant("bob"));
    assert!(world.permit(&inbox, &bob, None).await.unwrap().actions.contains(Action::Publish));
    world.put(Key::Block(demo(), user("ann"), user("bob")), Record::Block(1)).await;
    world.ear.hears(&Changed::Permission(inbox.clone(), user("bob"))).await;
    for name in ["@ann", "@ann/phone"] {
        assert_eq!(world.permit(&channel(name), &bob, None).await, Ok(Permission::default()), "{name}");
    }
    assert!(world.permit(&inbox, &grant("cid"), None).await.unwrap().actions.contains(Action::Publish));
}

#[tokio::test]
async fn tokens_for_a_channel() {
    let world = World::new(rooms()).await;
    let (room, bob) = (channel("token:1"), grant("bob"));
    let exp = NOW + 60;
    let of = |claims: Value| token(claims);
    let permit = async |claims: Value| {
        let permission = world.permit(&room, &bob, Some(&of(claims))).await;
        permission.map_err(|problem| problem.code)
    };
    assert_eq!(world.permit(&room, &bob, None).await, Ok(Permission::default()));
    let usual = [Action::Subscribe, Action::History, Action::Presence, Action::Publish];
    let usual = usual.into_iter().fold(Actions::NONE, Actions::with);
    let good = json!({"sub": "bob", "channel": "token:1", "exp": exp});
    assert_eq!(permit(good.clone()).await, Ok(Permission { actions: usual, expires_at: Some(exp * 1000) }));
    let mut less = good.clone();
    less["actions"] = json!(["subscribe", "moderate"]);
    // The rule leaves moderation to nobody.
    let only = Actions::NONE.with(Action::Subscribe);
    assert_eq!(permit(less).await.map(|permission| permission.actions), Ok(only));
    for (claim, value, code) in [
        ("sub", json!("ann"), Code::Forbidden),
        ("channel", json!("token:*"), Code::Forbidden),
        ("channel", json!("token:2"), Code::Forbidden),
        ("channel", json!(null), Code::Forbidden),
        ("actions", json!("*"), Code::Forbidden),
        ("actions", json!(["all"]), Code::Forbidden),
        ("app", json!("other"), Code::Forbidden),
        ("exp", json!(NOW - 10), Code::TokenExpired),
        ("exp", json!(NOW - 2), Code::TokenExpired),
        ("exp", json!(null), Code::Forbidden),
    ] {
        let mut bad = good.clone();
        bad[claim] = value.clone();
        assert_eq!(permit(bad).await, Err(code), "{claim}: {value}");
    }
    let forged = world.permit(&room, &bob, Some("a.b.c")).await;
    assert_eq!(forged.unwrap_err().code, Code::Forbidden);
    // Where the rule asks for none, none is looked at.
    assert!(world.permit(&channel("room:1"), &bob, Some("a.b.c")).await.is_ok());

    // It is revoked with everything else.
    let out = UserRecord { tokens_valid_from: NOW * 1000, ..UserRecord::default() };
    world.put(Key::User(demo(), user("bob")), Record::User(Box::new(out))).await;
    world.ear.hears(&revoked(&user("bob"), NOW * 1000)).await;
    assert_eq!(permit(good).await, Err(Code::Revoked));
}
