//! An ACCESS that asks nobody: what apps' rules say of guests.

use std::sync::Arc;

use xpush_core::access::Apps;
use xpush_core::ports::access::{Access, AccessSink, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::{App, AppLimits, AppSettings, ChannelKey, Code, Grant, Permission, Rule, Rules};

/// Serves fixed apps to guests. It knows no tokens and no members: what hangs by them is refused.
pub struct OpenAccess(Arc<Apps>);

impl OpenAccess {
    /// The first app is the one of connections that name none.
    pub fn new(apps: impl IntoIterator<Item = AppSettings>) -> Self {
        let mut all = Apps::default();
        for app in apps {
            all.default.get_or_insert_with(|| app.app.clone());
            all.by_name.insert(app.app.clone(), Arc::new(app));
        }
        Self(Arc::new(all))
    }

    /// One app, `demo`, which welcomes guests.
    pub fn demo(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self::new([AppSettings {
            app: App::new("demo").expect("a good name"),
            guests: true,
            origins: Vec::new(),
            rules: Arc::new(Rules::new(rules)),
            recovery: false,
            hooks: Arc::default(),
            limits: AppLimits::default(),
        }])
    }
}

impl Access for OpenAccess {
    fn apps(&self) -> Arc<Apps> {
        self.0.clone()
    }

    fn admit(&self, _: Credentials, done: Decided<Grant>) {
        done(Err(Code::Unauthenticated.into()));
    }

    fn readmit(&self, _: &Grant, done: Decided<()>) {
        done(Ok(()));
    }

    fn permit(&self, _: &ChannelKey, _: &Arc<Grant>, _: Option<&str>, done: Decided<Permission>) {
        done(Err(Code::Forbidden.into()));
    }

    fn members(&self, _: &ChannelKey, _: bool, done: Decided<Arc<[MemberOf]>>) {
        done(Ok(Arc::new([])));
    }

    fn enrol(&self, _: &ChannelKey, _: &Arc<Grant>, _: bool, _: Enrolment, done: Decided<()>) {
        done(Err(Code::Forbidden.into()));
    }

    fn watch(&self, _: Arc<dyn AccessSink>) {}
}
