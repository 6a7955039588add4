//! Connections that do nothing: what one costs in memory.

use crate::{
    Target,
    ledger::Faults,
    meter::{self, Meter},
    report::{Report, Watch},
    swarm::Swarm,
};
use std::{
    collections::BTreeMap,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

/// Connections that do nothing.
///
/// Connects `--first` clients with one subscription each, reads the server's resident memory, connects more up to
/// `--last`, and reads it again: the growth by connection leaves out what the server needs anyway. The kernel's share is
/// the growth of Slab (/proc/meminfo) and TCP buffers (/proc/net/sockstat); both ends of each connection are in it, ours
/// and the server's.
#[derive(clap::Args, Debug)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Connections at the first reading
    #[arg(long, default_value_t = 5000)]
    first: usize,
    /// Connections at the second reading
    #[arg(long, default_value_t = 15000)]
    last: usize,
    /// Connections that share one channel
    #[arg(long, default_value_t = 100)]
    members: usize,
}

/// Memory is read when it has not grown for this long.
const STEADY: Duration = Duration::from_secs(2);
const STEADY_AT_MOST: Duration = Duration::from_secs(20);

impl Idle {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let server = self.target.server().ok_or_else(|| io::Error::other("idle needs --server-pid"))?;
        let mut swarm = Swarm::new(&self.target, crate::payload::MIN_LEN)?;
        let watch = Watch::start(Some(server))?;
        self.connect(self.first, &mut swarm)?;
        let mut cut = 0;
        let first = steady(server, &mut swarm, &mut cut)?;
        self.connect(self.last - self.first, &mut swarm)?;
        let last = steady(server, &mut swarm, &mut cut)?;

        let count = swarm.len() as u64;
        let mut report =
            watch.stop("idle", &self.target.url, count, count, Faults { cut, ..Faults::default() })?;
        let each = |grown: u64| grown as f64 / (self.last - self.first) as f64;
        report.settings = BTreeMap::from([
            ("first", self.first as f64),
            ("last", self.last as f64),
            ("members", self.members as f64),
        ]);
        report.figures = BTreeMap::from([
            ("user kB a connection", each(last.user_kb.saturating_sub(first.user_kb))),
            ("kernel kB a connection, both ends", each(last.kernel_kb.saturating_sub(first.kernel_kb))),
        ]);
        Ok(report)
    }

    fn connect(&self, count: usize, swarm: &mut Swarm) -> io::Result<()> {
        let channel =
            |number: usize| Rc::from(format!("{}idle-{}", self.target.prefix, number / self.members));
        swarm.connect(count, self.target.patience(), |number| Some(channel(number)))
    }
}

struct Memory {
    user_kb: u64,
    kernel_kb: u64,
}

/// Waits until the server's memory is steady, and reads it.
fn steady(server: Meter, swarm: &mut Swarm, cut: &mut u64) -> io::Result<Memory> {
    let started = Instant::now();
    let mut since = started;
    let mut user_kb = server.read()?.rss_kb;
    while since.elapsed() < STEADY && started.elapsed() < STEADY_AT_MOST {
        swarm.turn(Duration::from_millis(100), &mut |_, heard| {
            *cut += u64::from(matches!(heard, crate::client::Heard::Gone(_)));
        })?;
        let now = server.read()?.rss_kb;
        if now > user_kb {
            (user_kb, since) = (now, Instant::now());
        }
    }
    Ok(Memory { user_kb, kernel_kb: meter::kernel_kb()? })
}
