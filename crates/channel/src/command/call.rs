//! `call`, and events that are no commands: what they become, the app has set up. They are published in a channel, or its back end answers them.

use bytes::Bytes;
use xpush_core::access::Decision;
use xpush_core::message::Payload;
use xpush_core::ports::hooks::{Called, Route};
use xpush_core::ports::message_log::Draft;
use xpush_core::{Action, Channel, Code, EventName, Kind, Problem};
use xpush_wire::json;

use super::fields::bad;
use super::place::{Place, decide};
use super::subscribe::Terms;
use super::{Asked, Command, Outcome, Request, publish, subscribe};
use crate::dialect::{Namespace, object};
use crate::fanout::inbox::{Handle, Inbox, Publication, Publisher, Reply};
use crate::session::gate::covers;
use crate::session::identity::Identity;
use crate::shard::Shard;

/// How deep an answer may be nested: as deep as a client's data.
const DEPTH: usize = 30;

pub(crate) fn run(shard: &mut Shard, request: Request<'_>) -> Result<Outcome, Problem> {
    let name = request.fields.text("name")?.ok_or_else(|| bad("name", "the name of what is called"))?;
    let data = request.fields.raw("data").unwrap_or("null");
    let route = shard.node.hooks().route(&request.identity.grant.app, &name);
    let route = route.ok_or_else(|| unknown(&name))?;
    called(shard, &Calling { name: &name, data, route }, &request)
}

/// What is called.
struct Calling<'a> {
    name: &'a str,
    /// Valid JSON.
    data: &'a str,
    route: Route,
}

/// Does what the app has set up for it.
fn called(shard: &mut Shard, calling: &Calling<'_>, request: &Request<'_>) -> Result<Outcome, Problem> {
    match &calling.route {
        Route::Publish { channel, echo } => relayed(shard, calling, request, channel, *echo),
        Route::Call => {
            if !request.attachments.is_empty() {
                return Err(bad("data", "no binary parts in a call"));
            }
            let called = Called {
                grant: request.identity.grant.clone(),
                connection: shard.spell(request.handle),
                name: calling.name.into(),
                data: Bytes::copy_from_slice(calling.data.as_bytes()),
            };
            let (to, asked, mailbox) = (request.handle, request.asked, shard.mailbox());
            let done = Box::new(move |result: Result<Bytes, Problem>| {
                let reply = match result.and_then(answer) {
                    Ok(body) => Reply::Body(body),
                    Err(problem) => Reply::Failed(problem),
                };
                mailbox.post(Inbox::Reply { to, asked, reply });
            });
            shard.node.hooks().call(called, done);
            Ok(Outcome::Later)
        }
    }
}

/// As a publication of the caller's.
fn relayed(
    shard: &mut Shard,
    calling: &Calling<'_>,
    request: &Request<'_>,
    channel: &Channel,
    echo: bool,
) -> Result<Outcome, Problem> {
    let identity = &request.identity;
    let (key, rule) = identity.channel(channel.clone())?;
    let permission = match decide(shard.node.hooks(), &identity.grant, &key, &rule) {
        Decision::Known(permission) => permission,
        // What ACCESS has said of the channel when the connection began to follow it.
        Decision::Ask(allowed) => shard.known_permission(request.handle, &key, allowed),
    };
    permission.check(Action::Publish)?;
    publish::clients_write(&key.name)?;
    publish::check_size(identity, calling.data, &request.attachments)?;
    if !json::placeholders_match(calling.data, request.attachments.len()) {
        return Err(bad("data", "binary parts belong into data, and nowhere else"));
    }
    let json = Bytes::copy_from_slice(calling.data.as_bytes());
    let draft = Draft {
        kind: Kind::Message,
        moderates: false,
        id: publish::fresh_id(shard),
        event: EventName::new(calling.name).map_err(Problem::from)?,
        payload: Payload { json, attachments: request.attachments.clone() },
        from: identity.sender().clone(),
        at: shard.node.clock().wall(),
    };
    let (by, arrived) = (Publisher::Session(request.handle, request.asked), shard.now);
    let publication = Publication { channel: key, rule, draft, by, echo, params: None, arrived };
    shard.publish(&identity.grant, publication);
    Ok(Outcome::Later)
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::UnknownCommand, format!("there is no command {:?} here", super::shorten(name)))
}

/// What the back end says, if it can be sent.
fn answer(body: Bytes) -> Result<String, Problem> {
    let good = json::validate_bytes(&body, DEPTH).map(str::to_owned);
    good.map_err(|_| Problem::new(Code::Unavailable, "the app's back end made an answer that cannot be sent"))
}

impl Shard {
    /// A Socket.IO client follows from the beginning what the app says, and is given it as plain events. What it may not follow, it does not, and is not told.
    pub(crate) fn join_plain(&mut self, handle: Handle) {
        let Some(session) = self.sessions.get(handle) else { return };
        let Some(identity) = session.native.clone().filter(|_| session.wire.engine().is_some()) else {
            return;
        };
        for channel in self.node.hooks().joined(&identity.grant.app) {
            if let Some(place) = self.may_join(&identity, channel) {
                self.command_begins(handle);
                let asked = Asked {
                    namespace: Namespace::Plain,
                    ack: None,
                    command: Command::Subscribe,
                    question: 0,
                };
                if subscribe::follow(self, handle, asked, place, Terms::default()).is_err() {
                    self.command_ends(handle);
                }
            }
        }
    }

    fn may_join(&self, identity: &Identity, channel: Channel) -> Option<Place> {
        let (key, rule) = identity.channel(channel).ok()?;
        let Decision::Known(permission) = decide(self.node.hooks(), &identity.grant, &key, &rule) else {
            // Whom somebody must be asked about, subscribes.
            return None;
        };
        permission.check(Action::Subscribe).ok()?;
        Some(Place { key, rule, permission, asked: false })
    }

    fn known_permission(
        &mut self,
        handle: Handle,
        key: &xpush_core::ChannelKey,
        allowed: xpush_core::access::Actions,
    ) -> xpush_core::Permission {
        let publishes = xpush_core::access::Actions::NONE.with(Action::Publish);
        let known = if covers(allowed, publishes) { None } else { self.remembered(handle, key) };
        known.unwrap_or(xpush_core::Permission::of(allowed))
    }
}

/// An event's arguments as data: the only one as it is, none as `null`, several as a list.
pub(crate) fn data<'a>(mut arguments: impl Iterator<Item = &'a str>) -> std::borrow::Cow<'a, str> {
    let (Some(first), second) = (arguments.next(), arguments.next()) else { return "null".into() };
    let Some(second) = second else { return first.into() };
    let mut list = format!("[{first},{second}").into_bytes();
    for more in arguments {
        list.push(b',');
        list.extend_from_slice(more.as_bytes());
    }
    list.push(b']');
    object::text(list).into()
}

/// What is no command: on Socket.IO an event of the app's own, where it knows one of this name.
pub(super) fn no_command(shard: &mut Shard, name: &str, data: &str, mut request: Request<'_>) {
    let (handle, asked) = (request.handle, request.asked);
    let events = (asked.namespace, asked.command) == (Namespace::Native, Command::Unknown)
        && shard.sessions.get(handle).is_some_and(|session| session.wire.engine().is_some());
    let route = events.then(|| shard.node.hooks().route(&request.identity.grant.app, name)).flatten();
    let Some(route) = route else {
        shard.answer_failure_of(handle, asked, super::shorten(name), &unknown(name));
        return shard.command_ends(handle);
    };
    request.asked = Asked { namespace: Namespace::Plain, command: Command::Call, ..asked };
    if let Err(problem) = called(shard, &Calling { name, data, route }, &request) {
        shard.fail(handle, request.asked, &problem);
    }
}
