//! What brokers and machine did between two moments.

use std::fs;
use std::time::Instant;

use crate::load::Stage;
use crate::machine::cores;

/// The machine's CPU time so far, in ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: f64,
    idle: f64,
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
fn ticks() -> Ticks {
    let text = fs::read_to_string("/proc/stat").unwrap_or_else(|error| panic!("/proc/stat: {error}"));
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    assert!(fields.len() == 8, "/proc/stat begins with {line:?}");
    Ticks { all: fields.iter().sum(), idle: fields[3] + fields[4] }
}

/// Resident memory of a process now, MB (`VmRSS`).
pub(crate) fn rss_mb(pid: u32) -> f64 {
    let text =
        fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kb = line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok());
    kb.unwrap_or_else(|| panic!("process {pid} shows no VmRSS")) * 1024.0 / 1e6
}

/// The beginning of a window.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    stage: &'a Stage,
    began: Instant,
    ticks: Ticks,
    source_s: f64,
    target_s: f64,
}

/// What happened in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// Its length, seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of the source broker.
    pub(crate) source_s: f64,
    /// CPU seconds of the target broker.
    pub(crate) target_s: f64,
    /// Share of the machine's CPU time that nobody used, %. Near 0 the machine, not the replicator, may set the pace.
    pub(crate) idle_percent: f64,
    /// Share of the machine's CPU time that the target broker used, %.
    pub(crate) target_percent: f64,
}

impl<'a> Window<'a> {
    /// Opens one.
    pub(crate) fn open(stage: &'a Stage) -> Self {
        Self { stage, began: Instant::now(), ticks: ticks(), source_s: stage.from.cpu_s(), target_s: stage.to.cpu_s() }
    }

    /// Closes it.
    pub(crate) fn close(self) -> Spent {
        let seconds = self.began.elapsed().as_secs_f64();
        let now = ticks();
        let all = (now.all - self.ticks.all).max(1.0);
        let (source_s, target_s) = (self.stage.from.cpu_s() - self.source_s, self.stage.to.cpu_s() - self.target_s);
        Spent {
            seconds,
            source_s,
            target_s,
            idle_percent: (now.idle - self.ticks.idle) / all * 100.0,
            target_percent: target_s / (seconds * cores() as f64) * 100.0,
        }
    }
}

impl Spent {
    /// Share of the machine's CPU time that went to nobody who takes part, in %: the driver that looks and writes, and whatever
    /// else ran. `peer_s` are the CPU seconds of the peer.
    pub(crate) fn others_percent(&self, peer_s: f64) -> f64 {
        let known = (peer_s + self.source_s + self.target_s) / (self.seconds * cores() as f64) * 100.0;
        (100.0 - self.idle_percent - known).max(0.0)
    }
}
