//! Which users of an app are there, on whatever channel, by device.

use crate::environment::UnixMillis;
use crate::names::{App, Device, NodeId, User};
use crate::ports::Done;
use crate::ports::lease::Lease;

/// What a user, or one of its connections, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// Not connected, for longer than the grace time.
    #[default]
    Offline,
    /// Connected, and nobody at the device.
    Away,
    /// Connected.
    Online,
}

/// A connection that comes, changes its state, or goes (`to` is `None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The app.
    pub app: App,
    /// Whose.
    pub user: User,
    /// On which device, if it says so.
    pub device: Option<Device>,
    /// What it was, if it was counted.
    pub from: Option<State>,
    /// What it is.
    pub to: Option<State>,
}

/// How a user is seen: the best state of all its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The user.
    pub user: User,
    /// What it is.
    pub state: State,
    /// When it was last connected; now, while it is. `None`: never, or it is not known any more. Ms since 1970.
    pub last_seen: Option<UnixMillis>,
    /// The devices that it is connected with, by name, each in the best state of its connections.
    pub devices: Vec<(Device, State)>,
}

/// A user whose state is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The app.
    pub app: App,
    /// The user.
    pub user: User,
    /// What it is now.
    pub state: State,
    /// Since when, ms since 1970.
    pub at: UnixMillis,
}

/// Counts connections by user, device and state.
///
/// - Movements given in one call are applied in order, each atomically over all nodes: exactly one caller sees each transition.
/// - A user whose last connection went is offline only after the grace time, unless it is back: [`Online::expire`] makes and returns those transitions, each to exactly one caller.
/// - Entries belong to the node that made them, as in [`Presence`](super::presence::Presence): [`Online::evict`] removes a dead node's, and they have the grace time, too.
/// - A store that fails or forgets: as in [`Presence`](super::presence::Presence). Nobody is offline because it could not be asked.
/// - `last_seen` survives a restart as far as the store beside it keeps it ([`LastSeen`]): of a stay that a crash ended, the beginning.
pub trait Online: Send + Sync {
    /// Applies `movements`; the transitions that they made.
    fn apply(&self, node: &NodeId, movements: Vec<Movement>, done: Done<Vec<Transition>>);
    /// Says which connections `node` has, one arrival each, instead of all that it had entered before; the transitions that this made. Who is not named has the
    /// grace time.
    fn restate(&self, node: &NodeId, arrivals: Vec<Movement>, done: Done<Vec<Transition>>);
    /// Those whose grace time is over by now.
    fn expire(&self, done: Done<Vec<Transition>>);
    /// How `users` are seen, in the order asked for.
    fn status(&self, app: &App, users: Vec<User>, done: Done<Vec<Status>>);
    /// Says that `node` lives, every [`RENEW_MS`](super::lease::RENEW_MS) or so; whether its entries do.
    fn renew(&self, node: &NodeId, done: Done<Lease>);
    /// Nodes whose lease is over and whose entries nobody has evicted.
    fn lapsed(&self, done: Done<Vec<NodeId>>);
    /// Removes everything that `node` entered.
    fn evict(&self, node: &NodeId, done: Done<()>);
}

/// When users were last connected: what of [`Online`] must last.
///
/// A time never goes back: an older one than is kept changes nothing.
pub trait LastSeen: Send + Sync {
    /// Notes when each was connected.
    fn note(&self, seen: Vec<(App, User, UnixMillis)>, done: Done<()>);
    /// When each of an app's users was connected last, in the order asked for.
    fn recall(&self, app: &App, users: Vec<User>, done: Done<Vec<Option<UnixMillis>>>);
}

/// Who is there, noted for whoever counts in memory alone: what was left over by a process that has ended.
pub trait Stays: LastSeen {
    /// Notes what users are now, in order, and when they were last connected as [`LastSeen::note`] does.
    fn turn(&self, transitions: Vec<Transition>, done: Done<()>);
    /// Those who were noted as being there and not as gone; `at` is from when that is.
    fn left_over(&self, done: Done<Vec<Transition>>);
}
