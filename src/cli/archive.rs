//! `kmirror archive`: what an archive holds, and whether it is whole.

use clap::{Args, Subcommand};

use super::backup::one;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::export::{ExportArgs, export};
use super::output;
use crate::backup::chain::logs;
use crate::backup::verify::{ArchiveReport, Look, verify_archive};
use crate::backup::{AwayCopy, Keeper, open_archive, open_segments, trusted_key};
use crate::engine::now_ms;

/// Options of `archive`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kmirror archive -c standby.yaml list
  kmirror archive -c standby.yaml show --backup nightly
  kmirror archive -c standby.yaml verify --backup nightly
  kmirror archive -c standby.yaml verify --backup nightly --note
  kmirror archive -c standby.yaml repair --backup nightly --yes
  kmirror archive -c standby.yaml export --backup nightly --partition orders:3 --offsets 4000..5000
  kmirror archive -c standby.yaml export --topic 'orders.*' --since 2026-11-20T03:00:00Z --out orders.jsonl
  kmirror archive -c standby.yaml export --cluster east --topic orders --key customer-42
  kmirror archive -c standby.yaml export --cluster east --topic 'orders.*' --format parquet --out lake/2026-11-20
  kmirror archive -c standby.yaml prune --backup nightly --dry-run")]
pub struct ArchiveArgs {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ArchiveCommand {
    /// List the chains: when they began, how many units they have, whether they restore by themselves
    List(WhichArgs),
    /// Show what a chain holds: topics, offsets, times, sizes, gaps
    Show(ShowArgs),
    /// Read everything in every copy, and say what is damaged, missing or lost
    Verify(VerifyArgs),
    /// The same, and replace what is damaged or missing from a copy that is whole
    Repair(WhichArgs),
    /// Write records as lines of JSON or as Parquet, from an archive or straight from a live topic
    Export(ExportArgs),
    /// Let go of chains beyond keep, and of what passes that died have left
    Prune(WhichArgs),
}

/// Which archive.
#[derive(Debug, Clone, Args)]
struct WhichArgs {
    /// The backup meant, where the file holds several
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct VerifyArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Where all is well, note in every copy when that was; a running backup shows it as a metric
    #[arg(long)]
    note: bool,
}

#[derive(Debug, Clone, Args)]
struct ShowArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The chain; the newest where it is not named
    #[arg(long, value_name = "NUMBER")]
    chain: Option<u32>,
}

/// Looks into an archive.
///
/// # Errors
/// It cannot be read.
pub async fn run(args: ArchiveArgs, ctx: &Context) -> anyhow::Result<Exit> {
    match args.command {
        ArchiveCommand::List(which) => list(&which, ctx).await,
        ArchiveCommand::Show(show) => self::show(&show, ctx).await,
        ArchiveCommand::Verify(args) => verify(&args.which, false, args.note, ctx).await,
        ArchiveCommand::Repair(which) => verify(&which, true, false, ctx).await,
        ArchiveCommand::Export(args) => export(&args, ctx).await,
        ArchiveCommand::Prune(which) => prune(&which, ctx).await,
    }
}

async fn list(which: &WhichArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.no_dry_run("it changes nothing")?;
    let config = ctx.load()?;
    let backup = one(&config, which.backup.as_deref())?;
    let archive = open_archive(backup)?;
    let mut rows = Vec::new();
    for number in archive.chains().await? {
        let chain = archive.chain(number, None).await?;
        let time = |ms: Option<i64>| ms.map(crate::ops::time::rfc3339);
        let segments = || chain.manifests().flat_map(|m| &m.partitions).flat_map(|part| &part.segments);
        rows.push(serde_json::json!({
            "chain": number,
            "units": chain.units.len(),
            "begun_at": time(chain.manifests().next().map(|m| m.begun_at_ms)),
            "ended_at": time(chain.manifests().last().map(|m| m.ended_at_ms)),
            "records": segments().map(|s| s.records).sum::<u64>(),
            "bytes": segments().map(|s| s.bytes).sum::<u64>(),
            "restores_by_itself": chain.head().is_good,
            "broken": chain.broken,
        }));
    }
    if ctx.json {
        output::json(
            &serde_json::json!({ "schema_version": 1, "backup": backup.name, "chains": rows, "away": archive.copies().away() }),
        )?;
        return Ok(Exit::Done);
    }
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let cells = rows.iter().map(|row| {
        let bytes = row["bytes"].as_u64().unwrap_or(0);
        let count = |key: &str| output::count(row[key].as_i64().unwrap_or(0));
        let state = match (&row["broken"], row["restores_by_itself"].as_bool()) {
            (serde_json::Value::String(why), _) => format!("broken: {why}"),
            (_, Some(true)) => "restores by itself".to_owned(),
            _ => "not complete yet".to_owned(),
        };
        vec![
            text(&row["chain"]),
            count("units"),
            text(&row["begun_at"]),
            text(&row["ended_at"]),
            count("records"),
            bytesize::ByteSize::b(bytes).to_string(),
            state,
        ]
    });
    let header = ["CHAIN", "UNITS", "BEGUN", "ENDED", "RECORDS", "SIZE", "STATE"];
    output::print(&output::table(&header, &[0, 1, 4, 5], cells))?;
    output::print(&away_lines(&archive.copies().away()))?;
    Ok(Exit::Done)
}

async fn show(args: &ShowArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.no_dry_run("it changes nothing")?;
    let config = ctx.load()?;
    let backup = one(&config, args.which.backup.as_deref())?;
    let archive = open_archive(backup)?;
    let chains = archive.chains().await?;
    let Some(number) = args.chain.or(chains.last().copied()) else {
        return Err(CliError::Problems(format!("backup {} has no chains yet", backup.name)).into());
    };
    let chain = archive.chain(number, None).await?;
    let logs = logs(chain.manifests());
    let captured = chain.manifests().filter_map(|manifest| manifest.captured.as_ref()).last();
    if ctx.json {
        let partitions: Vec<_> = logs
            .values()
            .map(|log| {
                serde_json::json!({
                    "topic": log.id.topic, "topic_id": log.id.topic_id, "partition": log.id.partition,
                    "from": log.from, "to": log.to, "records": log.records(), "segments": log.segments,
                    "gaps": log.gaps, "aborted": log.aborted, "problem": log.problem,
                })
            })
            .collect();
        output::json(&serde_json::json!({
            "schema_version": 1, "backup": backup.name, "chain": number, "partitions": partitions, "captured": captured,
            "broken": chain.broken, "away": archive.copies().away(),
        }))?;
        return Ok(Exit::Done);
    }
    let rows = logs.values().map(|log| {
        let bytes: u64 = log.segments.iter().map(|part| part.bytes).sum();
        let newest = log.segments.iter().map(|part| part.max_timestamp_ms).max().filter(|ms| *ms >= 0);
        let gone = log.gaps.iter().fold(0i64, |sum, gap| sum.saturating_add(gap.to - gap.from));
        vec![
            log.id.topic.clone(),
            log.id.partition.to_string(),
            format!("[{}, {})", log.from, log.to),
            output::count(log.records().cast_signed()),
            bytesize::ByteSize::b(bytes).to_string(),
            newest.map_or_else(String::new, crate::ops::time::rfc3339),
            output::count(gone),
            log.problem.clone().unwrap_or_default(),
        ]
    });
    let header = ["TOPIC", "PARTITION", "OFFSETS", "RECORDS", "SIZE", "NEWEST RECORD", "LOST", ""];
    let mut text = output::table(&header, &[1, 3, 4, 6], rows);
    if let Some(captured) = captured {
        text.push_str(&format!(
            "\n{} topics with their configs, {} groups, {} ACLs, {} quotas, {} SCRAM users\n",
            captured.topics.entries.len(),
            captured.groups.entries.len(),
            captured.acls.entries.len(),
            captured.quotas.entries.len(),
            captured.scram_users.entries.len()
        ));
    }
    text.push_str(&away_lines(&archive.copies().away()));
    output::print(&text)?;
    Ok(Exit::Done)
}

async fn verify(which: &WhichArgs, repair: bool, note: bool, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let backup = one(&config, which.backup.as_deref())?;
    let archive = open_archive(backup)?;
    let repair = repair && !ctx.dry_run;
    if repair && !ctx.yes {
        let question = format!("Replace damaged objects of backup {} from copies that are whole?", backup.name);
        if output::confirm(&question, "yes")? != Some(true) {
            return Err(CliError::Refused("nothing was changed: say --yes to repair".to_owned()).into());
        }
    }
    let segments = open_segments(backup, &archive).await?;
    let trusted = trusted_key(backup).await?;
    let began_ms = now_ms();
    let bar = output::progress(0, "reading");
    let look = Look { trusted: trusted.as_ref(), repair };
    let report = verify_archive(&archive, &segments, look, &|done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    let report = report?;
    if note && !report.has_problems() && !ctx.dry_run {
        archive.note_verified(began_ms).await?;
    }
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(if report.has_problems() { Exit::Problems } else { Exit::Done })
}

/// Copies that did not answer, where there are some.
fn away_lines(away: &[AwayCopy]) -> String {
    away.iter().map(|away| format!("AWAY {}: {}\n", away.copy, away.detail)).collect()
}

fn page(report: &ArchiveReport) -> String {
    let mut text = away_lines(&report.away);
    let whose = if report.away.is_empty() { "no copy has it" } else { "no copy that answers has it" };
    for chain in &report.chains {
        let state = if chain.is_good { "restores by itself" } else { "not complete yet" };
        text.push_str(&format!("chain {}: {} units, {state}\n", chain.chain, chain.units));
        if let Some(broken) = &chain.broken {
            text.push_str(&format!("BROKEN chain {}: {broken}\n", chain.chain));
        }
    }
    for damage in &report.damages {
        let what = if damage.is_repaired { "REPAIRED" } else { "DAMAGED" };
        text.push_str(&format!("{what} {} in {}: {}", damage.object, damage.copy, damage.detail));
        if let (Some(topic), Some(partition)) = (&damage.topic, damage.partition) {
            let ranges: Vec<String> = damage.ranges.iter().map(|(from, to)| format!("[{from}, {to})")).collect();
            let ranges = if ranges.is_empty() { "no record is lost".to_owned() } else { ranges.join(" ") };
            text.push_str(&format!("; {topic}:{partition} {ranges}"));
        }
        text.push('\n');
    }
    for lost in &report.lost {
        text.push_str(&format!("LOST {}:{} [{}, {}): {whose}\n", lost.topic, lost.partition, lost.from, lost.to));
    }
    for unnamed in &report.unnamed {
        text.push_str(&format!(
            "UNNAMED {}: {}:{} [{}, {}), which no manifest names: of a pass that died or is under way, or of a manifest that is lost\n",
            unnamed.object, unnamed.topic, unnamed.partition, unnamed.from, unnamed.to
        ));
    }
    let bytes = bytesize::ByteSize::b(report.bytes);
    text.push_str(&format!("{} segments read, {bytes}\n", output::count(report.segments.cast_signed())));
    text
}

async fn prune(which: &WhichArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let backup = one(&config, which.backup.as_deref())?;
    let keeper = Keeper::connect(&config, backup).await?;
    if !ctx.dry_run && !ctx.yes {
        let question = format!("Let go of all but {} chains of backup {}?", backup.keep, backup.name);
        if output::confirm(&question, "yes")? != Some(true) {
            return Err(CliError::Refused("nothing was changed: say --yes to prune".to_owned()).into());
        }
    }
    let pruned = keeper.prune(true, ctx.dry_run).await?;
    if ctx.json {
        output::json(&serde_json::json!({ "schema_version": 1, "dry_run": ctx.dry_run, "pruned": pruned }))?;
        return Ok(Exit::Done);
    }
    let verb = if ctx.dry_run { "would let go of" } else { "let go of" };
    output::print(&format!(
        "{verb} chains {:?} and {} objects that no manifest names, {}\n",
        pruned.chains,
        pruned.leftovers,
        bytesize::ByteSize::b(pruned.bytes)
    ))?;
    Ok(Exit::Done)
}
