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

use super::super::records::Stretch;
use super::FailbackReport;
use super::seed::partitions_of;

/// A range of the old source's log, and how many records count in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TailRange {
    /// First offset.
    pub from: i64,
    /// Offset after the last.
    pub to: i64,
    /// Records that a read_committed reader gets.
    pub records: u64,
}

/// Counts what is there.
pub(super) async fn count(
    cluster: &Cluster,
    tp: &TopicPartition,
    isolation: Isolation,
    (from, to): (i64, i64),
) -> Result<TailRange, EngineError> {
    let mut stretch = Stretch::new(cluster, tp, isolation, (from, to));
    let mut records = 0;
    while let Some(some) = stretch.next().await? {
        records += some.len() as u64;
    }
    Ok(TailRange { from, to: to.max(from), records })
}

/// What an export has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Exported {
    /// Records.
    pub records: u64,
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
    report: &FailbackReport,
    old: &Cluster,
    isolation: Isolation,
    out: &mut (dyn Write + Send),
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let with_tail = || report.partitions.iter().filter(|partition| partition.tail.records > 0);
    let names: std::collections::BTreeSet<&str> = with_tail().map(|partition| partition.topic.as_str()).collect();
    let there = partitions_of(old, &names.into_iter().collect::<Vec<_>>()).await?;
    for partition in with_tail() {
        let Some(tp) = there.get(&(partition.topic.clone(), partition.partition)) else { continue };
        let mut stretch = Stretch::new(old, tp, isolation, (partition.tail.from, partition.tail.to));
        while let Some(records) = stretch.next().await? {
            for record in &records {
                serde_json::to_writer(&mut *out, &line(tp, record)).map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
                exported.records += 1;
            }
        }
    }
    out.flush()?;
    Ok(exported)
}

fn line(tp: &TopicPartition, record: &Record) -> Value {
    let headers = record.headers.iter().map(|(name, value)| json!([text(Some(name)), text(value.as_ref())]));
    json!({
        "topic": tp.topic,
        "partition": tp.partition,
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
