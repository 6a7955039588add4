//! `xpush serve --supervised`: a parent that sees its server die at once, tells the cluster of it, and starts it again.
//!
//! The others notice a dead server by themselves when its session with ZooKeeper is over, which takes seconds. Whoever saw it die can say so: its registration is
//! removed, and what follows from that (its users go `reconnecting`, its channels get another place) begins at once.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use xpush_core::ports::Done;
use xpush_core::ports::cluster::{Cluster, Node, Standing, View};
use xpush_core::ports::hosts::Hosts;

use crate::cli::Options;
use crate::config::Settings;
use crate::port::ask;
use crate::signals::Signals;
use crate::{backends, serve, watermark};

/// Before the first restart; twice as long before each that follows at once, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A server that has lived so long is one that works.
const WORKS: Duration = Duration::from_secs(60);
/// How long the cluster may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the registry of what servers carry may take.
const REGISTRY: Duration = Duration::from_secs(1);

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
        let (end, asked) = watch(&child, &mut signals).await?;
        let (died, code) = match end {
            // A server that could not even start once will not start the next time either.
            End::Exited(code) if code == 0 || (first && !asked) => return Ok(ExitCode::from(code)),
            End::Exited(code) => (format!("exit code {code}"), ExitCode::from(code)),
            End::Died(how) => (how, ExitCode::FAILURE),
        };
        tracing::error!(died, "the server is dead");
        if let Some(cluster) = &cluster {
            cluster.clean_up(settings).await;
        }
        if asked {
            return Ok(code);
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
    // In a group of its own: what the terminal tells all of a group is passed on by the supervisor, once.
    Command::new(program).args(arguments).process_group(0).spawn().map_err(cannot)
}

/// A server that was started. By its pidfd, which names this process for ever, also when the number is another one's.
struct Server(AsyncFd<OwnedFd>);

impl Server {
    fn of(child: &Child) -> io::Result<Self> {
        // Nobody has waited for it yet: the number is still its own.
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "the other way is `unsafe`; an `OwnedFd` stays what it is for as long as it lives"
        )]
        let process = AsyncFd::with_interest(process, Interest::READABLE)?;
        Ok(Self(process))
    }

    /// Waits for its end, and takes it out of the system's table.
    async fn ended(&self) -> io::Result<End> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        loop {
            let mut ready = self.0.readable().await?;
            match waitid(WaitId::PidFd(self.0.as_fd()), options)? {
                Some(status) => {
                    return Ok(match status.exit_status() {
                        Some(code) => End::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
                        None => End::Died(died_by(status.terminating_signal())),
                    });
                }
                None => ready.clear_ready(),
            }
        }
    }

    fn tell(&self, signal: Signal) {
        // It may have ended at this moment.
        let _ = pidfd_send_signal(self.0.as_fd(), signal);
    }
}

fn died_by(signal: Option<i32>) -> String {
    signal.map_or_else(|| "no exit code".to_owned(), |number| format!("signal {number}"))
}

/// Waits for the end of a server, and says whether it was asked to end: signals are passed on to it.
async fn watch(child: &Child, signals: &mut Signals) -> Result<(End, bool), String> {
    let cannot = |error: io::Error| format!("cannot watch the server: {error}");
    let server = Server::of(child).map_err(cannot)?;
    let mut asked = false;
    loop {
        tokio::select! {
            ended = server.ended() => return ended.map(|end| (end, asked)).map_err(cannot),
            name = signals.next() => {
                asked = true;
                server.tell(if name == "SIGINT" { Signal::INT } else { Signal::TERM });
            }
        }
    }
}

/// What others know of the server.
struct Registrations {
    cluster: Arc<dyn Cluster>,
    hosts: Arc<dyn Hosts>,
    views: tokio::sync::watch::Receiver<Arc<View>>,
}

impl Registrations {
    /// `None`: there is no cluster.
    fn watch(settings: &Settings) -> Result<Option<Self>, String> {
        let Some(shared) = &settings.shared else { return Ok(None) };
        let runtime = tokio::runtime::Handle::current();
        let cluster = backends::cluster(&shared.zookeeper, &runtime)?;
        let hosts = backends::hosts(shared, &runtime)?;
        let views = watermark::views(&*cluster);
        Ok(Some(Self { cluster, hosts, views }))
    }

    /// Removes what servers with this data folder have left behind: their places in the cluster, and what they carried. Their users' presence is the others' to clear away:
    /// whoever is back in time has not left.
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
            let removed = done_within(PATIENCE, |done| self.cluster.remove(&node.id, done)).await;
            if removed {
                tracing::info!(name = %node.name, id = %node.id, "the cluster knows that it is dead");
            } else {
                tracing::warn!(name = %node.name, "the cluster was not told that it is dead: it will notice by itself");
            }
            // The next start says the same: this is for clients that come before.
            done_within(REGISTRY, |done| self.hosts.evict(&node.name, done)).await;
        }
    }
}

/// Whether it was done in time.
async fn done_within(patience: Duration, call: impl FnOnce(Done<()>)) -> bool {
    matches!(tokio::time::timeout(patience, ask(call)).await, Ok(Ok(())))
}
