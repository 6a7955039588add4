//! What the kernel says about a process: CPU time and memory, from `/proc` (`man 5 proc`).

use std::{fs, io, time::Duration, time::Instant};

/// Watches one process.
#[derive(Clone, Copy)]
pub(crate) struct Meter {
    pid: u32,
}

/// The process at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Time on a CPU, user and kernel, of all live threads; in nanoseconds from the scheduler.
    pub(crate) cpu: Duration,
    /// The same in clock ticks; coarse, but tells user from kernel.
    user_ticks: u64,
    kernel_ticks: u64,
    /// Resident memory.
    pub(crate) rss_kb: u64,
}

/// The time between two readings.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Spent {
    /// CPU time in seconds.
    pub(crate) cpu_s: f64,
    /// Share of one core that was used.
    pub(crate) busy: f64,
    /// Share of the CPU time spent outside the kernel.
    pub(crate) user_share: f64,
    /// Resident memory at the end.
    pub(crate) rss_kb: u64,
}

impl Meter {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn oneself() -> Self {
        Self { pid: std::process::id() }
    }

    pub(crate) fn read(self) -> io::Result<Reading> {
        let pid = self.pid;
        let mut cpu_ns = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu_ns += number(text.split(' ').next())?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name is in parentheses and may hold anything, so count from the last one.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut ticks = fields.split(' ').skip(11);
        let (user_ticks, kernel_ticks) = (number(ticks.next())?, number(ticks.next())?);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss_kb = labelled(&status, "VmRSS:")?;
        Ok(Reading {
            at: Instant::now(),
            cpu: Duration::from_nanos(cpu_ns),
            user_ticks,
            kernel_ticks,
            rss_kb,
        })
    }
}

impl Reading {
    pub(crate) fn until(self, end: Self) -> Spent {
        let cpu_s = end.cpu.saturating_sub(self.cpu).as_secs_f64();
        let (user, kernel) = (end.user_ticks - self.user_ticks, end.kernel_ticks - self.kernel_ticks);
        Spent {
            cpu_s,
            busy: cpu_s / (end.at - self.at).as_secs_f64(),
            user_share: ratio(user, user + kernel),
            rss_kb: end.rss_kb,
        }
    }
}

/// Kernel memory that grows with connections: slab objects (sockets, epoll items, files) and TCP buffers.
/// It covers the whole machine, so both ends of a loopback connection are in it.
pub(crate) fn kernel_kb() -> io::Result<u64> {
    let slab = labelled(&fs::read_to_string("/proc/meminfo")?, "Slab:")?;
    let sockstat = fs::read_to_string("/proc/net/sockstat")?;
    let tcp = sockstat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = tcp.split(' ').skip_while(|word| *word != "mem").nth(1);
    Ok(slab + number(pages)? * 4)
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn labelled(text: &str, label: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    number(line.and_then(|line| line.split_whitespace().next()))
}

fn number(word: Option<&str>) -> io::Result<u64> {
    let parsed = word.and_then(|word| word.trim().parse().ok());
    parsed.ok_or_else(|| io::Error::other("/proc does not look as expected (is this Linux?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_up_as_cpu_time() {
        let meter = Meter::oneself();
        let start = meter.read().expect("/proc");
        let mut sum = 0u64;
        while start.at.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum + 1);
        }
        let spent = start.until(meter.read().expect("/proc"));
        assert!(spent.cpu_s > 0.0 && spent.rss_kb > 0, "{spent:?}");
    }

    #[test]
    fn the_kernel_s_share_can_be_read() {
        assert!(kernel_kb().expect("/proc") > 0);
    }
}
