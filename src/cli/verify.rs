//! `kmirror verify`: whether source and target hold the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;

use super::args::TopicPartition;
use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::engine::connect_mirror;
use crate::mirror::verify::{Kind, Problem};
use crate::ops::{Found, VerifiedPartition, VerifyOptions, VerifyReport, verify};

/// Options of `verify`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Reads both sides of every partition up to what is mirrored now, also while the mirror runs, and compares them by the offset \
map. A batch that was passed through as it is is compared by its header and by the checksum of its payload, and not \
decompressed; every other record by key, value, headers and timestamp. What one side does not hold any more (retention, \
compaction) is listed with the reason, and counts neither as equal nor as a problem; what the target let go of although its retention has no \
reason to is missing (deleted_on_target). Nothing is changed.

Exit code 3 where a record differs, is missing, or stands on the target alone, each range with its first record; 4 where a \
partition cannot be reached.

Examples:
  kmirror verify -c standby.yaml --mirror dr
  kmirror verify -c standby.yaml --mirror dr --topic orders --bytes
  kmirror verify -c standby.yaml --mirror dr --partition orders:3 --partition orders:4 --json
  kmirror verify -c standby.yaml --mirror dr --sample 20 --seed 7 --parallel 8")]
pub struct VerifyArgs {
    /// Only this topic, by its name on the source; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// Only this partition, by its name on the source; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION")]
    pub partition: Vec<TopicPartition>,
    /// Compare this many stretches of 500 offsets of each partition, and its beginning, its end and both sides of breaks of the map
    #[arg(long, value_name = "STRETCHES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub sample: Option<u32>,
    /// Which stretches: the same number chooses the same ones
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Compare payloads byte for byte, not by their checksums alone
    #[arg(long)]
    pub bytes: bool,
    /// Partitions compared side by side; each takes up to 8 MiB, more where batches must be opened
    #[arg(long, value_name = "PARTITIONS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
}

/// Compares.
///
/// # Errors
/// What kept it from reading.
pub async fn run(args: VerifyArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    let (source, target) = connect_mirror(&config, mirror).await?;
    let topics = args.topic.into_iter().map(|topic| (topic, None));
    let partitions = args.partition.into_iter().map(|tp| (tp.topic, Some(tp.partition)));
    let options = VerifyOptions {
        only: topics.chain(partitions).collect(),
        sample: args.sample.map(|count| count as usize),
        seed: args.seed,
        bytes: args.bytes,
        trust_retention: true,
        parallel: usize::from(args.parallel),
        progress: Arc::default(),
    };
    let walked = &options.progress;
    let progress = || (walked.done.load(Ordering::Relaxed), walked.total.load(Ordering::Relaxed));
    let report = output::watched("comparing", progress, verify(mirror, &source, &target, &options)).await?;
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(match &report {
        report if report.has_problems() => Exit::Problems,
        report if report.is_unreachable() => Exit::Unreachable,
        _ => Exit::Done,
    })
}

fn page(report: &VerifyReport) -> String {
    if report.partitions.is_empty() && report.not_mirrored.is_empty() && report.damaged_shards.is_empty() {
        return format!("mirror {} has mirrored nothing yet: there is nothing to compare\n", report.mirror);
    }
    let header = [
        "PARTITION",
        "RESULT",
        "SOURCE OFFSETS",
        "EQUAL",
        "DIFFERING",
        "MISSING",
        "EXTRA",
        "IN GAPS",
        "NOT COMPARABLE",
        "BATCHES BY CRC",
        "BY RECORD",
        "BYTES READ",
    ];
    let right = [3, 4, 5, 6, 7, 8, 9, 10, 11];
    let mut text = output::table(&header, &right, report.partitions.iter().map(cells));
    for partition in &report.partitions {
        remarks(partition, &mut text);
    }
    for (shard, why) in &report.damaged_shards {
        text.push_str(&format!("\nNOT COMPARED: the partitions of shard {shard}: {why}\n"));
    }
    if !report.not_mirrored.is_empty() {
        text.push_str(&format!("\nnot mirrored yet: {}\n", report.not_mirrored.join(", ")));
    }
    let equal = number(report.equal());
    text.push_str(&match report.sample {
        None => format!("\n{equal} records are the same on both sides\n"),
        Some(_) => format!("\n{equal} records of the sample are the same on both sides (seed {})\n", report.seed),
    });
    text
}

fn remarks(partition: &VerifiedPartition, text: &mut String) {
    let name = format!("{}:{}", partition.topic, partition.partition);
    let tally = &partition.tally;
    for problem in &tally.problems {
        text.push_str(&format!("\nPROBLEM {name}: {}\n", in_words(problem)));
    }
    let more = tally.problem_ranges.saturating_sub(tally.problems.len() as u64);
    if more > 0 {
        text.push_str(&format!("\nPROBLEM {name}: {} more ranges\n", number(more)));
    }
    for (reason, count) in &tally.not_comparable_by_reason {
        let ranges = tally.not_comparable_ranges.iter().filter(|span| span.reason == *reason);
        let first =
            ranges.clone().next().map_or_else(String::new, |span| format!(", first [{}, {})", span.from, span.to));
        text.push_str(&format!("\nNOT COMPARABLE {name}: {} offsets, {}{first}\n", number(*count), snake(reason)));
    }
    if let Some(detail) = &partition.detail {
        let what = if partition.result == Found::Failed { "NOT COMPARED" } else { "NOTE" };
        text.push_str(&format!("\n{what} {name}: {detail}\n"));
    }
}

/// A problem without the contents of records, which may be nobody's business here.
fn in_words(problem: &Problem) -> String {
    let (from, to) = (problem.from, problem.to);
    let what: Vec<String> = problem.what.iter().map(snake).collect();
    let offset = |offset: Option<i64>| offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
    let first = format!(
        "first at source offset {}, target offset {}: {}",
        offset(problem.source_offset),
        offset(problem.target_offset),
        what.join(", ")
    );
    match problem.kind {
        Kind::Differing => format!("source offsets [{from}, {to}) differ; {first}"),
        Kind::Missing => format!("source offsets [{from}, {to}) are missing on the target; {first}"),
        Kind::Extra => format!("target offsets [{from}, {to}) are on the target alone; {first}"),
    }
}

/// The name that `--json` has for it.
fn snake<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(count: u64) -> String {
    output::count(i64::try_from(count).unwrap_or(i64::MAX))
}

fn cells(partition: &VerifiedPartition) -> Vec<String> {
    let tally = &partition.tally;
    let result = match partition.result {
        Found::Equal => "equal",
        Found::Problems => "PROBLEMS",
        Found::NothingToCompare => "nothing to compare",
        Found::Failed => "FAILED",
    };
    let mut cells = vec![
        format!("{}:{}", partition.topic, partition.partition),
        result.to_owned(),
        format!("[{}, {})", partition.from, partition.to),
    ];
    let counts = [tally.equal, tally.differing, tally.missing, tally.extra, tally.in_gaps, tally.not_comparable];
    let batches = [tally.batches_by_crc, tally.batches_by_record, tally.source_bytes + tally.target_bytes];
    cells.extend(counts.into_iter().chain(batches).map(number));
    cells
}
