//! `kmirror failover`: the target takes over.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::context::Context;
use super::exit::{CliError, Exit};
use super::groups::Over;
use super::output;
use crate::ops::{Failover, FailoverOptions, FailoverReport, PromotedGroups};
use crate::plan::{AclDifference, FailoverPlan, PartitionOutlook, Rpo, Wish};

/// Options of `failover`.
#[derive(Debug, Clone, Args)]
#[command(after_help = HELP)]
pub struct FailoverArgs {
    /// Only if the source answers: its writers stop, all of it is mirrored, then the target takes over
    #[arg(long, conflicts_with = "unplanned")]
    pub planned: bool,
    /// Do not wait for the source, whether it answers or not: what is not mirrored yet is lost
    #[arg(long)]
    pub unplanned: bool,
    /// Keep writers off the source: acl denies everybody to write to the mirrored topics (failback takes that back)
    #[arg(long, value_name = "HOW", conflicts_with = "unplanned")]
    pub fence_source: Option<FenceSource>,
    /// How long the source must not have grown before its writers count as stopped
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pub quiet: Duration,
    /// How long to wait for the source's writers to stop and for the lag to be zero
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
    /// A source that does not answer for so long counts as gone
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub source_timeout: Duration,
    /// Promote partitions that are halted, paused or unreachable as they are
    #[arg(long)]
    pub allow_halted: bool,
    /// Leave the topics' settings as they are: do not apply what was held back
    #[arg(long)]
    pub keep_topic_settings: bool,
    /// Which groups' offsets on the target may be overwritten [default: unused; on the way home, NAME.failback, all: what
    /// consumers had left there before the first failover; once the target is promoted, own]
    #[arg(long, value_enum)]
    pub overwrite_groups: Option<Over>,
    /// Where to keep the target groups' former offsets [default: kmirror-groups-MIRROR-TIME.json]
    #[arg(long, value_name = "FILE")]
    pub groups_snapshot: Option<PathBuf>,
    /// Where the JSON report goes; by default kmirror-failover-MIRROR-TIME.json in the working directory
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Call off a promotion that an earlier call has begun and not finished
    #[arg(long, conflicts_with_all = ["planned", "unplanned", "fence_source", "report"])]
    pub cancel: bool,
    /// For tests: stand still once this step is through
    #[arg(long, value_name = "STEP", hide = true)]
    pub pause_after: Option<String>,
}

/// How writers are kept off the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FenceSource {
    /// A deny-write ACL for User:* on each mirrored topic.
    Acl,
}

const HELP: &str = "\
Planned, where the source answers: waits until nobody writes to it, and until all of it is on the target; a kmirror that runs \
does the work, or it is run here. Nothing is lost. Unplanned, where it does not: what was not mirrored is lost, and \
listed by range as far as it is known.

Then, either way: a running kmirror is told to stop; every partition is fenced, so that the brokers themselves refuse whatever \
an older process still sends; where the data ends is settled; consumer groups are translated there, exactly; topic settings that were held back are applied; and \
the target is marked as promoted. RPO and RTO are measured and kept in a report.

It can be cut short at any moment and called again: it goes on where it was. Until topic settings are applied --cancel calls it off. \
Without --yes it shows the plan and asks; where nobody can be asked it changes nothing (exit code 6).

Exit code 3: something stands against it (nothing is changed then), or the report names something to look after.

Examples:
  kmirror failover -c standby.yaml --mirror dr --dry-run
  kmirror failover -c standby.yaml --mirror dr
  kmirror failover -c standby.yaml --mirror dr --planned --fence-source acl --yes
  kmirror failover -c standby.yaml --mirror dr --unplanned --yes --report incident-4711.json
  kmirror failover -c standby.yaml --mirror dr --cancel";

/// Fails over.
///
/// # Errors
/// What kept it from its end; see [`super::exit::classify`].
pub async fn run(args: FailoverArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = Arc::new(ctx.load()?);
    let mirror = ctx.one_mirror(&config)?;
    let failover = Failover::prepare(&config, mirror, options(&args)).await?;
    if args.cancel {
        return cancel(failover, ctx).await;
    }
    let plan = failover.plan.clone();
    // The one document on stdout is the report, where it comes to one.
    let goes_on = !ctx.dry_run && plan.blockers.is_empty() && (ctx.yes || plan.is_done);
    match (ctx.json, goes_on) {
        (true, true) => {}
        (true, false) => output::json(&plan)?,
        (false, _) => output::print(&plan_page(&plan))?,
    }
    if !plan.blockers.is_empty() {
        return Err(CliError::Problems(format!("nothing was changed: {}", plan.blockers.join("; "))).into());
    }
    if ctx.dry_run {
        return Ok(Exit::Done);
    }
    let is_fenced = plan.steps.iter().any(|step| step.step == "fence" && step.is_done);
    let groups_through = plan.steps.iter().any(|step| step.step == "groups" && step.is_done);
    let is_settled = plan.is_done && is_fenced && groups_through;
    if !ctx.yes && !is_settled {
        let question = format!("This promotes the target of mirror {}.", mirror.name);
        // One document on stdout: nobody is asked in the middle of it.
        let answer = if ctx.json { None } else { output::confirm(&question, &mirror.name).context("asking")? };
        match answer {
            Some(true) => {}
            Some(false) => return Err(CliError::Refused("nothing was changed".to_owned()).into()),
            None => {
                let what = format!("nothing was changed; to promote the target of mirror {}, add --yes", mirror.name);
                return Err(CliError::Refused(what).into());
            }
        }
    }
    let report = failover.run().await?;
    let path = args.report.unwrap_or_else(|| PathBuf::from(default_name(&report)));
    // The target is promoted whether the report can be kept or not.
    let kept = keep(&path, &report);
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&report_page(&report))?;
    }
    kept.with_context(|| format!("the target is promoted, but the report cannot be kept in {}", path.display()))?;
    if !ctx.json {
        output::print(&format!("\nreport: {}\n", path.display()))?;
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

async fn cancel(failover: Failover, ctx: &Context) -> anyhow::Result<Exit> {
    let (mirror, generation) = (failover.plan.mirror.clone(), failover.plan.generation);
    let denied = failover.cancel(ctx.dry_run).await?;
    if ctx.json {
        output::json(&serde_json::json!({
            "schema_version": 1, "action": "cancel", "mirror": mirror, "generation": generation, "dry_run": ctx.dry_run,
            "still_denied": denied,
        }))?;
    } else if ctx.dry_run {
        output::print(&format!("would call off the promotion of mirror {mirror}\n"))?;
    } else {
        output::print(&format!(
            "the promotion of mirror {mirror} is called off; start kmirror run to go on mirroring\n"
        ))?;
        if !denied.is_empty() {
            output::print(&format!(
                "\nPROBLEM the source still denies to write to {}: call kmirror failover --cancel again once it answers\n",
                denied.join(", ")
            ))?;
        }
    }
    Ok(if denied.is_empty() { Exit::Done } else { Exit::Problems })
}

fn options(args: &FailoverArgs) -> FailoverOptions {
    FailoverOptions {
        wish: match (args.planned, args.unplanned) {
            (true, _) => Wish::Planned,
            (_, true) => Wish::Unplanned,
            _ => Wish::Either,
        },
        fence_source: args.fence_source.is_some(),
        quiet: args.quiet,
        drain_timeout: args.drain_timeout,
        source_timeout: args.source_timeout,
        allow_halted: args.allow_halted,
        apply_settings: !args.keep_topic_settings,
        overwrite_groups: args.overwrite_groups.map(Into::into),
        groups_snapshot: args.groups_snapshot.clone(),
        is_alone: false,
        pause_after: args.pause_after.clone(),
    }
}

/// Colons and fractions of a second have no place in a file's name.
fn default_name(report: &FailoverReport) -> String {
    let at = report.done_at.as_deref().unwrap_or(&report.announced_at);
    let at: String = at.split('.').next().unwrap_or(at).chars().filter(|c| !['-', ':'].contains(c)).collect();
    format!("kmirror-failover-{}-{at}Z.json", report.mirror)
}

fn keep(path: &Path, report: &FailoverReport) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

fn plan_page(plan: &FailoverPlan) -> String {
    let mut text = format!("failover of mirror {}, generation {}: {}", plan.mirror, plan.generation, plan.mode);
    match (&plan.source_trouble, plan.is_done, plan.is_begun) {
        (_, true, _) => text.push_str(", through already"),
        (_, _, true) => text.push_str(", begun by an earlier call"),
        _ => {}
    }
    match &plan.source_trouble {
        Some(trouble) => text.push_str(&format!("\nsource: does not answer: {trouble}\n")),
        None => text.push_str("\nsource: answers\n"),
    }
    text.push_str(&format!("not mirrored now: {}\n\n", rpo_words(&plan.rpo)));
    text.push_str(&partition_table(&plan.partitions));
    for topic in plan.topics.iter().filter(|topic| !topic.changes.is_empty()) {
        let changes = topic.changes.iter().map(|change| {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(default)".to_owned());
            format!("{}: {} -> {}", change.key, shown(&change.from), shown(&change.to))
        });
        text.push_str(&format!("\nSETTINGS {}: {}\n", topic.topic, changes.collect::<Vec<_>>().join(", ")));
    }
    for acl in &plan.held_back_acls {
        text.push_str(&format!("\nHELD BACK {acl}\n"));
    }
    for finding in plan.acls.differences.iter().flat_map(AclDifference::findings) {
        text.push_str(&format!("\nACLS {finding}\n"));
    }
    if let Some(detail) = plan.acls.detail.as_ref().filter(|_| plan.source_reachable) {
        text.push_str(&format!("\nACLS not compared: {detail}\n"));
    }
    plan.warnings.iter().for_each(|warning| text.push_str(&format!("\nWARNING {warning}\n")));
    plan.blockers.iter().for_each(|blocker| text.push_str(&format!("\nBLOCKED {blocker}\n")));
    text.push_str("\nsteps:\n");
    for (number, step) in plan.steps.iter().enumerate() {
        let done = if step.is_done { " (through)" } else { "" };
        text.push_str(&format!("{:>3}. {}: {}{done}\n", number + 1, step.step, step.action));
    }
    text
}

fn partition_table(partitions: &[PartitionOutlook]) -> String {
    let rows = partitions.iter().map(|p| {
        let lost: i64 = p.lost.iter().map(|lost| lost.to - lost.from).sum();
        vec![
            p.name(),
            p.state.clone(),
            known(p.source_end),
            p.source_seen_at.clone().unwrap_or_else(|| if p.source_end < 0 { "never" } else { "now" }.to_owned()),
            known(p.mirrored_to),
            known(p.target_end),
            known(p.lag_records),
            seconds(p.lag_seconds),
            output::count(lost),
        ]
    });
    let header =
        ["PARTITION", "STATE", "SOURCE END", "SEEN", "MIRRORED TO", "TARGET END", "LAG", "LAG TIME", "NOT ON TARGET"];
    let mut text = output::table(&header, &[2, 4, 5, 6, 7, 8], rows);
    for p in partitions.iter().filter(|p| p.reason.is_some()) {
        let (state, why) = (p.state.to_uppercase(), p.reason.as_deref().unwrap_or_default());
        text.push_str(&format!("\n{state} {}: {why}\n", p.name()));
    }
    text
}

fn rpo_words(rpo: &Rpo) -> String {
    let bytes = rpo.bytes_estimate.map_or_else(
        || "bytes unknown".to_owned(),
        |bytes| format!("about {} bytes", output::count(i64::try_from(bytes).unwrap_or(i64::MAX))),
    );
    let mut text = format!("{} records, {bytes}, {}", output::count(rpo.records), seconds(rpo.seconds));
    if rpo.unknown_partitions > 0 {
        text.push_str(&format!("; nothing is known of {} partitions", rpo.unknown_partitions));
    }
    if !rpo.is_exact {
        text.push_str("; by what the mirror has seen last: what came to the source after that nobody knows");
    }
    text
}

fn report_page(report: &FailoverReport) -> String {
    let mut text = format!(
        "\nmirror {}: {} is promoted ({}), generation {}\n",
        report.mirror, report.target, report.mode, report.generation
    );
    text.push_str(&format!("RPO: {}\n", rpo_words(&report.rpo)));
    let outage = report.outage_seconds.map(|s| format!("; {} since the source was last heard of", seconds(s)));
    text.push_str(&format!("RTO: {}{}\n\n", seconds(report.rto_seconds), outage.unwrap_or_default()));
    text.push_str(&partition_table(&report.partitions));
    if let Some(groups) = &report.groups {
        text.push_str(&groups_words(groups));
    }
    text.push_str(&format!(
        "\nverified: {} partitions, {} of them refuse older writers\n",
        report.verification.partitions, report.verification.refusing
    ));
    if let Some(detail) = report.verification.sampled.as_ref().and_then(|sampled| sampled.detail.as_ref()) {
        text.push_str(&format!("not compared with the source: {detail}\n"));
    } else if let Some(sampled) = &report.verification.sampled {
        text.push_str(&format!(
            "compared with the source: {} records of {} partitions are the same\n",
            output::count(i64::try_from(sampled.equal).unwrap_or(i64::MAX)),
            sampled.partitions
        ));
    }
    if let Some(manifest) = &report.loss_manifest {
        for lost in &manifest.lost {
            text.push_str(&format!(
                "LOST {}:{} [{}, {}): {}\n",
                lost.topic, lost.partition, lost.from, lost.to, lost.reason
            ));
        }
        for unseen in &manifest.unseen {
            let since = unseen.since.as_deref().unwrap_or("ever");
            let from = if unseen.from < 0 { "?".to_owned() } else { unseen.from.to_string() };
            text.push_str(&format!(
                "UNKNOWN {}:{} from {from} on: not seen since {since}\n",
                unseen.topic, unseen.partition
            ));
        }
    }
    report.problems.iter().for_each(|problem| text.push_str(&format!("\nPROBLEM {problem}\n")));
    text
}

fn groups_words(groups: &PromotedGroups) -> String {
    if let Some(why) = &groups.source_unreachable {
        return format!("\ngroups: where they were last kept in step, for the source does not answer ({why})\n");
    }
    let totals = &groups.totals;
    let mut text = format!(
        "\ngroups: {} translated, {} left alone; {} offsets written, {} were in place, {} left as somebody has committed them, {} have \
         no counterpart, at most {} records will be missing\n",
        totals.groups,
        totals.skipped,
        groups.applied.offsets,
        totals.unchanged,
        totals.left_alone,
        totals.untranslatable,
        totals.missing
    );
    if let Some(file) = &groups.snapshot {
        text.push_str(&format!("former offsets: {} (kmirror groups rollback)\n", file.display()));
    }
    text
}

fn known(number: i64) -> String {
    if number < 0 { "?".to_owned() } else { output::count(number) }
}

fn seconds(number: f64) -> String {
    if number < 0.0 { "? s".to_owned() } else { format!("{number:.1}s") }
}
