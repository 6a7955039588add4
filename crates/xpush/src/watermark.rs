//! Whether the store that servers share still holds what it held.
//!
//! The ledger's clock is kept in MongoDB and never goes back there. Servers note in ZooKeeper how far it had come, after MongoDB has confirmed it. If it is
//! less far one day, in the same epoch, MongoDB was restored from a backup, or has lost something: then `xpush epoch new` is needed before anybody is served.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use xpush_core::SettingName;
use xpush_core::ports::cluster::{Cluster, ClusterSink, Settings, Standing, View};
use xpush_core::ports::transfer::Origin;
use xpush_core::ports::{Done, Failure, PortError};

use crate::port::ask;

/// How often it is noted.
const EVERY: Duration = Duration::from_secs(10);

/// What to do when the store has gone back.
pub(crate) const ADVICE: &str = "MongoDB holds less than it did: it was restored from a backup, or has lost something. Stop all servers and run `xpush epoch new`: clients \
    then load history anew, instead of going on with a hole";

/// Views of a cluster for somebody who is no member.
struct Sink(watch::Sender<Arc<View>>);

impl ClusterSink for Sink {
    fn view(&self, view: Arc<View>) {
        self.0.send_replace(view);
    }
}

/// The newest view, for as long as `cluster` lives.
pub(crate) fn views(cluster: &dyn Cluster) -> watch::Receiver<Arc<View>> {
    let sink = Arc::new(Sink(watch::Sender::new(Arc::default())));
    let views = sink.0.subscribe();
    cluster.watch(sink);
    views
}

/// The first view that can be trusted, if one comes within `patience`.
pub(crate) async fn live_view(cluster: &dyn Cluster, patience: Duration) -> Option<Arc<View>> {
    let mut views = views(cluster);
    let live = views.wait_for(|view| view.standing == Standing::Live);
    tokio::time::timeout(patience, live).await.ok()?.ok().map(|view| view.clone())
}

/// Whether the store, as it was opened, is at least as far as it was noted to be.
pub(crate) fn has_gone_back(view: &View, now: Origin) -> bool {
    noted(view).is_some_and(|(_, noted)| noted.epoch == now.epoch && noted.clock > now.clock)
}

/// Notes how far the store has come, as long as the process lives. `read` says it.
pub(crate) async fn keep(
    settings: Arc<dyn Settings>,
    views: watch::Receiver<Arc<View>>,
    read: impl Fn(Done<Origin>) + Send + Sync,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        // What was noted first: other servers tell the store the time, and note it, meanwhile.
        let view = views.borrow().clone();
        let Ok(now) = ask(&read).await else { continue };
        if view.standing != Standing::Live {
            continue;
        }
        if has_gone_back(&view, now) {
            tracing::error!("{ADVICE}");
            continue;
        }
        let (generation, noted) =
            noted(&view).map_or((generation(&view), None), |(generation, noted)| (generation, Some(noted)));
        if noted == Some(now) {
            continue;
        }
        let value = json!({"v": 1, "epoch": format!("{:016x}", now.epoch), "clock": now.clock});
        let done = Box::new(|result: Result<u64, PortError>| {
            // Of several servers one is the first.
            if let Err(error) = result
                && error.kind != Failure::Conflict
            {
                tracing::debug!(%error, "how far the store has come was not noted");
            }
        });
        settings.set(&name(), generation, Bytes::from(value.to_string()), done);
    }
}

/// What was noted, and the setting's generation.
fn noted(view: &View) -> Option<(u64, Origin)> {
    let setting = view.settings.get(&name())?;
    let value: Value = serde_json::from_slice(&setting.value).ok()?;
    let epoch = u64::from_str_radix(value["epoch"].as_str()?, 16).ok()?;
    Some((setting.generation, Origin { epoch, clock: value["clock"].as_u64()? }))
}

fn generation(view: &View) -> u64 {
    view.settings.get(&name()).map_or(0, |setting| setting.generation)
}

fn name() -> SettingName {
    SettingName::new("ledger").expect("a good name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpush_core::ports::cluster::Setting;

    fn view(value: &str) -> View {
        let setting = Setting { generation: 3, value: Bytes::from(value.to_owned()) };
        View { settings: Arc::new([(name(), setting)].into()), ..View::default() }
    }

    #[test]
    fn a_clock_that_has_gone_back_in_the_same_epoch_is_noticed() {
        let now = Origin { epoch: 0xab, clock: 100 };
        let noted =
            |epoch: &str, clock: u64| view(&json!({"v": 1, "epoch": epoch, "clock": clock}).to_string());
        assert!(has_gone_back(&noted("ab", 101), now));
        assert!(!has_gone_back(&noted("ab", 100), now), "nothing has been written since");
        assert!(!has_gone_back(&noted("ac", 101), now), "that was before `xpush epoch new`");
        assert!(!has_gone_back(&View::default(), now), "a new installation");
        for garbage in ["", "null", "[]", "{\"epoch\":7,\"clock\":200}", "{\"epoch\":\"ab\",\"clock\":-1}"] {
            assert!(!has_gone_back(&view(garbage), now), "{garbage}");
        }
    }
}
