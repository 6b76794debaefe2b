//! What is to be written to a partition, offset by offset: batches of consecutive records, and the offsets between them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::BackupError;
use super::super::fetch::DECODE_LIMIT_BYTES;
use crate::batch::{BatchError, BatchHeader, RawBatch, Stamp, decode, encode};
use crate::client::{Cluster, ReadOptions, TopicPartition, read_log};
use crate::mirror::{FetchedRecords, Intake, Isolation, Ready};

/// Answers without a batch, a tenth of a second each, before the archive is said to be silent.
const SILENT_MAX: u32 = 300;

/// The next of it.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// No record has the offsets in front of this one: a transaction's marker had them, or what was aborted, compacted or lost.
    Gap { to: i64 },
    /// Records without a gap between them.
    Batch(Batch),
}

/// Records without a gap between them, as they go to the target but for the producer's stamp.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// Offset of the first, on the source and on the target.
    pub(super) at: i64,
    /// The header; says how many there are.
    pub(super) header: BatchHeader,
    /// The records section.
    pub(super) payload: Bytes,
}

impl Batch {
    /// Records in it.
    pub(super) fn count(&self) -> i64 {
        i64::from(self.header.records_count)
    }

    /// Offset behind its last record.
    pub(super) fn end(&self) -> i64 {
        self.at + self.count()
    }
}

/// Reads a partition of the archive, which is served as a cluster.
pub(super) struct Pieces {
    backup: String,
    source: Cluster,
    tp: TopicPartition,
    isolation: Isolation,
    intake: Intake,
    /// Everything in front of this was handed out or is ready.
    at: i64,
    to: i64,
    ready: VecDeque<Piece>,
}

impl Pieces {
    pub(super) fn new(
        backup: &str,
        source: &Cluster,
        tp: &TopicPartition,
        isolation: Isolation,
        (from, to): (i64, i64),
    ) -> Self {
        Self {
            backup: backup.to_owned(),
            source: source.clone(),
            tp: tp.clone(),
            isolation,
            intake: Intake::new(from, None, isolation, DECODE_LIMIT_BYTES),
            at: from,
            to,
            ready: VecDeque::new(),
        }
    }

    /// The next piece; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, BackupError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.intake.next() >= self.to {
                // What is left holds no record.
                self.gap_up_to(self.to);
                return Ok(self.ready.pop_front());
            }
            self.read().await?;
        }
    }

    fn gap_up_to(&mut self, to: i64) {
        if to > self.at {
            self.ready.push_back(Piece::Gap { to });
            self.at = to;
        }
    }

    async fn read(&mut self) -> Result<(), BackupError> {
        let committed = self.isolation == Isolation::ReadCommitted;
        let options = ReadOptions { committed, ..ReadOptions::default() };
        for _ in 0..SILENT_MAX {
            let slice = read_log(&self.source, &self.tp, self.intake.next(), options)
                .await
                .map_err(|error| BackupError::NotThere { backup: self.backup.clone(), detail: error.to_string() })?;
            if slice.batches.is_empty() {
                continue;
            }
            let mut records = BytesMut::with_capacity(slice.batches.iter().map(|batch| batch.bytes.len()).sum());
            slice.batches.iter().for_each(|batch| records.extend_from_slice(&batch.bytes));
            let fetched = FetchedRecords { aborted: slice.aborted, records: records.freeze() };
            let (ready, halt) = self.intake.take(&fetched);
            for ready in ready {
                self.put(&ready).map_err(|error| self.unreadable(&error.to_string()))?;
            }
            return halt.map_or(Ok(()), |halt| Err(self.unreadable(&halt.to_string())));
        }
        Err(self.unreadable("the archive has nothing here and does not end here"))
    }

    fn unreadable(&self, detail: &str) -> BackupError {
        let detail = format!("{} from offset {}: {detail}", self.tp, self.intake.next());
        BackupError::NotThere { backup: self.backup.clone(), detail }
    }

    fn put(&mut self, ready: &Ready) -> Result<(), BatchError> {
        if let [run] = ready.runs.as_slice() {
            self.gap_up_to(run.source);
            self.put_batch(Batch { at: run.source, header: ready.header, payload: ready.payload.clone() });
            return Ok(());
        }
        // Between its records offsets are missing, and none can be missing within a batch that a producer sends: one for each run.
        let mut bytes = ready.header.to_bytes().to_vec();
        bytes.extend_from_slice(&ready.payload);
        let mut records = decode(&RawBatch::parse(bytes.into())?, DECODE_LIMIT_BYTES)?.into_iter();
        for run in &ready.runs {
            let mut some: Vec<_> = records.by_ref().take(run.count as usize).collect();
            (0..).zip(&mut some).for_each(|(offset, record)| record.offset = offset);
            let made = encode(&some, ready.header.codec()?, Stamp::NONE)?;
            self.gap_up_to(run.source);
            self.put_batch(Batch { at: run.source, header: made.header, payload: made.payload() });
        }
        Ok(())
    }

    fn put_batch(&mut self, batch: Batch) {
        self.at = batch.end();
        self.ready.push_back(Piece::Batch(batch));
    }
}
