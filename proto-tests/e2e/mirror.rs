//! `kmirror` as a child process with a configuration of its own.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::process::{Process, wait_ready};
use crate::kafka::harness::{Cluster, Dump, Report, compare, driver, source, target, wait_until};

/// The binary under test: that of this build, or what `KMIRROR_BINARY` names (a release build, for measurements).
fn kmirror() -> OsString {
    std::env::var_os("KMIRROR_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_kmirror").into())
}

/// Longer than anything that is waited for should take on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// A mirror: its configuration, and the process while it runs.
pub(crate) struct Mirror {
    pub(crate) name: String,
    pub(crate) config: PathBuf,
    folder: PathBuf,
    from: String,
    to: String,
    /// Environment of all commands.
    pub(crate) env: Vec<(&'static str, OsString)>,
    process: Option<Process>,
}

impl Mirror {
    /// Writes the configuration of a mirror `name` of the topics `include` (regexes); `more` are further lines of the
    /// mirror, indented by four.
    pub(crate) fn new(name: &str, from: &Cluster, to: &Cluster, include: &[&str], more: &str) -> Self {
        Self::between(name, &from.bootstrap(), &to.bootstrap(), include, more)
    }

    /// The same between two addresses.
    pub(crate) fn between(name: &str, from: &str, to: &str, include: &[&str], more: &str) -> Self {
        let topics = include.iter().map(|t| format!("\"{t}\"")).collect::<Vec<_>>().join(", ");
        Self::written(name, from, to, &format!("include: [{topics}]"), more)
    }

    /// Between the shared clusters, with all of its `topics` section.
    pub(crate) fn with_topics(name: &str, topics: &str, more: &str) -> Self {
        Self::written(name, &source().bootstrap(), &target().bootstrap(), topics, more)
    }

    fn written(name: &str, from: &str, to: &str, topics: &str, more: &str) -> Self {
        let folder = run_folder(name);
        let config = folder.join("kmirror.yaml");
        let list = |addresses: &str| addresses.split(',').map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ");
        let mut text = String::new();
        let _ = write!(
            text,
            "clusters:\n  from: {{ bootstrap: [{}] }}\n  to: {{ bootstrap: [{}] }}\nmirrors:\n  - name: {name}\n    \
             source: from\n    target: to\n    topics: {{ {topics} }}\n{more}",
            list(from),
            list(to)
        );
        std::fs::write(&config, text).unwrap();
        Self {
            name: name.to_owned(),
            config,
            folder,
            from: from.to_owned(),
            to: to.to_owned(),
            env: Vec::new(),
            process: None,
        }
    }

    /// A command on this configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kmirror());
        command.args(args).arg("-c").arg(&self.config).envs(self.env.iter().map(|(key, value)| (key, value)));
        // Where a command puts a report of its own accord.
        command.current_dir(&self.folder);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command with `--json` and parses what it says; panics unless it exits with `code`.
    pub(crate) fn json(&self, args: &[&str], code: i32) -> Value {
        let output = self.command(args).arg("--json").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}\n{err}"))
    }

    /// Starts `kmirror run`.
    pub(crate) fn start(&mut self) -> &mut Self {
        self.start_as(|command| command)
    }

    /// Starts it with nothing said on the command line: the level of the log is the file's.
    pub(crate) fn start_by_file(&mut self) -> &mut Self {
        let plain = self.command(&["run"]);
        self.start_as(|_| plain)
    }

    /// Starts what `dress` makes of the command, such as the same under a limit.
    pub(crate) fn start_as(&mut self, dress: impl FnOnce(Command) -> Command) -> &mut Self {
        assert!(self.process.is_none(), "it runs already");
        let command = dress(self.command(&["run", "--log-level", "info"]));
        self.process = Some(Process::start(&command, &self.folder.join("out"), &self.folder.join("log"), None));
        self
    }

    /// Starts another command, whose log goes to a file of this name.
    pub(crate) fn spawn(&self, args: &[&str], log: &str) -> Process {
        Process::start(&self.command(args), &self.folder.join("out"), &self.folder.join(log), None)
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// The running process.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// Waits until the process has ended by itself; its exit code.
    pub(crate) fn await_end(&mut self) -> i32 {
        let code = self.process().wait_exit(LIMIT);
        self.process = None;
        code
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) fn stop(&mut self) {
        self.stop_by("TERM");
    }

    /// Any signal that asks for an end, and waits for a clean one.
    pub(crate) fn stop_by(&mut self, signal: &str) {
        let process = self.process();
        process.signal(signal);
        let code = process.wait_exit(Duration::from_secs(40));
        assert_eq!(code, 0, "{}", process.log_tail());
        self.process = None;
    }

    /// What the process has logged so far, all runs.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The partitions of `status --json`.
    pub(crate) fn status(&self) -> Result<Vec<Value>, String> {
        let output = self.command(&["status", "--json"]).output().map_err(|e| e.to_string())?;
        if !matches!(output.status.code(), Some(0 | 5)) {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
        Ok(report["mirrors"][0]["partitions"].as_array().cloned().unwrap_or_default())
    }

    /// One partition of `status --json`.
    pub(crate) fn row(&self, topic: &str, partition: i32) -> Result<Value, String> {
        let rows = self.status()?;
        let row = rows.into_iter().find(|r| r["topic"] == topic && r["partition"] == partition);
        row.ok_or_else(|| format!("no partition {topic}:{partition}"))
    }

    /// What `translate` says: the offset on the other side, and the reason where it is not the same record.
    pub(crate) fn translate(&self, topic: &str, partition: i32, offset: i64, more: &[&str]) -> (i64, Option<String>) {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        let args = ["translate", "--topic", topic, "--partition", &partition, "--offset", &offset];
        let answer = self.json(&[&args[..], more].concat(), 0);
        let reason = answer["reason"].as_str().map(str::to_owned);
        assert_eq!(answer["exact"].as_bool(), Some(reason.is_none()), "{answer}");
        (answer["offset"].as_i64().expect("an offset"), reason)
    }

    /// Waits until `count` partitions are mirrored to their end.
    pub(crate) fn await_caught_up(&mut self, count: usize) {
        let what = format!("mirror {} catching up", self.name);
        let mut process = self.process.take().expect("it runs");
        wait_ready(&what, &mut process, LIMIT, || {
            let rows = self.status()?;
            let behind = rows.iter().find(|r| r["lag_records"] != 0 || r["state"] != "mirroring");
            match behind {
                Some(row) => Err(row.to_string()),
                None if rows.len() < count => Err(format!("{} of {count} partitions", rows.len())),
                None => Ok(()),
            }
        });
        self.process = Some(process);
    }

    /// Waits until a partition shows this state.
    pub(crate) fn await_state(&self, topic: &str, partition: i32, state: &str) -> Value {
        wait_until(&format!("{topic}:{partition} {state}"), LIMIT, || {
            let row = self.row(topic, partition)?;
            if row["state"] == state { Ok(row) } else { Err(row.to_string()) }
        })
    }

    /// Compares topics of the same name on both sides, as a read_committed consumer sees them.
    pub(crate) fn compare(&self, topics: &[&str]) -> Report {
        let (from, to) = self.dumps(topics, topics);
        compare(&from, &to)
    }

    /// Records of topics here and there, as a read_committed consumer sees them.
    pub(crate) fn dumps(&self, from: &[&str], to: &[&str]) -> (Dump, Dump) {
        (driver().dump(&self.from, from), driver().dump(&self.to, to))
    }
}

/// End offsets of a topic summed over its partitions; an error while there is no such topic.
pub(crate) fn end_offsets(cluster: &Cluster, topic: &str) -> Result<i64, String> {
    if !driver().list_topics(&cluster.bootstrap()).iter().any(|name| name == topic) {
        return Err("no such topic yet".to_owned());
    }
    Ok(driver().offsets(&cluster.bootstrap(), &[topic]).iter().map(|row| row.end).sum())
}

/// Waits until the end offsets of a topic sum up to at least this.
pub(crate) fn await_end_offsets(cluster: &Cluster, topic: &str, sum: i64, limit: Duration) {
    wait_until(&format!("end offsets of {sum} in {topic}"), limit, || match end_offsets(cluster, topic)? {
        there if there >= sum => Ok(()),
        there => Err(format!("{there} there")),
    });
}

/// The gaps of a row of `status --json`: reason and half-open range.
pub(crate) fn gaps(row: &Value) -> Vec<(String, i64, i64)> {
    let gap = |g: &Value| Some((g["reason"].as_str()?.to_owned(), g["from"].as_i64()?, g["to"].as_i64()?));
    row["gaps"].as_array().into_iter().flatten().map(|g| gap(g).expect("a gap as documented")).collect()
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of mirror {}:\n{}",
                self.name,
                crate::kafka::harness::process::tail(&self.folder.join("log"))
            );
        }
    }
}
