//! Looking for words, in the channels that whoever asks may read.

use std::sync::{Arc, Mutex, PoisonError};

use xpush_core::ports::PortError;
use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{Object, SearchBy, Searching};
use xpush_core::ports::markers::Conversation;
use xpush_core::ports::search::{Found, Places, Search, Wanted};
use xpush_core::search::Query;
use xpush_core::{Action, Channel, ChannelKey, Code, Grant, Permission, Problem, access};
use xpush_wire::json::write_string;

use crate::command::place;
use crate::dialect::object;
use crate::node::Shared;

/// Channels of a user that are searched together: those that were active last.
const CHANNELS: usize = 500;

/// Channels whose permissions were asked for.
struct Gathering {
    open: usize,
    allowed: Vec<Channel>,
    /// What kept it from being known.
    failed: Option<Problem>,
    done: Option<Decided<Vec<Channel>>>,
}

/// Looks on behalf of `by`. Its answer is the object of docs/protocol.md.
pub(crate) fn search(shared: &Arc<Shared>, by: SearchBy, asked: &Searching, done: Decided<Object>) {
    let (search, wanted) = match question(shared, &by, asked) {
        Ok(question) => question,
        Err(problem) => return done(Err(problem)),
    };
    let grant = match by {
        SearchBy::App(_) | SearchBy::Permitted(..) => return look(&*search, wanted, done),
        SearchBy::User(grant) => grant,
    };
    let named = asked.channel.clone().or_else(|| wanted.query.channel.clone());
    let is_named = named.is_some();
    let among = move |channels: Result<Vec<Channel>, Problem>| match channels {
        Ok(channels) if channels.is_empty() && is_named => {
            done(Err(Problem::new(Code::NotFound, "there is no such channel that you may search")));
        }
        Ok(channels) => look(&*search, Wanted { places: Places::These(channels), ..wanted }, done),
        Err(problem) => done(Err(problem)),
    };
    match named {
        Some(channel) => readable(shared, &grant, vec![channel], Box::new(among)),
        None => own(shared, &grant, Box::new(among)),
    }
}

/// What is asked, and whom; where, as far as that is known already.
fn question(shared: &Shared, by: &SearchBy, asked: &Searching) -> Result<(Arc<dyn Search>, Wanted), Problem> {
    let search = shared.search().ok_or_else(|| {
        Problem::new(Code::NoSearch, "this server's store has no search: it is in the embedded one only")
    })?;
    let query = Query::parse(&asked.query)?;
    let app = match by {
        SearchBy::App(app) => app,
        SearchBy::User(grant) => &grant.app,
        SearchBy::Permitted(channel) => &channel.app,
    };
    let places = match (by, &asked.channel) {
        (SearchBy::Permitted(channel), _) => Places::These(vec![channel.name.clone()]),
        (_, Some(channel)) => Places::These(vec![channel.clone()]),
        (_, None) => Places::All,
    };
    if let (SearchBy::App(_) | SearchBy::Permitted(_), Places::These(channels)) = (by, &places) {
        for channel in channels {
            if !is_searched(shared, &ChannelKey::new(app.clone(), channel.clone()))? {
                return Err(Code::NoSearch.into());
            }
        }
    }
    let wanted = Wanted { app: app.clone(), places, query, before: asked.before, limit: asked.limit };
    Ok((search.clone(), wanted))
}

fn is_searched(shared: &Shared, channel: &ChannelKey) -> Result<bool, Problem> {
    let apps = shared.access().apps();
    let app = apps.by_name.get(&channel.app).ok_or(Code::UnknownApp)?;
    let rule = app.rules.find(&channel.name);
    let rule = rule.ok_or_else(|| Problem::new(Code::NotFound, "no rule of this app covers this channel"))?;
    Ok(rule.is_searched())
}

/// The channels that a user is in, as far as it may read them.
fn own(shared: &Arc<Shared>, grant: &Arc<Grant>, done: Decided<Vec<Channel>>) {
    let (asked, who) = (shared.clone(), grant.clone());
    let listed = move |conversations: Result<Vec<Conversation>, PortError>| match conversations {
        Ok(conversations) => {
            let channels = conversations.into_iter().map(|conversation| conversation.channel);
            readable(&asked, &who, channels.collect(), done);
        }
        Err(error) => done(Err(error.code().into())),
    };
    shared.ledger().conversations(&grant.app, &grant.sender.user, None, CHANNELS, Box::new(listed));
}

/// Those of `channels` that are searched, and whose history `grant` may read.
fn readable(shared: &Shared, grant: &Arc<Grant>, channels: Vec<Channel>, done: Decided<Vec<Channel>>) {
    let apps = shared.access().apps();
    let Some(app) = apps.by_name.get(&grant.app) else { return done(Err(Code::UnknownApp.into())) };
    let (mut allowed, mut to_ask) = (Vec::new(), Vec::new());
    for channel in channels {
        let Some(rule) = app.rules.find(&channel).filter(|rule| rule.is_searched()) else { continue };
        let key = ChannelKey::new(grant.app.clone(), channel);
        match place::decide(shared.hooks(), grant, &key, rule) {
            access::Decision::Known(permission) if may_read(&permission) => allowed.push(key.name),
            access::Decision::Known(_) => {}
            access::Decision::Ask(actions) if actions.contains(Action::History) => allowed.push(key.name),
            access::Decision::Ask(_) => to_ask.push(key),
        }
    }
    if to_ask.is_empty() {
        return done(Ok(allowed));
    }
    let open = to_ask.len();
    let gathering = Arc::new(Mutex::new(Gathering { open, allowed, failed: None, done: Some(done) }));
    for key in to_ask {
        let (gathering, channel) = (gathering.clone(), key.name.clone());
        let decided = move |permission| Gathering::take(&gathering, channel, permission);
        shared.access().permit(&key, grant, None, Box::new(decided));
    }
}

fn may_read(permission: &Permission) -> bool {
    permission.actions.contains(Action::History)
}

impl Gathering {
    fn take(gathering: &Mutex<Self>, channel: Channel, permission: Result<Permission, Problem>) {
        let mut all = gathering.lock().unwrap_or_else(PoisonError::into_inner);
        match permission {
            Ok(permission) if may_read(&permission) => all.allowed.push(channel),
            Ok(_) => {}
            Err(problem) if problem.code == Code::Forbidden => {}
            Err(problem) => all.failed = Some(problem),
        }
        all.open -= 1;
        if all.open > 0 {
            return;
        }
        let (allowed, failed, done) = (std::mem::take(&mut all.allowed), all.failed.take(), all.done.take());
        drop(all);
        if let Some(done) = done {
            done(failed.map_or(Ok(allowed), Err));
        }
    }
}

fn look(search: &dyn Search, wanted: Wanted, done: Decided<Object>) {
    let told = move |found: Result<Found, PortError>| {
        done(found.map(|found| answer(&found)).map_err(|error| error.code().into()));
    };
    search.search(wanted, Box::new(told));
}

/// `{"hits":[{"message":{…},"excerpt":[…]}…],"before":"…"}`
fn answer(found: &Found) -> Object {
    let mut out = br#"{"hits":["#.to_vec();
    for (index, hit) in found.hits.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"message":"# } else { br#",{"message":"# });
        out.extend_from_slice(object::message(&hit.message).as_bytes());
        out.extend_from_slice(br#","excerpt":["#);
        for (index, piece) in hit.excerpt.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(piece, &mut out);
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
    if let Some(before) = found.before {
        out.extend_from_slice(format!(r#","before":"{before}""#).as_bytes());
    }
    out.push(b'}');
    object::text(out)
}
