//! `kmirror replay`: records of an archive into a topic that is in use.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use super::args::OffsetRange;
use super::backup::one;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use super::restore::{no_cluster, parse_time};
use super::run::Signals;
use crate::backup::export::Wanted;
use crate::backup::replay::{ArchiveReplay, ArchiveReplayed, ReplayPlan, ReplayWish, Speed};
use crate::backup::{Meter, open_archive, open_segments, trusted_key};
use crate::client::{Cluster, ClusterSpec};
use crate::config::{BackupConfig, Config};

/// Options of `replay`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Appends records of an archive to a topic that others write to at the same time, each record once: key, value, headers and timestamp as they \
were, and two more headers, kmirror-origin (TOPIC:PARTITION:OFFSET on the source) and kmirror-replay (the name of the replay). Records of \
aborted transactions and control batches are left out. Those of a partition stay in order, and go to the partition with their number, modulo \
the number of partitions that the topic has; between partitions they go by their timestamps.

The same command goes on where an earlier one was stopped, by SIGINT or by kill -9, and appends what has come into the archive since. What \
names a replay is the backup, the topic, partitions and range, and the topic that is written to; another range is another replay. The rate \
may differ from call to call.

Compacted topics are refused: what was replayed could not be told from what their cleaner took.

Exit code 3 where something stands against it, or not all of the range is to be had.

Examples:
  kmirror replay -c standby.yaml --backup nightly --topic orders --to west --into orders --dry-run
  kmirror replay -c standby.yaml --topic orders --to west --into orders.again --rate 500 --yes
  kmirror replay -c standby.yaml --topic orders --partition 3 --offsets 4000..5000 --to west --into orders --yes
  kmirror replay -c standby.yaml --topic orders --since 2026-11-20T03:00:00Z --until 2026-11-20T04:00:00Z --to west --into load-test --pace 10
  kmirror replay -c standby.yaml --topic orders --to west --into orders --timestamps now --suffix second --yes")]
pub struct ReplayArgs {
    /// The backup to replay from, where the file holds several
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// The topic, as it is called on the source
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Vec<i32>,
    /// The cluster of the file to replay to
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// The topic to append to; it must be there
    #[arg(long, value_name = "TOPIC")]
    pub into: String,
    /// Only these offsets of each partition
    #[arg(long, value_name = "FROM..TO")]
    pub offsets: Option<OffsetRange>,
    /// Only records of this moment or younger, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<i64>,
    /// Only records older than this moment, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<i64>,
    /// So many records a second [default: as fast as it goes]
    #[arg(long, value_name = "RECORDS_PER_S", value_parser = parse_positive, conflicts_with = "pace")]
    pub rate: Option<f64>,
    /// As the records were written, by their timestamps: 1 at their own pace, 10 ten times faster
    #[arg(long, value_name = "FACTOR", value_parser = parse_positive)]
    pub pace: Option<f64>,
    /// The timestamps that records get: their own, or the time at which they are replayed
    #[arg(long, value_enum, default_value = "keep", value_name = "WHICH")]
    pub timestamps: Timestamps,
    /// The chain to read, where it is not to be the newest that restores by itself
    #[arg(long, value_name = "NUMBER")]
    pub chain: Option<u32>,
    /// Leave out what is damaged in every copy, and replay the rest
    #[arg(long)]
    pub skip_damaged: bool,
    /// Tells replays of the same records to the same topic apart
    #[arg(long, value_name = "SUFFIX")]
    pub suffix: Option<String>,
}

/// Which timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Timestamps {
    /// Their own.
    Keep,
    /// The time of the replay.
    Now,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number above 0, such as 500 or 0.5".to_owned())
}

/// Replays.
///
/// # Errors
/// What kept it from it.
pub async fn run(args: ReplayArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let backup = one(&config, args.backup.as_deref())?;
    let archive = open_archive(backup)?;
    let segments = open_segments(backup, &archive).await?;
    let cluster = connect(&config, backup, &args.to).await?;
    let wish = ReplayWish { trusted: trusted_key(backup).await?, ..wish(&args) };
    let replay = ArchiveReplay::prepare(&config, (&archive, segments), (cluster, &backup.cluster), wish).await?;
    let stands = !replay.plan.obstacles.is_empty();
    if ctx.dry_run || stands {
        if ctx.json {
            output::json(&replay.plan)?;
        } else {
            output::print(&plan_page(&replay.plan))?;
        }
        return Ok(if stands { Exit::Problems } else { Exit::Done });
    }
    if !ctx.json {
        output::print(&plan_page(&replay.plan))?;
    }
    let question = format!("Append these records to topic {} of cluster {}?", args.into, args.to);
    if !ctx.yes && output::confirm(&question, "yes")? != Some(true) {
        return Err(CliError::Refused("nothing was changed: say --yes to replay".to_owned()).into());
    }
    let done = watched(replay).await?;
    if ctx.json {
        output::json(&serde_json::json!({ "schema_version": 1, "replayed": done }))?;
    } else {
        output::print(&page(&done))?;
    }
    Ok(match done {
        ArchiveReplayed { is_stopped: true, .. } => Exit::Failed,
        ArchiveReplayed { shortfalls, .. } if !shortfalls.is_empty() => Exit::Problems,
        _ => Exit::Done,
    })
}

/// With a bar; SIGINT and SIGTERM stop it between two records.
async fn watched(replay: ArchiveReplay) -> anyhow::Result<ArchiveReplayed> {
    let mut signals = Signals::new()?;
    let (stop, stopped) = watch::channel(false);
    let stopping = tokio::spawn(async move {
        signals.recv().await;
        stop.send_replace(true);
        // Whoever drops the sender stops nobody.
        std::future::pending::<()>().await;
    });
    let meter = Meter::default();
    let done = output::watched("replayed offsets", || meter.offsets(), replay.run(meter.clone(), stopped)).await;
    stopping.abort();
    Ok(done?)
}

async fn connect(config: &Config, backup: &BackupConfig, name: &str) -> anyhow::Result<Cluster> {
    let Some(found) = config.clusters.get(name) else {
        return Err(CliError::Usage(no_cluster(config, name)).into());
    };
    let client_id = found.client_id_for(&format!("replay.{}", backup.name));
    Ok(Cluster::connect(ClusterSpec::of(found, client_id)).await?)
}

fn wish(args: &ReplayArgs) -> ReplayWish {
    let wanted = Wanted {
        since_ms: args.since,
        until_ms: args.until,
        from: args.offsets.map(|range| range.from),
        to: args.offsets.map(|range| range.to),
        ..Wanted::default()
    };
    let speed = match (args.rate, args.pace) {
        (Some(rate), _) => Speed::Rate(rate),
        (None, Some(factor)) => Speed::Pace(factor),
        (None, None) => Speed::Full,
    };
    ReplayWish {
        topic: args.topic.clone(),
        partitions: args.partition.iter().copied().collect(),
        wanted,
        chain: args.chain,
        into: args.into.clone(),
        speed,
        is_stamped_anew: args.timestamps == Timestamps::Now,
        skip_damaged: args.skip_damaged,
        suffix: args.suffix.clone(),
        trusted: None,
    }
}

fn plan_page(plan: &ReplayPlan) -> String {
    let rows = plan.partitions.iter().map(|row| {
        vec![
            format!("{}:{}", plan.topic, row.partition),
            format!("{}:{}", plan.into, row.into_partition),
            format!("[{}, {})", row.from, row.to),
            row.next.to_string(),
            output::count(row.records_at_most.cast_signed()),
        ]
    });
    let mut text = output::table(&["FROM", "INTO", "OFFSETS", "GOES ON AT", "RECORDS AT MOST"], &[3, 4], rows);
    text.push_str(&format!(
        "\nreplay {}: from backup {}, chain {} up to unit {}, into topic {} of cluster {}; at most {} records, {} are there already\n",
        plan.replay,
        plan.backup,
        plan.chain,
        plan.unit,
        plan.into,
        plan.cluster,
        output::count(plan.records_at_most.cast_signed()),
        output::count(plan.already.cast_signed()),
    ));
    if let Some(seconds) = plan.seconds {
        let span = Duration::try_from_secs_f64(seconds).map_or_else(|_| "for ever".to_owned(), output::span);
        text.push_str(&format!("takes about {span}\n"));
    }
    let notes = |word: &str, lines: &[String]| lines.iter().map(|line| format!("{word} {line}\n")).collect::<String>();
    text.push_str(&notes("NOTE", &plan.shortfalls));
    text.push_str(&notes("WARNING", &plan.warnings));
    text.push_str(&notes("OBSTACLE", &plan.obstacles));
    text
}

fn page(done: &ArchiveReplayed) -> String {
    let (records, already) = (done.records.cast_signed(), done.already.cast_signed());
    let mut text = format!(
        "{} records replayed into {} in {:.1} s, {} were there already\n",
        output::count(records),
        done.plan.into,
        done.seconds,
        output::count(already)
    );
    text.extend(done.shortfalls.iter().map(|line| format!("NOTE {line}\n")));
    if done.is_stopped {
        text.push_str("stopped before the end; the same command goes on behind the last record\n");
    }
    text
}
