//! An archive's logs as the embedded broker reads them: blocks are brought when they are asked for, a little ahead, and given up
//! once they were read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};

use super::BackupError;
use super::cut::Cut;
use super::fetch::{Opened, Segments};
use super::manifest::SegmentPart;
use super::segment::BLOCK_BYTES;
use crate::batch::RawBatch;
use crate::broker::{BackedRead, Backing, Waker};

/// Bytes that all logs hold together, about, where the configured memory is not more.
const HELD_BYTES_MIN: usize = 48 << 20;
/// Where more logs are read at a time than blocks can be held, less of each is; no less than this.
const PIECE_BYTES_MIN: usize = 64 << 10;
/// Blocks that are brought side by side.
const BRING_AT_ONCE: usize = 8;

/// Brings blocks for all logs of a restore.
#[derive(Debug)]
pub(super) struct Shelf {
    held: Mutex<Held>,
    asks: mpsc::UnboundedSender<Ask>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    limit_bytes: usize,
    /// Oldest first.
    order: VecDeque<(usize, i64)>,
    logs: HashMap<usize, LogHeld>,
    /// What could not be brought, by log.
    failed: HashMap<usize, BackupError>,
}

#[derive(Debug, Default)]
struct LogHeld {
    blocks: VecDeque<Block>,
    /// Offsets that were asked for and have not come yet.
    asked: Vec<i64>,
}

/// Batches of one block, as far as they count.
#[derive(Debug, Clone)]
struct Block {
    first: i64,
    /// The next block begins at or behind this.
    next: i64,
    batches: Vec<RawBatch>,
    bytes: usize,
}

#[derive(Debug)]
struct Ask {
    log: usize,
    offset: i64,
}

/// What is served of a log.
#[derive(Debug, Clone)]
pub(super) struct ServedLog {
    /// Its segments, by offset.
    pub(super) segments: Vec<SegmentPart>,
    /// What is known to be damaged and is left out, as if compaction had removed it.
    pub(super) lost: Vec<(i64, i64)>,
    /// First offset that is served.
    pub(super) from: i64,
    /// Where it is cut.
    pub(super) cut: Cut,
}

/// One log of the shelf.
#[derive(Debug)]
pub(super) struct ShelfLog {
    shelf: Arc<Shelf>,
    log: usize,
    segments: Arc<Vec<SegmentPart>>,
    from: i64,
}

impl Shelf {
    /// Begins to bring blocks of these logs; gives one backing a log, in order. Ends once nobody holds a backing.
    pub(super) fn open(
        segments: Segments,
        logs: Vec<ServedLog>,
        memory_bytes: usize,
        waker: Waker,
    ) -> (Arc<Self>, Vec<Arc<ShelfLog>>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let held = Held { limit_bytes: memory_bytes.max(HELD_BYTES_MIN), ..Held::default() };
        let shelf = Arc::new(Self { held: Mutex::new(held), asks });
        let backings = logs.iter().enumerate().map(|(log, served)| {
            let segments = Arc::new(served.segments.clone());
            Arc::new(ShelfLog { shelf: Arc::clone(&shelf), log, segments, from: served.from })
        });
        let backings = backings.collect();
        let bringer = Bringer { segments, logs, opened: Mutex::new(HashMap::new()) };
        tokio::spawn(bring_all(Arc::downgrade(&shelf), Arc::new(bringer), asked, waker));
        (shelf, backings)
    }

    /// What could not be brought, if anything: whoever restores gives up with it.
    pub(super) fn failure(&self) -> Option<String> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.failed.values().next().map(ToString::to_string)
    }
}

async fn bring_all(
    shelf: std::sync::Weak<Shelf>,
    bringer: Arc<Bringer>,
    mut asked: mpsc::UnboundedReceiver<Ask>,
    waker: Waker,
) {
    let permits = Arc::new(Semaphore::new(BRING_AT_ONCE));
    while let Some(ask) = asked.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (shelf, bringer, waker) = (shelf.clone(), Arc::clone(&bringer), waker.clone());
        tokio::spawn(async move {
            let brought = bringer.bring(&ask).await;
            let Some(shelf) = shelf.upgrade() else { return };
            shelf.put(&ask, brought);
            waker.wake();
            drop(permit);
        });
    }
}

impl Shelf {
    fn put(&self, ask: &Ask, brought: Result<Option<Block>, BackupError>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = &mut *held;
        let log = held.logs.entry(ask.log).or_default();
        log.asked.retain(|offset| *offset != ask.offset);
        match brought {
            Ok(Some(block)) => {
                if log.blocks.iter().any(|other| other.first == block.first) {
                    return;
                }
                let block = block.cut_to(ask.offset, held.piece_bytes());
                let Some(log) = held.logs.get_mut(&ask.log) else { return };
                held.bytes += block.bytes;
                held.order.push_back((ask.log, block.first));
                let at = log.blocks.partition_point(|other| other.first < block.first);
                log.blocks.insert(at, block);
                held.give_up(ask.log);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the archive cannot be read here");
                held.failed.insert(ask.log, error);
            }
        }
    }
}

impl Held {
    /// What of a block is held, so that each log that is read at the time has something to read: the oldest would go unread otherwise.
    fn piece_bytes(&self) -> usize {
        let active = self.logs.values().filter(|log| !log.blocks.is_empty() || !log.asked.is_empty()).count();
        if active.saturating_mul(BLOCK_BYTES) <= self.limit_bytes {
            return usize::MAX;
        }
        (self.limit_bytes / active.max(1) / 2).max(PIECE_BYTES_MIN)
    }

    /// Whether there is room to bring blocks before they are asked for.
    fn has_room(&self) -> bool {
        self.bytes < self.limit_bytes / 2
    }

    /// While more is held than should be, the oldest goes: it is brought again if it is asked for. Not what has just come.
    fn give_up(&mut self, just_come: usize) {
        while self.bytes > self.limit_bytes && self.order.len() > 1 {
            let Some((log, first)) = self.order.pop_front() else { return };
            if log == just_come && self.order.is_empty() {
                self.order.push_front((log, first));
                return;
            }
            self.drop_block(log, first);
        }
    }

    fn drop_block(&mut self, log: usize, first: i64) {
        let Some(held) = self.logs.get_mut(&log) else { return };
        if let Some(at) = held.blocks.iter().position(|block| block.first == first)
            && let Some(block) = held.blocks.remove(at)
        {
            self.bytes -= block.bytes;
        }
    }
}

impl ShelfLog {
    fn ask(&self, held: &mut LogHeld, offset: i64) {
        if !held.asked.contains(&offset) {
            held.asked.push(offset);
            // Where nobody listens any more the process is about to end.
            let _ = self.shelf.asks.send(Ask { log: self.log, offset });
        }
    }
}

impl Backing for ShelfLog {
    fn read(&self, offset: i64, bound: i64, max_bytes: usize) -> BackedRead {
        let mut held = self.shelf.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.failed.contains_key(&self.log) {
            return BackedRead::Failed;
        }
        let read_through: Vec<i64> = held.logs.get(&self.log).map_or_else(Vec::new, |log| {
            log.blocks.iter().filter(|block| block.next <= offset).map(|block| block.first).collect()
        });
        for first in read_through {
            held.drop_block(self.log, first);
            held.order.retain(|place| *place != (self.log, first));
        }
        let has_room = held.has_room();
        let log = held.logs.entry(self.log).or_default();
        let Some(at) = log.blocks.iter().position(|block| block.first <= offset && offset < block.next) else {
            self.ask(log, offset);
            return BackedRead::Pending;
        };
        let block = log.blocks[at].clone();
        if has_room && block.next < bound && !log.blocks.iter().any(|other| other.first == block.next) {
            self.ask(log, block.next);
        }
        drop(held);
        let bytes = block.from(offset, bound, max_bytes);
        if bytes.is_empty() { BackedRead::Nothing } else { BackedRead::Bytes(bytes) }
    }

    /// By segment: its first offset that is served, and the least timestamp of its batches.
    fn offset_for_time(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        let segment = self.segments.iter().find(|segment| segment.max_timestamp_ms >= timestamp_ms)?;
        Some((segment.from.max(self.from), segment.min_timestamp_ms))
    }
}

impl Block {
    /// The batches of it that hold an offset or stand behind it, as far as they have so many bytes together; one at least.
    fn cut_to(self, offset: i64, bytes: usize) -> Self {
        if self.bytes <= bytes {
            return self;
        }
        let mut kept: Vec<RawBatch> = Vec::new();
        let (mut kept_bytes, mut next) = (0, self.next);
        for batch in self.batches.into_iter().filter(|batch| batch.header.next_offset() > offset) {
            if !kept.is_empty() && kept_bytes + batch.bytes.len() > bytes {
                next = batch.header.base_offset;
                break;
            }
            kept_bytes += batch.bytes.len();
            // A copy, for what is left of the block is not held on to.
            kept.push(RawBatch { bytes: Bytes::copy_from_slice(&batch.bytes), ..batch });
        }
        Self { first: self.first.max(offset), next, batches: kept, bytes: kept_bytes }
    }

    fn from(&self, offset: i64, bound: i64, max_bytes: usize) -> Bytes {
        let counts = |batch: &&RawBatch| batch.header.next_offset() > offset && batch.header.base_offset < bound;
        let mut out = BytesMut::new();
        let mut chosen = self.batches.iter().filter(counts).peekable();
        if let Some(first) = chosen.next() {
            if chosen.peek().is_none() || first.bytes.len() >= max_bytes {
                return first.bytes.clone();
            }
            out.extend_from_slice(&first.bytes);
            for batch in chosen {
                if out.len() >= max_bytes {
                    break;
                }
                out.extend_from_slice(&batch.bytes);
            }
        }
        out.freeze()
    }
}

/// Knows where blocks are.
#[derive(Debug)]
struct Bringer {
    segments: Segments,
    logs: Vec<ServedLog>,
    /// The segment that each log is at.
    opened: Mutex<HashMap<usize, Arc<Opened>>>,
}

impl Bringer {
    /// The block that holds an offset, or the first behind it: a stretch without batches is part of the block that follows.
    async fn bring(&self, ask: &Ask) -> Result<Option<Block>, BackupError> {
        let Some(log) = self.logs.get(ask.log) else { return Ok(None) };
        let mut offset = ask.offset;
        loop {
            let at = log.segments.partition_point(|segment| segment.to <= offset);
            let Some(part) = log.segments.get(at) else { return Ok(None) };
            match self.read(ask.log, part, offset).await {
                Ok(block) => return Ok(Some(Block { first: ask.offset.min(block.first), ..block })),
                Err(error) => offset = behind(log, part, offset, error)?,
            }
        }
    }

    async fn read(&self, number: usize, part: &SegmentPart, offset: i64) -> Result<Block, BackupError> {
        let log = &self.logs[number];
        let opened = self.opened(number, part).await?;
        let Some(number) = opened.index.block_at(offset.max(part.from)) else {
            return Err(BackupError::DamagedSegment {
                object: part.object.clone(),
                from: offset,
                to: part.to,
                detail: "no block holds these offsets".to_owned(),
            });
        };
        let place = opened.index.blocks[number];
        let batches = self.segments.batches(&opened, number).await?;
        let batches = log.cut.apply(batches).map_err(|error| BackupError::DamagedSegment {
            object: part.object.clone(),
            from: place.first_offset,
            to: place.next_offset,
            detail: error.to_string(),
        })?;
        let bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
        Ok(Block { first: place.first_offset, next: place.next_offset, batches, bytes })
    }

    async fn opened(&self, log: usize, part: &SegmentPart) -> Result<Arc<Opened>, BackupError> {
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&log).cloned();
        if let Some(opened) = known.filter(|opened| opened.object() == part.object) {
            return Ok(opened);
        }
        let opened = Arc::new(self.segments.open(part).await?);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(log, Arc::clone(&opened));
        Ok(opened)
    }
}

/// The offset behind what could not be read, where it is known to be lost.
fn behind(log: &ServedLog, part: &SegmentPart, offset: i64, error: BackupError) -> Result<i64, BackupError> {
    let (from, to) = match &error {
        BackupError::DamagedSegment { from, to, .. } => (*from, *to),
        _ if error.is_of_this_copy() => (part.from, part.to),
        _ => return Err(error),
    };
    let is_known = log.lost.iter().any(|lost| lost.0 <= from.max(offset) && to <= lost.1);
    if is_known && to > offset { Ok(to) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Codec, Record, Stamp, encode};

    fn block(first: i64, batches: i64, value_bytes: usize) -> Block {
        let batch = |offset: i64| {
            let record = Record {
                offset,
                timestamp: 0,
                attributes: 0,
                key: None,
                value: Some(vec![7; value_bytes].into()),
                headers: Vec::new(),
            };
            let mut bytes = encode(&[record], Codec::None, Stamp::NONE).unwrap().bytes.to_vec();
            bytes[..8].copy_from_slice(&offset.to_be_bytes());
            RawBatch::parse(bytes.into()).unwrap()
        };
        let batches: Vec<RawBatch> = (first..first + batches).map(batch).collect();
        let bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
        Block { first, next: batches.last().map_or(first, |batch| batch.header.next_offset()), batches, bytes }
    }

    #[test]
    fn a_block_is_cut_to_whole_batches_from_the_offset_on() {
        let whole = block(10, 10, 1000);
        assert_eq!(whole.clone().cut_to(13, usize::MAX).batches.len(), 10);
        let one = whole.batches[0].bytes.len();
        for (at, bytes, batches, next) in
            [(10, 3 * one, 3, 13), (13, 3 * one + 1, 3, 16), (19, 2 * one, 1, 20), (12, 1, 1, 13)]
        {
            let cut = whole.clone().cut_to(at, bytes);
            assert_eq!((cut.first, cut.next, cut.batches.len(), cut.bytes), (at, next, batches, batches * one));
            assert_eq!(cut.from(at, 100, usize::MAX).len(), batches * one);
        }
    }

    /// Far more logs than blocks that can be held: each that has asked finds its piece when it comes to read.
    #[test]
    fn many_logs_are_read_without_bringing_anything_twice() {
        const LOGS: usize = 200;
        let (asks, _asked) = mpsc::unbounded_channel();
        let held = Held { limit_bytes: HELD_BYTES_MIN, ..Held::default() };
        let shelf = Arc::new(Shelf { held: Mutex::new(held), asks });
        let log = |log| ShelfLog { shelf: Arc::clone(&shelf), log, segments: Arc::default(), from: 0 };
        let logs: Vec<ShelfLog> = (0..LOGS).map(log).collect();
        let is_there = |log: &ShelfLog| matches!(log.read(0, 1000, 1 << 20), BackedRead::Bytes(_));
        assert!(logs.iter().all(|log| !is_there(log)));
        for number in 0..LOGS {
            shelf.put(&Ask { log: number, offset: 0 }, Ok(Some(block(0, 10, 100 << 10))));
        }
        assert!(shelf.held.lock().unwrap().bytes <= HELD_BYTES_MIN);
        assert!(logs.iter().all(is_there));
    }
}
