//! `xpush serve`: from settings to a server that is ready, and from a signal to its orderly end.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use xpush_channel::config::Config;
use xpush_channel::{Node, Tls};
use xpush_core::ports::PortError;
use xpush_core::ports::cluster::Roles;
use xpush_core::{NodeId, NodeName};
use xpush_hooks::Webhooks;
use xpush_session::placement::ByRing;

use crate::backends::Backends;
use crate::cli::{Options, say};
use crate::config::{self, Files, Loaded, Settings, Sources, TlsFiles};
use crate::health::{self, Readiness};
use crate::listen::{Bound, bind};
use crate::role::channel::Channel;
use crate::signals::Signals;
use crate::{backends, banner, log, open_files, pages, probe, role, supervise};

/// From the signal to the exit, at most.
const DRAIN: Duration = Duration::from_secs(10);

/// What of it is left when the clients have had their time.
const FLUSH: Duration = Duration::from_secs(2);

/// How often it is said that ZooKeeper keeps a server waiting.
const WAITING: Duration = Duration::from_secs(5);

/// Why a server with one role alone does not start.
const ALONE: &str = "session servers and channel servers work together through ZooKeeper, Redis and MongoDB: name them in [zookeeper], [redis] and [mongodb] \
    (xpush default-config), or run `xpush serve`, which needs nothing";

/// How it ended.
enum End {
    /// In order, or as far as the time allowed.
    Drained,
    /// By a second signal.
    CutShort,
}

/// Runs until a signal ends it.
pub(crate) fn run(options: &Options, roles: Roles) -> ExitCode {
    if options.supervised {
        return supervise::run(options).unwrap_or_else(|error| {
            complain(&error);
            ExitCode::FAILURE
        });
    }
    match start(options, roles) {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::CutShort) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options, roles: Roles) -> Result<End, String> {
    let (Loaded { settings, warnings }, file) = load(options)?;
    if settings.shared.is_none() && !(roles.session && roles.channel) {
        return Err(ALONE.to_owned());
    }
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
    let ended = runtime.block_on(serve(&settings, roles, tls.as_ref(), file.as_deref(), open_files));
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
    roles: Roles,
    tls: Option<&Tls>,
    file: Option<&Path>,
    open_files: Option<u64>,
) -> Result<End, String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let bound = settings.listen.iter().map(|address| bind(*address)).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<_> = bound.iter().map(|bound| bound.address).collect();

    let id = backends::node_id();
    let backends = tokio::select! {
        backends = Backends::open(settings) => backends?,
        _ = signals.next() => return Ok(End::CutShort),
    };
    for (serious, finding) in backends.findings().await {
        tracing::warn!(serious, "{finding}");
    }
    let hidden = backends.administration(settings).hidden().await;
    let hidden = hidden.map_err(|why| format!("cannot read the live apps: {why}"))?;
    for hidden in hidden.iter().filter(|_| !settings.usual_apps) {
        tracing::warn!("{hidden}");
    }
    let placement = ByRing::new(backends.hosts());
    let installation = installation(settings)?;
    let port = addresses.first().map_or(0, SocketAddr::port);
    let mut member = settings.member(id.clone(), roles, installation, port, backends.clock.wall());
    member.configuration = backends.digests(settings);
    let name = member.name.clone();
    let webhooks = backends.webhooks(id.clone(), settings)?;
    let config = channel_config(settings, id.clone())?;
    let mut parts =
        backends.parts(id.clone(), roles.channel.then(|| name.clone()), Arc::new(placement.clone()));
    parts.access = webhooks.guard(parts.access);
    let (joined, decided) = oneshot::channel();
    let joined = move |result| drop(joined.send(result));
    let node = Node::start(config, parts, member, Box::new(joined))
        .map_err(|error| format!("cannot start: {error}"))?;
    node.hook(Arc::new(webhooks.clone()));
    if let Some(end) = join(decided, &name, &mut signals).await? {
        return Ok(end);
    }
    let elsewhere = (placement.clone(), id.clone());
    node.assign_by(Arc::new(move |channel| elsewhere.0.elsewhere(channel, &elsewhere.1)));
    let owners = placement.clone();
    node.host_by(Arc::new(move |channel, accept| owners.host(channel, accept)));
    let emitters = settings.shared.as_ref().and_then(|shared| shared.redis.emitters.as_deref());
    let _emitters = emitters
        .zip(settings.default_app.clone())
        .and_then(|(key, app)| backends.emitters(key, app, settings.limits.payload, node.clone()));
    let readiness = Readiness::default();
    let mut others = health::router(readiness.clone(), metrics(&node, &webhooks, &backends));
    if roles.session {
        let session = role::session::start(&node, id, &placement, &backends, &webhooks, settings)
            .map_err(|error| format!("cannot start: {error}"))?;
        others = others.merge(session);
    }
    let others = others.fallback_service(pages::router());
    let listeners = bound.into_iter().map(Bound::listen).collect::<Result<Vec<_>, _>>()?;
    let channel = Channel::start(node.clone(), listeners, tls, &others);
    readiness.ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %name, listen = ?addresses, open_files, "ready");
    // A server without the API has no page for it.
    let setup = match roles.session {
        true => xpush_session::setup::begin_setup(backends.access.directory())
            .await
            .map_err(|error| format!("cannot prepare the set-up: {error}"))?,
        false => None,
    };
    say(&banner::ready(settings, &addresses, file, setup.as_deref(), &name, &hidden));
    probe::start(&node, &backends, placement.views(), &readiness);
    let wishes = tokio::spawn(role::channel::follow_wishes(node, name, placement.views(), readiness.clone()));

    let signal = signals.next().await;
    tracing::info!(signal, "draining");
    wishes.abort();
    readiness.draining();
    end(channel, &webhooks, &backends, &mut signals).await
}

/// What is counted: by the node, by what goes over Redis, by hooks, and by the store.
fn metrics(node: &Arc<Node>, webhooks: &Webhooks, backends: &Backends) -> health::Metrics {
    let (node, webhooks) = (node.clone(), webhooks.clone());
    let (traffic, kept) = (backends.traffic(), backends.file());
    Arc::new(move || {
        let text = webhooks.add_metrics(health::add_counters(node.metrics(), &traffic.counters()));
        match &kept {
            Some(file) => file.add_metrics(text),
            None => text,
        }
    })
}

/// What the node is told, with whom to believe that it is another one.
fn channel_config(settings: &Settings, id: NodeId) -> Result<Config, String> {
    let peers = settings.peer_trust().map_err(|error| format!("[cluster] peer_ca: {error}"))?;
    Ok(settings.channel(id, peers))
}

/// Drains, closes what is kept, and bounds the time that this takes.
async fn end(
    channel: Channel,
    webhooks: &Webhooks,
    backends: &Backends,
    signals: &mut Signals,
) -> Result<End, String> {
    // A task of its own: joining the shards' threads blocks, and must hold up neither the bound nor a second signal.
    let drained = tokio::spawn(channel.drain(DRAIN - FLUSH));
    tokio::select! {
        _ = drained => {
            webhooks.flush(FLUSH).await;
            backends.close();
            tracing::info!("drained");
        }
        () = tokio::time::sleep(DRAIN) => tracing::warn!("not drained in time"),
        signal = signals.next() => {
            tracing::warn!(signal, "ending at once");
            return Ok(End::CutShort);
        }
    }
    Ok(End::Drained)
}

/// Waits until the cluster has taken the server in, or refused it; a signal ends the waiting.
async fn join(
    mut decided: oneshot::Receiver<Result<(), PortError>>,
    name: &NodeName,
    signals: &mut Signals,
) -> Result<Option<End>, String> {
    loop {
        tokio::select! {
            joined = &mut decided => return match joined {
                Ok(Err(refused)) => Err(format!("cannot join the cluster as {name}: {}", refused.detail)),
                _ => Ok(None),
            },
            () = tokio::time::sleep(WAITING) => tracing::warn!(%name, "waiting for ZooKeeper to take this server in"),
            _ = signals.next() => return Ok(Some(End::CutShort)),
        }
    }
}

/// What tells this server from all others that may come by its name: a number in its data folder, made at the first start. 0: it needs none.
pub(crate) fn installation(settings: &Settings) -> Result<u64, String> {
    if settings.shared.is_none() {
        return Ok(0);
    }
    let file = settings.data_dir.join("installation");
    let unusable = |error: std::io::Error| format!("cannot use {}: {error}", file.display());
    match fs::read_to_string(&file) {
        Ok(text) => u64::from_str_radix(text.trim(), 16).map_err(|_| {
            format!("{} is no number: remove it, if no other server has this name", file.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let number = backends::chance().max(1);
            fs::write(&file, format!("{number:016x}\n")).map_err(unusable)?;
            Ok(number)
        }
        Err(error) => Err(unusable(error)),
    }
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
