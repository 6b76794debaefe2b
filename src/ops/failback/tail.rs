//! The divergent tail: records that the old source accepted and that never reached the standby.

use std::io::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::batch::Record;
use crate::client::{Cluster, TopicPartition};
use crate::engine::EngineError;
use crate::mirror::Isolation;

use super::super::records::{Shortfall, Stretch};
use super::seed::partitions_of;
use super::{Ends, FailbackReport, Stage, control_of};
use crate::config::MirrorConfig;

/// A range of the old source's log, and how many records count in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TailRange {
    /// First offset.
    pub from: i64,
    /// Offset after the last.
    pub to: i64,
    /// Records that a read_committed reader gets.
    pub records: u64,
    /// What of the range does not count, or cannot be had.
    pub shortfall: Shortfall,
}

impl TailRange {
    /// Whether the old source has, or had, anything alone.
    pub fn is_any(&self) -> bool {
        self.records > 0 || self.shortfall.is_any()
    }
}

/// Counts what is there, from where the logs part.
pub(super) async fn count(
    cluster: &Cluster,
    tp: &TopicPartition,
    isolation: Isolation,
    parted: i64,
    (start, to): (i64, i64),
) -> Result<TailRange, EngineError> {
    let from = parted.max(start);
    let (records, mut shortfall) = Stretch::new(cluster, tp, isolation, (from, to)).count().await?;
    shortfall.deleted_offsets += from.min(to.max(parted)) - parted;
    Ok(TailRange { from, to: to.max(from), records, shortfall })
}

/// Where the divergent tail of a partition lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Topic on the old source.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First offset, and the one after the last.
    pub range: (i64, i64),
}

/// The tails that a survey has found.
pub fn tails_of(report: &FailbackReport) -> Vec<Tail> {
    let with_tail = report.partitions.iter().filter(|partition| partition.tail.is_any());
    let tail = |partition: &super::FailbackPartition| Tail {
        topic: partition.topic.clone(),
        partition: partition.partition,
        range: (partition.tail.from, partition.tail.to),
    };
    with_tail.map(tail).collect()
}

/// The tails wherever the way home has come to: once it has begun, records from the standby stand behind them, and where they lie is
/// on record.
pub async fn tails(mirror: &MirrorConfig, stage: Stage, ends: Ends<'_>) -> Result<Vec<Tail>, EngineError> {
    if stage == Stage::Promoted {
        return Ok(tails_of(&super::survey(mirror, ends).await?));
    }
    let home = control_of(&mirror.reversed(), ends.old).await?;
    let tail = |(topic, partition, range): (&str, i32, (i64, i64))| Tail { topic: topic.to_owned(), partition, range };
    Ok(home.new_divergent().map(tail).collect())
}

/// What an export has written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Exported {
    /// Records.
    pub records: u64,
    /// What is not among them, by partition.
    pub shortfalls: Vec<String>,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The old source.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is written to.
    #[error("cannot write the export")]
    Io(#[from] std::io::Error),
}

/// Writes every divergent record as one JSON object a line: `topic`, `partition`, `offset`, `timestamp_ms`, `key`, `value`,
/// `headers` (a list of `[name, value]`). Bytes that are UTF-8 stand as text, others as `{"base64": …}`.
pub async fn export(
    tails: &[Tail],
    old: &Cluster,
    isolation: Isolation,
    out: &mut (dyn Write + Send),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    for (tp, tail) in located(old, tails).await? {
        let mut stretch = Stretch::new(old, &tp, isolation, tail.range);
        while let Some(records) = stretch.next().await? {
            for record in &records {
                serde_json::to_writer(&mut *out, &line(&tp.topic, tp.partition, record))
                    .map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
                exported.records += 1;
            }
        }
        exported.shortfalls.extend(stretch.shortfall.words().map(|words| format!("{tp}: {words}")));
    }
    out.flush()?;
    Ok(exported)
}

/// The partitions of the old source with their tails; one that is gone again has none.
pub(super) async fn located<'a>(
    old: &Cluster,
    tails: &'a [Tail],
) -> Result<Vec<(TopicPartition, &'a Tail)>, EngineError> {
    let names: std::collections::BTreeSet<&str> = tails.iter().map(|tail| tail.topic.as_str()).collect();
    let there = partitions_of(old, &names.into_iter().collect::<Vec<_>>()).await?;
    let tp = |tail: &Tail| there.get(&(tail.topic.clone(), tail.partition)).cloned();
    Ok(tails.iter().filter_map(|tail| Some((tp(tail)?, tail))).collect())
}

/// A record as a line of JSON.
pub(crate) fn line(topic: &str, partition: i32, record: &Record) -> Value {
    let headers = record.headers.iter().map(|(name, value)| json!([text(Some(name)), text(value.as_ref())]));
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": text(record.key.as_ref()),
        "value": text(record.value.as_ref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

fn text(bytes: Option<&bytes::Bytes>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Object(Map::from_iter([("base64".to_owned(), Value::from(BASE64_STANDARD.encode(bytes)))])),
    }
}
