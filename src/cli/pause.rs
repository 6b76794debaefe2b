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
The pause is noted on the target, heeded by a running mirror within seconds, and lasts over restarts until \
kmirror resume.

Examples:
  kmirror pause -c standby.yaml --mirror dr
  kmirror pause -c standby.yaml --mirror dr --partition orders:3")]
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
    if !ctx.dry_run {
        let target = connect_target(&config, mirror).await?;
        for command in scopes(&args.partition).into_iter().map(Command::Pause) {
            send_command(&mirror.name, &target, command).await?;
        }
    }
    if ctx.json {
        return told("pause", &mirror.name, &args.partition, ctx);
    }
    let what = named(&mirror.name, &args.partition);
    output::print(&match ctx.dry_run {
        true => format!("would pause {what}\n"),
        false => format!("paused {what}; kmirror resume ends it\n"),
    })?;
    Ok(Exit::Done)
}

/// The result of `pause` and `resume` for machines; no partitions means the whole mirror.
pub(super) fn told(action: &str, mirror: &str, partitions: &[TopicPartition], ctx: &Context) -> anyhow::Result<Exit> {
    let partitions: Vec<_> =
        partitions.iter().map(|p| serde_json::json!({ "topic": p.topic, "partition": p.partition })).collect();
    output::json(&serde_json::json!({
        "schema_version": 1, "action": action, "mirror": mirror, "partitions": partitions, "dry_run": ctx.dry_run
    }))?;
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
