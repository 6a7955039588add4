//! What a client can ask for: one command, one file, one rhythm: parse → check → apply → answer.

pub(crate) mod call;
pub(crate) mod channels;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod enlist;
pub(crate) mod fields;
pub(crate) mod history;
pub(crate) mod legacy;
pub(crate) mod members;
pub(crate) mod patience;
pub(crate) mod ping;
pub(crate) mod place;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod recover;
pub(crate) mod refresh;
pub(crate) mod sanction;
pub(crate) mod search;
pub(crate) mod signal;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use std::sync::Arc;

use bytes::Bytes;
use xpush_core::ports::markers::Mark;
use xpush_core::{Code, Permission, Problem};

use self::fields::Fields;
use self::place::{Found, Place};
use crate::dialect::{self, Namespace, object};
use crate::fanout::inbox::{Handle, Happening, Reply};
use crate::session::identity::Identity;
use crate::session::rate::Verdict;
use crate::shard::Shard;
use crate::transport::stream::Flow;

/// The commands, by their names on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Refresh,
    Subscribe,
    Unsubscribe,
    Publish,
    Edit,
    Delete,
    Read,
    Delivered,
    Channels,
    Members,
    Status,
    Signal,
    History,
    Search,
    Presence,
    Call,
    Ping,
    /// XPUSH 0.1's `send`.
    Send,
    /// To follow a channel again, on behalf of a client that recovers: no client sends it.
    Recover,
    /// To follow a channel as its app's own back end has it; never asked for by a client.
    Enlist,
    Unknown,
}

/// A command and where its answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) namespace: Namespace,
    /// The id of the acknowledgement; without one only a failure is told.
    pub(crate) ack: Option<u64>,
    pub(crate) command: Command,
    /// Numbers what a store was asked for it; 0 for most.
    pub(crate) question: u32,
}

/// A command as it came.
pub(crate) struct Call<'n, 'a> {
    pub(crate) namespace: Namespace,
    pub(crate) command: Command,
    pub(crate) name: &'n str,
    /// Its argument: valid JSON of any type.
    pub(crate) object: &'a str,
    /// The argument taken apart.
    pub(crate) fields: Result<Fields<'a>, Problem>,
    pub(crate) id: Option<u64>,
    pub(crate) attachments: Vec<Bytes>,
}

/// A command under way: what its file works with.
pub(crate) struct Request<'a> {
    pub(crate) handle: Handle,
    pub(crate) asked: Asked,
    pub(crate) identity: Arc<Identity>,
    /// The channel that it is about, if it is about one.
    pub(crate) place: Option<Place>,
    pub(crate) fields: Fields<'a>,
    pub(crate) attachments: Vec<Bytes>,
}

/// What a command comes to, if it does not fail.
pub(crate) enum Outcome {
    /// The JSON object of `ok`.
    Now(String),
    /// A home or a port will reply.
    Later,
}

impl Command {
    /// The name on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe | Self::Recover | Self::Enlist => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Publish => "publish",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Delivered => "delivered",
            Self::Channels => "channels",
            Self::Members => "members",
            Self::Status => "status",
            Self::Signal => "signal",
            Self::History => "history",
            Self::Search => "search",
            Self::Presence => "presence",
            Self::Call => "call",
            Self::Ping => "ping",
            Self::Send => "send",
            Self::Unknown => "",
        }
    }

    /// The command that a client names.
    pub(crate) fn parse(namespace: Namespace, name: &str) -> Self {
        const NATIVE: [Command; 17] = [
            Command::Refresh,
            Command::Subscribe,
            Command::Unsubscribe,
            Command::Publish,
            Command::Edit,
            Command::Delete,
            Command::Read,
            Command::Delivered,
            Command::Channels,
            Command::Members,
            Command::Status,
            Command::Signal,
            Command::History,
            Command::Search,
            Command::Presence,
            Command::Call,
            Command::Ping,
        ];
        let commands: &[Command] = match namespace {
            Namespace::Native | Namespace::Plain => &NATIVE,
            Namespace::Legacy => &[Command::Send],
        };
        commands.iter().copied().find(|command| command.as_str() == name).unwrap_or(Self::Unknown)
    }

    /// Whether it is to follow a channel, which may hang by a token for that channel.
    pub(crate) fn follows(self) -> bool {
        matches!(self, Self::Subscribe | Self::Recover | Self::Enlist)
    }
}

impl Call<'_, '_> {
    pub(crate) fn asked(&self) -> Asked {
        Asked { namespace: self.namespace, ack: self.id, command: self.command, question: 0 }
    }
}

/// Takes one command of a session: it is run, or held until the session goes on.
pub(crate) fn run(shard: &mut Shard, handle: Handle, call: Call<'_, '_>) -> Flow {
    let now = shard.now;
    let Some(session) = shard.sessions.get(handle) else { return Flow::Over };
    let waits = call.namespace == Namespace::Native && session.waits();
    if !waits && session.identity(call.namespace).is_none() {
        return Flow::Over;
    }
    let rate = session.commands_per_second(&shard.node.config.limits);
    match session.rate.take(now, rate) {
        Verdict::Accept => {}
        Verdict::Refuse => {
            shard.answer_failure(handle, call.asked(), &Code::RateLimited.into());
            return Flow::Go;
        }
        Verdict::Close => {
            shard.close(handle, Code::RateLimited.into());
            return Flow::Over;
        }
    }
    shard.counters.commands.add(1);
    let flow = shard.command_begins(handle);
    if !waits {
        execute(shard, handle, call, None);
        return flow;
    }
    match shard.hold(handle, call) {
        Flow::Go => flow,
        held => held,
    }
}

/// Runs a command that has begun. `permission`: what ACCESS was asked for, for this very command.
pub(crate) fn execute(shard: &mut Shard, handle: Handle, call: Call<'_, '_>, permission: Option<Permission>) {
    let asked = call.asked();
    let identity = shard.sessions.get(handle).and_then(|session| session.identity(call.namespace).cloned());
    let Some(identity) = identity else { return shard.command_ends(handle) };
    let place = match &call.fields {
        Ok(fields) => place::find(shard, handle, &identity, asked, fields, permission),
        Err(_) => Ok(Found::Nowhere),
    };
    let place = match place {
        Ok(Found::Here(place)) => Some(place),
        Ok(Found::Nowhere) => None,
        Ok(Found::Ask(channel, allowed)) => return shard.ask(handle, call, channel, allowed),
        Err(problem) => return shard.fail(handle, asked, &problem),
    };
    let request = |fields| Request { handle, asked, identity, place, fields, attachments: call.attachments };
    let outcome = match (asked.command, call.fields) {
        (Command::Unknown | Command::Connect, fields) => {
            return call::no_command(shard, call.name, call.object, request(fields.unwrap_or_default()));
        }
        (Command::Ping, _) => ping::run(shard),
        (_, Err(problem)) => Err(problem),
        (Command::Refresh, Ok(fields)) => refresh::run(shard, request(fields)),
        (Command::Subscribe, Ok(fields)) => subscribe::run(shard, request(fields)),
        (Command::Enlist, Ok(fields)) => subscribe::run(shard, request(fields)),
        (Command::Recover, Ok(fields)) => recover::run(shard, request(fields)),
        (Command::Unsubscribe, Ok(fields)) => unsubscribe::run(shard, request(fields)),
        (Command::Publish, Ok(fields)) => publish::run(shard, request(fields)),
        (Command::Edit, Ok(fields)) => edit::run(shard, request(fields)),
        (Command::Delete, Ok(fields)) => delete::run(shard, request(fields)),
        (Command::Read, Ok(fields)) => read::run(shard, &request(fields), Mark::Read),
        (Command::Delivered, Ok(fields)) => read::run(shard, &request(fields), Mark::Delivered),
        (Command::Channels, Ok(fields)) => channels::run(shard, &request(fields)),
        (Command::Members, Ok(fields)) => members::run(shard, &request(fields)),
        (Command::Status, Ok(fields)) => status::run(shard, &request(fields)),
        (Command::Signal, Ok(fields)) => signal::run(shard, request(fields)),
        (Command::History, Ok(fields)) => history::run(shard, request(fields)),
        (Command::Search, Ok(fields)) => search::run(shard, &request(fields)),
        (Command::Call, Ok(fields)) => call::run(shard, request(fields)),
        (Command::Presence, Ok(fields)) => presence::run(shard, request(fields)),
        (Command::Send, Ok(fields)) => legacy::send(shard, request(fields), call.object),
    };
    match outcome {
        Ok(Outcome::Now(body)) => shard.succeed(handle, asked, &body),
        Ok(Outcome::Later) => {}
        Err(problem) => shard.fail(handle, asked, &problem),
    }
}

impl Shard {
    /// A push for one session.
    pub(crate) fn push_to(&mut self, handle: Handle, happening: &Happening) {
        let Some(session) = self.sessions.get(handle) else { return };
        let mut frame = Vec::new();
        let format = session.format(Namespace::Native);
        dialect::happening(format, happening, &mut object::Objects::default(), &mut frame);
        self.sessions.send(handle.slot, frame.into());
    }

    /// What a home or a port has to say to a command.
    pub(crate) fn replied(&mut self, to: Handle, asked: Asked, reply: Reply) {
        if !self.is_unanswered(asked) {
            return;
        }
        match reply {
            Reply::Joined(joined) => subscribe::joined(self, to, asked, *joined),
            Reply::JoinFailed { ticket, problem } => subscribe::failed(self, to, asked, ticket, &problem),
            Reply::Published(published) => {
                let body = match asked.namespace {
                    Namespace::Native | Namespace::Plain => publish::answer(&published),
                    Namespace::Legacy => dialect::legacy::success(published.params.as_ref()),
                };
                self.succeed(to, asked, &body);
            }
            Reply::History(channel, page) => {
                let body = object::history(&channel, &page);
                self.succeed(to, asked, &body);
            }
            Reply::Roster(channel, roster, statuses) => {
                let body = object::roster(&channel, &roster, &statuses);
                self.succeed(to, asked, &body);
            }
            Reply::Renewed(grant) => match self.renew(to, *grant) {
                Ok(body) => self.succeed(to, asked, &body),
                Err(problem) => self.fail(to, asked, &problem),
            },
            Reply::Body(body) => self.succeed(to, asked, &body),
            Reply::Failed(problem) => self.fail(to, asked, &problem),
        }
    }

    /// Ends a command well.
    pub(crate) fn succeed(&mut self, to: Handle, asked: Asked, body: &str) {
        self.answer(to, asked, body);
        self.command_ends(to);
    }

    /// Ends a command badly.
    pub(crate) fn fail(&mut self, to: Handle, asked: Asked, problem: &Problem) {
        if asked.command == Command::Recover {
            self.command_ends(to);
            return self.return_failed(to, problem);
        }
        self.answer_failure(to, asked, problem);
        self.command_ends(to);
    }

    /// Sends an answer, if the client asked for one and is still there.
    pub(crate) fn answer(&mut self, to: Handle, asked: Asked, body: &str) {
        if asked.ack.is_none() {
            return;
        }
        let Some(session) = self.sessions.get(to) else { return };
        // Who has left the namespace hears no more of it; who is about to be closed is owed its answers.
        if session.identity(asked.namespace).is_none() && session.last_words.is_none() {
            return;
        }
        let mut frame = Vec::with_capacity(body.len() + 32);
        dialect::answer(session.wire, asked, body, &mut frame);
        self.sessions.send(to.slot, frame.into());
    }

    /// Sends a failure, and counts it.
    pub(crate) fn answer_failure(&mut self, to: Handle, asked: Asked, problem: &Problem) {
        self.answer_failure_of(to, asked, asked.command.as_str(), problem);
    }

    /// [`Shard::answer_failure`] of a command by the name that the client gave.
    fn answer_failure_of(&mut self, to: Handle, asked: Asked, name: &str, problem: &Problem) {
        self.count_refusal(problem.code);
        // The client has asked for nothing, and is owed no answer.
        if asked.command == Command::Enlist {
            return;
        }
        let Some(session) = self.sessions.get(to) else { return };
        if session.closing && session.last_words.is_none() {
            return;
        }
        let mut frame = Vec::with_capacity(160);
        dialect::failure(session.wire, asked, name, problem, &mut frame);
        self.sessions.send(to.slot, frame.into());
    }
}

/// A client's word in an error of moderate length.
fn shorten(text: &str) -> &str {
    text.char_indices().nth(32).map_or(text, |(end, _)| &text[..end])
}
