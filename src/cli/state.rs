//! `kmirror state`: the mirror's own records on the target.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::engine::connect_mirror;
use crate::ops::{Outcome, RebuildReport, RebuiltPartition, Walked, rebuild};

/// Options of `state`.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What can be done with the state.
#[derive(Debug, Clone, Subcommand)]
pub enum StateCommand {
    /// Find the offset maps again where the state topic was lost or is damaged
    #[command(after_help = REBUILD)]
    Rebuild,
}

const REBUILD: &str = "\
Reads both logs of every partition that the state topic knows nothing of (or nothing readable), and finds out record by \
record which is which: that gives the offset map and the position. What the state topic still says is kept. Not found \
again are pauses, halts and accepted losses; a partition whose last record on the target is not on the source any more \
is left alone, and halts at the next start.

Stop kmirror first: the rebuild takes the mirror over as a second kmirror would. Without --yes it shows what it finds and \
changes nothing (exit code 6; with --dry-run 0). Exit code 3 where some partition cannot be rebuilt.

Examples:
  kmirror state rebuild -c standby.yaml --mirror dr --dry-run
  kmirror state rebuild -c standby.yaml --mirror dr --yes";

/// Works on the state.
///
/// # Errors
/// What kept it from reading or writing.
pub async fn run(args: StateArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let StateCommand::Rebuild = args.command;
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let (source, target) = connect_mirror(&config, mirror).await?;
    let apply = ctx.yes && !ctx.dry_run;
    let walked = Arc::new(Walked::default());
    let report = output::watched(
        "comparing",
        || (walked.done.load(Ordering::Relaxed), walked.total.load(Ordering::Relaxed)),
        rebuild(mirror, &source, &target, apply, &walked),
    )
    .await?;
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    if report.is_needed() && !apply && !ctx.dry_run {
        let what = format!("nothing was changed; to write the state of mirror {} anew, add --yes", mirror.name);
        return Err(CliError::Refused(what).into());
    }
    let found = report.partitions.iter().all(|partition| partition.outcome != Outcome::NotFound);
    Ok(if found { Exit::Done } else { Exit::Problems })
}

fn page(report: &RebuildReport) -> String {
    let mut text = String::new();
    if !report.is_needed() {
        return format!(
            "the state of mirror {} is in order: {} partitions, nothing to rebuild\n",
            report.mirror, report.kept
        );
    }
    if let Some(what) = &report.state_topic {
        text.push_str(&format!("state topic: {what}\n"));
    }
    for (shard, what) in &report.shards {
        text.push_str(&format!("shard {shard}: {what}\n"));
    }
    text.push_str(&format!("{} partitions are in order and stay as they are\n\n", report.kept));
    let header = [
        "PARTITION",
        "RESULT",
        "MAPPED FROM",
        "TARGET END",
        "MIRRORED TO",
        "MATCHED",
        "UNMAPPED",
        "NOT ON TARGET",
        "SEGMENTS",
    ];
    text.push_str(&output::table(&header, &[2, 3, 4, 5, 6, 7, 8], report.partitions.iter().map(cells)));
    for partition in report.partitions.iter().filter(|partition| partition.detail.is_some()) {
        let detail = partition.detail.as_deref().unwrap_or_default();
        text.push_str(&format!("\nNOT FOUND {}:{}: {detail}\n", partition.topic, partition.partition));
    }
    report.warnings.iter().for_each(|warning| text.push_str(&format!("\nWARNING {warning}\n")));
    if report.applied {
        text.push_str(&format!("\nwritten; start kmirror again to go on with mirror {}\n", report.mirror));
    }
    text
}

fn cells(partition: &RebuiltPartition) -> Vec<String> {
    let known = |offset: i64| if offset < 0 { "-".to_owned() } else { offset.to_string() };
    let count = |count: u64| output::count(i64::try_from(count).unwrap_or(i64::MAX));
    let result = match partition.outcome {
        Outcome::Rebuilt => "found",
        Outcome::Empty => "empty",
        Outcome::NotFound => "not found",
    };
    vec![
        format!("{}:{}", partition.topic, partition.partition),
        result.to_owned(),
        known(partition.mapped_from),
        known(partition.target_end),
        known(partition.mirrored_to),
        count(partition.matched_records),
        count(partition.unmapped_records),
        count(partition.missing_records),
        partition.segments.to_string(),
    ]
}
