//! `kmirror drill`: a rehearsal of a failover.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::ops::drill::{DrillOptions, DrillReport, drill, keep, kept, seconds, word};
use crate::plan::{Check, Expected, Verdict};

/// Options of `drill`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Asks of both clusters what a failover would do, and changes nothing: how much it would lose (RPO) and how long it would take \
(RTO), against what is expected; whether partitions stand still or lack something for good; whether every selected group would \
go on, and whether the record at its translated offset is the very record at its committed one, byte for byte, for a sample of \
offsets of every group; which topic settings could not be applied.

--isolated also commits copies of the groups on the target (__kmirror.NAME.drill.GROUP), reads from there, and takes them away.

--reports DIR keeps each report as JSON and as HTML; --history lists those that are kept. Exit code 3 if a check fails.

Examples:
  kmirror drill -c standby.yaml --mirror dr
  kmirror drill -c standby.yaml --mirror dr --max-rpo 30s --max-rto 2m --isolated
  kmirror drill -c standby.yaml --mirror dr --reports /var/lib/kmirror/drills
  kmirror drill -c standby.yaml --mirror dr --reports /var/lib/kmirror/drills --history
  kmirror drill -c standby.yaml --mirror dr --json | jq '.checks[] | select(.verdict != \"pass\")'")]
pub struct DrillArgs {
    /// What a failover may lose at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub max_rpo: Duration,
    /// How long a failover may take at most
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    pub max_rto: Duration,
    /// Committed offsets of each group whose records are compared, at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub sample: usize,
    /// Consume with copies of the groups
    #[arg(long)]
    pub isolated: bool,
    /// How long the source may take to tell where its partitions stand. One that cannot be reached ends the drill (exit code 4)
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub source_timeout: Duration,
    /// Keep the report in this folder, as JSON and as HTML
    #[arg(long, value_name = "DIR")]
    pub reports: Option<PathBuf>,
    /// List the reports that are kept in --reports, and do nothing else
    #[arg(long, requires = "reports")]
    pub history: bool,
}

impl DrillArgs {
    fn options(&self) -> DrillOptions {
        let expected =
            Expected { rpo_seconds_max: self.max_rpo.as_secs_f64(), rto_seconds_max: self.max_rto.as_secs_f64() };
        let DrillArgs { sample, isolated, source_timeout, .. } = *self;
        DrillOptions { expected, sample, isolated, source_timeout }
    }
}

/// Rehearses.
///
/// # Errors
/// What kept it from looking.
pub async fn run(args: DrillArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = Arc::new(ctx.load()?);
    let mirror = ctx.one_mirror(&config)?;
    if let (true, Some(folder)) = (args.history, &args.reports) {
        return history(folder, &mirror.name, ctx);
    }
    if ctx.dry_run && args.isolated {
        let what = "--isolated commits copies of the groups: leave it out, and nothing is written at all";
        return Err(CliError::Usage(what.to_owned()).into());
    }
    let report = drill(&config, mirror, &args.options()).await?;
    if let Some(folder) = &args.reports {
        keep(folder, &report).context("--reports")?;
    }
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(if report.passed { Exit::Done } else { Exit::Problems })
}

/// The reports of a mirror that are kept, oldest first.
fn history(folder: &Path, mirror: &str, ctx: &Context) -> anyhow::Result<Exit> {
    let reports = kept(folder, mirror).context("--reports")?;
    if ctx.json {
        output::json(&serde_json::json!({ "schema_version": 1, "mirror": mirror, "reports": reports }))?;
        return Ok(Exit::Done);
    }
    let row = |report: &DrillReport| {
        let failed: Vec<&str> =
            report.checks.iter().filter(|check| check.verdict == Verdict::Fail).map(|c| c.check.as_str()).collect();
        vec![
            report.started_at.clone(),
            verdict(report.passed).to_owned(),
            seconds(report.rpo_seconds),
            seconds(report.rto_seconds_estimate),
            report.groups.len().to_string(),
            if failed.is_empty() { "-".to_owned() } else { failed.join(", ") },
        ]
    };
    let header = ["STARTED", "RESULT", "RPO", "RTO", "GROUPS", "FAILED CHECKS"];
    output::print(&output::table(&header, &[2, 3, 4], reports.iter().map(row)))?;
    Ok(Exit::Done)
}

fn verdict(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

fn page(report: &DrillReport) -> String {
    let mut text = format!(
        "drill of mirror {} ({} → {}): {}\n\n",
        report.mirror,
        report.source[0],
        report.target[0],
        verdict(report.passed)
    );
    let row = |check: &Check| vec![check.check.clone(), word(check.verdict).to_owned(), check.summary.clone()];
    text.push_str(&output::table(&["CHECK", "RESULT", ""], &[], report.checks.iter().map(row)));
    for check in report.checks.iter().filter(|check| check.verdict != Verdict::Pass) {
        for finding in &check.findings {
            text.push_str(&format!("\n{} {}: {finding}", word(check.verdict), check.check));
        }
        if check.more_findings > 0 {
            text.push_str(&format!("\n{} {}: and {} more", word(check.verdict), check.check, check.more_findings));
        }
    }
    text.trim_end().to_owned() + "\n"
}
