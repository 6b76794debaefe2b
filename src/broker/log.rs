//! The log of one partition: batches as they lie on a broker's disk, with offsets, watermark, epochs and producers.
//!
//! Omitted: segments and indexes (every lookup is a binary search over batches), followers (the watermark follows the
//! end at once unless a test holds it).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::backed::{self, Backing};
use super::epochs::Epochs;
use super::marker;
use super::producers::{Producers, SequenceCheck, SequenceRange};
use super::stamp::{Stamp, stamp};
use super::validate::Accepted;
use crate::batch::{BatchHeader, Batches, RawBatch};

/// A transaction that ended in an ABORT marker (Kafka's `AbortedTxn`, one entry of the transaction index).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AbortedTxn {
    /// Whose.
    pub(super) producer_id: i64,
    /// First offset of the transaction in this partition.
    pub(super) first_offset: i64,
    /// Offset of the marker.
    pub(super) last_offset: i64,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// Written, from this offset.
    New {
        /// Offset of the first record.
        base_offset: i64,
    },
    /// The producer table knew the batch; nothing written.
    Duplicate(SequenceRange),
}

/// The log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Batches by offset.
    pub(super) batches: VecDeque<RawBatch>,
    /// First offset that may be read.
    pub(super) start_offset: i64,
    /// Offset of the next record.
    pub(super) end_offset: i64,
    /// What consumers see ends here.
    pub(super) high_watermark: i64,
    /// A test holds the watermark.
    held: bool,
    /// Bytes of all batches.
    pub(super) size_bytes: u64,
    /// Leader epochs.
    pub(super) epochs: Epochs,
    /// Producers.
    pub(super) producers: Producers,
    /// What is read, in place of `batches`: then nothing is written.
    pub(super) backing: Option<Arc<dyn Backing>>,
    /// What is produced is counted and not kept.
    pub(super) forgets: bool,
    open_txns: BTreeMap<i64, i64>,
    aborted: Vec<AbortedTxn>,
    /// Ended transactions (first offset, marker offset) that the watermark has not passed yet.
    unreplicated_txns: Vec<(i64, i64)>,
}

impl Log {
    /// A log whose batches lie elsewhere, all of them replicated and decided.
    pub(super) fn backed(
        backing: Arc<dyn Backing>,
        (start_offset, end_offset): (i64, i64),
        epochs: Epochs,
        aborted: Vec<AbortedTxn>,
    ) -> Self {
        let (backing, high_watermark) = (Some(backing), end_offset);
        Self { start_offset, end_offset, high_watermark, epochs, backing, aborted, ..Self::default() }
    }

    /// Whether the batches lie elsewhere.
    pub(super) fn is_backed(&self) -> bool {
        self.backing.is_some()
    }

    /// A log whose batches lie elsewhere is there to be read.
    pub(super) fn writable(&self) -> Result<(), ResponseError> {
        if self.is_backed() { Err(ResponseError::PolicyViolation) } else { Ok(()) }
    }

    /// Appends a validated data batch under this leader epoch.
    pub(super) fn append(
        &mut self,
        accepted: &Accepted,
        leader_epoch: i32,
        log_append_time_ms: Option<i64>,
    ) -> Result<Appended, ResponseError> {
        let header = &accepted.batch.header;
        if header.producer_id >= 0
            && let SequenceCheck::Duplicate(range) = self.producers.check(header)?
        {
            return Ok(Appended::Duplicate(range));
        }
        let base_offset = self.end_offset;
        let max_timestamp = log_append_time_ms.unwrap_or(accepted.max_timestamp);
        let log_append_time = log_append_time_ms.is_some();
        let batch = stamp(&accepted.batch, &Stamp { base_offset, leader_epoch, log_append_time, max_timestamp });
        if header.producer_id >= 0
            && let Some(first_offset) = self.producers.record(&batch.header)
        {
            self.open_txns.insert(first_offset, header.producer_id);
        }
        self.push(batch);
        Ok(Appended::New { base_offset })
    }

    /// Appends a transaction marker.
    pub(super) fn append_marker(
        &mut self,
        marker: &marker::Marker,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<i64, ResponseError> {
        self.writable()?;
        self.producers.check_marker(marker)?;
        let offset = self.end_offset;
        let batch = marker::encode(marker, offset, leader_epoch, now_ms);
        self.note_marker(&batch.header, marker.commit, marker.coordinator_epoch);
        self.push(batch);
        Ok(offset)
    }

    fn note_marker(&mut self, header: &BatchHeader, commit: bool, coordinator_epoch: i32) {
        let Some(first_offset) = self.producers.record_marker(header, coordinator_epoch) else { return };
        let last_offset = header.base_offset;
        self.open_txns.remove(&first_offset);
        self.unreplicated_txns.push((first_offset, last_offset));
        if !commit {
            self.aborted.push(AbortedTxn { producer_id: header.producer_id, first_offset, last_offset });
        }
    }

    fn push(&mut self, batch: RawBatch) {
        self.end_offset = batch.header.next_offset();
        self.size_bytes += batch.bytes.len() as u64;
        self.batches.push_back(batch);
        if !self.held {
            self.advance_watermark(self.end_offset);
        }
    }

    fn advance_watermark(&mut self, offset: i64) {
        self.high_watermark = offset;
        self.unreplicated_txns.retain(|&(_, marker)| marker >= offset);
    }

    /// Holds the watermark at this offset (at most the end) until released.
    pub(super) fn hold_watermark(&mut self, offset: i64) {
        self.held = true;
        self.high_watermark = offset.clamp(self.start_offset, self.end_offset);
    }

    /// Lets the watermark follow the end again.
    pub(super) fn release_watermark(&mut self) {
        self.held = false;
        self.advance_watermark(self.end_offset);
    }

    /// Readers with read_committed see up to here: the first open or unreplicated transaction, at most the watermark.
    pub(super) fn last_stable_offset(&self) -> i64 {
        let open = self.open_txns.keys().next().copied();
        let unreplicated = self.unreplicated_txns.iter().map(|&(first, _)| first).min();
        open.into_iter().chain(unreplicated).fold(self.high_watermark, i64::min)
    }

    /// Index of the first batch that ends at or after this offset.
    pub(super) fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.header.last_offset() < offset)
    }

    /// Batches from the one that holds `offset` up to `bound`, at most `max_bytes`: the last one may be cut short. The
    /// first one comes whole in spite of the limit when `at_least_one`; else nothing comes when it does not fit (KIP-74).
    /// Whether anything is to be had is for whoever brings the batches to say, where they lie elsewhere.
    pub(super) fn read(
        &self,
        (offset, bound): (i64, i64),
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ResponseError> {
        match &self.backing {
            Some(backing) => backed::read(&**backing, (offset, bound), max_bytes, at_least_one),
            None => Ok(self.read_stored(offset, bound, max_bytes, at_least_one)),
        }
    }

    fn read_stored(&self, offset: i64, bound: i64, max_bytes: usize, at_least_one: bool) -> Bytes {
        let from = self.index_of(offset);
        let mut chosen = Vec::new();
        let mut total = 0usize;
        for batch in self.batches.range(from..) {
            if batch.header.next_offset() > bound || (total >= max_bytes && !chosen.is_empty()) {
                break;
            }
            chosen.push(batch);
            total += batch.bytes.len();
        }
        let Some(first) = chosen.first() else { return Bytes::new() };
        let first_len = first.bytes.len();
        if first_len > max_bytes && !at_least_one {
            return Bytes::new();
        }
        let limit = total.min(max_bytes.max(first_len));
        if chosen.len() == 1 {
            return first.bytes.slice(..limit.min(first_len));
        }
        let mut out = BytesMut::with_capacity(limit);
        for batch in chosen {
            let room = limit - out.len();
            out.extend_from_slice(&batch.bytes[..room.min(batch.bytes.len())]);
        }
        out.freeze()
    }

    /// Aborted transactions that touch `[from, to)`, in the order in which they ended, as Kafka's index has them.
    pub(super) fn aborted_between(&self, from: i64, to: i64) -> Vec<AbortedTxn> {
        self.aborted.iter().filter(|txn| txn.last_offset >= from && txn.first_offset < to).copied().collect()
    }

    /// Those that touch what [`Log::read`] returned for this offset, as far as its batches are whole.
    pub(super) fn aborted_in(&self, offset: i64, records: &Bytes) -> Vec<AbortedTxn> {
        if self.aborted.is_empty() {
            return Vec::new();
        }
        let whole = Batches::new(records.clone()).map_while(Result::ok);
        let to = whole.last().map_or(offset, |batch| batch.header.next_offset());
        self.aborted_between(offset, to)
    }

    /// Deletes everything before this offset; batches that reach beyond it stay whole.
    pub(super) fn delete_before(&mut self, offset: i64) {
        if offset <= self.start_offset {
            return;
        }
        self.start_offset = offset.min(self.end_offset);
        while self.batches.front().is_some_and(|batch| batch.header.last_offset() < self.start_offset) {
            self.drop_front();
        }
        self.epochs.truncate_before(self.start_offset);
        self.aborted.retain(|txn| txn.last_offset >= self.start_offset);
    }

    /// Size retention: drops whole batches from the front while more than this many bytes remain.
    pub(super) fn retain_bytes(&mut self, max_bytes: u64) {
        let mut dropped = None;
        let mut size = self.size_bytes;
        for batch in &self.batches {
            let next = batch.header.next_offset();
            if size <= max_bytes || next > self.high_watermark || next == self.end_offset {
                break;
            }
            size -= batch.bytes.len() as u64;
            dropped = Some(next);
        }
        if let Some(offset) = dropped {
            self.delete_before(offset);
        }
    }

    /// Time retention: drops whole batches from the front while their newest record is older than this.
    pub(super) fn retain_since(&mut self, since_ms: i64) {
        let old = |batch: &&RawBatch| {
            batch.header.max_timestamp < since_ms && batch.header.next_offset() <= self.high_watermark
        };
        let offset = self.batches.iter().take_while(old).last().map(|batch| batch.header.next_offset());
        if let Some(offset) = offset {
            self.delete_before(offset);
        }
    }

    /// Puts a batch behind the end as it is. Kafka has no such thing; only the offsets must go up.
    pub(super) fn place(&mut self, batch: RawBatch) -> Result<(), ResponseError> {
        self.writable()?;
        let header = batch.header;
        if header.base_offset < self.end_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        if header.partition_leader_epoch > self.epochs.latest().unwrap_or(-1) {
            self.epochs.assign(header.partition_leader_epoch, header.base_offset);
        }
        if header.is_control() {
            let (commit, coordinator_epoch) = marker::decode(&batch).unwrap_or((false, -1));
            self.note_marker(&header, commit, coordinator_epoch);
        } else if header.producer_id >= 0
            && let Some(first_offset) = self.producers.record(&header)
        {
            self.open_txns.insert(first_offset, header.producer_id);
        }
        self.push(batch);
        Ok(())
    }

    /// What the cleaner left. Offsets, epochs and producers stay as they are.
    pub(super) fn replace_batches(&mut self, batches: VecDeque<RawBatch>) {
        self.size_bytes = batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        self.batches = batches;
    }

    fn drop_front(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.size_bytes -= batch.bytes.len() as u64;
        }
    }

    /// Cuts the end back to at most this offset, at a batch boundary, and rebuilds what derives from batches.
    pub(super) fn truncate(&mut self, offset: i64) {
        while self.batches.back().is_some_and(|batch| batch.header.last_offset() >= offset) {
            if let Some(batch) = self.batches.pop_back() {
                self.size_bytes -= batch.bytes.len() as u64;
                self.end_offset = batch.header.base_offset;
            }
        }
        self.end_offset = self.end_offset.min(offset.max(self.start_offset));
        self.high_watermark = self.high_watermark.min(self.end_offset);
        self.epochs.truncate_from(self.end_offset);
        self.aborted.retain(|txn| txn.last_offset < self.end_offset);
        self.unreplicated_txns.retain(|&(_, marker)| marker < self.end_offset);
        self.rebuild_producers();
    }

    fn rebuild_producers(&mut self) {
        self.producers = Producers::default();
        self.open_txns.clear();
        for batch in &self.batches {
            let header = &batch.header;
            if header.producer_id < 0 {
                continue;
            }
            if header.is_control() {
                let coordinator_epoch = marker::decode(batch).map_or(-1, |(_, epoch)| epoch);
                if let Some(first) = self.producers.record_marker(header, coordinator_epoch) {
                    self.open_txns.remove(&first);
                }
            } else if let Some(first) = self.producers.record(header) {
                self.open_txns.insert(first, header.producer_id);
            }
        }
    }

    /// Forgets producers whose newest record is older than `before_ms`.
    pub(super) fn expire_producers(&mut self, before_ms: i64) {
        self.producers.expire(before_ms);
    }
}
