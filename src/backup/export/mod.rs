//! Records for others, from an archive or straight from a live topic: as lines of JSON, or as Parquet.

mod archived;
mod lines;
mod live;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(all(test, feature = "parquet"))]
mod tests;
mod whole;

use std::path::PathBuf;

use bytes::Bytes;

use super::BackupError;
use crate::batch::{BatchHeader, Record};

pub(super) use archived::is_aborted;
pub use archived::{export, offsets_due};
pub use lines::Lines;
pub use live::{LiveLog, export_live, live_logs};
#[cfg(feature = "parquet")]
pub use parquet::{PART_BYTES, ParquetFolder, ROW_GROUP_BYTES};

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Not older than this, ms.
    pub since_ms: Option<i64>,
    /// Older than this, ms.
    pub until_ms: Option<i64>,
    /// From this offset on.
    pub from: Option<i64>,
    /// In front of this offset.
    pub to: Option<i64>,
    /// With this key.
    pub key: Option<Bytes>,
    /// Those of aborted transactions as well, and those of open ones.
    pub with_aborted: bool,
}

impl Wanted {
    pub(super) fn takes(&self, record: &Record) -> bool {
        self.since_ms.is_none_or(|since| record.timestamp >= since)
            && self.until_ms.is_none_or(|until| record.timestamp < until)
            && self.from.is_none_or(|from| record.offset >= from)
            && self.to.is_none_or(|to| record.offset < to)
            && self.key.as_ref().is_none_or(|key| record.key.as_ref() == Some(key))
    }

    /// Whether offsets and newest timestamp of a stretch rule all of it out.
    pub(super) fn rules_out(&self, first: i64, next: i64, max_timestamp_ms: i64) -> bool {
        self.since_ms.is_some_and(|since| max_timestamp_ms < since)
            || self.from.is_some_and(|from| next <= from)
            || self.to.is_some_and(|to| first >= to)
    }
}

/// A record, and what is known of where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Header of its batch.
    pub header: &'a BatchHeader,
    /// The record.
    pub record: &'a Record,
}

/// Where records go.
pub trait Sink: Send {
    /// Takes a record. Those of one log come one after the other.
    ///
    /// # Errors
    /// It cannot be written.
    fn put(&mut self, row: &Row<'_>) -> Result<(), BackupError>;

    /// A log is through: what follows is of another one.
    ///
    /// # Errors
    /// What was put cannot be written.
    fn end_log(&mut self) -> Result<(), BackupError> {
        Ok(())
    }

    /// All is through. Files get their names here at the latest; gives them.
    ///
    /// # Errors
    /// What was put cannot be written.
    fn finish(self: Box<Self>) -> Result<Vec<PathBuf>, BackupError>;
}

/// What was written of a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset that was looked at.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
    /// Records that were written.
    pub records: u64,
    /// Offsets that were gone before they were read.
    pub lost_offsets: i64,
    /// Offsets behind `to` in transactions that were not decided yet, and behind those.
    pub undecided_offsets: i64,
}
