//! `kmirror failback`: the way home after a promotion.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::config::MirrorConfig;
use crate::engine::connect_mirror;
use crate::ops::failback::{
    self, CameBack, Ends, FailbackPartition, FailbackReport, Replay, Replayed, ReplayedPartition, Stage, Tail, TakenUp,
};

/// Options of `failback`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
After kmirror failover the standby is in charge. When the old source is back, it is brought up to date from the standby, \
without copying again what both have. Each call does the next step, and says what comes after it:

  1. kmirror failback          shows where the two logs of every partition part, and what the old source has alone (its
                               divergent tail: accepted there, never mirrored); --export writes those records to a file, --replay
                               appends them to a topic of the standby
     kmirror failback --yes    begins a mirror of the way home, NAME.failback
  2. kmirror run --mirror NAME.failback        copies, and keeps up; status --mirror NAME.failback shows how far it is
  3. kmirror failover --mirror NAME.failback   the switch home, planned: the old source is in charge again
  4. kmirror failback --yes    begins a new generation of mirror NAME
     kmirror run               mirrors as before the failover

What the old source has alone stays where it is: readers that had not come so far meet it there, and the standby does not \
have it. An old source that came back empty is filled from its beginning; one that is another log is left alone, and named \
(exit code 3).

Examples:
  kmirror failback -c standby.yaml --mirror dr
  kmirror failback -c standby.yaml --mirror dr --export divergent.jsonl --yes
  kmirror failback -c standby.yaml --mirror dr --replay orders.divergent --yes
  kmirror run -c standby.yaml --mirror dr.failback
  kmirror failback -c standby.yaml --mirror dr --json")]
pub struct FailbackArgs {
    /// Write what the old source has alone to this file, one JSON object a record
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Append what the old source has alone to this topic of the standby, each record once, and do nothing else
    #[arg(long, value_name = "TOPIC", conflicts_with = "export")]
    pub replay: Option<String>,
}

/// Goes back.
///
/// # Errors
/// What kept it from reading or writing.
pub async fn run(args: FailbackArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let (old, standby) = connect_mirror(&config, mirror).await?;
    let ends = Ends { old: &old, standby: &standby };
    let stage = failback::stage(mirror, ends).await?;
    if let (Some(file), Stage::Returning | Stage::Switched) = (&args.export, stage) {
        return export(file, &failback::tails(mirror, stage, ends).await?, ctx, mirror, ends).await;
    }
    match stage {
        Stage::NotPromoted => {
            let what = "was not promoted: there is nothing to go back from (kmirror failover)";
            Err(CliError::Usage(format!("mirror {} {what}", mirror.name)).into())
        }
        stage if args.replay.is_some() => replay(&args, ctx, mirror, stage, ends).await,
        Stage::Promoted => begin(&args, ctx, mirror, ends).await,
        Stage::Returning => returning(ctx, mirror),
        Stage::Switched => take_up(ctx, mirror, ends).await,
    }
}

/// Shows the way, and goes the first step of it.
async fn begin(args: &FailbackArgs, ctx: &Context, mirror: &MirrorConfig, ends: Ends<'_>) -> anyhow::Result<Exit> {
    let mut report = failback::survey(mirror, ends).await?;
    let exported = match &args.export {
        Some(file) => export(file, &failback::tails_of(&report), ctx, mirror, ends).await?,
        None => Exit::Done,
    };
    let act = ctx.yes && !ctx.dry_run;
    if act {
        report = failback::begin(mirror, ends).await?;
    }
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    if !act && !ctx.dry_run {
        let what = format!("nothing was changed; to begin the way home of mirror {}, add --yes", mirror.name);
        return Err(CliError::Refused(what).into());
    }
    Ok(if report.refused().next().is_some() { Exit::Problems } else { exported })
}

/// The copying is for an ordinary run.
fn returning(ctx: &Context, mirror: &MirrorConfig) -> anyhow::Result<Exit> {
    let home = mirror.reversed().name;
    if ctx.json {
        output::json(&TakeUpReport::new(mirror, Stage::Returning))?;
    } else {
        output::print(&format!(
            "mirror {} is on its way home as {home}\n\n  kmirror run --mirror {home}        copies, and keeps up\n  kmirror status \
             --mirror {home}     shows how far it is\n  kmirror failover --mirror {home}   is next, once nobody writes to the \
             standby any more\n",
            mirror.name
        ))?;
    }
    Ok(Exit::Done)
}

/// `failback --json` once the way home has begun.
#[derive(Debug, Serialize)]
struct TakeUpReport {
    schema_version: u32,
    mirror: String,
    reverse_mirror: String,
    stage: Stage,
    /// Partitions of the new generation.
    partitions: Vec<TakenUp>,
}

impl TakeUpReport {
    fn new(mirror: &MirrorConfig, stage: Stage) -> Self {
        let (name, reverse_mirror) = (mirror.name.clone(), mirror.reversed().name);
        Self { schema_version: 1, mirror: name, reverse_mirror, stage, partitions: Vec::new() }
    }
}

/// The last step: mirror as before.
async fn take_up(ctx: &Context, mirror: &MirrorConfig, ends: Ends<'_>) -> anyhow::Result<Exit> {
    let mut report = TakeUpReport::new(mirror, Stage::Switched);
    let act = ctx.yes && !ctx.dry_run;
    if act {
        report.partitions = failback::take_up(mirror, ends).await?;
        report.stage = Stage::NotPromoted;
    }
    let problems: Vec<&TakenUp> = report.partitions.iter().filter(|partition| partition.is_problem()).collect();
    if ctx.json {
        output::json(&report)?;
    } else if act {
        let mut text = format!("mirror {} takes up again with {} partitions", mirror.name, report.partitions.len());
        for partition in &problems {
            text.push_str(&format!("\n\nPROBLEM {}:{}: {}", partition.topic, partition.partition, partition.problem()));
        }
        output::print(&format!("{text}\n\nnext: kmirror run --mirror {}\n", mirror.name))?;
    }
    if !act && !ctx.dry_run {
        let what = format!(
            "the old source is in charge again, and nothing was changed; to begin a new generation of mirror {}, add --yes",
            mirror.name
        );
        return Err(CliError::Refused(what).into());
    }
    Ok(if problems.is_empty() { Exit::Done } else { Exit::Problems })
}

/// A file that is there already is not written over: it may be the only copy of what it holds.
async fn export(
    file: &Path,
    tails: &[Tail],
    ctx: &Context,
    mirror: &MirrorConfig,
    ends: Ends<'_>,
) -> anyhow::Result<Exit> {
    let open = OpenOptions::new().write(true).create_new(true).open(file);
    let out = open.with_context(|| format!("--export {}: cannot be made", file.display()))?;
    let mut out = BufWriter::new(out);
    let exported = failback::export(tails, ends.old, mirror.isolation, &mut out).await?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all())?;
    if !ctx.json {
        let records = output::count(exported.records.cast_signed());
        output::print(&format!("{records} divergent records written to {}\n", file.display()))?;
        output::print(&(notes(&exported.shortfalls) + "\n"))?;
    }
    Ok(if exported.shortfalls.is_empty() { Exit::Done } else { Exit::Problems })
}

/// What is left out of an export or a replay.
fn notes(shortfalls: &[String]) -> String {
    shortfalls.iter().map(|words| format!("NOTE {words}\n")).collect()
}

/// The divergent tail into a topic of the standby.
async fn replay(
    args: &FailbackArgs,
    ctx: &Context,
    mirror: &MirrorConfig,
    stage: Stage,
    ends: Ends<'_>,
) -> anyhow::Result<Exit> {
    let into = args.replay.as_deref().unwrap_or_default();
    if stage == Stage::Switched {
        let what = "the old source is in charge again, and has them: nothing is replayed to the standby any more";
        return Err(CliError::Usage(format!("mirror {}: {what}", mirror.name)).into());
    }
    let tails = failback::tails(mirror, stage, ends).await?;
    let replay = Replay { mirror, ends, tails: &tails, into };
    let act = ctx.yes && !ctx.dry_run;
    let done = if act {
        // Offsets: to count the records everything would be read once more.
        let offsets = tails.iter().map(|tail| (tail.range.1 - tail.range.0).unsigned_abs()).sum();
        let bar = output::progress(offsets, "replayed");
        let done = replay.run(|records| bar.inc(records)).await;
        bar.finish_and_clear();
        done?
    } else {
        replay.plan().await?
    };
    if ctx.json {
        output::json(&done)?;
    } else {
        output::print(&replay_page(&done, act))?;
    }
    if !act && !ctx.dry_run {
        let what = format!("nothing was changed; to append these records to {into} on {}, add --yes", mirror.target);
        return Err(CliError::Refused(what).into());
    }
    Ok(if done.shortfalls.is_empty() { Exit::Done } else { Exit::Problems })
}

fn replay_page(done: &Replayed, act: bool) -> String {
    let count = |n: u64| output::count(n.cast_signed());
    let row = |p: &ReplayedPartition| {
        vec![
            format!("{}:{}", p.topic, p.partition),
            format!("{}:{}", done.into, p.into_partition),
            count(p.records),
            count(p.already),
        ]
    };
    let header = ["FROM", "INTO", if act { "REPLAYED" } else { "TO REPLAY" }, "THERE ALREADY"];
    let table = output::table(&header, &[2, 3], done.partitions.iter().map(row));
    let what = if act { "replayed" } else { "to be replayed" };
    let notes = notes(&done.shortfalls);
    format!("{table}\n{} records {what}, {} there already\n{notes}", count(done.records), count(done.already))
}

fn page(report: &FailbackReport) -> String {
    let header =
        ["PARTITION", "CAME BACK", "PARTED AT", "COPIED FROM", "TO COPY", "DIVERGENT RECORDS", "DIVERGENT OFFSETS"];
    let mut text = output::table(&header, &[2, 3, 4, 5], report.partitions.iter().map(cells));
    for partition in &report.partitions {
        if let Some(detail) = &partition.detail {
            let what = if partition.came_back == CameBack::Different { "LEFT OUT" } else { "NOTE" };
            text.push_str(&format!("\n{what} {}:{}: {detail}\n", partition.topic, partition.partition));
        }
    }
    let divergent = i64::try_from(report.divergent_records()).unwrap_or(i64::MAX);
    if divergent > 0 {
        text.push_str(&format!(
            "\n{} records are on the old source alone; --export FILE writes them out, --replay TOPIC appends them to a topic of the \
             standby\n",
            output::count(divergent)
        ));
    }
    if !report.let_in.is_empty() {
        let when = if report.stage == Stage::Returning { "is taken back" } else { "is to be taken back" };
        let topics = report.let_in.join(", ");
        text.push_str(&format!("\nthe ACL of the failover that denies to write to the old source {when}: {topics}\n"));
    }
    if report.stage == Stage::Returning {
        let home = &report.reverse_mirror;
        text.push_str(&format!(
            "\nthe way home of mirror {} has begun as {home}; next: kmirror run --mirror {home}\n",
            report.mirror
        ));
    }
    text
}

fn cells(partition: &FailbackPartition) -> Vec<String> {
    let known = |offset: i64| if offset < 0 { "-".to_owned() } else { offset.to_string() };
    let came_back = match partition.came_back {
        CameBack::Intact => "intact",
        CameBack::Ahead => "ahead",
        CameBack::Behind => "behind",
        CameBack::Diverged => "diverged",
        CameBack::Empty => "empty",
        CameBack::Different => "different",
    };
    let tail = &partition.tail;
    let range = if tail.is_any() { format!("[{}, {})", tail.from, tail.to) } else { "-".to_owned() };
    vec![
        format!("{}:{}", partition.topic, partition.partition),
        came_back.to_owned(),
        known(partition.parted_at),
        known(partition.copied_from),
        output::count(partition.to_copy),
        output::count(i64::try_from(tail.records).unwrap_or(i64::MAX)),
        range,
    ]
}
