//! What a process has used, as Linux tells it.

use std::fs;
use std::ops::Sub;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

/// `/proc` counts in hundredths of a second on every architecture of Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time, seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Cpu {
    user: f64,
    system: f64,
}

impl Cpu {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading its CPU time")?;
        // The command name may hold blanks and brackets; utime and stime are the 14th and 15th field of all.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let ticks = |at: usize| fields.as_ref().and_then(|all| all.get(at)?.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
        Ok(Self { user: user / TICKS_PER_SECOND, system: system / TICKS_PER_SECOND })
    }
}

impl Cpu {
    fn of_all(pids: &[u32]) -> anyhow::Result<Self> {
        let each = pids.iter().map(|pid| Self::of(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
        let sum = |of: fn(&Self) -> f64| each.iter().map(of).sum();
        Ok(Self { user: sum(|cpu| cpu.user), system: sum(|cpu| cpu.system) })
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Largest resident set so far.
fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading its memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("/proc/{pid}/status has no VmHWM"))? * 1024)
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Reading {
    bytes: u64,
    wall: Duration,
    cpu: Cpu,
    /// Of this process, which is both ends.
    ends: Cpu,
    peak_bytes: u64,
}

/// A measurement under way.
pub(crate) struct Stopwatch {
    pids: Vec<u32>,
    began: Instant,
    cpu: Cpu,
    ends: Cpu,
}

impl Stopwatch {
    /// Of this process and of those that lie between its ends.
    pub(crate) fn start(pids: Vec<u32>) -> anyhow::Result<Self> {
        let (cpu, ends) = (Cpu::of_all(&pids)?, Cpu::of(std::process::id())?);
        Ok(Self { pids, cpu, ends, began: Instant::now() })
    }

    /// CPU time is that of all of them, memory that of the largest.
    pub(crate) fn stop(self, bytes: u64) -> anyhow::Result<Reading> {
        let wall = self.began.elapsed();
        let (cpu, ends) = (Cpu::of_all(&self.pids)? - self.cpu, Cpu::of(std::process::id())? - self.ends);
        let peaks = self.pids.iter().map(|pid| peak_bytes(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Reading { bytes, wall, cpu, ends, peak_bytes: peaks.into_iter().max().unwrap_or(0) })
    }
}

impl Reading {
    fn gb(&self) -> f64 {
        self.bytes as f64 / 1e9
    }

    pub(crate) fn cpu_per_gb(&self) -> f64 {
        (self.cpu.user + self.cpu.system) / self.gb()
    }

    pub(crate) fn user_per_gb(&self) -> f64 {
        self.cpu.user / self.gb()
    }

    pub(crate) fn ends_per_gb(&self) -> f64 {
        (self.ends.user + self.ends.system) / self.gb()
    }

    pub(crate) fn gb_per_second(&self) -> f64 {
        self.gb() / self.wall.as_secs_f64()
    }

    pub(crate) fn gb_per_core(&self) -> f64 {
        1.0 / self.cpu_per_gb()
    }

    pub(crate) fn peak_mb(&self) -> f64 {
        self.peak_bytes as f64 / 1e6
    }
}
