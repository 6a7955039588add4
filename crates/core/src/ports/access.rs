//! ACCESS as a channel server needs it: who somebody is, what it may do, and when that has changed.

use std::net::IpAddr;
use std::sync::Arc;

use crate::access::{Apps, Grant, Permission};
use crate::error::Problem;
use crate::names::{App, ChannelKey, Device, Login, User};

/// Called exactly once, from any thread, perhaps before the call that took it has returned.
pub type Decided<T> = Box<dyn FnOnce(Result<T, Problem>) + Send>;

/// What a connection shows. Not `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The app's name; the default app without one.
    pub app: Option<String>,
    /// A connection token (JWT).
    pub token: Option<String>,
    /// A guest's secret: the same secret is the same guest.
    pub guest: Option<String>,
    /// A guest's display name; a token has its own.
    pub name: Option<String>,
    /// The device; a token that names one wins.
    pub device: Option<String>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// Something that was decided earlier and holds no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Grants of this user that were issued before `issued_before` (ms since 1970) are void: all of them, or those of one device or login.
    Revoked {
        /// The app.
        app: App,
        /// The user.
        user: User,
        /// Only grants for this device.
        device: Option<Device>,
        /// Only grants of this login.
        login: Option<Login>,
        /// Only grants issued before this.
        issued_before: u64,
    },
    /// This user's permission in this channel, and in the channels of its owner's devices if it is a user's own: to be asked for again.
    Permission(ChannelKey, User),
    /// The settings of this app, or whether it exists.
    App(App),
    /// What changed is not known: everything is to be asked for again.
    Everything,
}

/// Hears of changes. Called from any thread; must not block.
pub trait AccessSink: Send + Sync {
    /// One change.
    fn changed(&self, changed: Changed);
}

/// Changes to a channel's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// Become members, or get `role`.
    pub add: Vec<User>,
    /// Are members no more. Whoever removes oneself leaves.
    pub remove: Vec<User>,
    /// The role of those who are added.
    pub role: Option<crate::names::Role>,
}

/// One who belongs to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOf {
    /// The user.
    pub user: User,
    /// What it is there: `owner`, `moderator`, …; a plain member has none.
    pub role: Option<crate::names::Role>,
    /// Wants no notifications from here.
    pub muted: bool,
}

/// Decides who may connect and what they may do.
///
/// - Decisions come from the store or from a cache that changes reach within 2 s. With the store lost, what was decided holds for 60 s, and nothing new is decided (`unavailable`).
/// - Whoever asked is told by the sink when a decision may have changed: on the changing node at once, elsewhere within 2 s.
pub trait Access: Send + Sync {
    /// The apps as they are now. Cheap: to be asked for each connection.
    fn apps(&self) -> Arc<Apps>;
    /// Checks who somebody is.
    fn admit(&self, credentials: Credentials, done: Decided<Grant>);
    /// Whether a grant that was given earlier still holds: that nothing it came from has been revoked since. Its expiry is the caller's to see. A guest's
    /// holds unless the guest may not connect any more; it is asked for wherever a guest comes again.
    fn readmit(&self, grant: &Grant, done: Decided<()>);
    /// What `who` may do in `channel`, perhaps by a token for it; only to be asked when [`Grant::decide`] says so. A channel without a rule is refused.
    fn permit(&self, channel: &ChannelKey, who: &Arc<Grant>, token: Option<&str>, done: Decided<Permission>);
    /// The members of a channel: for notifications, hence without those who want none when `notified` is set.
    fn members(&self, channel: &ChannelKey, notified: bool, done: Decided<Arc<[MemberOf]>>);
    /// Changes members on behalf of `by`, who was found to have [`crate::Action::Invite`] there (`may_invite`), or founds the channel, or concerns itself alone.
    fn enrol(
        &self,
        channel: &ChannelKey,
        by: &Arc<Grant>,
        may_invite: bool,
        change: Enrolment,
        done: Decided<()>,
    );
    /// From now on `sink` hears of changes. To be called once.
    fn watch(&self, sink: Arc<dyn AccessSink>);
}
