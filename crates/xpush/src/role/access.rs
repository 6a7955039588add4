//! ACCESS without accounts, tokens and members: what apps' rules say of guests.

use std::sync::Arc;

use xpush_core::access::Apps;
use xpush_core::ports::access::{Access, AccessSink, Credentials, Decided, Enrolment, MemberOf};
use xpush_core::{ChannelKey, Code, Grant, Permission};

/// Serves fixed apps to guests. It knows no tokens and no members: what hangs by them is refused.
pub(crate) struct Open(Arc<Apps>);

impl Open {
    pub(crate) fn new(apps: Apps) -> Self {
        Self(Arc::new(apps))
    }
}

impl Access for Open {
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
