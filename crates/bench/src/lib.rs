//! An honest load generator for Socket.IO servers, and the limit server that they are measured against.
//!
//! The client side shares no code with `crates/wire`: its WebSocket protocol is tungstenite's, so it is an oracle for
//! ours. Every message carries its publisher, its number and its time of sending ([`payload`]), and every arrival is
//! entered in an account ([`ledger`]) that tells lost, doubled and misordered messages apart. The server's CPU time and
//! memory come from the kernel ([`meter`]).

mod caller;
mod client;
mod dialect;
mod disk;
mod exposition;
mod http;
mod ledger;
mod limit;
mod meter;
mod payload;
mod report;
mod scenario;
mod swarm;

pub use dialect::Dialect;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

/// Put load on a Socket.IO server and judge what arrives.
///
/// Each scenario connects real WebSocket clients from one thread, checks that every message arrived exactly once and in
/// order, and prints lost / doubled / misordered, latency, and what it cost the server. The exit code is 0 only if
/// nothing went wrong.
///
/// For figures that can be compared, give the server and the load a core each, and tell the server's process:
///
///   taskset -c 0 xpush --listen 127.0.0.1:8000 &
///   taskset -c 1 xpush bench fanout --server-pid $!
///
/// The yardstick is the limit server, a bare loop that writes ready-made bytes:
///
///   taskset -c 0 xpush bench limit --listen 127.0.0.1:8001 &
///   taskset -c 1 xpush bench fanout --server-pid $! --dialect socketio --url 'ws://127.0.0.1:8001/socket.io/?EIO=4&transport=websocket'
///
/// The server must allow it: thousands of connections from one address, and their events
/// (limits.connections_per_address = 0, limits.events_per_second = 0). Each side needs a file by connection
/// (ulimit -n).
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand, Debug)]
enum Task {
    /// Connections that do nothing: what one costs in memory
    Idle(scenario::idle::Idle),
    /// One publisher, many subscribers: what a delivery costs
    Fanout(scenario::fanout::Fanout),
    /// Many small rooms, everybody talking
    Rooms(scenario::rooms::Rooms),
    /// A publish and its ack, one at a time
    Ack(scenario::ack::Ack),
    /// Everybody is dropped and comes back at once
    Storm(scenario::storm::Storm),
    /// Some subscribers stop reading: they are cut off, the others do not notice
    Slow(scenario::slow::Slow),
    /// Publishes that are acked when they are on disk
    Durable(scenario::durable::Durable),
    /// A client comes back and has missed much
    Resume(scenario::resume::Resume),
    /// The newest page of a long history
    Page(scenario::resume::Page),
    /// Publishes through the HTTP API, beside the same over sockets; batches to disk
    Api(scenario::api::Api),
    /// Everybody logs in by password at once, while others talk
    Login(scenario::login::Login),
    /// Published at one server of several, heard at the others
    Across(scenario::across::Across),
    /// One server of several is killed, and its clients go on at the others
    Heal(scenario::heal::Heal),
    /// A back end that is asked about every message, beside a fan-out
    Hooks(scenario::hooks::Hooks),
    /// Publishes into channels that are searched, beside such that are not
    Search(scenario::search::Search),
    /// A large file, in constant memory
    Upload(scenario::upload::Upload),
    /// Run the limit server, the yardstick (Ctrl-C ends it)
    Limit(limit::Limit),
}

/// What every scenario needs to know.
#[derive(clap::Args, Debug)]
pub(crate) struct Target {
    /// The server's WebSocket address
    #[arg(long, default_value = "ws://127.0.0.1:8000/socket.io/?EIO=4&transport=websocket")]
    url: String,
    /// How the server is spoken to
    #[arg(long, visible_alias = "target", value_enum, default_value_t = Dialect::Xpush)]
    dialect: Dialect,
    /// The server's process: its CPU time and memory are reported
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// What channel names start with: the channels' rule (live: keeps no history, chat: does)
    #[arg(long, default_value = "live:")]
    prefix: String,
    /// Give up when nothing arrives for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    patience: f64,
    /// Never sleep while waiting, so that the server does not pay for waking us up
    #[arg(long)]
    spin: bool,
    /// Print one line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Target {
    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.patience)
    }

    /// `HOST:PORT` of the URL.
    fn host(&self) -> io::Result<&str> {
        let rest = self.url.strip_prefix("ws://");
        let rest = rest.ok_or_else(|| io::Error::other("the URL must start with ws://"))?;
        Ok(rest.split('/').next().unwrap_or(rest))
    }

    fn server(&self) -> Option<meter::Meter> {
        self.server_pid.map(meter::Meter::of)
    }
}

/// Does what the command line says; prints to standard output, errors to standard error.
pub fn run(args: Args) -> ExitCode {
    match perform(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: Args) -> io::Result<bool> {
    let (report, json) = match args.task {
        Task::Idle(scenario) => (scenario.run()?, scenario.target.json),
        Task::Fanout(scenario) => (scenario.run()?, scenario.target.json),
        Task::Rooms(scenario) => (scenario.run()?, scenario.target.json),
        Task::Ack(scenario) => (scenario.run()?, scenario.target.json),
        Task::Storm(scenario) => (scenario.run()?, scenario.target.json),
        Task::Slow(scenario) => (scenario.run()?, scenario.target.json),
        Task::Durable(scenario) => (scenario.run()?, scenario.target.json),
        Task::Resume(scenario) => (scenario.run()?, scenario.target.json),
        Task::Page(scenario) => (scenario.run()?, scenario.target.json),
        Task::Api(scenario) => (scenario.run()?, scenario.target.json),
        Task::Login(scenario) => (scenario.run()?, scenario.target.json),
        Task::Across(scenario) => (scenario.run()?, scenario.target.json),
        Task::Heal(scenario) => (scenario.run()?, scenario.target.json),
        Task::Hooks(scenario) => (scenario.run()?, scenario.target.json),
        Task::Search(scenario) => (scenario.run()?, scenario.durable.target.json),
        Task::Upload(scenario) => (scenario.run()?, scenario.target.json),
        Task::Limit(limit) => return limit.serve().map(|()| true),
    };
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(report.is_good())
}
