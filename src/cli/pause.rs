//! `kmirror pause`: stops a mirror, or one partition of it, over restarts.

use clap::Args;

use super::args::TopicPartition;
use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::engine::connect_target;
use crate::mirror::Scope;
use crate::ops::{Command, send_command};

/// Options of `pause`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The pause is noted on the target, heeded by a running mirror within seconds, and lasts over restarts until resume.

Examples:
  kmirror pause -c standby.yaml --mirror dr
  kmirror pause -c standby.yaml --mirror dr --partition orders:3 --yes")]
pub struct PauseArgs {
    /// Only this partition, by its name on the source; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION")]
    pub partition: Vec<TopicPartition>,
}

/// Pauses.
///
/// # Errors
/// The pause could not be noted, or was refused.
pub async fn run(args: PauseArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let commands: Vec<Command> = scopes(&args.partition).into_iter().map(Command::Pause).collect();
    if ctx.dry_run {
        return output::print(&format!("would pause {}\n", named(&mirror.name, &args.partition))).map(|()| Exit::Done);
    }
    let target = connect_target(&config, mirror).await?;
    for command in commands {
        send_command(&mirror.name, &target, command).await?;
    }
    output::print(&format!("paused {}; kmirror resume ends it\n", named(&mirror.name, &args.partition)))?;
    Ok(Exit::Done)
}

/// The whole mirror, or each of these partitions.
pub(super) fn scopes(partitions: &[TopicPartition]) -> Vec<Scope> {
    if partitions.is_empty() {
        return vec![Scope::All];
    }
    partitions.iter().map(|p| Scope::Partition { topic: p.topic.clone(), partition: p.partition }).collect()
}

/// For messages: the mirror, or its partitions.
pub(super) fn named(mirror: &str, partitions: &[TopicPartition]) -> String {
    if partitions.is_empty() {
        return format!("mirror {mirror}");
    }
    let list: Vec<String> = partitions.iter().map(|p| format!("{}:{}", p.topic, p.partition)).collect();
    format!("{} of mirror {mirror}", list.join(", "))
}
