//! `kmirror check`: what would go wrong, before the first byte is copied.

use clap::Args;

use super::acls;
use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::engine::connect_mirror;
use crate::ops::{CheckReport, Looked, Severity, check};

/// Options of `check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = HELP)]
pub struct CheckArgs {
    /// Print the ACLs that the file's mirrors and backups need, as lines for kafka-acls.sh; connects to nothing
    #[arg(long)]
    pub print_acls: bool,
    /// With --print-acls: for these words instead of what `kmirror run` does by the file; `all` for all of them
    #[arg(long = "for", value_name = "WORD,…", value_delimiter = ',', requires = "print_acls")]
    pub commands: Vec<String>,
    /// Who kmirror is on sources [default: User: and sasl.username]
    #[arg(long, value_name = "TYPE:NAME")]
    pub principal_source: Option<String>,
    /// Who kmirror is on targets [default: User: and sasl.username]
    #[arg(long, value_name = "TYPE:NAME")]
    pub principal_target: Option<String>,
}

const HELP: &str = "\
Looks at both clusters and changes nothing: reachability, versions and APIs, rights, message sizes, replication \
factors, topics of the target that hold foreign data, a backlog older than producer ids are kept. A right that `kmirror run` lacks \
is named (principal, operation, resource), with the line of kafka-acls.sh that grants it.
Exit code 0 when nothing is in the way, 3 when something is.

--print-acls prints the least set of ACLs by the file alone, cluster by cluster, as a script. A pattern of topics or groups becomes \
literal names where it is a list of names, a prefix where it begins with one, and else every name, which is said. Words of \
--for: run (with fleet, groups, heartbeats and sync.* as the file has them), fleet, groups, heartbeats, groups-rollback, check, status, translate, control (pause, \
resume, bandwidth), verify, drill, failover, fence-source, failback, failback-replay, fence, backup, export, restore, \
preserve-offsets, replay, sync.topic_configs, sync.acls, sync.quotas, sync.scram_users, sync.deletions, all.

Examples:
  kmirror check -c standby.yaml
  kmirror check -c standby.yaml --json
  kmirror check -c standby.yaml --print-acls > acls.sh
  kmirror check -c standby.yaml --mirror dr --print-acls --for run,failover,verify --json
  kmirror check -c standby.yaml --print-acls --principal-source User:reader --principal-target User:writer";

/// Says what would go wrong.
///
/// # Errors
/// What kept it from looking; findings are [`Exit::Problems`].
pub async fn run(args: CheckArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    if args.print_acls {
        return acls::print(&args, &config, ctx);
    }
    let principals = acls::principals(&args)?;
    let mut reports = Vec::new();
    for mirror in ctx.mirrors(&config)? {
        let (source, target) = connect_mirror(&config, mirror).await?;
        let looked = Looked { mirror, is_shared: config.fleet.is_some(), principals: &principals };
        reports.push(check(looked, &source, &target).await?);
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
