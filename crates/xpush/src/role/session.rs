//! The session role: accounts and devices, and which channel server to use.

use std::io;
use std::sync::Arc;

use axum::Router;
use xpush_channel::Node;
use xpush_core::NodeId;
use xpush_core::ports::cluster::View;
use xpush_session::CurrentView;
use xpush_session::api::{self, Pages};
use xpush_session::assign::ByView;
use xpush_session::erasure::Eraser;

use crate::backends::Embedded;
use crate::config::Settings;

/// Answers by what the cluster told the node beside it, and by what the backends keep.
pub(crate) fn start(
    id: NodeId,
    node: Arc<Node>,
    embedded: &Embedded,
    settings: &Settings,
) -> io::Result<Router> {
    let nobody = Arc::new(View::default());
    let backend = node.backend();
    let current: CurrentView = Arc::new(move || node.view().unwrap_or_else(|| nobody.clone()));
    let view = xpush_session::router(id, current.clone());
    let api = api::router(api::Parts {
        eraser: Eraser::start(embedded.erasure(), &tokio::runtime::Handle::current()),
        access: embedded.access.clone(),
        backend,
        placement: Arc::new(ByView::new(current)),
        clock: embedded.clock.clone(),
        pages: Pages { allowed: settings.allowed_origins.clone(), loopback: settings.on_loopback() },
        url: settings.advertise_url.clone(),
    })?;
    Ok(view.merge(api))
}
