//! Idempotence: what one partition remembers of each producer.
//!
//! The rules are those measured on Kafka 4.3.1 and 3.9.1 and read in `ProducerStateManager`, `ProducerAppendInfo` and
//! `ProducerStateEntry`. Omitted: verification of transactional writes by the partition leader lives in `produce`.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::ResponseError;

use super::marker::Marker;
use crate::batch::BatchHeader;

/// Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`.
const BATCHES_REMEMBERED: usize = 5;

/// One appended batch, as the duplicate check needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SequenceRange {
    /// Sequence of the first record.
    pub(super) first_sequence: i32,
    /// Sequence of the last record.
    pub(super) last_sequence: i32,
    /// Offset of the first record.
    pub(super) first_offset: i64,
    /// Largest timestamp in the batch, ms.
    pub(super) timestamp_ms: i64,
}

/// What the partition knows of one producer id.
#[derive(Debug, Clone)]
pub(super) struct ProducerEntry {
    /// Newest epoch seen, from data or from a marker.
    pub(super) epoch: i16,
    /// The newest batches of that epoch, oldest first.
    pub(super) batches: VecDeque<SequenceRange>,
    /// First offset of the open transaction.
    pub(super) txn_first_offset: Option<i64>,
    /// Coordinator epoch of the newest marker; −1 when none came.
    pub(super) coordinator_epoch: i32,
    /// Timestamp of the newest batch or marker, ms: expiry goes by it.
    pub(super) last_timestamp_ms: i64,
}

impl ProducerEntry {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
            txn_first_offset: None,
            coordinator_epoch: -1,
            last_timestamp_ms: -1,
        }
    }

    /// Sequence of the newest record of this epoch; −1 when it has written none.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |range| range.last_sequence)
    }
}

/// What the table says to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceCheck {
    /// Append it.
    Append,
    /// One of the last five: answer what was answered then, append nothing.
    Duplicate(SequenceRange),
}

/// All producers of one partition, by producer id.
#[derive(Debug, Clone, Default)]
pub(super) struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
}

/// `base + delta` in the ring of sequences, which wraps at 2^31 (Kafka's `DefaultRecordBatch.incrementSequence`).
pub(super) fn add_sequence(base: i32, delta: i32) -> i32 {
    ((i64::from(base) + i64::from(delta)) & i64::from(i32::MAX)) as i32
}

impl Producers {
    /// Whether this batch may be appended. The batch must carry a producer id and have passed validation.
    pub(super) fn check(&self, batch: &BatchHeader) -> Result<SequenceCheck, ResponseError> {
        let Some(entry) = self.entries.get(&batch.producer_id) else {
            return Ok(SequenceCheck::Append);
        };
        if let Some(range) = entry.duplicate_of(batch) {
            return Ok(SequenceCheck::Duplicate(range));
        }
        if batch.producer_epoch < entry.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if batch.producer_epoch > entry.epoch {
            if batch.base_sequence != 0 {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
        } else if batch.base_sequence != add_sequence(entry.last_sequence(), 1) {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        if entry.txn_first_offset.is_some() && !batch.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(SequenceCheck::Append)
    }

    /// Notes an appended data batch (its header as stored, with its final offset). Returns the first offset of the
    /// transaction that it opened, if it opened one.
    pub(super) fn record(&mut self, batch: &BatchHeader) -> Option<i64> {
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| ProducerEntry::new(batch.producer_epoch));
        if entry.epoch != batch.producer_epoch {
            entry.epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == BATCHES_REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(SequenceRange {
            first_sequence: batch.base_sequence,
            last_sequence: add_sequence(batch.base_sequence, batch.last_offset_delta),
            first_offset: batch.base_offset,
            timestamp_ms: batch.max_timestamp,
        });
        entry.last_timestamp_ms = batch.max_timestamp;
        if batch.is_transactional() && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(batch.base_offset);
            return Some(batch.base_offset);
        }
        None
    }

    /// Whether a marker may be written: an older epoch is refused, as with data, and so is an older coordinator.
    pub(super) fn check_marker(&self, marker: &Marker) -> Result<(), ResponseError> {
        match self.entries.get(&marker.producer_id) {
            Some(entry) if marker.producer_epoch < entry.epoch => Err(ResponseError::InvalidProducerEpoch),
            Some(entry) if marker.coordinator_epoch < entry.coordinator_epoch => {
                Err(ResponseError::TransactionCoordinatorFenced)
            }
            _ => Ok(()),
        }
    }

    /// Notes a transaction marker and closes the open transaction; returns the first offset of that.
    pub(super) fn record_marker(&mut self, marker: &BatchHeader, coordinator_epoch: i32) -> Option<i64> {
        let entry = self.entries.entry(marker.producer_id).or_insert_with(|| ProducerEntry::new(marker.producer_epoch));
        if entry.epoch != marker.producer_epoch {
            entry.epoch = marker.producer_epoch;
            entry.batches.clear();
        }
        entry.coordinator_epoch = coordinator_epoch;
        entry.last_timestamp_ms = marker.max_timestamp;
        entry.txn_first_offset.take()
    }

    /// All producers, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &ProducerEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// One producer.
    pub(super) fn get(&self, producer_id: i64) -> Option<&ProducerEntry> {
        self.entries.get(&producer_id)
    }

    /// Forgets producers without an open transaction whose newest batch is older than `before_ms`: Kafka expires by
    /// *record* time (`ProducerStateManager.isProducerExpired`).
    pub(super) fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.txn_first_offset.is_some() || entry.last_timestamp_ms >= before_ms);
    }
}

impl ProducerEntry {
    fn duplicate_of(&self, batch: &BatchHeader) -> Option<SequenceRange> {
        if batch.producer_epoch != self.epoch {
            return None;
        }
        let last = add_sequence(batch.base_sequence, batch.last_offset_delta);
        self.batches
            .iter()
            .find(|range| range.first_sequence == batch.base_sequence && range.last_sequence == last)
            .copied()
    }
}
