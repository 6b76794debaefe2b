//! `kmirror archive export`: records for others.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{OffsetRange, TopicPartition};
use super::backup::one;
use super::context::Context;
use super::exit::{CliError, Exit, StdoutError};
use super::output;
use super::restore::parse_time;
use crate::backup::chain::{Log, logs};
use crate::backup::export::{
    Exported, Lines, LiveLog, Sink, Wanted, export as export_archived, export_live, live_logs, offsets_due,
};
use crate::backup::{BackupError, Meter, open_archive, open_cluster, open_segments};
use crate::client::Cluster;
use crate::config::{Config, TopicFilter, never_mirrored};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
From the archive of a backup, or with --cluster straight from topics of that cluster: what stands in them when the command begins, read \
as a consumer under read_committed reads it (with --with-aborted as one under read_uncommitted). --since then begins where the \
broker says that the first record of that age is.

jsonl, the default, is one JSON object a line: topic, partition, offset, timestamp_ms, key, value, headers; bytes that are not UTF-8 \
stand as {\"base64\": ...}. parquet writes FOLDER/TOPIC/PARTITION-OFFSET.parquet (zstd), and _SUCCESS once all of them are there; it needs a kmirror \
that was built with the feature of its name. Either has its name only when it is whole.

Exit code 3 where retention took records while they were being read.

Examples:
  kmirror archive -c standby.yaml export --backup nightly --partition orders:3 --offsets 4000..5000
  kmirror archive -c standby.yaml export --topic 'orders.*' --since 2026-11-20T03:00:00Z --out orders.jsonl
  kmirror archive -c standby.yaml export --cluster east --topic orders --key customer-42
  kmirror archive -c standby.yaml export --cluster east --topic 'orders.*' --format parquet --out lake/2026-11-20")]
pub(super) struct ExportArgs {
    /// The backup meant, where the file holds several
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// The chain; the newest where it is not named
    #[arg(long, value_name = "NUMBER")]
    chain: Option<u32>,
    /// Straight from the topics of this cluster, not from an archive; needs --topic or --partition
    #[arg(long, value_name = "NAME", conflicts_with_all = ["backup", "chain"])]
    cluster: Option<String>,
    /// Only topics that match this pattern whole; may be repeated
    #[arg(long, value_name = "REGEX")]
    topic: Vec<String>,
    /// Only this partition; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION")]
    partition: Vec<TopicPartition>,
    /// Only these offsets of each partition
    #[arg(long, value_name = "FROM..TO")]
    offsets: Option<OffsetRange>,
    /// Only records of this moment or younger, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only records older than this moment, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// Only records with this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Also records of aborted transactions, and of a live topic those of open ones
    #[arg(long)]
    with_aborted: bool,
    /// Lines of JSON, or Parquet
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "jsonl")]
    format: Format,
    /// The file to write; it must not be there yet [default: stdout]. For parquet a folder, empty or not there yet
    #[arg(long, value_name = "PATH", required_if_eq("format", "parquet"))]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
    /// Parquet files
    Parquet,
}

/// Exports.
///
/// # Errors
/// What is to be read cannot be, or what is to be written.
pub(super) async fn export(args: &ExportArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.no_dry_run("it changes nothing on a cluster")?;
    let config = ctx.load()?;
    let wanted = args.wanted();
    let picked = Picked::of(args)?;
    let meter = Meter::default();
    let mut sink = args.sink()?;
    let logs = match &args.cluster {
        Some(name) => Logs::live(&config, name, &picked, &wanted).await?,
        None => Logs::archived(&config, args, &picked).await?,
    };
    meter.due(logs.offsets_due(&wanted));
    let work = logs.export(&wanted, &meter, &mut *sink);
    // Lines on a terminal are progress enough.
    let exported = match args.out.is_none() && std::io::stdout().is_terminal() {
        true => work.await,
        false => output::watched("offsets", || meter.offsets(), work).await,
    };
    let exported = exported.map_err(|error| to_stdout(error, args))?;
    let files = sink.finish().map_err(|error| to_stdout(error, args))?;
    report(args, ctx, &exported, &files)
}

impl ExportArgs {
    fn wanted(&self) -> Wanted {
        Wanted {
            since_ms: self.since,
            until_ms: self.until,
            from: self.offsets.map(|range| range.from),
            to: self.offsets.map(|range| range.to),
            key: self.key.clone().map(bytes::Bytes::from),
            with_aborted: self.with_aborted,
        }
    }

    fn sink(&self) -> anyhow::Result<Box<dyn Sink>> {
        Ok(match (self.format, &self.out) {
            (Format::Parquet, Some(folder)) => parquet(folder)?,
            (_, Some(file)) => Box::new(Lines::to_file(file)?),
            (_, None) => Box::new(Lines::to_stdout()),
        })
    }
}

#[cfg(feature = "parquet")]
fn parquet(folder: &std::path::Path) -> anyhow::Result<Box<dyn Sink>> {
    Ok(Box::new(crate::backup::export::ParquetFolder::create(folder)?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_folder: &std::path::Path) -> anyhow::Result<Box<dyn Sink>> {
    let words = "--format parquet: this kmirror was built without it; build one with cargo build --release --features parquet, \
                 or export lines (--format jsonl)";
    Err(CliError::Usage(words.to_owned()).into())
}

/// Which partitions.
struct Picked {
    topics: Option<TopicFilter>,
    partitions: Vec<TopicPartition>,
}

impl Picked {
    fn of(args: &ExportArgs) -> anyhow::Result<Self> {
        if args.cluster.is_some() && args.topic.is_empty() && args.partition.is_empty() {
            let words =
                "--cluster needs --topic or --partition: which topics are to be exported? (--topic '.*' means all)";
            return Err(CliError::Usage(words.to_owned()).into());
        }
        let wrong =
            |error: crate::config::PatternError| anyhow::Error::from(CliError::Usage(format!("--topic: {error}")));
        let topics = (!args.topic.is_empty()).then(|| TopicFilter::new(&args.topic, &[])).transpose().map_err(wrong)?;
        Ok(Self { topics, partitions: args.partition.clone() })
    }

    fn takes(&self, topic: &str, partition: i32) -> bool {
        let is_named = |tp: &TopicPartition| (tp.topic.as_str(), tp.partition) == (topic, partition);
        self.topics.as_ref().is_none_or(|topics| topics.matches(topic))
            && (self.partitions.is_empty() || self.partitions.iter().any(is_named))
    }
}

/// What is to be exported.
enum Logs {
    Archived(crate::backup::fetch::Segments, Vec<Log>),
    Live(Box<Cluster>, Vec<LiveLog>),
}

impl Logs {
    async fn archived(config: &Config, args: &ExportArgs, picked: &Picked) -> anyhow::Result<Self> {
        let backup = one(config, args.backup.as_deref())?;
        let archive = open_archive(backup)?;
        let segments = open_segments(backup, &archive).await?;
        let chains = archive.chains().await?;
        let Some(number) = args.chain.or(chains.last().copied()) else {
            return Err(CliError::Problems(format!("backup {} has no chains yet", backup.name)).into());
        };
        let chain = archive.chain(number, None).await?;
        let mut logs: Vec<Log> = logs(chain.manifests()).into_values().collect();
        logs.retain(|log| picked.takes(&log.id.topic, log.id.partition));
        if logs.is_empty() {
            let words =
                format!("chain {number} of backup {}: no partition is meant by --topic and --partition", backup.name);
            return Err(CliError::Problems(words).into());
        }
        Ok(Self::Archived(segments, logs))
    }

    async fn live(config: &Config, name: &str, picked: &Picked, wanted: &Wanted) -> anyhow::Result<Self> {
        if !config.clusters.contains_key(name) {
            let names = config.clusters.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(CliError::Usage(format!("no cluster is called {name:?}; there are: {names}")).into());
        }
        let cluster = open_cluster(config, name, "export").await?;
        // Kafka's own topics and kmirror's are in nobody's pattern; by name they can be had.
        let takes = |topic: &str, partition: i32| {
            picked.takes(topic, partition) && (!picked.partitions.is_empty() || !never_mirrored(topic))
        };
        let logs = live_logs(&cluster, &takes, wanted).await?;
        if logs.is_empty() {
            let words =
                format!("cluster {name}: no partition is meant by --topic and --partition, or none may be seen");
            return Err(CliError::Problems(words).into());
        }
        Ok(Self::Live(Box::new(cluster), logs))
    }

    fn offsets_due(&self, wanted: &Wanted) -> u64 {
        match self {
            Self::Archived(_, logs) => logs.iter().map(|log| offsets_due(log, wanted)).sum(),
            Self::Live(_, logs) => logs.iter().map(LiveLog::offsets_due).sum(),
        }
    }

    async fn export(&self, wanted: &Wanted, meter: &Meter, sink: &mut dyn Sink) -> Result<Vec<Exported>, BackupError> {
        let mut exported = Vec::new();
        match self {
            Self::Archived(segments, logs) => {
                for log in logs {
                    exported.push(export_archived(segments, log, wanted, meter, sink).await?);
                }
            }
            Self::Live(cluster, logs) => {
                for log in logs {
                    exported.push(export_live(cluster, log, wanted, meter, sink).await?);
                }
            }
        }
        Ok(exported)
    }
}

fn report(args: &ExportArgs, ctx: &Context, exported: &[Exported], files: &[PathBuf]) -> anyhow::Result<Exit> {
    let records: u64 = exported.iter().map(|log| log.records).sum();
    let exit = match exported.iter().any(|log| log.lost_offsets > 0) {
        true => Exit::Problems,
        false => Exit::Done,
    };
    // Where the records stand there nothing else may; the log has said what was lost.
    let Some(out) = &args.out else { return Ok(exit) };
    if ctx.json {
        output::json(&serde_json::json!({
            "schema_version": 1, "records": records, "partitions": exported, "files": files,
        }))?;
        return Ok(exit);
    }
    let mut text = format!("{} records written to {}", output::count(records.cast_signed()), out.display());
    if args.format == Format::Parquet {
        text.push_str(&format!(", {} files", output::count(files.len() as i64)));
    }
    text.push('\n');
    for log in exported.iter().filter(|log| log.lost_offsets > 0) {
        text.push_str(&format!(
            "LOST {}:{}: {} offsets were gone before they were read\n",
            log.topic,
            log.partition,
            output::count(log.lost_offsets)
        ));
    }
    output::print(&text)?;
    Ok(exit)
}

/// A reader that goes away (`| head`) is nothing wrong.
fn to_stdout(error: BackupError, args: &ExportArgs) -> anyhow::Error {
    match error {
        BackupError::Output(error) if args.out.is_none() => StdoutError(error).into(),
        other => other.into(),
    }
}
