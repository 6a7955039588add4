//! The session role: accounts and devices, which channel server to use, and the planning of who carries what.

use std::io;
use std::sync::Arc;

use axum::Router;
use tokio::runtime::Handle;
use xpush_channel::Node;
use xpush_core::NodeId;
use xpush_hooks::Webhooks;
use xpush_session::Watched;
use xpush_session::api::{self, Pages};
use xpush_session::erasure::Eraser;
use xpush_session::files::{self, Filing};
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
    let filing = filing(backends, webhooks, settings)?;
    let view = xpush_session::router(id.clone(), Arc::new(placement.clone()));
    let api = api::router(api::Parts {
        eraser: Eraser::start(backends.erasure(), &Handle::current()),
        access: backends.access.clone(),
        backend: node.backend(),
        placement: Arc::new(placement.clone()),
        administration: backends.administration(settings),
        watched: Watched {
            hooks: Arc::new(Desk(webhooks.clone())),
            metrics: {
                let node = node.clone();
                Arc::new(move || node.metrics())
            },
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
    // A server that is alone has nothing to plan.
    if settings.shared.is_some() {
        let cluster = backends.cluster();
        cluster.campaign(&id);
        tokio::spawn(plan(cluster, placement.views(), backends.clock.clone()));
    }
    Ok(view.merge(api))
}

/// Files, where there is a store for them, and what removes those that are over.
fn filing(backends: &Backends, webhooks: &Webhooks, settings: &Settings) -> io::Result<Option<Arc<Filing>>> {
    let Some((blobs, index)) = backends.files() else { return Ok(None) };
    let access = webhooks.guard(Arc::new(backends.access.clone()));
    let clock = backends.clock.clone();
    tokio::spawn(files::sweep(blobs.clone(), index.clone(), clock.clone()));
    let (uploads, pixels) = (settings.uploads.at_once, settings.uploads.image_pixels);
    Filing::start(files::Parts { blobs, files: index, access, clock, uploads, pixels })
        .map(Arc::new)
        .map(Some)
}
