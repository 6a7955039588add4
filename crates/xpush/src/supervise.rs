//! `xpush serve --supervised`: a parent that sees its server die at once, tells the cluster of it, and starts it again.
//!
//! The others notice a dead server by themselves when its session with ZooKeeper is over, which takes seconds. Whoever saw it die can say so: its registration is
//! removed, and what follows from that (its users go `reconnecting`, its channels get another place) begins at once.

use std::ffi::OsString;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;
use xpush_core::ports::cluster::{Cluster, Node, Standing, View};

use crate::cli::Options;
use crate::config::Settings;
use crate::signals::Signals;
use crate::{backends, serve, watermark};

/// Before the first restart; twice as long before each that follows at once, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that has lived so long is one that works.
const WORKS: Duration = Duration::from_secs(60);
/// How long the cluster may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a server has ended.
enum End {
    /// By itself, or because it was asked to: with this code.
    Exited(u8),
    /// By a signal, or in a panic.
    Died(String),
}

/// Runs until the server ends in order, or cannot be started at all.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let (loaded, _) = serve::load(options)?;
    crate::log::start(&loaded.settings.log);
    serve::prepare_data_dir(&loaded.settings.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let ended = runtime.block_on(supervise(&loaded.settings));
    runtime.shutdown_background();
    ended
}

async fn supervise(settings: &Settings) -> Result<ExitCode, String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let cluster = Registrations::watch(settings)?;
    let mut pause = PAUSE;
    let mut first = true;
    loop {
        let began = Instant::now();
        let child = start()?;
        let end = watch(child, &mut signals).await?;
        let died = match end {
            // A server that could not even start once will not start the next time either.
            End::Exited(code) if code == 0 || first => return Ok(ExitCode::from(code)),
            End::Exited(code) => format!("exit code {code}"),
            End::Died(how) => how,
        };
        tracing::error!(died, "the server is dead");
        if let Some(cluster) = &cluster {
            cluster.clean_up(settings).await;
        }
        if began.elapsed() >= WORKS {
            pause = PAUSE;
        }
        first = false;
        tracing::info!(pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0), "starting it again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = signals.next() => return Ok(ExitCode::FAILURE),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// This program with the same arguments, but for the one that makes it a supervisor.
fn start() -> Result<Child, String> {
    let cannot = |error: std::io::Error| format!("cannot start the server: {error}");
    let program = std::env::current_exe().map_err(cannot)?;
    let arguments: Vec<OsString> =
        std::env::args_os().skip(1).filter(|argument| argument != "--supervised").collect();
    Command::new(program).args(arguments).spawn().map_err(cannot)
}

/// Waits for the end of a server; signals are passed on to it.
async fn watch(mut child: Child, signals: &mut Signals) -> Result<End, String> {
    let cannot = |error: std::io::Error| format!("cannot watch the server: {error}");
    // It names this process for ever, also when the number is another one's.
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let process = process.map_err(|error| cannot(error.into()))?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    loop {
        tokio::select! {
            ended = &mut ended => {
                let status = ended.map_err(|error| cannot(error.into())).and_then(|status| status.map_err(cannot))?;
                return Ok(match status.code() {
                    Some(code) => End::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
                    None => End::Died(status.to_string()),
                });
            }
            name = signals.next() => {
                let signal = if name == "SIGINT" { Signal::INT } else { Signal::TERM };
                // It may have ended at this moment.
                let _ = pidfd_send_signal(&process, signal);
            }
        }
    }
}

/// What the cluster knows of the server.
struct Registrations {
    cluster: std::sync::Arc<dyn Cluster>,
    views: tokio::sync::watch::Receiver<std::sync::Arc<View>>,
}

impl Registrations {
    /// `None`: there is no cluster.
    fn watch(settings: &Settings) -> Result<Option<Self>, String> {
        let Some(shared) = &settings.shared else { return Ok(None) };
        let cluster = backends::cluster(&shared.zookeeper, &tokio::runtime::Handle::current())?;
        let views = watermark::views(&*cluster);
        Ok(Some(Self { cluster, views }))
    }

    /// Removes what servers with this data folder have left behind.
    async fn clean_up(&self, settings: &Settings) {
        let Ok(installation) = serve::installation(settings) else { return };
        let view = self.views.borrow().clone();
        if view.standing != Standing::Live {
            return tracing::warn!(
                "the cluster cannot be told that the server is dead: it will notice by itself"
            );
        }
        let left: Vec<&Node> = view.nodes.iter().filter(|node| node.installation == installation).collect();
        for node in left {
            let (sender, removed) = oneshot::channel();
            self.cluster.remove(&node.id, Box::new(move |result| drop(sender.send(result))));
            match tokio::time::timeout(PATIENCE, removed).await {
                Ok(Ok(Ok(()))) => {
                    tracing::info!(name = %node.name, id = %node.id, "the cluster knows that it is dead")
                }
                _ => {
                    tracing::warn!(name = %node.name, "the cluster was not told that it is dead: it will notice by itself")
                }
            }
        }
    }
}
