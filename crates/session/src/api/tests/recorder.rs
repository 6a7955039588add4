//! A channel server that writes down what it is asked for.

use std::sync::Mutex;

use xpush_core::ports::access::Decided;
use xpush_core::ports::backend::{
    Backend, Census, Ephemeral, Everywhere, LiveChannel, Object, Publication, SearchBy, Searching,
};
use xpush_core::ports::inquiry::{Counters, Crowd};
use xpush_core::ports::markers::Markers;
use xpush_core::ports::message_log::Range;
use xpush_core::{App, Channel, ChannelKey, Code, NodeId, Problem, User};

use super::*;

pub(crate) const LARGEST: usize = 100_000;

pub(crate) struct Recorder {
    markers: Arc<dyn Markers>,
    pub(crate) published: Mutex<Vec<Publication>>,
    pub(crate) told: Mutex<Vec<Ephemeral>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// What publications into this channel are refused with.
    pub(crate) refuses: Mutex<Option<(Channel, Code)>>,
}

impl Recorder {
    pub(crate) fn new(markers: Arc<dyn Markers>) -> Self {
        Self {
            markers,
            published: Mutex::default(),
            told: Mutex::default(),
            asked: Mutex::default(),
            refuses: Mutex::default(),
        }
    }

    fn note(&self, what: String) -> Object {
        self.asked.lock().unwrap().push(what.clone());
        json!({ "asked": what }).to_string()
    }
}

impl Backend for Recorder {
    fn largest(&self) -> usize {
        LARGEST
    }

    fn publish(&self, publications: Vec<Publication>, done: Decided<Vec<Result<Object, Problem>>>) {
        let refuses = self.refuses.lock().unwrap().clone();
        let answer = |publication: &Publication| match &refuses {
            Some((channel, code)) if publication.channel.name == *channel => Err((*code).into()),
            _ => Ok(json!({"channel": publication.channel.name, "id": "i", "at": 1}).to_string()),
        };
        let answers = publications.iter().map(answer).collect();
        self.published.lock().unwrap().extend(publications);
        done(Ok(answers));
    }

    fn signal(&self, signal: Ephemeral, done: Decided<Object>) {
        let answer = json!({"channel": signal.channel.name}).to_string();
        self.told.lock().unwrap().push(signal);
        done(Ok(answer));
    }

    fn history(&self, channel: &ChannelKey, range: Range, limit: usize, done: Decided<Object>) {
        done(Ok(self.note(format!("history {channel} {range:?} {limit}"))));
    }

    fn presence(&self, channel: &ChannelKey, done: Decided<Object>) {
        done(Ok(self.note(format!("presence {channel}"))));
    }

    fn status(&self, app: &App, users: Vec<User>, done: Decided<Object>) {
        done(Ok(self.note(format!("status {app} {users:?}"))));
    }

    fn conversations(
        &self,
        app: &App,
        user: &User,
        after: Option<&str>,
        limit: usize,
        done: Decided<Object>,
    ) {
        let note = self.note(format!("conversations {app} {user} {after:?} {limit}"));
        self.markers.conversations(app, user, None, limit, Box::new(move |_| done(Ok(note))));
    }

    fn search(&self, by: SearchBy, asked: Searching, done: Decided<Object>) {
        let by = match by {
            SearchBy::App(app) => format!("app {app}"),
            SearchBy::User(grant) => format!("user {}", grant.sender.user),
            SearchBy::Permitted(channel) => format!("in {channel}"),
        };
        let Searching { query, channel, before, limit } = asked;
        done(Ok(self.note(format!("search {by} {query:?} {channel:?} {before:?} {limit}"))));
    }

    fn live(
        &self,
        app: &App,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        done: Decided<Everywhere<Vec<LiveChannel>>>,
    ) {
        self.note(format!("live {app} {prefix:?} {after:?} {limit}"));
        let told = vec![LiveChannel { channel: Channel::new("chat:a").unwrap(), subscribers: 2 }];
        done(Ok(Everywhere { told, missing: vec!["push-3".into()] }));
    }

    fn enlist(&self, channel: &ChannelKey, user: &User, follows: bool) -> Result<(), Problem> {
        self.note(format!("enlist {channel} {user} {follows}"));
        Ok(())
    }

    fn census(&self, apps: Vec<App>, done: Decided<Everywhere<Vec<Census>>>) {
        let users = ["ann", "bob", "cid", "dan"].map(|user| User::new(user).unwrap());
        let census = |number: usize, users: &[User]| Census {
            node: NodeId::new(&format!("n{number}")).unwrap(),
            name: format!("push-{number}").into(),
            counters: Counters { connections: 9, published: 5, ..Counters::default() },
            apps: vec![Crowd::of(users.iter().map(|user| (user, 2)), 1); apps.len()],
        };
        // Two of them at both.
        let told = vec![census(1, &users[..3]), census(2, &users[1..])];
        done(Ok(Everywhere { told, missing: vec!["push-3".into()] }));
    }

    fn node(&self) -> &str {
        "n1"
    }
}
