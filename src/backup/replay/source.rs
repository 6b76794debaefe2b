//! Records of an archive, those of all partitions together by their timestamps; within a partition in the order of the log.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;

use super::super::BackupError;
use super::super::chain::Log;
use super::super::export::{Wanted, is_aborted};
use super::super::fetch::{Opened, Segments, records_of};
use crate::batch::{RawBatch, Record};

/// One partition, from an offset to an offset.
#[derive(Debug)]
pub(super) struct Cursor {
    log: Log,
    /// Nothing in front of it is given any more.
    at: i64,
    to: i64,
    part: usize,
    opened: Option<Opened>,
    block: usize,
    batches: VecDeque<RawBatch>,
    records: VecDeque<Record>,
    /// Offsets that no copy has whole.
    lost: Vec<(i64, i64)>,
}

/// How a cursor reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) segments: &'a Segments,
    pub(super) wanted: &'a Wanted,
    pub(super) skip_damaged: bool,
    /// Bytes of batches that a partition holds at a time; one batch at least.
    pub(super) share_bytes: usize,
}

impl Cursor {
    pub(super) fn new(log: Log, at: i64, to: i64) -> Self {
        Self {
            log,
            at,
            to,
            part: 0,
            opened: None,
            block: 0,
            batches: VecDeque::new(),
            records: VecDeque::new(),
            lost: Vec::new(),
        }
    }

    /// Timestamp of the next record, read if need be; `None` at the end.
    async fn front(&mut self, reading: Reading<'_>) -> Result<Option<i64>, BackupError> {
        loop {
            if let Some(record) = self.records.front() {
                return Ok(Some(record.timestamp));
            }
            if let Some(batch) = self.batches.pop_front() {
                self.open(&batch, reading.wanted)?;
            } else if !self.next_block(reading).await? {
                return Ok(None);
            }
        }
    }

    fn open(&mut self, batch: &RawBatch, wanted: &Wanted) -> Result<(), BackupError> {
        let header = batch.header;
        if header.is_control() || (!wanted.with_aborted && is_aborted(&self.log, batch)) {
            self.at = self.at.max(header.next_offset());
            return Ok(());
        }
        let records = records_of(&self.log.id.to_string(), batch)?;
        let range = self.at..self.to;
        self.records.extend(records.into_iter().filter(|r| range.contains(&r.offset) && wanted.takes(r)));
        if self.records.is_empty() {
            self.at = self.at.max(header.next_offset());
        }
        Ok(())
    }

    /// As much of a block as is this partition's share; the rest is read again when its turn comes.
    fn hold(&mut self, number: usize, batches: Vec<RawBatch>, share_bytes: usize) {
        let (mut bytes, at, to) = (0, self.at, self.to);
        let is_wanted = |batch: &RawBatch| batch.header.next_offset() > at && batch.header.base_offset < to;
        let mut left = batches.into_iter().filter(is_wanted).peekable();
        while let Some(batch) = left.next_if(|batch| bytes == 0 || bytes + batch.bytes.len() <= share_bytes) {
            bytes += batch.bytes.len();
            self.batches.push_back(batch);
        }
        self.block = number + 1;
        if left.peek().is_some() {
            self.block = number;
            // A slice holds the whole block.
            for batch in &mut self.batches {
                batch.bytes = Bytes::copy_from_slice(&batch.bytes);
            }
        }
    }

    async fn next_block(&mut self, reading: Reading<'_>) -> Result<bool, BackupError> {
        while let Some(part) = self.log.segments.get(self.part).filter(|part| part.from < self.to) {
            if part.to <= self.at || reading.wanted.rules_out(part.from, part.to, part.max_timestamp_ms) {
                self.next_part();
                continue;
            }
            if self.opened.is_none() {
                match reading.segments.open(part).await {
                    Ok(opened) => self.opened = Some(opened),
                    Err(error) => {
                        self.lose(error, reading)?;
                        self.next_part();
                        continue;
                    }
                }
            }
            let place = self.opened.as_ref().and_then(|opened| Some((opened, opened.index.blocks.get(self.block)?)));
            let Some((opened, place)) = place else {
                self.next_part();
                continue;
            };
            let number = self.block;
            let is_out = place.next_offset <= self.at || place.first_offset >= self.to;
            if is_out || reading.wanted.rules_out(place.first_offset, place.next_offset, place.max_timestamp_ms) {
                self.block += 1;
                continue;
            }
            match reading.segments.batches(opened, number).await {
                Ok(batches) => {
                    self.hold(number, batches, reading.share_bytes);
                    return Ok(true);
                }
                Err(error) => {
                    self.lose(error, reading)?;
                    self.block += 1;
                }
            }
        }
        Ok(false)
    }

    fn next_part(&mut self) {
        self.part += 1;
        self.block = 0;
        self.opened = None;
    }

    /// Leaves out what no copy has whole, where that is wanted.
    fn lose(&mut self, error: BackupError, reading: Reading<'_>) -> Result<(), BackupError> {
        match error {
            BackupError::DamagedSegment { from, to, .. } if reading.skip_damaged => {
                let lost = (from.max(self.at), to.min(self.to));
                if lost.0 < lost.1 && !self.lost.contains(&lost) {
                    self.lost.push(lost);
                }
                Ok(())
            }
            other => Err(other),
        }
    }
}

/// All partitions together.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    reading: Reading<'a>,
    cursors: Vec<Cursor>,
    /// Whose next record has which timestamp, the oldest first.
    fronts: BinaryHeap<Reverse<(i64, usize)>>,
}

impl<'a> Merge<'a> {
    pub(super) async fn new(reading: Reading<'a>, cursors: Vec<Cursor>) -> Result<Self, BackupError> {
        let mut merge = Self { reading, cursors, fronts: BinaryHeap::new() };
        for at in 0..merge.cursors.len() {
            merge.line_up(at).await?;
        }
        Ok(merge)
    }

    async fn line_up(&mut self, at: usize) -> Result<(), BackupError> {
        if let Some(timestamp) = self.cursors[at].front(self.reading).await? {
            self.fronts.push(Reverse((timestamp, at)));
        }
        Ok(())
    }

    /// Timestamp of the next record; `None` at the end.
    pub(super) fn peek(&self) -> Option<i64> {
        self.fronts.peek().map(|Reverse((timestamp, _))| *timestamp)
    }

    /// The next record, and its partition.
    pub(super) async fn next(&mut self) -> Result<Option<(i32, Record)>, BackupError> {
        let Some(Reverse((_, at))) = self.fronts.pop() else { return Ok(None) };
        let cursor = &mut self.cursors[at];
        let partition = cursor.log.id.partition;
        let Some(record) = cursor.records.pop_front() else { return Ok(None) };
        cursor.at = record.offset + 1;
        self.line_up(at).await?;
        Ok(Some((partition, record)))
    }

    /// What was left out because no copy has it whole, by partition.
    pub(super) fn lost(&self) -> impl Iterator<Item = (i32, (i64, i64))> {
        let of = |cursor: &Cursor| {
            let partition = cursor.log.id.partition;
            cursor.lost.clone().into_iter().map(move |lost| (partition, lost))
        };
        self.cursors.iter().flat_map(of)
    }
}
