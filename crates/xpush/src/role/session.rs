//! The session role: accounts and devices, which channel server to use, and the planning of who carries what.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use xpush_channel::Node;
use xpush_core::NodeId;
use xpush_hooks::Webhooks;
use xpush_session::Watched;
use xpush_session::administration::Administration;
use xpush_session::api::{self, Pages};
use xpush_session::erasure::{self, Eraser};
use xpush_session::files::{self, Decoder, Filing};
use xpush_session::placement::{ByRing, plan};

use crate::backends::Backends;
use crate::config::Settings;
use crate::desk::Desk;

/// Answers by what the cluster told `placement`, by what the backends keep, and for files by what apps' hooks say, too; and stands for planner.
pub(crate) fn start(
    node: &Arc<Node>,
    id: NodeId,
    placement: &ByRing,
    backends: &Backends,
    webhooks: &Webhooks,
    settings: &Settings,
) -> io::Result<Router> {
    let filing = filing(backends, webhooks, settings);
    tokio::spawn(go_on_deleting(
        backends.administration(settings),
        backends.erasure(),
        backends.file_stores(),
    ));
    let view = xpush_session::router(id.clone(), Arc::new(placement.clone()));
    let (api, intake) = api::router(api::Parts {
        eraser: Eraser::start(backends.erasure(), &Handle::current()),
        access: backends.access.clone(),
        backend: node.backend(),
        placement: Arc::new(placement.clone()),
        administration: backends.administration(settings),
        watched: Watched {
            hooks: Arc::new(Desk(webhooks.clone())),
            view: {
                let views = placement.views();
                Arc::new(move || views.borrow().clone())
            },
            started_at: backends.clock.wall(),
        },
        clock: backends.clock.clone(),
        pages: Pages { allowed: settings.allowed_origins.clone(), loopback: settings.on_loopback() },
        files: filing,
        url: settings.advertise_url.clone(),
    })?;
    node.read_by(intake);
    // A server that is alone has nothing to plan.
    if settings.shared.is_some() {
        let cluster = backends.cluster();
        cluster.campaign(&id);
        tokio::spawn(plan(cluster, placement.views(), backends.clock.clone()));
    }
    Ok(view.merge(api))
}

/// Between two looks for apps whose deletion has not come to its end.
const PACE: Duration = Duration::from_secs(10);

async fn go_on_deleting(
    administration: Administration,
    erased: erasure::Parts,
    files: Option<files::Stores>,
) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(refused) = administration.go_on_deleting(&*erased.lasting, files.as_ref()).await {
            tracing::warn!(%refused, "what an app that was deleted has left is still there; it goes on");
        }
    }
}

/// Files, where there is a store for them, and what removes those that are over.
fn filing(backends: &Backends, webhooks: &Webhooks, settings: &Settings) -> Option<Arc<Filing>> {
    let files::Stores { blobs, files: index } = backends.file_stores()?;
    let access = webhooks.guard(Arc::new(backends.access.clone()));
    let clock = backends.clock.clone();
    tokio::spawn(files::sweep(blobs.clone(), index.clone(), clock.clone()));
    let (uploads, pixels) = (settings.uploads.at_once, settings.uploads.image_pixels);
    // This very program, also when its file has been replaced by another release meanwhile (proc_pid_exe(5)).
    let decoder = Decoder { program: "/proc/self/exe".into(), arguments: vec!["develop-image".into()] };
    let parts = files::Parts { blobs, files: index, access, clock, uploads, decoder, pixels };
    Some(Arc::new(Filing::new(parts)))
}
