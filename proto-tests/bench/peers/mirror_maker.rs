//! MirrorMaker 2 in dedicated mode, of the brokers' version.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::kafka::harness::Version;
use crate::kafka::harness::jars;

/// Between which clusters it copies, under which aliases. That of the source is what its topics on the target begin with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// Addresses.
    pub(crate) source: &'a str,
    pub(crate) target: &'a str,
}

impl Flow<'_> {
    /// How to start it for all topics that match `pattern`, with its own defaults, but for replication factors that one broker
    /// can do, and what `more` (lines of its properties) says. Flags of the JVM are those of Kafka's own start scripts, but for
    /// the heap, half of which or less is what they give to MirrorMaker 2.
    pub(crate) fn command(&self, folder: &Path, version: Version, pattern: &str, heap_mb: u32, more: &str) -> Command {
        let Self { from, to, source, target } = self;
        let mut text = format!(
            "clusters = {from}, {to}\n{from}.bootstrap.servers = {source}\n{to}.bootstrap.servers = {target}\n\
             {from}->{to}.enabled = true\n{from}->{to}.topics = {pattern}\n{to}->{from}.enabled = false\n{more}"
        );
        for key in ["replication", "checkpoints.topic.replication", "heartbeats.topic.replication"] {
            let _ = writeln!(text, "{key}.factor = 1");
        }
        for topic in ["offset-syncs.topic", "offset.storage", "status.storage", "config.storage"] {
            let _ = writeln!(text, "{topic}.replication.factor = 1");
        }
        let file = folder.join("mm2.properties");
        std::fs::write(&file, &text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let mut command = Command::new("java");
        command.args(["-Xms256m", &format!("-Xmx{heap_mb}m"), "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
        command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
        command.args(["-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
        command.arg(jars::class_path(version)).arg("org.apache.kafka.connect.mirror.MirrorMaker");
        command.arg(file).args(["--clusters", to]);
        command
    }
}
