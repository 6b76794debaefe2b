//! The two that are compared, as child processes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;

use crate::hands::now_ms;
use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::process::Process;
use crate::load::Stage;
use crate::machine::kmirror;
use crate::mirror_maker::Flow;

/// How long a clean stop may take before it is a kill.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The binary of this build, or what `KMIRROR_BINARY` names.
    Kmirror,
    /// MirrorMaker 2 in dedicated mode, of the brokers' version.
    #[value(name = "mm2", alias = "mirrormaker2")]
    MirrorMaker2,
}

impl Peer {
    /// Both, in the order of tables and plots.
    pub(crate) const ALL: [Self; 2] = [Self::Kmirror, Self::MirrorMaker2];

    /// As tables and plots call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kmirror => "kmirror",
            Self::MirrorMaker2 => "MirrorMaker 2",
        }
    }
}

/// What stands before the names of the topics that run number `run` copies. No name comes twice: neither of the two shall
/// meet what an earlier run left behind, nor wait for a member of its group that is gone.
pub(crate) fn prefix(run: u32) -> String {
    format!("b{run}.")
}

/// One of them at work.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
    process: Process,
    prefix: String,
    began_ms: f64,
}

impl Running {
    /// Starts it for all topics that match `pattern` (a regular expression, for both).
    pub(crate) fn start(peer: Peer, run: u32, stage: &Stage, pattern: &str) -> Self {
        let folder = run_folder("peer");
        let command = match peer {
            Peer::Kmirror => kmirror_command(&folder, run, stage, pattern),
            Peer::MirrorMaker2 => mirror_maker_command(&folder, run, stage, pattern),
        };
        let began_ms = now_ms();
        let process = Process::start(&command, &folder.join("out"), &folder.join("log"), None);
        Self { peer, process, prefix: prefix(run), began_ms }
    }

    /// The process itself.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// See [`prefix`].
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// When it was started, milliseconds of the wall clock.
    pub(crate) fn began_ms(&self) -> f64 {
        self.began_ms
    }

    /// CPU seconds so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.process.cpu_s().unwrap_or_else(|| self.gone())
    }

    /// Peak resident memory, MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.process.peak_rss_bytes().unwrap_or_else(|| self.gone()) as f64 / 1e6
    }

    /// Panics with the end of its log where it does not run any more.
    pub(crate) fn assert_runs(&mut self) {
        if !self.process.is_running() {
            self.gone::<()>();
        }
    }

    fn gone<T>(&self) -> T {
        panic!("{} has ended by itself; its log ends:\n{}", self.peer.name(), self.process.log_tail());
    }

    /// Asks it to end, and kills it where it does not.
    pub(crate) fn stop(mut self) {
        self.process.signal("TERM");
        let began = std::time::Instant::now();
        while self.process.is_running() {
            if began.elapsed() > STOP_LIMIT {
                eprintln!("{} does not end on SIGTERM within {STOP_LIMIT:?}: killed", self.peer.name());
                self.process.kill();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn kmirror_command(folder: &Path, run: u32, stage: &Stage, pattern: &str) -> Command {
    let text = format!(
        "clusters:\n  from: {{ bootstrap: [\"{}\"] }}\n  to: {{ bootstrap: [\"{}\"] }}\nmirrors:\n  - name: bench-{run}\n    \
         source: from\n    target: to\n    topics: {{ include: [\"{pattern}\"] }}\n    rename: \"{}{{topic}}\"\n",
        stage.from.bootstrap(),
        stage.to.bootstrap(),
        prefix(run)
    );
    let file = folder.join("kmirror.yaml");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    let mut command = Command::new(kmirror());
    command.arg("run").arg("-c").arg(file);
    command
}

/// Its own defaults. The alias of the source is what its topics begin with.
fn mirror_maker_command(folder: &Path, run: u32, stage: &Stage, pattern: &str) -> Command {
    let prefix = prefix(run);
    let (source, target) = (stage.from.bootstrap(), stage.to.bootstrap());
    let flow = Flow { from: prefix.trim_end_matches('.'), to: &format!("to{run}"), source: &source, target: &target };
    flow.command(folder, stage.to.version(), pattern, 1_024, "")
}
