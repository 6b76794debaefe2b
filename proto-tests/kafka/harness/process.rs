//! A child process that cannot outlive the tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::wait_until;

/// Starts the program given as arguments and holds one end of a pipe to the test process: when that process is gone,
/// however it went, the read returns, the program is killed and its data folder ($DATA) removed. The program's exit
/// code becomes the shell's. Standard output of the program goes where the shell's fd 4 points.
const KEEPER: &str = r#"
exec 3<&0 4>&1
"$@" </dev/null >>"$OUT" 2>>"$LOG" 3<&- 4>&- &
child=$!
( exec 4>&-; read -r _ <&3; trap '' TERM; kill -9 $child; [ -z "$DATA" ] || rm -rf "$DATA" ) 2>/dev/null &
keeper=$!
exec 3<&-
echo $child >&4
exec 4>&- >/dev/null
wait $child
code=$?
kill $keeper
exit $code
"#;

/// A program under a keeper. Dropping it kills the program.
#[derive(Debug)]
pub(crate) struct Process {
    keeper: Child,
    /// Held open for as long as the program may live.
    lifeline: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `command` (program and arguments; environment too). Standard output is appended to `out`, standard error to
    /// `log`; `data` is removed if the test process dies.
    pub(crate) fn start(command: &Command, out: &Path, log: &Path, data: Option<&Path>) -> Self {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => keeper.env(name, value),
                None => keeper.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            keeper.current_dir(folder);
        }
        keeper.env("OUT", out).env("LOG", log).env("DATA", data.unwrap_or(Path::new("")));
        // An own group: a signal to the tests' group must leave the keeper alive to do its work.
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().unwrap_or_else(|error| panic!("cannot start `sh`: {error}"));
        let lifeline = keeper.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).unwrap_or_else(|error| panic!("keeper's pid: {error}"));
        }
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("the keeper said {line:?} instead of a pid"));
        Self { keeper, lifeline, pid, log: log.to_owned() }
    }

    /// The program's own process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs; a stopped (SIGSTOP) one does.
    pub(crate) fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has. A death by signal N is exit code 128 + N.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.keeper.try_wait().unwrap_or_else(|error| panic!("cannot wait for process {}: {error}", self.pid))
    }

    /// Sends a signal by name (`KILL`, `TERM`, `STOP`, `CONT`); one to a process that has just ended is not an error.
    pub(crate) fn signal(&mut self, name: &str) {
        if self.is_running() {
            let _ = Command::new("kill").args(["-s", name, &self.pid.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// Waits for its end and gives the exit code; panics with the log's tail after `limit`.
    pub(crate) fn wait_exit(&mut self, limit: Duration) -> i32 {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.exit_status() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("process {} still runs after {limit:?}; its log ends:\n{}", self.pid, tail(&self.log));
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.wait_exit(Duration::from_secs(30));
    }

    /// What the end of the test process does: closes the pipe that the keeper reads.
    pub(crate) fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    /// CPU time used so far, user and system, in seconds (`/proc/PID/stat`; the clock ticks are 100 Hz on Linux).
    pub(crate) fn cpu_s(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The command name may hold spaces; the fields after its closing bracket are plain. utime is 14th of all.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / 100.0)
    }

    /// Peak resident memory in bytes (`VmHWM`).
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of {}:\n{}", self.log.display(), tail(&self.log));
        }
        self.signal("KILL");
        let _ = self.keeper.wait();
    }
}

/// The last forty lines of a file.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16_384)..]).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Waits until the process has ended by itself or the probe answers; panics with the log's tail if it ended.
pub(crate) fn wait_ready<T>(
    what: &str,
    process: &mut Process,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    wait_until(what, limit, || {
        if let Some(status) = process.exit_status() {
            panic!("{what}: the process ended ({status}); its log ends:\n{}", process.log_tail());
        }
        probe().map_err(|complaint| format!("{complaint}; its log ends:\n{}", process.log_tail()))
    })
}
