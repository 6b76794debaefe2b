//! What a process takes from its start to its end.

use std::fmt::{self, Display};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::kafka::harness::process::Process;

/// How often it is looked at; what it does in its last moment is missed.
const LOOK: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(900);

/// Figures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    pub(crate) cpu_s: f64,
    pub(crate) peak_mb: f64,
    /// Bytes that it left on the disk.
    pub(crate) written_bytes: u64,
}

impl Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, cpu_s, peak_mb, written_bytes } = self;
        let gb = *written_bytes as f64 / 1e9;
        write!(f, "{seconds:.2} s, {cpu_s:.2} CPU s, peak {peak_mb:.0} MB, {gb:.3} GB written")
    }
}

/// Runs it to its end, which must be a good one; `to` is where it writes.
pub(crate) fn run(command: &Command, scratch: &Path, to: &Path) -> Spent {
    let began = Instant::now();
    let mut process = Process::start(command, &scratch.join("out"), &scratch.join("log"), None);
    let (mut cpu_s, mut peak_bytes) = (0.0, 0);
    while process.is_running() {
        cpu_s = process.cpu_s().unwrap_or(cpu_s);
        peak_bytes = process.peak_rss_bytes().unwrap_or(peak_bytes);
        assert!(began.elapsed() < LIMIT, "{command:?} still runs:\n{}", process.log_tail());
        std::thread::sleep(LOOK);
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(process.wait_exit(LIMIT), 0, "{command:?}:\n{}", process.log_tail());
    Spent { seconds, cpu_s, peak_mb: peak_bytes as f64 / 1e6, written_bytes: bytes_in(to) }
}

fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |path: &Path| if path.is_dir() { bytes_in(path) } else { path.metadata().map_or(0, |meta| meta.len()) };
    entries.map(|entry| bytes(&entry.unwrap().path())).sum()
}
