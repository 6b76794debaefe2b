//! Records of an archive, those of all partitions together by their timestamps; within a partition in the order of the log.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::BackupError;
use super::super::chain::Log;
use super::super::export::{Wanted, is_aborted};
use super::super::fetch::{Opened, Segments};
use crate::batch::{RawBatch, Record, decode};

/// Caps what one compressed batch may unfold to.
const DECODE_LIMIT_BYTES: usize = 256 << 20;

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
    held_bytes: usize,
    /// Offsets that no copy has whole.
    lost: Vec<(i64, i64)>,
}

/// How a cursor reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) segments: &'a Segments,
    pub(super) wanted: &'a Wanted,
    pub(super) skip_damaged: bool,
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
            held_bytes: 0,
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
        let is_out = header.next_offset() <= self.at || header.base_offset >= self.to;
        if is_out || header.is_control() || (!wanted.with_aborted && is_aborted(&self.log, batch)) {
            return Ok(());
        }
        let records = decode(batch, DECODE_LIMIT_BYTES).map_err(|error| BackupError::DamagedSegment {
            object: self.log.id.to_string(),
            from: header.base_offset,
            to: header.next_offset(),
            detail: error.to_string(),
        })?;
        let range = self.at..self.to;
        self.records.extend(records.into_iter().filter(|r| range.contains(&r.offset) && wanted.takes(r)));
        let waiting: usize = self.batches.iter().map(|batch| batch.bytes.len()).sum();
        self.held_bytes = waiting + self.records.iter().map(bytes_of).sum::<usize>();
        Ok(())
    }

    async fn next_block(&mut self, reading: Reading<'_>) -> Result<bool, BackupError> {
        self.held_bytes = 0;
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
            self.block += 1;
            let is_out = place.next_offset <= self.at || place.first_offset >= self.to;
            if is_out || reading.wanted.rules_out(place.first_offset, place.next_offset, place.max_timestamp_ms) {
                continue;
            }
            match reading.segments.batches(opened, number).await {
                Ok(batches) => {
                    self.held_bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
                    self.batches = batches.into();
                    return Ok(true);
                }
                Err(error) => self.lose(error, reading)?,
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

    /// Lets go of what it holds; it is read again when its turn comes.
    fn put_aside(&mut self) {
        self.batches.clear();
        self.records.clear();
        self.held_bytes = 0;
        // Blocks in front of `at` are passed over without being read.
        self.block = 0;
    }
}

fn bytes_of(record: &Record) -> usize {
    let text = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + text(value)).sum();
    text(&record.key) + text(&record.value) + headers + size_of::<Record>()
}

/// All partitions together.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    reading: Reading<'a>,
    cursors: Vec<Cursor>,
    /// Whose next record has which timestamp, the oldest first.
    fronts: BinaryHeap<Reverse<(i64, usize)>>,
    /// Bytes that are held at a time: who is last in turn is put aside.
    limit_bytes: usize,
}

impl<'a> Merge<'a> {
    pub(super) async fn new(
        reading: Reading<'a>,
        cursors: Vec<Cursor>,
        limit_bytes: usize,
    ) -> Result<Self, BackupError> {
        let mut merge = Self { reading, cursors, fronts: BinaryHeap::new(), limit_bytes };
        for at in 0..merge.cursors.len() {
            merge.line_up(at).await?;
        }
        Ok(merge)
    }

    async fn line_up(&mut self, at: usize) -> Result<(), BackupError> {
        let is_read = self.cursors[at].records.is_empty();
        if let Some(timestamp) = self.cursors[at].front(self.reading).await? {
            self.fronts.push(Reverse((timestamp, at)));
            if is_read {
                self.keep_within(at);
            }
        }
        Ok(())
    }

    /// Puts aside who is last in turn until the rest is within the limit.
    fn keep_within(&mut self, but: usize) {
        let mut held: usize = self.cursors.iter().map(|cursor| cursor.held_bytes).sum();
        if held <= self.limit_bytes {
            return;
        }
        let mut last: Vec<(i64, usize)> = self.fronts.iter().map(|Reverse(front)| *front).collect();
        last.sort_unstable();
        while let Some((_, at)) = last.pop().filter(|_| held > self.limit_bytes) {
            if at != but {
                held -= self.cursors[at].held_bytes;
                self.cursors[at].put_aside();
            }
        }
    }

    /// Timestamp of the next record; `None` at the end.
    pub(super) fn peek(&self) -> Option<i64> {
        self.fronts.peek().map(|Reverse((timestamp, _))| *timestamp)
    }

    /// The next record, and its partition.
    pub(super) async fn next(&mut self) -> Result<Option<(i32, Record)>, BackupError> {
        let Some(Reverse((_, at))) = self.fronts.pop() else { return Ok(None) };
        let cursor = &mut self.cursors[at];
        // It may have been put aside.
        cursor.front(self.reading).await?;
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
