//! Where it was measured: figures mean nothing without.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

use crate::kafka::harness::Version;

/// The binary under test: that of this build, or what `KMIRROR_BINARY` names.
pub(crate) fn kmirror() -> OsString {
    std::env::var_os("KMIRROR_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_kmirror").into())
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The machine, and what ran on it. What cannot be found out is "unknown".
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_gb: f64,
    kernel: String,
    /// TCP's congestion control: BBR's pacing is a timer a packet, on loopback too, and costs everybody.
    congestion_control: String,
    rustc: String,
    java: String,
    kafka: &'static str,
    kmirror: String,
    /// The commit of the working tree, and whether it was changed since.
    git: String,
    date: String,
}

impl Machine {
    /// Looks.
    pub(crate) fn look() -> Self {
        let memory_kb = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let changed =
            said("git", &["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
        let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
        Self {
            cpu: or_unknown(field("/proc/cpuinfo", "model name")),
            cores: cores(),
            memory_gb: (memory_kb.unwrap_or(0.0) * 1024.0 / 1e8).round() / 10.0,
            kernel: or_unknown(fs::read_to_string("/proc/sys/kernel/osrelease").ok()),
            congestion_control: or_unknown(fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").ok()),
            rustc: or_unknown(said("rustc", &["--version"])),
            java: or_unknown(said("java", &["--version"])),
            kafka: Version::V4_3_1.name(),
            kmirror: or_unknown(said(&kmirror().to_string_lossy(), &["--version"])),
            git: or_unknown(commit.map(|commit| if changed { format!("{commit}, changed") } else { commit })),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}

impl Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_gb, kernel, congestion_control, rustc, java, kafka, kmirror, git, date } = self;
        writeln!(f, "{date}, {cpu}, {cores} cores, {memory_gb} GB, Linux {kernel}, TCP {congestion_control}")?;
        write!(f, "{kmirror} ({git}; {rustc}), Kafka and MirrorMaker 2 {kafka} on {java}")
    }
}

fn or_unknown(text: Option<String>) -> String {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The first value of a key in a file of `key : value` lines.
fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key)?;
    Some(value.trim().to_owned())
}

/// The first line that a tool says in the project's folder.
fn said(tool: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}
