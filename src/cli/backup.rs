//! `kmirror backup`: topics to object storage.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::backup_plan::{self, PlanArgs};
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use super::run::{Signals, serve};
use crate::backup::{Keeper, Meter, PassReport, keep};
use crate::config::{BackupConfig, Config};
use crate::observe::{BackupBoard, Shown};

/// Options of `backup`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads what is new of every topic of a backup (section backups of the file) into its destinations, batch by batch and unopened, with \
topic configs, committed offsets of groups, ACLs, quotas and the names of SCRAM users. A pass counts once its manifest is written in every \
copy that answers, the first of to among them; the others are caught up by a later pass, and topics that are synchronous wait for them. One that dies is done again from the last manifest on. The first pass of a chain reads everything, later ones what came since; \
full_every begins a new chain, keep prunes the oldest.

Exit code 3 where a partition could not be read to its end, each with the reason, or a copy was away; the others are backed up.

Examples:
  kmirror backup -c standby.yaml --dry-run
  kmirror backup -c standby.yaml --backup nightly
  kmirror backup -c standby.yaml --backup nightly --full --json
  kmirror backup -c standby.yaml --continuous
  kmirror backup plan -c standby.yaml --backup nightly")]
pub struct BackupArgs {
    /// What else to do with a backup
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// The backup meant, where the file holds several
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// Begin a new chain: read everything once more
    #[arg(long)]
    pub full: bool,
    /// How often a long pass writes a manifest on the way: what a crash costs
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub commit_every: Duration,
    /// Go on, a pass every interval, until SIGINT or SIGTERM (all backups of the file, or the one of --backup); metrics where the file has
    /// http
    #[arg(long, conflicts_with = "full")]
    pub continuous: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum BackupCommand {
    /// Say how large and how busy the topics are, and what schedules would store, cost and lose
    Plan(PlanArgs),
}

impl BackupArgs {
    /// Options of a pass mean nothing to what makes none; the file, which any command takes, may be named in front of it too.
    fn refuse_beside_a_command(&self) -> anyhow::Result<()> {
        let given = [("--backup", self.backup.is_some()), ("--full", self.full), ("--continuous", self.continuous)];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => {
                let message =
                    format!("{option} stands in front of a command of kmirror backup: see kmirror backup plan --help");
                Err(CliError::Usage(message).into())
            }
            None => Ok(()),
        }
    }
}

/// The backup of a name, or the only one of the file.
pub(super) fn one<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<&'a BackupConfig> {
    let names = || config.backups.iter().map(|backup| backup.name.as_str()).collect::<Vec<_>>().join(", ");
    let usage = |text: String| anyhow::Error::from(CliError::Usage(text));
    match (name, config.backups.as_slice()) {
        (_, []) => Err(usage("the file has no backups: section".to_owned())),
        (None, [one]) => Ok(one),
        (None, _) => Err(usage(format!("the file holds several backups; say --backup NAME, one of: {}", names()))),
        (Some(name), all) => all
            .iter()
            .find(|backup| backup.name == name)
            .ok_or_else(|| usage(format!("no backup is called {name:?}; there are: {}", names()))),
    }
}

/// Backs up.
///
/// # Errors
/// What kept it from it.
pub async fn run(args: BackupArgs, ctx: &Context) -> anyhow::Result<Exit> {
    if args.command.is_some() {
        args.refuse_beside_a_command()?;
    }
    if let Some(BackupCommand::Plan(args)) = args.command {
        return backup_plan::run(args, ctx).await;
    }
    let config = ctx.load()?;
    if args.continuous {
        return continuously(&args, ctx, &config).await;
    }
    let backup = one(&config, args.backup.as_deref())?;
    let keeper = Keeper::connect(&config, backup).await?;
    if ctx.dry_run {
        return would(&keeper, args.full, ctx).await;
    }
    let meter = Meter::default();
    let report =
        output::watched("offsets", || meter.offsets(), keeper.pass(args.full, args.commit_every, meter.clone()))
            .await?;
    let pruned = keeper.prune(false, false).await?;
    if ctx.json {
        output::json(
            &serde_json::json!({ "schema_version": 1, "backup": backup.name, "pass": report, "pruned": pruned }),
        )?;
    } else {
        output::print(&page(&backup.name, &report))?;
        for chain in &pruned.chains {
            output::print(&format!("chain {chain} was pruned\n"))?;
        }
    }
    Ok(if report.problems.is_empty() && report.away.is_empty() { Exit::Done } else { Exit::Problems })
}

async fn continuously(args: &BackupArgs, ctx: &Context, config: &Config) -> anyhow::Result<Exit> {
    ctx.no_dry_run("without --continuous a dry run says what a pass would read")?;
    let mut signals = Signals::new()?;
    let backups: Vec<&BackupConfig> = match &args.backup {
        Some(name) => vec![one(config, Some(name))?],
        None => config.backups.iter().collect(),
    };
    if backups.is_empty() {
        return Err(CliError::Usage("the file has no backups: section".to_owned()).into());
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let boards: Vec<BackupBoard> = backups.iter().map(|backup| BackupBoard::new(&backup.name)).collect();
    serve(config, Shown { backups: boards.clone(), ..Shown::default() }, &[], &stopped).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for (backup, board) in backups.into_iter().zip(boards) {
        tasks.spawn(keep(config.clone(), backup.clone(), board, stopped.clone()));
    }
    signals.recv().await;
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    Ok(Exit::Done)
}

async fn would(keeper: &Keeper, full: bool, ctx: &Context) -> anyhow::Result<Exit> {
    let outlook = keeper.outlook(full).await?;
    if ctx.json {
        output::json(&outlook)?;
        return Ok(Exit::Done);
    }
    let rows = outlook.partitions.iter().map(|row| {
        let problem = row.problem.clone().unwrap_or_default();
        vec![row.topic.clone(), row.partition.to_string(), row.from.to_string(), row.to.to_string(), problem]
    });
    output::print(&output::table(&["TOPIC", "PARTITION", "FROM", "TO", ""], &[1, 2, 3], rows))?;
    let offsets: i64 = outlook.partitions.iter().map(|row| row.to - row.from).sum();
    output::print(&format!(
        "\nwould read {} offsets of {} partitions into chain {} as unit {}\n",
        output::count(offsets),
        outlook.partitions.len(),
        outlook.chain,
        outlook.unit
    ))?;
    Ok(Exit::Done)
}

fn page(name: &str, report: &PassReport) -> String {
    let mut text = format!(
        "backup {name}: chain {}, unit {}: {} records of {} partitions, {} in {} segments ({} as the source has them)\n",
        report.chain,
        report.unit,
        output::count(report.records.cast_signed()),
        report.partitions,
        bytesize::ByteSize::b(report.stored_bytes),
        report.segments,
        bytesize::ByteSize::b(report.raw_bytes),
    );
    if report.is_new_archive {
        text.push_str("a new archive was begun: there was none at its destinations\n");
    }
    if report.lost_offsets > 0 {
        text.push_str(&format!(
            "LOST {} offsets were gone before they were read\n",
            output::count(report.lost_offsets)
        ));
    }
    for away in &report.away {
        text.push_str(&format!("AWAY {}: {}; a later pass catches it up\n", away.copy, away.detail));
    }
    for problem in &report.problems {
        text.push_str(&format!("PROBLEM {}:{}: {}\n", problem.topic, problem.partition, problem.reason));
    }
    text
}
