//! The task that holds the session: connects, watches, reads, and lets ZooKeeper have what members want.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use zookeeper_client::{
    AddWatchMode, Client, CreateMode, Error, EventType, PersistentWatcher, SessionInfo, SessionState,
    WatchedEvent,
};

use crate::state::Shared;
use crate::tree::{CLUSTER, FOLDERS, MEMBERS, read_all, read_changed};
use crate::{candidacy, loads, registration};

/// How long it waits after an attempt that failed: several attempts fit into the shortest session.
const AGAIN: Duration = Duration::from_millis(300);

/// How often loads are written and gathered.
const TICK: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut session = None;
    loop {
        let client = connect(&shared, session.take()).await;
        session = Some(client.session().clone());
        serve(&shared, &client).await;
        shared.freeze();
    }
}

/// Connects, with the session that there was as long as ZooKeeper lets us. The client gives a session up by itself when it cannot reach ZooKeeper for long
/// enough; but whether it is over only ZooKeeper knows, and without a majority no session ends.
async fn connect(shared: &Shared, mut session: Option<SessionInfo>) -> Client {
    let mut told = false;
    loop {
        let connector = match shared.options.connector() {
            Ok(connector) => connector,
            // They have been checked.
            Err(error) => {
                tracing::error!(%error, "the options for ZooKeeper cannot be used");
                sleep(Duration::from_secs(60)).await;
                continue;
            }
        };
        let connector = match &session {
            Some(session) => connector.with_session(session.clone()),
            None => connector,
        };
        let attempt = match shared.options.tls {
            Some(_) => connector.secure_connect(&shared.options.hosts).await,
            None => connector.connect(&shared.options.hosts).await,
        };
        match attempt {
            Ok(client) => {
                if session.take().is_some_and(|session| session.id() != client.session_id()) {
                    shared.expire();
                }
                tracing::info!(session = %client.session_id(), "connected to ZooKeeper");
                return client;
            }
            Err(Error::SessionExpired) if session.take().is_some() => {
                tracing::warn!("the session with ZooKeeper has expired; a new one is begun");
                shared.expire();
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%error, hosts = shared.options.hosts, "ZooKeeper cannot be reached; trying on");
                    told = true;
                }
                sleep(AGAIN).await;
            }
        }
    }
}

/// Until the client gives the session up.
async fn serve(shared: &Arc<Shared>, client: &Client) {
    let rooted = match shared.options.root.as_str() {
        "/" => client.clone(),
        root => match client.clone().chroot(root) {
            Ok(client) => client,
            Err(_) => unreachable!("the root has been checked"),
        },
    };
    let mut states = client.state_watcher();
    let mut told = None;
    loop {
        match states.state() {
            SessionState::SyncConnected => {}
            SessionState::Expired | SessionState::Closed => return,
            SessionState::AuthFailed => {
                tracing::error!("ZooKeeper does not accept the credentials");
                sleep(AGAIN).await;
                return;
            }
            _ => {
                shared.freeze();
                states.changed().await;
                continue;
            }
        }
        if let Err(error) = attend(shared, client, &rooted).await {
            shared.freeze();
            // A connection that was lost comes back by itself; what fails on a good one will not go away at once.
            if states.peek_state() == SessionState::SyncConnected && error != Error::ConnectionLoss {
                if told.as_ref() != Some(&error) {
                    complain(&error);
                    told = Some(error);
                }
                sleep(AGAIN).await;
            }
        }
    }
}

fn complain(error: &Error) {
    match error {
        Error::Unimplemented => {
            tracing::error!("this ZooKeeper is too old: 3.6 or newer is needed");
        }
        Error::NoAuth => {
            tracing::error!(
                "ZooKeeper does not let us read and write below the root: look at the credentials"
            );
        }
        error => tracing::error!(%error, "ZooKeeper cannot be used; trying on"),
    }
}

/// From a connection to its loss. Watches do not outlast it, so everything begins anew.
async fn attend(shared: &Arc<Shared>, client: &Client, rooted: &Client) -> Result<(), Error> {
    let folder = shared.options.create(CreateMode::Persistent);
    if shared.options.root != "/" {
        client.mkdir(&shared.options.root, &folder).await?;
    }
    for path in FOLDERS {
        match rooted.create(path, b"", &folder).await {
            Ok(_) | Err(Error::NodeExists) => {}
            Err(error) => return Err(error),
        }
    }
    // What changes from here on is told, and what changed before is read.
    let mut watcher = rooted.watch(CLUSTER, AddWatchMode::PersistentRecursive).await?;
    rooted.sync(CLUSTER).await?;
    let known = shared.lock().tree.members_zxid();
    let found = read_all(rooted, known).await?;
    shared.thaw(rooted, found);
    let mut ticks = interval_at(Instant::now() + TICK, TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0;
    let mut quiet = false;
    loop {
        registration::take_out(shared, rooted).await?;
        registration::let_in(shared, rooted).await?;
        candidacy::stand(shared, rooted).await?;
        tokio::select! {
            event = watcher.changed() => {
                let mut events = vec![event];
                drain(&mut watcher, &mut events).await;
                if events.iter().any(|event| event.event_type == EventType::Session) {
                    return Err(Error::ConnectionLoss);
                }
                shared.take_in(read_changed(rooted, &events).await?);
                quiet = false;
            }
            () = shared.wake.notified() => {}
            _ = ticks.tick() => {
                count += 1;
                loads::tick(shared, rooted, count).await?;
                if quiet && shared.lock().tree.members_zxid() == 0 {
                    let (_, stat) = rooted.get_children(MEMBERS).await?;
                    // What it tells of was told of before: unless there are events, all of it has been taken in.
                    let mut events = Vec::new();
                    drain(&mut watcher, &mut events).await;
                    if events.is_empty() {
                        shared.lock().tree.know_members(stat.pzxid);
                    } else if events.iter().any(|event| event.event_type == EventType::Session) {
                        return Err(Error::ConnectionLoss);
                    } else {
                        shared.take_in(read_changed(rooted, &events).await?);
                    }
                }
                quiet = true;
            }
        }
    }
}

/// What else has come by now. Nothing comes behind the end of a session.
async fn drain(watcher: &mut PersistentWatcher, events: &mut Vec<WatchedEvent>) {
    while events.last().is_none_or(|event| event.event_type != EventType::Session) {
        tokio::select! {
            biased;
            event = watcher.changed() => events.push(event),
            () = std::future::ready(()) => return,
        }
    }
}
