//! One partition of a model broker: offsets, epochs, the high watermark, transactions, compaction, truncation.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kmirror::batch::{self, BatchHeader, RawBatch};

use super::producers::{Claim, Judgement, Producers};
use super::wire::{self, Head};

pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const INVALID_RECORD: i16 = 87;

/// A batch as it lies in the log.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
    /// Offset and identity of each record; empty for markers.
    pub(crate) records: Vec<(i64, u64)>,
    /// Of a marker: whether it commits.
    pub(crate) commits: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Aborted {
    producer_id: i64,
    first: i64,
    marker: i64,
}

/// What a fetch brings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slice {
    pub(crate) error: i16,
    pub(crate) diverging: Option<(i32, i64)>,
    pub(crate) start: i64,
    /// What a reader may reach: the last stable offset, or the high watermark.
    pub(crate) readable: i64,
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) bytes: Bytes,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// The base offset, and the high watermark that acks=all waits for.
    At {
        base: i64,
        needs: i64,
    },
    Refused(i16),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) high_watermark: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) batches: Vec<Stored>,
    /// Where each leader epoch began.
    epochs: BTreeMap<i32, i64>,
    producers: Producers,
    /// Producer id → first offset of its open transaction.
    open: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

impl Log {
    pub(crate) fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(i64::MAX).min(self.high_watermark)
    }

    pub(crate) fn replicate(&mut self, to: i64) {
        self.high_watermark = self.high_watermark.max(to.min(self.end));
    }

    fn place(&mut self, bytes: &Bytes, records: Vec<(i64, u64)>, commits: Option<bool>) -> i64 {
        let base = self.end;
        let bytes = wire::placed(bytes, base, self.leader_epoch);
        let header = BatchHeader::parse(&bytes).unwrap();
        self.epochs.entry(self.leader_epoch).or_insert(base);
        self.end = header.next_offset();
        self.batches.push(Stored { header, bytes, records, commits });
        base
    }

    /// A produce request from somebody else's bytes: everything is checked.
    pub(crate) fn produce(&mut self, bytes: &Bytes) -> Appended {
        let Ok(raw) = RawBatch::parse(bytes.clone()) else { return Appended::Refused(CORRUPT_MESSAGE) };
        let header = raw.header;
        if crc32c::crc32c(&bytes[21..]) != header.crc {
            return Appended::Refused(CORRUPT_MESSAGE);
        }
        if header.base_offset != 0 || header.is_control() || header.records_count != header.last_offset_delta + 1 {
            return Appended::Refused(INVALID_RECORD);
        }
        let claim = claim(&header);
        match self.producers.judge(&claim) {
            Judgement::Refuse(code) => return Appended::Refused(code),
            Judgement::Duplicate(base) => return Appended::At { base, needs: base + i64::from(claim.count) },
            Judgement::Append => {}
        }
        let records = self.identities(&raw);
        let base = self.place(bytes, records, None);
        self.producers.note(&claim, base);
        Appended::At { base, needs: self.end }
    }

    /// Values of eight bytes are identities of records; state records have none.
    fn identities(&self, raw: &RawBatch) -> Vec<(i64, u64)> {
        let records = batch::decode(raw, 1 << 20).unwrap();
        let id = |value: Option<Bytes>| value.and_then(|v| v[..].try_into().ok()).map_or(0, u64::from_be_bytes);
        records.into_iter().map(|r| (self.end + r.offset, id(r.value))).collect()
    }

    /// Records of the source's own producers: taken as they are.
    pub(crate) fn write(&mut self, ids: &[u64], producer: Option<i64>, timestamp_ms: i64) -> i64 {
        let records: Vec<(i64, u64)> = (self.end..).zip(ids.iter().copied()).collect();
        let head = Head {
            base_offset: self.end,
            last_offset: self.end + ids.len() as i64 - 1,
            leader_epoch: self.leader_epoch,
            timestamp_ms,
            producer: producer.map_or((-1, -1), |id| (id, 0)),
            sequence: -1,
            transactional: producer.is_some(),
            control: false,
        };
        if let Some(id) = producer {
            self.open.entry(id).or_insert(self.end);
        }
        self.place(&wire::data(&head, &records), records, None)
    }

    /// A transaction marker; `None` where a newer epoch of the producer refuses it.
    pub(crate) fn mark(&mut self, producer: (i64, i16), commit: bool, now_ms: i64) -> Option<i64> {
        if !self.producers.admits_marker(producer) {
            return None;
        }
        let head = Head {
            base_offset: self.end,
            last_offset: self.end,
            leader_epoch: self.leader_epoch,
            timestamp_ms: now_ms,
            producer,
            sequence: -1,
            transactional: true,
            control: true,
        };
        let marker = self.place(&wire::marker(&head, commit), Vec::new(), Some(commit));
        self.producers.note_marker(producer, now_ms);
        if let Some(first) = self.open.remove(&producer.0)
            && !commit
        {
            self.aborted.push(Aborted { producer_id: producer.0, first, marker });
        }
        Some(marker)
    }

    /// First offset of the producer's open transaction.
    pub(crate) fn open_from(&self, producer_id: i64) -> i64 {
        self.open.get(&producer_id).copied().unwrap_or(self.end)
    }

    pub(crate) fn open_transactions(&self) -> Vec<i64> {
        self.open.keys().copied().collect()
    }

    /// The largest leader epoch not above this one, and where it ends (`LeaderEpochFileCache.endOffsetFor`).
    fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        if epoch == self.leader_epoch {
            return Some((epoch, self.end));
        }
        let (_, end) = self.epochs.range(epoch + 1..).next()?;
        Some((self.epochs.range(..=epoch).next_back().map_or(epoch, |(known, _)| *known), *end))
    }

    /// A fetch of at most `batches` batches; `last_epoch` below 0 asks for no check.
    pub(crate) fn fetch(&self, offset: i64, last_epoch: i32, committed: bool, batches: usize) -> Slice {
        let readable = if committed { self.last_stable() } else { self.high_watermark };
        let mut slice = Slice { start: self.start, readable, ..Slice::default() };
        if last_epoch >= 0 {
            match self.epoch_end(last_epoch) {
                None => slice.error = OFFSET_OUT_OF_RANGE,
                Some((epoch, end)) if epoch < last_epoch || end < offset => slice.diverging = Some((epoch, end)),
                Some(_) => {}
            }
        }
        if offset < self.start || offset > self.end {
            slice.error = OFFSET_OUT_OF_RANGE;
        }
        if slice.error != 0 || slice.diverging.is_some() {
            return slice;
        }
        let wanted = |b: &&Stored| b.header.next_offset() > offset && b.header.next_offset() <= readable;
        let mut bytes = BytesMut::new();
        for stored in self.batches.iter().filter(wanted).take(batches) {
            bytes.extend_from_slice(&stored.bytes);
        }
        slice.bytes = bytes.freeze();
        let overlaps = |a: &&Aborted| a.marker >= offset && a.first < readable;
        if committed {
            slice.aborted = self.aborted.iter().filter(overlaps).map(|a| (a.producer_id, a.first)).collect();
        }
        slice
    }

    /// Forgets producers by the time of their records; says whether anybody was forgotten.
    pub(crate) fn sweep(&mut self, before_ms: i64) -> bool {
        self.producers.sweep(before_ms)
    }

    /// Another broker leads, whose log ends at `end`, between two batches: what this one had beyond is gone.
    pub(crate) fn elect(&mut self, end: i64) {
        self.batches.retain(|b| b.header.next_offset() <= end);
        self.end = self.end.min(end);
        self.high_watermark = self.high_watermark.min(self.end);
        self.leader_epoch += 1;
        self.epochs.retain(|_, start| *start < self.end);
        self.epochs.insert(self.leader_epoch, self.end);
        self.aborted.retain(|a| a.marker < self.end);
        self.remember();
    }

    /// A new leader knows of producers what its log says.
    fn remember(&mut self) {
        self.producers = Producers::default();
        self.open.clear();
        for stored in &self.batches {
            let header = &stored.header;
            if header.producer_id < 0 {
                continue;
            }
            if stored.commits.is_some() {
                self.producers.note_marker((header.producer_id, header.producer_epoch), header.max_timestamp);
                self.open.remove(&header.producer_id);
            } else if header.is_transactional() {
                self.open.entry(header.producer_id).or_insert(header.base_offset);
            } else {
                self.producers.note(&claim(header), header.base_offset);
            }
        }
    }

    /// Retention or DeleteRecords: whole batches below `start` go.
    pub(crate) fn delete_below(&mut self, start: i64) {
        self.start = self.start.max(start.min(self.high_watermark));
        self.batches.retain(|b| b.header.next_offset() > self.start);
        let kept = self.epochs.range(..).rev().find(|(_, at)| **at <= self.start).map(|(epoch, _)| *epoch);
        if let Some(kept) = kept {
            self.epochs.retain(|epoch, _| *epoch >= kept);
            self.epochs.insert(kept, self.start);
        }
        self.aborted.retain(|a| a.marker >= self.start);
    }

    /// Compaction: the records that `keep` refuses go, below the last stable offset. Batches keep their offsets; one
    /// without records stays as a mere header or goes altogether.
    pub(crate) fn compact(&mut self, mut keep: impl FnMut(i64) -> bool, mut keep_empty: impl FnMut() -> bool) {
        // The active segment is never cleaned.
        let Some(active) = self.batches.len().checked_sub(3).map(|at| self.batches[at].header.base_offset) else {
            return;
        };
        let below = self.last_stable().min(active);
        let mut kept = Vec::with_capacity(self.batches.len());
        for mut stored in std::mem::take(&mut self.batches) {
            let clean = stored.header.next_offset() <= below && stored.commits.is_none();
            let before = stored.records.len();
            if clean {
                stored.records.retain(|(offset, _)| keep(*offset));
            }
            if clean && stored.records.len() < before {
                if stored.records.is_empty() && !keep_empty() {
                    continue;
                }
                let header = stored.header;
                let head = Head {
                    base_offset: header.base_offset,
                    last_offset: header.last_offset(),
                    leader_epoch: header.partition_leader_epoch,
                    timestamp_ms: header.max_timestamp,
                    producer: (header.producer_id, header.producer_epoch),
                    sequence: header.base_sequence,
                    transactional: header.is_transactional(),
                    control: false,
                };
                stored.bytes = wire::data(&head, &stored.records);
                stored.header = BatchHeader::parse(&stored.bytes).unwrap();
            }
            kept.push(stored);
        }
        self.batches = kept;
    }
}

fn claim(header: &BatchHeader) -> Claim {
    Claim {
        producer: (header.producer_id, header.producer_epoch),
        first: header.base_sequence,
        count: header.records_count,
        timestamp_ms: header.max_timestamp,
    }
}
