//! XPUSH 0.1 on `/channel`: to connect is to join; `send` publishes, or reaches one socket.

use std::sync::Arc;

use bytes::Bytes;
use xpush_core::message::Message;
use xpush_core::ports::hooks::Ask;
use xpush_core::ports::message_log::Draft;
use xpush_core::{Action, Channel, ChannelKey, Code, EventName, Grant, Kind, Problem};
use xpush_wire::{json, query};

use super::fields::bad;
use super::place::{Place, unasked};
use super::subscribe::Terms;
use super::{Asked, Command, Outcome, Request, publish, subscribe};
use crate::dialect::{self, Namespace, object};
use crate::fanout::inbox::{Handle, Inbox, LegacyEntrance, Publication, Publisher};
use crate::session::LegacySocket;
use crate::session::admission::may_come_from;
use crate::session::identity::Identity;
use crate::session::sid::PublicId;
use crate::shard::Shard;

/// Connects to the namespace and joins the channel that `C` names, in the app that `A` names. CONNECT is answered when the channel is followed ([`subscribe::joined`]):
/// what happens there from then on, the client is told.
pub(crate) fn connect(shard: &mut Shard, handle: Handle, packet_query: &str, auth: &str) {
    match admit(shard, handle, packet_query, auth) {
        Ok(place) => {
            let asked =
                Asked { namespace: Namespace::Legacy, ack: None, command: Command::Subscribe, question: 0 };
            if let Err(problem) = subscribe::follow(shard, handle, asked, place, Terms::default()) {
                refuse(shard, handle, &problem);
            }
        }
        Err(problem) => shard.refuse_connect(handle, Namespace::Legacy.as_str(), &problem),
    }
}

/// The channel cannot be followed, so there is nothing to be connected to.
pub(super) fn refuse(shard: &mut Shard, handle: Handle, problem: &Problem) {
    shard.leave_namespace(handle, Namespace::Legacy);
    shard.refuse_connect(handle, Namespace::Legacy.as_str(), problem);
}

fn admit(shard: &mut Shard, handle: Handle, packet_query: &str, auth: &str) -> Result<Place, Problem> {
    let session = shard.sessions.get(handle).ok_or(Code::Internal)?;
    let opening = session.query.clone();
    let parameter = |name: &str| -> Result<Option<String>, Problem> {
        let given = json::members(auth).into_iter().flatten().find(|(field, _)| field == name);
        if let Some(value) = given.and_then(|(_, value)| json::string(value)) {
            return Ok(Some(value.into_owned()));
        }
        for query in [packet_query, &opening] {
            let found = query::single(query, name).map_err(|_| bad(name, "given more than once"))?;
            if let Some(value) = found {
                return Ok(Some(value.into_owned()));
            }
        }
        Ok(None)
    };
    let required = |name: &str| parameter(name)?.ok_or_else(|| missing(name));
    let (app, channel) = (required("A")?, required("C")?);
    let user = parameter("U")?.unwrap_or_else(|| PublicId(handle).to_string());
    let device = parameter("D")?.unwrap_or_else(|| "N".to_owned());
    let server = parameter("S")?.unwrap_or_default();
    let identity = Identity::admit_legacy(&shard.node.access().apps(), &app, &user)?;
    let channel = Channel::new(&channel).map_err(Problem::from)?;
    may_come_from(shard.sessions.get(handle).and_then(|session| session.origin()), &identity.app)?;
    let (key, rule) = identity.channel(channel)?;
    if shard.node.hooks().asks(&key.app, Ask::Connect, None)
        || shard.node.hooks().asks(&key.app, Ask::Subscribe, Some(&key.name))
    {
        return Err(Problem::new(
            Code::Forbidden,
            "the app's back end must be asked, for which these clients have no words",
        ));
    }
    unasked(&identity, &key, &rule).check(Action::Subscribe)?;
    let place = Place { permission: unasked(&identity, &key, &rule), key, rule, asked: false };
    let entrance = LegacyEntrance {
        came: members(&[
            ("id", &PublicId(handle).to_string()),
            ("A", &app),
            ("C", place.key.name.as_str()),
            ("S", &server),
            ("U", &user),
            ("D", &device),
        ]),
        left: members(&[("A", &app), ("C", place.key.name.as_str()), ("U", &user)]),
    };
    let socket =
        LegacySocket { identity: identity.into(), channel: place.key.clone(), entrance: Arc::new(entrance) };
    shard.sessions.get(handle).ok_or(Code::Internal)?.legacy = Some(Box::new(socket));
    Ok(place)
}

/// `send {NM, DT}` to the channel, or with `S` and `SS` to one socket of it.
pub(crate) fn send(shard: &mut Shard, mut request: Request<'_>, params: &str) -> Result<Outcome, Problem> {
    let name = request.fields.text("NM")?.ok_or_else(|| missing("NM"))?;
    let data = request.fields.get("DT").ok_or_else(|| missing("DT"))?;
    if dialect::reserved(Namespace::Legacy, &name) {
        return Err(Problem::new(Code::BadEvent, format!("the event's name {name:?} is reserved")));
    }
    let event = EventName::new(&name).map_err(Problem::from)?;
    let attachments = std::mem::take(&mut request.attachments);
    publish::check_size(&request.identity, data, &attachments)?;
    if !json::placeholders_match(data, attachments.len()) {
        return Err(bad("DT", "binary parts belong into DT, and nowhere else"));
    }
    let params = attachments.is_empty().then(|| Bytes::copy_from_slice(params.as_bytes()));
    let payload = xpush_core::Payload { json: Bytes::copy_from_slice(data.as_bytes()), attachments };
    let key = channel_of(shard, request.handle).ok_or(Code::BadOrder)?;
    let (_, rule) = request.identity.channel(key.name.clone())?;
    unasked(&request.identity, &key, &rule).check(Action::Publish)?;
    let (id, at) = (publish::fresh_id(shard), shard.node.clock().wall());
    let from = request.identity.sender().clone();
    if let Some(socket) = request.fields.text("SS")? {
        let Some(PublicId(to)) = PublicId::parse(&socket).filter(|to| shard.node.has_shard(to.0.shard))
        else {
            return Err(bad("SS", "no socket of this server"));
        };
        let message = Message {
            kind: Kind::Message,
            revision: None,
            channel: key,
            position: None,
            id,
            event,
            payload,
            from,
            at,
        };
        shard.post(to.shard, Inbox::Direct { to, message: Arc::new(message) });
        return Ok(Outcome::Now(dialect::legacy::success(params.as_ref())));
    }
    let draft = Draft { kind: Kind::Message, moderates: false, id, event, payload, from, at };
    let (by, arrived) = (Publisher::Session(request.handle, request.asked), shard.now);
    let publication = Publication { channel: key, rule, draft, by, echo: true, params, arrived };
    shard.send_or_refuse(&request.identity.grant, publication)?;
    Ok(Outcome::Later)
}

impl Shard {
    /// These clients cannot wait for a back end, so they may not publish where one is asked.
    fn send_or_refuse(&mut self, grant: &Arc<Grant>, publication: Publication) -> Result<(), Problem> {
        let key = &publication.channel;
        if self.node.hooks().asks(&key.app, Ask::Publish, Some(&key.name)) {
            return Err(Problem::new(Code::Forbidden, "the app's back end must be asked"));
        }
        self.publish(grant, publication);
        Ok(())
    }

    /// A message for one socket, which must be in the channel of the sender's.
    pub(crate) fn deliver_direct(&mut self, to: Handle, message: &Message) {
        if channel_of(self, to).as_ref() != Some(&message.channel) {
            return;
        }
        let Some(session) = self.sessions.get(to) else { return };
        let mut frame = Vec::new();
        dialect::legacy::message(session.wire, message, &mut frame);
        self.sessions.send(to.slot, frame.into());
    }
}

fn channel_of(shard: &mut Shard, handle: Handle) -> Option<ChannelKey> {
    shard.sessions.get(handle)?.legacy.as_ref().map(|socket| socket.channel.clone())
}

fn missing(name: &str) -> Problem {
    Problem::new(Code::BadField, format!("[{name}] must be supplied"))
}

/// JSON members without the braces.
fn members(pairs: &[(&str, &str)]) -> Box<str> {
    let mut out = Vec::with_capacity(128);
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(name, &mut out);
        out.push(b':');
        json::write_string(value, &mut out);
    }
    object::text(out).into()
}
