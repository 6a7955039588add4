//! What an app's own back end asks for over HTTP: done here without a session. Messages enter at their channels' homes, like anybody's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use xpush_core::names::reserved_event;
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{
    Backend, Census, Ephemeral, Everywhere, LiveChannel, Object, Publication as Wanted, SearchBy, Searching,
};
use xpush_core::ports::bus::{Enlisting, Envelope, Event, Inbound, Signal, Topic};
use xpush_core::ports::hooks::Ask;
use xpush_core::ports::inquiry::Asked;
use xpush_core::ports::message_log::{Draft, Range};
use xpush_core::ports::online::Status;
use xpush_core::ports::presence::Roster;
use xpush_core::ports::{Done, PortError};
use xpush_core::{
    App, Channel, ChannelKey, ClientId, Code, EventName, Grant, History, Kind, Message, NodeId, Payload,
    Problem, Rule, Sender, User,
};
use xpush_wire::json;

use crate::cluster::inquiring::{self, Inquire};
use crate::command::{channels, presence, publish, sanction, signal, status};
use crate::dialect::object;
use crate::fanout::inbox::{Inbox, Publication, Publisher, Reply};
use crate::fanout::topic::Topics;
use crate::node::Shared;
use crate::search;
use crate::session::online::TELLER;
use crate::session::{online, sid};

/// Levels that the packet around the data has on Socket.IO: what comes from here is nested no deeper than what comes from there.
const AROUND: usize = 2;

/// Whom emitters' publications are from: as those by the HTTP API.
const EMITTER: &str = "server";
/// Where they come from, in the place of a node.
const EMITTERS: &str = "emitters";

/// Does on a node what is asked on behalf of apps.
pub(crate) struct Behalf(pub(crate) Arc<Shared>);

/// Messages that are answered together.
pub(crate) struct Batch(Mutex<Answers>);

struct Answers {
    /// `None`: not yet.
    each: Vec<Option<Result<Object, Problem>>>,
    open: usize,
    done: Option<Decided<Vec<Result<Object, Problem>>>>,
}

/// A question to all shards: which of an app's channels are followed.
pub(crate) struct Tally {
    app: App,
    prefix: Box<str>,
    after: Option<Box<str>>,
    limit: usize,
    counted: Mutex<Counted>,
}

struct Counted {
    channels: BTreeMap<Channel, u64>,
    open: usize,
    done: Option<Box<dyn FnOnce(Vec<LiveChannel>) + Send>>,
}

impl Batch {
    fn new(messages: usize, done: Decided<Vec<Result<Object, Problem>>>) -> Self {
        let each = (0..messages).map(|_| None).collect();
        Self(Mutex::new(Answers { each, open: messages, done: Some(done) }))
    }

    /// What became of the message of this number; the last one answers the batch.
    pub(crate) fn answer(&self, number: usize, reply: Reply) {
        self.put(
            number,
            match reply {
                Reply::Published(published) => Ok(publish::answer(&published)),
                Reply::Failed(problem) => Err(problem),
                // Nothing else answers a publication.
                _ => Err(Code::Internal.into()),
            },
        );
    }

    fn put(&self, number: usize, result: Result<Object, Problem>) {
        let mut answers = lock(&self.0);
        let Some(answer @ None) = answers.each.get_mut(number) else { return };
        *answer = Some(result);
        answers.open -= 1;
        if answers.open == 0 {
            answers.end();
        }
    }
}

impl Answers {
    fn end(&mut self) {
        let Some(done) = self.done.take() else { return };
        let unknown = || Err(Code::OutcomeUnknown.into());
        done(Ok(std::mem::take(&mut self.each)
            .into_iter()
            .map(|answer| answer.unwrap_or_else(unknown))
            .collect()));
    }
}

impl Tally {
    /// Of at most `limit` channels of an app that begin with `prefix` and come behind `after`; `shards` are to be asked.
    pub(crate) fn new(
        (app, prefix, after): (App, Box<str>, Option<Box<str>>),
        limit: usize,
        shards: usize,
        done: Box<dyn FnOnce(Vec<LiveChannel>) + Send>,
    ) -> Self {
        let counted = Counted { channels: BTreeMap::new(), open: shards, done: Some(done) };
        Self { app, prefix, after, limit, counted: Mutex::new(counted) }
    }

    /// A shard's share of the answer.
    pub(crate) fn take(&self, topics: &Topics) {
        let wanted = |key: &ChannelKey| {
            let name = key.name.as_str();
            key.app == self.app
                && name.starts_with(&*self.prefix)
                && self.after.as_ref().is_none_or(|after| name > &**after)
        };
        let mut counted = lock(&self.counted);
        for (key, sessions) in topics.count(wanted) {
            *counted.channels.entry(key.name.clone()).or_default() += sessions as u64;
        }
        counted.open -= 1;
        if counted.open == 0
            && let Some(done) = counted.done.take()
        {
            let channels = std::mem::take(&mut counted.channels).into_iter().take(self.limit);
            done(channels.map(|(channel, subscribers)| LiveChannel { channel, subscribers }).collect());
        }
    }
}

impl Backend for Behalf {
    fn largest(&self) -> usize {
        self.0.config.limits.payload
    }

    fn publish(&self, publications: Vec<Wanted>, done: Decided<Vec<Result<Object, Problem>>>) {
        if publications.is_empty() {
            return done(Ok(Vec::new()));
        }
        let batch = Arc::new(Batch::new(publications.len(), done));
        let mut asked: HashMap<ChannelKey, VecDeque<Publication>> = HashMap::new();
        let mut by_home: Vec<Vec<Publication>> = Vec::new();
        for (number, wanted) in publications.into_iter().enumerate() {
            match self.0.publication(wanted, Publisher::Backend(batch.clone(), number)) {
                Ok(publication) if self.0.asks_about(&publication) => {
                    asked.entry(publication.channel.clone()).or_default().push_back(publication);
                }
                Ok(publication) => {
                    let home = usize::from(self.0.home_of(&publication.channel));
                    if by_home.len() <= home {
                        by_home.resize_with(home + 1, Vec::new);
                    }
                    by_home[home].push(publication);
                }
                Err(problem) => batch.put(number, Err(problem)),
            }
        }
        for (home, publications) in (0..).zip(by_home) {
            if !publications.is_empty() {
                self.0.mailbox(home).post(Inbox::PublishAll(publications));
            }
        }
        asked.into_values().for_each(|publications| self.0.clone().ask_about(publications));
    }

    fn signal(&self, wanted: Ephemeral, done: Decided<Object>) {
        done(self.0.tell(wanted));
    }

    fn history(&self, channel: &ChannelKey, range: Range, limit: usize, done: Decided<Object>) {
        let rule = match self.0.rule(channel) {
            Ok(rule) if rule.history != History::None => rule,
            Ok(_) => return done(Err(Code::NoHistory.into())),
            Err(problem) => return done(Err(problem)),
        };
        let key = channel.clone();
        let done = reading(done, move |page| object::history(&key, &page));
        self.0.log(&rule.history).read(channel, range, limit, done);
    }

    fn presence(&self, channel: &ChannelKey, done: Decided<Object>) {
        match self.0.rule(channel) {
            Ok(rule) if rule.presence => {}
            Ok(_) => return done(Err(Code::NoPresence.into())),
            Err(problem) => return done(Err(problem)),
        }
        let (shared, key) = (self.0.clone(), channel.clone());
        let listed = move |result: Result<Roster, PortError>| match result {
            Ok(roster) => shared.with_statuses(key, roster, done),
            Err(error) => done(Err(error.code().into())),
        };
        self.0.presence().list(channel, presence::ROSTER, Box::new(listed));
    }

    fn status(&self, app: &App, users: Vec<User>, done: Decided<Object>) {
        self.0.online().status(app, users, reading(done, |statuses: Vec<_>| status::answer(&statuses)));
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<&str>,
        limit: usize,
        done: Decided<Object>,
    ) {
        let after = match after.map(channels::parse).transpose() {
            Ok(after) => after,
            Err(problem) => return done(Err(problem)),
        };
        let done = reading(done, move |found: Vec<_>| channels::answer(&found, limit));
        // One more than asked for shows whether there are more.
        self.0.ledger().conversations(app, user, after, limit + 1, done);
    }

    fn search(&self, by: SearchBy, asked: Searching, done: Decided<Object>) {
        search::search(&self.0, by, &asked, done);
    }

    fn live(
        &self,
        app: &App,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        done: Decided<Everywhere<Vec<LiveChannel>>>,
    ) {
        let asked =
            Asked::Followed { app: app.clone(), prefix: prefix.into(), after: after.map(Into::into), limit };
        let done = Box::new(move |answers| done(Ok(inquiring::followed(answers, limit))));
        self.0.mailbox(TELLER).post(Inbox::Inquire(Box::new(Inquire { asked, done })));
    }

    fn enlist(&self, channel: &ChannelKey, user: &User, follows: bool) -> Result<(), Problem> {
        self.0.rule(channel)?;
        let enlisting = Arc::new(Enlisting { channel: channel.clone(), user: user.clone(), follows });
        let topic = Topic::User(channel.app.clone(), user.clone());
        self.0.bus().publish(&topic, Event::Enlist(enlisting.clone()));
        self.0.post_all(|| Inbox::Enlist(enlisting.clone()));
        Ok(())
    }

    fn census(&self, apps: Vec<App>, done: Decided<Everywhere<Vec<Census>>>) {
        let done = Box::new(move |answers| done(Ok(inquiring::census(answers))));
        self.0.mailbox(TELLER).post(Inbox::Inquire(Box::new(Inquire { asked: Asked::Census(apps), done })));
    }

    fn node(&self) -> &str {
        self.0.id().as_str()
    }
}

impl Shared {
    /// The rule of a channel, as its app is now.
    pub(crate) fn rule(&self, channel: &ChannelKey) -> Result<Arc<Rule>, Problem> {
        let apps = self.access().apps();
        let app = apps.by_name.get(&channel.app).ok_or(Code::UnknownApp)?;
        let rule = app.rules.find(&channel.name).cloned();
        rule.ok_or_else(|| Problem::new(Code::NotFound, "no rule of this app covers this channel"))
    }

    /// Who is there and, where an app's users are told of, in which state.
    fn with_statuses(&self, key: ChannelKey, roster: Roster, done: Decided<Object>) {
        let told = Channel::new(online::CHANNEL).is_ok_and(|name| {
            let apps = self.access().apps();
            apps.by_name.get(&key.app).is_some_and(|app| app.rules.find(&name).is_some())
        });
        if !told || roster.members.is_empty() {
            return done(Ok(object::roster(&key, &roster, &[])));
        }
        let users = roster.members.iter().map(|member| member.user.clone()).collect();
        let app = key.app.clone();
        // Who is there is known, even when it is not known how they are.
        let answered = move |statuses: Result<Vec<Status>, PortError>| {
            done(Ok(object::roster(&key, &roster, &statuses.unwrap_or_default())));
        };
        self.online().status(&app, users, Box::new(answered));
    }

    /// What somebody publishes on an app's behalf, if that may be.
    pub(crate) fn publication(&self, wanted: Wanted, by: Publisher) -> Result<Publication, Problem> {
        let Wanted { channel, kind, event, data, id, from } = wanted;
        let rule = self.rule(&channel)?;
        publish::clients_write(&channel.name)?;
        if kind.target().is_some() {
            if rule.history == History::None {
                return Err(Code::NoHistory.into());
            }
        } else {
            speakable(&event)?;
        }
        let json = match kind {
            Kind::Delete { .. } => Bytes::from_static(b"null"),
            _ => self.checked(data)?,
        };
        let id = id.map_or_else(|| self.fresh_id(), Ok)?;
        let payload = Payload { json, attachments: Vec::new() };
        let (at, arrived) = (self.clock().wall(), self.clock().monotonic());
        let draft = Draft { kind, moderates: true, id, event, payload, from, at };
        Ok(Publication { channel, rule, draft, by, echo: true, params: None, arrived })
    }

    /// Whether another part of the app's back end is to be asked about what this one publishes.
    fn asks_about(&self, publication: &Publication) -> bool {
        !matches!(publication.draft.kind, Kind::Delete { .. }) && self.asks_about_server(&publication.channel)
    }

    /// The same of whatever is no deletion.
    pub(crate) fn asks_about_server(&self, channel: &ChannelKey) -> bool {
        self.hooks().asks(&channel.app, Ask::PublishByServer, Some(&channel.name))
    }

    /// Asks about publications into one channel, one after the other: they keep their order.
    fn ask_about(self: Arc<Self>, mut publications: VecDeque<Publication>) {
        let Some(mut publication) = publications.pop_front() else { return };
        let (app, sender) = (publication.channel.app.clone(), publication.draft.from.clone());
        let Ok(grant) = Grant::of_server(app, sender) else { return };
        let question = sanction::question(&publication, Arc::new(grant));
        let shared = self.clone();
        let answered = move |result| {
            match (sanction::amend(&mut publication, result), &publication.by) {
                (Err(problem), Publisher::Backend(batch, number)) => batch.put(*number, Err(problem)),
                _ => {
                    publication.arrived = shared.clock().monotonic();
                    let home = shared.home_of(&publication.channel);
                    shared.mailbox(home).post(Inbox::PublishAll(vec![publication]));
                }
            }
            shared.ask_about(publications);
        };
        self.hooks().publishing(question, Box::new(answered));
    }

    /// Serves this node's subscribers with what somebody has published on every node at once, past the bus: into channels without history only, as
    /// nothing else could have a place. It is from the server itself.
    pub(crate) fn emit(
        &self,
        channel: ChannelKey,
        event: EventName,
        payload: Payload,
    ) -> Result<(), Problem> {
        if self.rule(&channel)?.history != History::None {
            return Err(Problem::new(
                Code::Forbidden,
                "the channel keeps a history: what is published there needs a place",
            ));
        }
        publish::clients_write(&channel.name)?;
        speakable(&event)?;
        json::validate_bytes(&payload.json, json::MAX_DEPTH - AROUND)
            .map_err(|_| Problem::from(Code::BadJson))?;
        let from = Sender { user: User::new(EMITTER)?, name: None };
        let (id, at) = (self.fresh_id()?, self.clock().wall());
        let home = self.home_of(&channel);
        let kind = Kind::Message;
        let message = Message { kind, channel, position: None, id, event, payload, from, at, revision: None };
        // As if another node had published it: the home gives it to who is here, and passes nothing on.
        let origin = NodeId::new(EMITTERS)?;
        let envelope = Envelope { origin, event: Event::Message(Arc::new(message)) };
        self.mailbox(home).post(Inbox::Bus(Inbound::Envelope(envelope)));
        Ok(())
    }

    /// An id for a message that was given none.
    fn fresh_id(&self) -> Result<ClientId, Problem> {
        ClientId::new(&sid::spell(self.word())[..10]).map_err(Problem::from)
    }

    fn tell(&self, wanted: Ephemeral) -> Result<Object, Problem> {
        let Ephemeral { channel, event, data, ttl_ms, from } = wanted;
        self.rule(&channel)?;
        publish::clients_write(&channel.name)?;
        speakable(&event)?;
        signal::check_ttl(ttl_ms)?;
        let payload = Payload { json: self.checked(data)?, attachments: Vec::new() };
        let answer = signal::answer(&channel.name);
        let home = self.home_of(&channel);
        let message = signal::message(channel, event, payload, from, self.clock().wall())?;
        let signal = Arc::new(Signal { message, ttl_ms });
        self.mailbox(home).post(Inbox::Signal { signal, exclude: None });
        Ok(answer)
    }

    /// Data as they may be relayed.
    fn checked(&self, data: Bytes) -> Result<Bytes, Problem> {
        if data.len() > self.config.limits.payload {
            return Err(Code::TooLarge.into());
        }
        json::validate_bytes(&data, json::MAX_DEPTH - AROUND).map_err(|_| Problem::from(Code::BadJson))?;
        Ok(data)
    }
}

/// A reading's answer as the protocol has it.
fn reading<T: 'static>(done: Decided<Object>, write: impl FnOnce(T) -> Object + Send + 'static) -> Done<T> {
    Box::new(move |result: Result<T, PortError>| done(result.map(write).map_err(|error| error.code().into())))
}

fn speakable(event: &EventName) -> Result<(), Problem> {
    if reserved_event(event.as_str()) {
        return Err(Problem::new(
            Code::BadEvent,
            format!("the event's name {:?} is reserved", event.as_str()),
        ));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves answers that are missing, and are told as unknown.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Batch {
    /// The node stops: what has not been answered may have taken effect.
    fn drop(&mut self) {
        lock(&self.0).end();
    }
}
