//! A file that is larger than the server's memory should ever be.

use crate::{
    Target,
    http::Http,
    ledger::Faults,
    report::{Report, Watch},
};
use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Bytes of one write.
const PART: usize = 256 * 1024;
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Uploads a large file.
///
/// One small file first, then one of `--megabytes`, as a stream of bytes that nobody has whole. What the server's memory has grown by meanwhile, at its peak, is told.
#[derive(clap::Args, Debug)]
pub(crate) struct Upload {
    #[command(flatten)]
    pub(crate) target: Target,
    /// An API key with the scope `publish`
    #[arg(long, env = "XPUSH_API_KEY", hide_env_values = true)]
    key: String,
    /// The file's length
    #[arg(long, default_value_t = 1_000)]
    megabytes: u64,
    /// The channel: of a rule for files that takes as much
    #[arg(long, default_value = "chat:bench")]
    channel: String,
}

impl Upload {
    pub(crate) fn run(&self) -> io::Result<Report> {
        let server = self.target.server().ok_or_else(|| io::Error::other("upload needs --server-pid"))?;
        let path = format!("channels/{}/files?name=bench.bin", self.channel);
        let length = self.megabytes * 1_000_000;
        let part = vec![0x5a; PART];
        let mut http = Http::open(&self.target, Some(&self.key))?;
        http.upload(&path, PART as u64, &part)?;
        let watch = Watch::start(Some(server))?;
        let before = server.read()?.rss_kb;
        let over = AtomicBool::new(false);
        let (answer, peak) = thread::scope(|scope| {
            let peak = scope.spawn(|| {
                let mut peak = before;
                while !over.load(Ordering::Relaxed) {
                    peak = peak.max(server.read().map_or(0, |reading| reading.rss_kb));
                    thread::park_timeout(LOOK);
                }
                peak
            });
            let answer = http.upload(&path, length, &part);
            over.store(true, Ordering::Relaxed);
            (answer, peak.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let seconds = watch.elapsed().as_secs_f64();
        let mut report = watch.stop("upload", &self.target.url, 1, 1, Faults::default())?;
        let size = &answer?["file"]["size"];
        if *size != length {
            report.failures.push(format!("{length} bytes were sent, and {size} are there"));
        }
        report.settings = BTreeMap::from([("megabytes", self.megabytes as f64)]);
        report.figures = BTreeMap::from([
            ("RSS MB grown", (peak - before) as f64 / 1024.0),
            ("MB a second", self.megabytes as f64 / seconds),
        ]);
        Ok(report)
    }
}
