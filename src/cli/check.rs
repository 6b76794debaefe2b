//! `kmirror check`: what would go wrong, before the first byte is copied.

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::engine::connect_mirror;
use crate::ops::{CheckReport, Severity, check};

/// Options of `check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Looks at both clusters and changes nothing: reachability, versions and APIs, message sizes, replication \
factors, topics of the target that hold foreign data, a backlog older than producer ids are kept. Rights show only in what \
it reads itself: that kmirror may write to the target is not tried.
Exit code 0 when nothing is in the way, 3 when something is.

Examples:
  kmirror check -c standby.yaml
  kmirror check -c standby.yaml --json")]
pub struct CheckArgs {}

/// Says what would go wrong.
///
/// # Errors
/// What kept it from looking; findings are [`Exit::Problems`].
pub async fn run(_args: CheckArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mut reports = Vec::new();
    for mirror in ctx.mirrors(&config)? {
        let (source, target) = connect_mirror(&config, mirror).await?;
        reports.push(check(mirror, &source, &target).await?);
    }
    if ctx.json {
        output::json(&serde_json::json!({ "schema_version": 1, "mirrors": reports }))?;
    } else {
        show(&reports)?;
    }
    Ok(if reports.iter().any(CheckReport::has_problems) { Exit::Problems } else { Exit::Done })
}

fn show(reports: &[CheckReport]) -> anyhow::Result<()> {
    for report in reports {
        let rows = report.findings.iter().map(|f| {
            let severity = match f.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Problem => "PROBLEM",
            };
            vec![severity.to_owned(), f.check.to_owned(), f.subject.clone(), f.detail.clone()]
        });
        output::print(&format!("mirror {}\n", report.mirror))?;
        output::print(&output::table(&["", "CHECK", "SUBJECT", "FINDING"], &[], rows))?;
    }
    Ok(())
}
