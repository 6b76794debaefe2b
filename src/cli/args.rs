//! The command line: one definition feeds parsing, help and completion.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use super::{
    archive, backup, bandwidth, check, completions, config, demo, drill, failback, failover, groups, pause, replay,
    restore, resume, run, state, status, sync, translate, verify,
};
use crate::config::LogLevel;

/// Keeps a standby Kafka cluster ready to take over: every record of the source once, in order, at a known offset.
#[derive(Debug, Parser)]
#[command(name = "kmirror", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 120)]
#[command(subcommand_required = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kmirror demo                           the whole story in seconds, nothing installed
  kmirror check -c standby.yaml          what would go wrong, before the first byte is copied
  kmirror run -c standby.yaml            mirror until stopped
  kmirror status -c standby.yaml         what a failover would lose now; needs no running process
  kmirror failover -c standby.yaml --dry-run   what a failover would do, and lose
  kmirror translate -c standby.yaml --topic orders --partition 3 --offset 5000

Exit codes:
  0 done   1 failed   2 usage or configuration   3 problems found   4 unreachable or unauthorised
  5 partitions halted   6 refused, needs --yes";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "kmirror.yaml",
        env = "KMIRROR_CONFIG",
        hide_env_values = true
    )]
    pub config: PathBuf,
    /// The mirror meant, where the file holds several
    #[arg(long, global = true, value_name = "NAME")]
    pub mirror: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Show what would be changed on a cluster, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Answer the question before a change with yes
    #[arg(long, global = true)]
    pub yes: bool,
    /// The least severe log level shown, over RUST_LOG and the file's log.level
    #[arg(long, global = true, value_name = "LEVEL", value_parser = parse_level)]
    pub log_level: Option<LogLevel>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror until stopped
    Run(run::RunArgs),
    /// Say what would go wrong, before the first byte is copied
    Check(check::CheckArgs),
    /// Show how far every partition is, what is missing and why
    Status(status::StatusArgs),
    /// Turn an offset of the source into the target's, and back
    Translate(translate::TranslateArgs),
    /// The whole story in seconds, with nothing installed
    Demo(demo::DemoArgs),
    /// Pause a mirror or one of its partitions, over restarts
    Pause(pause::PauseArgs),
    /// End a pause, or free a halted partition
    Resume(resume::ResumeArgs),
    /// Show or change a mirror's bandwidth limit, over restarts
    Bandwidth(bandwidth::BandwidthArgs),
    /// Rehearse a failover: what would be lost, where would everybody go on, and is that true
    Drill(drill::DrillArgs),
    /// Let the target take over: drain if the source is there, fence, promote, report
    Failover(failover::FailoverArgs),
    /// Bring the old source up to date after a failover, and give it back its part
    Failback(failback::FailbackArgs),
    /// Plan, write and take back what consumer groups have committed, on the target
    Groups(groups::GroupsArgs),
    /// Show and set what follows the source beside records: topic configs, ACLs, quotas, deletions
    Sync(sync::SyncArgs),
    /// Compare what both sides hold, whole or sampled
    Verify(verify::VerifyArgs),
    /// Back up topics to object storage
    Backup(backup::BackupArgs),
    /// Bring topics back from an archive, to any offset or moment, to any cluster
    Restore(restore::RestoreArgs),
    /// Feed records of an archive into a topic that is in use, each once, at a rate or at their own pace
    Replay(replay::ReplayArgs),
    /// Look into an archive, see whether it is whole, repair and prune it
    Archive(archive::ArchiveArgs),
    /// Look after the mirror's own records on the target
    State(state::StateArgs),
    /// Work on the configuration file
    Config(config::ConfigArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

fn parse_level(text: &str) -> Result<LogLevel, String> {
    Ok(match text {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => return Err("levels are error, warn, info, debug, trace".to_owned()),
    })
}

/// A partition, written `TOPIC:PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartition {
    /// The topic, as it is called on the source.
    pub topic: String,
    /// The partition, from 0.
    pub partition: i32,
}

impl FromStr for TopicPartition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "write TOPIC:PARTITION, such as orders:3".to_owned();
        let (topic, partition) = text.rsplit_once(':').ok_or_else(wrong)?;
        let partition = partition.parse::<i32>().ok().filter(|partition| *partition >= 0).ok_or_else(wrong)?;
        if !crate::config::is_topic_name(topic) {
            return Err(format!("{topic:?} is not a topic name"));
        }
        Ok(Self { topic: topic.to_owned(), partition })
    }
}

/// Offsets from the first up to, not including, the second; written `FROM..TO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// First offset, 0 at least.
    pub from: i64,
    /// One past the last offset.
    pub to: i64,
}

impl FromStr for OffsetRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        match parsed {
            Some((from, to)) if 0 <= from && from < to => Ok(Self { from, to }),
            _ => Err("write FROM..TO with 0 <= FROM < TO, such as 4000..5000 for the offsets 4000 to 4999".to_owned()),
        }
    }
}
