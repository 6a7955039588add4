//! `xpush serve`: from settings to a server that is ready, and from a signal to its orderly end.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use xpush_channel::Tls;

use crate::cli::{Options, say};
use crate::config::{self, Files, Loaded, Settings, Sources, TlsFiles};
use crate::health::{self, Readiness};
use crate::listen::listen;
use crate::role::channel::Channel;
use crate::signals::Signals;
use crate::{backends, banner, log, open_files, pages, role};

/// From the signal to the exit, at most.
const DRAIN: Duration = Duration::from_secs(10);

/// What of it is left when the clients have had their time.
const FLUSH: Duration = Duration::from_secs(2);

/// How it ended.
enum End {
    /// In order, or as far as the time allowed.
    Drained,
    /// By a second signal.
    CutShort,
}

/// Runs until a signal ends it.
pub(crate) fn run(options: &Options) -> ExitCode {
    match start(options) {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::CutShort) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<End, String> {
    let (Loaded { settings, warnings }, file) = load(options)?;
    log::start(&settings.log);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    prepare_data_dir(&settings.data_dir)?;
    let tls = settings.tls.as_ref().map(TlsFiles::load).transpose().map_err(|error| error.to_string())?;
    let open_files = open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let ended = runtime.block_on(serve(&settings, tls.as_ref(), file.as_deref(), open_files));
    // What has not ended by now has had its time.
    runtime.shutdown_background();
    ended
}

/// The settings by flags, environment and file, and which file it was.
pub(crate) fn load(options: &Options) -> Result<(Loaded, Option<PathBuf>), String> {
    let named = options.config.clone().or_else(|| std::env::var_os(config::CONFIG).map(Into::into));
    let file = config::read_file(named).map_err(|error| error.to_string())?;
    // A name or a value that is not UTF-8 cannot be one of ours.
    let variables: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let name = file.as_ref().map(|(path, _)| path.display().to_string());
    let sources = Sources {
        file: name.as_deref().zip(file.as_ref().map(|(_, text)| text.as_str())),
        variables: variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        flags: options.flags(),
        demo: options.demo,
        public: file.as_ref().is_some_and(|(path, _)| config::is_public(path)),
        files: Files::default(),
    };
    let loaded = config::load(&sources).map_err(|invalid| invalid.to_string())?;
    Ok((loaded, file.map(|(path, _)| path)))
}

async fn serve(
    settings: &Settings,
    tls: Option<&Tls>,
    file: Option<&Path>,
    open_files: Option<u64>,
) -> Result<End, String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let mut listeners = Vec::new();
    for address in &settings.listen {
        listeners.push(listen(*address)?);
    }
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();

    let id = backends::node_id();
    let embedded = backends::Embedded::open(settings).await?;
    let webhooks = embedded.webhooks(id.clone(), settings)?;
    let mut parts = embedded.parts(id.clone());
    parts.access = webhooks.guard(parts.access);
    let (joined, decided) = tokio::sync::oneshot::channel();
    let joined = move |result| drop(joined.send(result));
    let member = settings.member(id.clone(), embedded.clock.wall());
    let node = xpush_channel::Node::start(settings.channel(id.clone()), parts, member, Box::new(joined))
        .map_err(|error| format!("cannot start: {error}"))?;
    node.hook(Arc::new(webhooks.clone()));
    if let Ok(Err(refused)) = decided.await {
        return Err(format!("cannot join the cluster: {refused}"));
    }
    let readiness = Readiness::default();
    let (metered, counted) = (node.clone(), webhooks.clone());
    let session = role::session::start(id, node.clone(), &embedded, settings)
        .map_err(|error| format!("cannot start: {error}"))?;
    let others = health::router(readiness.clone(), Arc::new(move || counted.add_metrics(metered.metrics())))
        .merge(session)
        .fallback_service(pages::router());
    let channel = Channel::start(node, listeners, tls, &others);
    readiness.ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = ?addresses, open_files, "ready");
    let setup = xpush_session::setup::begin_setup(embedded.access.directory())
        .await
        .map_err(|error| format!("cannot prepare the set-up: {error}"))?;
    say(&banner::ready(settings, &addresses, file, setup.as_deref()));

    let name = signals.next().await;
    tracing::info!(signal = name, "draining");
    readiness.draining();
    // A task of its own: joining the shards' threads blocks, and must hold up neither the bound nor a second signal.
    let drained = tokio::spawn(channel.drain(DRAIN - FLUSH));
    tokio::select! {
        _ = drained => {
            webhooks.flush(FLUSH).await;
            embedded.close();
            tracing::info!("drained");
        }
        () = tokio::time::sleep(DRAIN) => tracing::warn!("not drained in time"),
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
            return Ok(End::CutShort);
        }
    }
    Ok(End::Drained)
}

/// Makes the folder, for nobody else to look into, and finds out now rather than at the first write whether it can be written to.
pub(crate) fn prepare_data_dir(folder: &Path) -> Result<(), String> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    let written = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| fs::write(&probe, b""))
        .and_then(|()| fs::remove_file(&probe));
    written.map_err(|error| {
        format!(
            "cannot keep data in {}: {error}. Choose another folder: xpush --data-dir FOLDER",
            folder.display()
        )
    })
}

#[expect(clippy::print_stderr, reason = "the log may not have started")]
fn complain(error: &str) {
    eprintln!("xpush: {error}");
}
