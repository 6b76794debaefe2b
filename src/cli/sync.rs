//! `kmirror sync`: what follows the source beside records, shown and applied once.

use std::sync::Arc;

use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::engine::connect_mirror;
use crate::ops::sync::{Applied, Obstacle, SyncReport, Syncing};
use crate::plan::{SyncAction, SyncPlan};

/// Options of `sync`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Compares what follows the source beside records (mirrors[].sync): topic configs, partition counts, ACLs, client quotas, SCRAM \
users, topics that are gone. kmirror run does the same every sync.interval.

What the mirror has set on the target it changes and takes away as the source does. What was set or taken away there by hand is \
left alone, and shown; --overwrite makes it the mirror's. Rights to write are held back until the target is promoted. A topic that is \
gone from the source is deleted (sync.deletions) once it has been gone for sync.deletions_grace.

Without --yes nothing is changed (exit code 6 where there is something to change; with --dry-run 0). Exit code 1 where something \
could not be set, 3 where something could not be looked at, or the target is promoted.

Examples:
  kmirror sync -c standby.yaml --mirror dr --dry-run
  kmirror sync -c standby.yaml --mirror dr --yes
  kmirror sync -c standby.yaml --mirror dr --overwrite --dry-run
  kmirror sync -c standby.yaml --mirror dr --dry-run --json | jq '.rows[] | select(.action == \"held_back\")'")]
pub struct SyncArgs {
    /// Also set what was set or taken away on the target by hand
    #[arg(long)]
    pub overwrite: bool,
}

/// Shows, and with --yes applies.
///
/// # Errors
/// What kept it from looking, or from noting what is about to be set.
pub async fn run(args: SyncArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = Arc::new(ctx.load()?);
    let mirror = Arc::new(ctx.one_mirror(&config)?.clone());
    let ends = connect_mirror(&config, &mirror).await?;
    let mut syncing = Syncing::new(&config, &mirror, ends, args.overwrite);
    let obstacle = syncing.obstacle().await?;
    let plan = syncing.plan().await?;
    let changes = plan.changes().count();
    let wanted = ctx.yes && !ctx.dry_run;
    let acts = wanted && !matches!(obstacle, Some(Obstacle::Promoted | Obstacle::NotBegun));
    let applied = if acts { Some(syncing.apply(&plan).await?) } else { None };
    let report = SyncReport { schema_version: 1, mirror: mirror.name.clone(), plan, applied };
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    if let Some(why) = obstacle.filter(|_| !acts) {
        let message = format!("mirror {}: {why}; nothing was changed", mirror.name);
        return Err(CliError::Problems(message).into());
    }
    match &report.applied {
        Some(applied) if !applied.failed.is_empty() => Ok(Exit::Failed),
        None if changes > 0 && !ctx.dry_run => {
            let what = format!("nothing was changed; to change {changes} things on the target, add --yes");
            Err(CliError::Refused(what).into())
        }
        _ if !report.plan.unavailable.is_empty() => Ok(Exit::Problems),
        _ => Ok(Exit::Done),
    }
}

fn page(report: &SyncReport) -> String {
    let plan = &report.plan;
    let mut text = format!("mirror {}: {}\n", report.mirror, summary(plan));
    let shown = |value: &Option<String>| match value.as_deref() {
        None => "-".to_owned(),
        // An ACL has no value: it is there.
        Some("") => "there".to_owned(),
        Some(value) => value.to_owned(),
    };
    let rows = plan.rows.iter().map(|row| {
        let reason = row.reason.clone().unwrap_or_default();
        vec![row.action.to_string(), row.object.clone(), shown(&row.from), shown(&row.to), reason]
    });
    if !plan.rows.is_empty() {
        text.push_str(&output::table(&["", "WHAT", "TARGET", "SOURCE", "WHY"], &[], rows));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("\nWARNING {warning}\n")));
    plan.unavailable.iter().for_each(|what| text.push_str(&format!("\nNOT KNOWN {what}\n")));
    if let Some(Applied { set, removed, failed, .. }) = &report.applied {
        text.push_str(&format!("\n{set} set, {removed} taken away\n"));
        failed.iter().for_each(|what| text.push_str(&format!("FAILED {what}\n")));
    }
    text
}

fn summary(plan: &SyncPlan) -> String {
    let actions = [
        SyncAction::Set,
        SyncAction::Remove,
        SyncAction::HeldBack,
        SyncAction::Pending,
        SyncAction::LeftAlone,
        SyncAction::LeftOut,
        SyncAction::ByHand,
    ];
    let counts = actions.map(|action| (plan.count(action), action)).into_iter().filter(|(count, _)| *count > 0);
    let words = counts.map(|(count, action)| format!("{count} {action}"));
    let all: Vec<String> = std::iter::once(format!("{} in step", plan.in_step)).chain(words).collect();
    all.join(", ")
}
