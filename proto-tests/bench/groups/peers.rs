//! Those who copy and translate, as child processes side by side.

use std::path::Path;
use std::process::Command;

use crate::kafka::harness::Cluster;
use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::process::Process;
use crate::machine::kmirror;
use crate::mirror_maker::Flow;
use crate::stage::{Stage, TOPICS};
use crate::standing::PREFIX;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The binary of this build.
    Kmirror,
    /// MirrorMaker 2 with its own `offset.lag.max`.
    MirrorMaker2,
    /// MirrorMaker 2 with `offset.lag.max=0`: it notes the offset of every record that it can, which costs it.
    MirrorMaker2Every,
}

impl Peer {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Kmirror, Self::MirrorMaker2, Self::MirrorMaker2Every];

    /// As tables call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kmirror => "kmirror",
            Self::MirrorMaker2 => "MirrorMaker 2",
            Self::MirrorMaker2Every => "MM2, offset.lag.max=0",
        }
    }

    /// In the JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Kmirror => "kmirror",
            Self::MirrorMaker2 => "mirror_maker_2",
            Self::MirrorMaker2Every => "mirror_maker_2_offset_lag_max_0",
        }
    }

    /// What its topics on the target begin with: the alias of the source.
    fn alias(self) -> &'static str {
        match self {
            Self::Kmirror => "k",
            Self::MirrorMaker2 => "m100",
            Self::MirrorMaker2Every => "m0",
        }
    }

    /// A topic on the target.
    pub(crate) fn topic(self, topic: &str) -> String {
        format!("{}.{topic}", self.alias())
    }

    fn command(self, folder: &Path, from: &Cluster, to: &Cluster) -> Command {
        match self {
            Self::Kmirror => kmirror_command(folder, from, to),
            Self::MirrorMaker2 => self.mirror_maker(folder, from, to, 100),
            Self::MirrorMaker2Every => self.mirror_maker(folder, from, to, 0),
        }
    }

    /// Intervals as short as they may be; and committed records only, as kmirror does by itself.
    fn mirror_maker(self, folder: &Path, from: &Cluster, to: &Cluster, lag_max: u32) -> Command {
        let (alias, target) = (self.alias(), format!("to-{}", self.alias()));
        let flow = format!("{alias}->{target}");
        let more = format!(
            "{flow}.groups = {PREFIX}.*\n{flow}.sync.group.offsets.enabled = true\n{flow}.sync.group.offsets.interval.seconds = 1\n\
             {flow}.emit.checkpoints.interval.seconds = 1\n{flow}.refresh.groups.interval.seconds = 1\n\
             {flow}.emit.heartbeats.enabled = false\n{flow}.offset.lag.max = {lag_max}\n\
             {flow}.consumer.isolation.level = read_committed\n"
        );
        let (from_at, to_at) = (from.bootstrap(), to.bootstrap());
        let flow = Flow { from: alias, to: &target, source: &from_at, target: &to_at };
        flow.command(folder, to.version(), &TOPICS.join(","), 512, &more)
    }
}

fn kmirror_command(folder: &Path, from: &Cluster, to: &Cluster) -> Command {
    let topics = TOPICS.map(|topic| format!("\"{topic}\"")).join(", ");
    let text = format!(
        "clusters:\n  from: {{ bootstrap: [\"{}\"] }}\n  to: {{ bootstrap: [\"{}\"] }}\nmirrors:\n  - name: bench-groups\n    \
         source: from\n    target: to\n    topics: {{ include: [{topics}] }}\n    rename: \"{}\"\n    \
         groups: {{ include: [\"{PREFIX}.*\"], interval: 1s }}\n",
        from.bootstrap(),
        to.bootstrap(),
        Peer::Kmirror.topic("{topic}")
    );
    let file = folder.join("kmirror.yaml");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    let mut command = Command::new(kmirror());
    command.arg("run").arg("-c").arg(file);
    command
}

/// One of them at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) peer: Peer,
    process: Process,
}

impl Running {
    pub(crate) fn start(peer: Peer, stage: &Stage) -> Self {
        let folder = run_folder("peer");
        let command = peer.command(&folder, &stage.from, &stage.to);
        Self { peer, process: Process::start(&command, &folder.join("out"), &folder.join("log"), None) }
    }

    /// Panics with the end of its log where it does not run any more.
    pub(crate) fn assert_runs(&mut self) {
        let (name, runs) = (self.peer.name(), self.process.is_running());
        assert!(runs, "{name} has ended by itself; its log ends:\n{}", self.process.log_tail());
    }

    /// All is judged by then.
    pub(crate) fn stop(mut self) {
        self.process.kill();
    }
}
