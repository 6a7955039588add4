//! An ACCESS that answers when it is told to. A token is `USER`, or `USER/ISSUED_AT/EXPIRES_AT` with times in ms; what begins with `-` is refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use xpush_core::access::{Actions, Apps};
use xpush_core::ports::access::{Access, AccessSink, Changed, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::{
    App, AppLimits, AppSettings, ChannelKey, Code, Grant, Permission, Problem, Rule, Rules, Sender, User,
};

/// What is called when it may be answered.
type Question = Box<dyn FnOnce(&LateAccess) + Send>;

pub(super) struct LateAccess {
    apps: RwLock<Arc<Apps>>,
    waiting: Mutex<Vec<Question>>,
    /// As `channel user`.
    members: Mutex<HashSet<String>>,
    /// Users whose grants are void, all of them.
    revoked: Mutex<HashSet<String>>,
    sink: OnceLock<Arc<dyn AccessSink>>,
    /// What was shown, for tests of what is not shown.
    pub(super) tokens: Mutex<Vec<String>>,
}

impl LateAccess {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let access = Self {
            apps: RwLock::default(),
            waiting: Mutex::default(),
            members: Mutex::default(),
            revoked: Mutex::default(),
            sink: OnceLock::new(),
            tokens: Mutex::default(),
        };
        access.set_app(true, &[], rules);
        access
    }

    /// The app `demo`, as it is from now on; nobody is told.
    pub(super) fn set_app(&self, guests: bool, origins: &[&str], rules: Vec<Rule>) {
        let app = App::new("demo").unwrap();
        let settings = AppSettings {
            app: app.clone(),
            guests,
            origins: origins.iter().map(|origin| (*origin).into()).collect(),
            rules: Arc::new(Rules::new(rules)),
            recovery: true,
            hooks: Arc::default(),
            limits: AppLimits::default(),
        };
        let by_name = [(app.clone(), Arc::new(settings))].into();
        *self.apps.write().unwrap() = Arc::new(Apps { by_name, default: Some(app) });
    }

    /// The app's own limits from now on.
    pub(super) fn set_limits(&self, limits: AppLimits) {
        let mut apps = Apps::clone(&self.apps());
        apps.by_name.values_mut().for_each(|app| *app = Arc::new(AppSettings { limits, ..(**app).clone() }));
        *self.apps.write().unwrap() = Arc::new(apps);
    }

    pub(super) fn remove_apps(&self) {
        *self.apps.write().unwrap() = Arc::default();
    }

    pub(super) fn enter(&self, channel: &str, user: &str) {
        self.members.lock().unwrap().insert(format!("{channel} {user}"));
        self.tell(Changed::Permission(key(channel), User::new(user).unwrap()));
    }

    pub(super) fn leave(&self, channel: &str, user: &str) {
        self.members.lock().unwrap().remove(&format!("{channel} {user}"));
        self.tell(Changed::Permission(key(channel), User::new(user).unwrap()));
    }

    pub(super) fn is_member(&self, channel: &str, user: &str) -> bool {
        self.members.lock().unwrap().contains(&format!("{channel} {user}"))
    }

    pub(super) fn revoke(&self, user: &str, issued_before: u64) {
        self.revoked.lock().unwrap().insert(user.to_owned());
        let app = App::new("demo").unwrap();
        let user = User::new(user).unwrap();
        self.tell(Changed::Revoked { app, user, device: None, login: None, issued_before });
    }

    pub(super) fn tell(&self, changed: Changed) {
        if let Some(sink) = self.sink.get() {
            sink.changed(changed);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    /// Answers one of the questions.
    pub(super) fn answer(&self, index: usize) {
        let answer = self.waiting.lock().unwrap().remove(index);
        answer(self);
    }

    pub(super) fn answer_all(&self) {
        while self.waiting() > 0 {
            self.answer(0);
        }
    }

    fn later(&self, answer: impl FnOnce(&LateAccess) + Send + 'static) {
        self.waiting.lock().unwrap().push(Box::new(answer));
    }
}

impl Access for LateAccess {
    fn apps(&self) -> Arc<Apps> {
        self.apps.read().unwrap().clone()
    }

    fn admit(&self, credentials: Credentials, done: Decided<Grant>) {
        let token = credentials.token.unwrap();
        self.tokens.lock().unwrap().push(token.clone());
        // Decided now, told later: a revocation may overtake it.
        let granted = grant(&token).filter(|grant| {
            !self.revoked.lock().unwrap().contains(grant.sender.user.as_str()) || grant.issued_at > 0
        });
        let result = granted.ok_or(Problem::from(Code::Unauthenticated));
        self.later(move |_| done(result));
    }

    fn readmit(&self, grant: &Grant, done: Decided<()>) {
        let revoked = self.revoked.lock().unwrap().contains(grant.sender.user.as_str());
        let result = if revoked { Err(Code::Revoked.into()) } else { Ok(()) };
        self.later(move |_| done(result));
    }

    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, token: Option<&str>, done: Decided<Permission>) {
        let (channel, user) = (channel.clone(), who.sender.user.clone());
        let until = token.and_then(|token| token.parse().ok());
        self.later(move |access| {
            let member = access.is_member(channel.name.as_str(), user.as_str());
            done(match until {
                Some(expires_at) => Ok(Permission { actions: Actions::ALL, expires_at: Some(expires_at) }),
                None if member => Ok(Permission::of(Actions::ALL)),
                None => Ok(Permission::of(Actions::NONE)),
            });
        });
    }

    fn members(&self, _: &ChannelKey, _: bool, done: Decided<Arc<[MemberOf]>>) {
        done(Ok(Arc::new([])));
    }

    fn enrol(&self, _: &ChannelKey, _: &Arc<Grant>, _: bool, _: Enrolment, done: Decided<()>) {
        done(Err(Code::Forbidden.into()));
    }

    fn watch(&self, sink: Arc<dyn AccessSink>) {
        assert!(self.sink.set(sink).is_ok(), "one node");
    }
}

fn key(channel: &str) -> ChannelKey {
    xpush_testkit::sample::channel(channel)
}

fn grant(token: &str) -> Option<Grant> {
    let mut parts = token.split('/');
    let user = parts.next().filter(|user| !user.starts_with('-'))?;
    let mut time = || parts.next().and_then(|part| part.parse().ok());
    let (issued_at, expires_at) = (time().unwrap_or(0), time());
    Some(Grant {
        app: App::new("demo").unwrap(),
        sender: Sender { user: User::new(user).ok()?, name: None },
        device: None,
        guest: false,
        roles: Vec::new(),
        capabilities: None,
        issued_at,
        expires_at,
        login: None,
        info: None,
    })
}
