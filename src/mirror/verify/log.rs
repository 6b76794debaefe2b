//! One side of the comparison: the batches that were read, and the one that is open at the moment.

use std::collections::VecDeque;

use crate::batch::{self, ControlType, RawBatch, Record};

use super::super::intake::Aborts;

/// What stands at a stretch of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// A batch; offsets without a record are holes that a cleaner left.
    Batch,
    /// No batch (any more).
    Gone,
    /// Below the start of the log: let go of.
    Deleted,
    /// A batch of an aborted transaction, or a marker: no reader under read_committed sees it.
    Unseen,
    /// A batch that cannot be opened, or fails its checksum.
    Damaged,
    /// Beyond the end of the log.
    BeyondEnd,
}

/// A batch as read, and whether readers see its records.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) batch: RawBatch,
    pub(super) seen: bool,
}

/// One side.
#[derive(Debug)]
pub(super) struct Log {
    batches: VecDeque<Held>,
    /// Records of the open batch that were not compared yet.
    records: VecDeque<Record>,
    cover: Cover,
    /// The offset up to which `cover` and `records` tell everything.
    covered_to: i64,
    /// The offset up to which everything was read.
    read_to: i64,
    /// First offset of the log; what lies below was let go of.
    pub(super) start: i64,
    /// End of the log: what lies beyond is not asked for.
    end: i64,
    decode_limit_bytes: usize,
    pub(super) bytes: u64,
}

impl Log {
    pub(super) fn new(start: i64, end: i64, decode_limit_bytes: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            records: VecDeque::new(),
            cover: Cover::Gone,
            covered_to: 0,
            read_to: 0,
            start,
            end,
            decode_limit_bytes,
            bytes: 0,
        }
    }

    /// Takes what a read from [`Self::wants`] brought; `aborted` are the producer ids and first offsets of aborted transactions in it.
    pub(super) fn take(&mut self, batches: Vec<RawBatch>, aborted: &[(i64, i64)]) {
        let mut aborts = Aborts::new(aborted);
        for batch in batches {
            let header = &batch.header;
            aborts.reach(header.last_offset());
            let is_aborted = header.is_transactional() && aborts.hold(header);
            // A marker that cannot be read may have ended it: what follows counts, and is compared.
            if header.is_control()
                && !matches!(batch::control_type(&batch), Ok(ControlType::Commit | ControlType::Other(_)))
            {
                aborts.end(header.producer_id);
            }
            if header.next_offset() <= self.read_to {
                continue;
            }
            self.read_to = header.next_offset();
            self.bytes += batch.bytes.len() as u64;
            let seen = !header.is_control() && !is_aborted;
            self.batches.push_back(Held { batch, seen });
        }
    }

    /// Goes to an offset further up; what lies between is not looked at.
    pub(super) fn seek(&mut self, at: i64) {
        self.read_to = self.read_to.max(at);
        while self.records.front().is_some_and(|record| record.offset < at) {
            self.records.pop_front();
        }
        while self.batches.front().is_some_and(|held| held.batch.header.next_offset() <= at) {
            self.batches.pop_front();
        }
    }

    /// The batch that begins right at this offset, if it is closed still.
    pub(super) fn whole_at(&mut self, at: i64) -> Option<&Held> {
        self.seek(at);
        if self.covered_to > at || at < self.start {
            return None;
        }
        self.batches.front().filter(|held| held.batch.header.base_offset == at)
    }

    /// Whether more must be read to tell what stands at this offset.
    pub(super) fn wants(&mut self, at: i64) -> Option<i64> {
        self.seek(at);
        let is_there = (self.start..self.end).contains(&at);
        (is_there && self.covered_to <= at && self.batches.is_empty() && self.read_to <= at).then_some(at)
    }

    /// Passes over the batch that [`Self::whole_at`] gave.
    pub(super) fn pass(&mut self) {
        if let Some(held) = self.batches.pop_front() {
            self.covered_to = held.batch.header.next_offset();
            self.cover = Cover::Batch;
        }
    }

    /// What stands at this offset, and up to where. Everything that [`Self::wants`] must have been read. True where a batch was
    /// opened for it.
    pub(super) fn open(&mut self, at: i64) -> (Cover, i64, bool) {
        self.seek(at);
        if self.covered_to > at {
            return (self.cover, self.covered_to, false);
        }
        self.records.clear();
        let mut opened = false;
        (self.cover, self.covered_to) = match self.batches.front().map(|held| held.batch.header.base_offset) {
            _ if at >= self.end => (Cover::BeyondEnd, i64::MAX),
            _ if at < self.start => (Cover::Deleted, self.start),
            None => (Cover::Gone, self.read_to.max(at + 1)),
            Some(base) if base > at => (Cover::Gone, base),
            Some(_) => {
                opened = true;
                self.open_next(at)
            }
        };
        (self.cover, self.covered_to, opened)
    }

    fn open_next(&mut self, at: i64) -> (Cover, i64) {
        let Some(held) = self.batches.pop_front() else { return (Cover::Gone, at + 1) };
        let to = held.batch.header.next_offset();
        // Only what is intact is believed to be a marker, or part of a transaction.
        if !held.seen && batch::check_crc(&held.batch).is_ok() {
            return (Cover::Unseen, to);
        }
        match batch::decode(&held.batch, self.decode_limit_bytes) {
            Ok(records) if held.seen => {
                self.records = records.into_iter().filter(|record| record.offset >= at).collect();
                (Cover::Batch, to)
            }
            _ => (Cover::Damaged, to),
        }
    }

    /// Offset of the next record of what is open.
    pub(super) fn next_record(&self) -> Option<i64> {
        self.records.front().map(|record| record.offset)
    }

    /// The record at this offset of what is open.
    pub(super) fn record(&mut self, at: i64) -> Option<Record> {
        if self.next_record() == Some(at) { self.records.pop_front() } else { None }
    }
}
