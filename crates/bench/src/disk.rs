//! What the disk can do: the yardstick of everything that is acked when it is on disk.

use crate::report::Latencies;
use std::{
    fs, io,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// Bytes of one write: a page of the store.
const PAGE: usize = 4096;

/// How fast small appends reach the disk.
pub(crate) struct Disk {
    pub(crate) syncs_a_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Appends pages to a file in `folder`, each with its fdatasync, for so long.
pub(crate) fn measure(folder: &Path, time: Duration) -> io::Result<Disk> {
    let path = folder.join(format!("xpush-bench-disk-{}", std::process::id()));
    let measured = append(&path, time);
    let removed = fs::remove_file(&path);
    measured.and_then(|disk| removed.map(|()| disk))
}

fn append(path: &Path, time: Duration) -> io::Result<Disk> {
    let mut file = fs::File::create(path)?;
    let page = [7; PAGE];
    let mut latencies = Latencies::new();
    let (started, mut syncs) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        let before = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        latencies.record(0, u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
        syncs += 1;
    }
    let percentiles = latencies.percentiles().ok_or_else(|| io::Error::other("nothing was synced"))?;
    Ok(Disk {
        syncs_a_second: syncs as f64 / started.elapsed().as_secs_f64(),
        p50_ms: percentiles.p50 / 1000.0,
        p99_ms: percentiles.p99 / 1000.0,
    })
}
