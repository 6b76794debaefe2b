//! Both logs of a partition, record by record, for the aligner.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use bytes::{BufMut as _, BytesMut};

use crate::batch::{self, RawBatch, Record};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, nothing_below_end, read_log};
use crate::engine::EngineError;
use crate::mirror::{FetchedRecords, GapReason, Intake, Isolation, Ready, SourceRecord, TargetRecord};

/// Caps what one compressed batch may unfold to.
const DECODE_LIMIT_BYTES: usize = 64 << 20;

fn options(committed: bool) -> ReadOptions {
    ReadOptions { max_bytes: 4 << 20, max_wait_ms: 0, committed, ..ReadOptions::default() }
}

/// What a record says. Offsets are left out: they differ on both sides.
fn print(keys: &RandomState, record: &Record) -> u64 {
    keys.hash_one((record.timestamp, &record.key, &record.value, &record.headers))
}

/// The source, as a mirror reads it.
pub(super) struct SourceLog<'a> {
    cluster: &'a Cluster,
    tp: &'a TopicPartition,
    intake: Intake,
    committed: bool,
    end: i64,
    keys: RandomState,
    ready: VecDeque<SourceRecord>,
}

impl<'a> SourceLog<'a> {
    /// Reads from `from` up to `end`.
    pub(super) fn new(
        cluster: &'a Cluster,
        tp: &'a TopicPartition,
        isolation: Isolation,
        (from, end): (i64, i64),
        keys: RandomState,
    ) -> Self {
        let intake = Intake::new(from, None, isolation, DECODE_LIMIT_BYTES);
        let committed = isolation == Isolation::ReadCommitted;
        Self { cluster, tp, intake, committed, end, keys, ready: VecDeque::new() }
    }

    /// The next record that counts.
    pub(super) async fn next(&mut self) -> Result<Option<SourceRecord>, EngineError> {
        while self.ready.is_empty() {
            let at = self.intake.next();
            if at >= self.end {
                return Ok(None);
            }
            let slice = read_log(self.cluster, self.tp, at, options(self.committed)).await?;
            let mut records = BytesMut::new();
            slice.batches.iter().for_each(|batch| records.put_slice(&batch.bytes));
            let fetched = FetchedRecords { aborted: slice.aborted, records: records.freeze() };
            let (batches, halt) = self.intake.take(&fetched);
            for batch in batches {
                self.open(&batch).map_err(|error| unreadable(self.cluster, self.tp, at, error))?;
            }
            // What a mirror cannot copy is not on the target.
            match halt.and_then(|halt| halt.range) {
                Some((from, to)) => self.intake.give_up(from, to, GapReason::Corrupt),
                None if self.intake.next() == at => return Err(nothing_below_end(self.cluster, self.tp).into()),
                None => {}
            }
        }
        Ok(self.ready.pop_front())
    }

    fn open(&mut self, batch: &Ready) -> Result<(), batch::BatchError> {
        let mut bytes = BytesMut::with_capacity(batch.bytes());
        bytes.put_slice(&batch.header.to_bytes());
        bytes.put_slice(&batch.payload);
        let records = batch::decode(&RawBatch::parse(bytes.freeze())?, DECODE_LIMIT_BYTES)?;
        let mut records = records.iter();
        for run in &batch.runs {
            for (nth, record) in (0_i64..i64::from(run.count)).zip(records.by_ref()) {
                self.ready.push_back(SourceRecord {
                    offset: run.source + nth,
                    print: print(&self.keys, record),
                    leader_epoch: batch.leader_epoch,
                    gaps: if nth == 0 { run.gaps.clone() } else { Vec::new() },
                });
            }
        }
        Ok(())
    }
}

/// The target below an offset.
pub(super) struct TargetLog<'a> {
    cluster: &'a Cluster,
    tp: &'a TopicPartition,
    at: i64,
    end: i64,
    keys: RandomState,
    ready: VecDeque<TargetRecord>,
    behind_marker: bool,
}

impl<'a> TargetLog<'a> {
    /// Reads from `from` up to `end`.
    pub(super) fn new(
        cluster: &'a Cluster,
        tp: &'a TopicPartition,
        (from, end): (i64, i64),
        keys: RandomState,
    ) -> Self {
        Self { cluster, tp, at: from, end, keys, ready: VecDeque::new(), behind_marker: false }
    }

    /// How far it was read.
    pub(super) fn at(&self) -> i64 {
        self.at
    }

    /// The next data record.
    pub(super) async fn next(&mut self) -> Result<Option<TargetRecord>, EngineError> {
        while self.ready.is_empty() && self.at < self.end {
            let from = self.at;
            let slice = read_log(self.cluster, self.tp, from, options(false)).await?;
            for batch in slice.batches.iter().filter(|batch| batch.header.next_offset() > from) {
                self.at = batch.header.next_offset();
                if batch.header.is_control() || batch.header.base_offset >= self.end {
                    self.behind_marker = true;
                    continue;
                }
                let records = batch::decode(batch, DECODE_LIMIT_BYTES)
                    .map_err(|error| unreadable(self.cluster, self.tp, batch.header.base_offset, error))?;
                let (writer, writer_epoch) = (batch.header.producer_id, batch.header.producer_epoch);
                let within = records.iter().filter(|record| (from..self.end).contains(&record.offset));
                for record in within {
                    self.ready.push_back(TargetRecord {
                        offset: record.offset,
                        print: print(&self.keys, record),
                        writer,
                        writer_epoch,
                        behind_marker: std::mem::take(&mut self.behind_marker),
                    });
                }
            }
            if self.at == from {
                return Err(nothing_below_end(self.cluster, self.tp).into());
            }
        }
        Ok(self.ready.pop_front())
    }
}

fn unreadable(cluster: &Cluster, tp: &TopicPartition, offset: i64, source: batch::BatchError) -> EngineError {
    ReadError::Batch { cluster: cluster.name().to_owned(), subject: tp.to_string(), offset, source }.into()
}
