//! From fetched bytes to batches that can be appended: which batches pass raw, which must be re-encoded, and which
//! source offsets have no counterpart on the target, with the reason.
//!
//! Follows Kafka's `CompletedFetch`: aborted transactions sorted by first offset, dropped batch by batch, an ABORT
//! marker ends one; the next offset is the last offset of a batch plus one, also when the batch is empty.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::batch::{
    self, BatchError, BatchHeader, Batches, Codec, ControlType, HEADER_LEN, LOG_OVERHEAD, Passage, RawBatch,
    ReencodeReason,
};

use super::gap::push_gap;
use super::inner;
use super::{Bounds, GapReason, Halt, HaltKind};

/// Which source records count (Kafka's `isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Only records of committed transactions and records outside of any.
    #[default]
    ReadCommitted,
    /// Every record, those of aborted transactions too.
    ReadUncommitted,
}

/// One partition's part of a fetch response, as far as the intake needs it.
#[derive(Debug, Clone, Default)]
pub struct FetchedRecords {
    /// Producer id and first offset of aborted transactions in this range (empty under read_uncommitted).
    pub aborted: Vec<(i64, i64)>,
    /// The raw batches.
    pub records: Bytes,
}

/// Why an offset is out of the range of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutOfRange {
    /// It is not, or not any more.
    No,
    /// Retention took what was next.
    Lost(Halt),
    /// The log lost its end.
    Truncated,
}

/// How a batch travels; the `path` label of `kmirror_batches_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// Payload untouched, header rewritten.
    Raw,
    /// Small batches that wait together, sent as one: a broker takes one batch a partition and request.
    Coalesced,
    /// Decoded and encoded again, because the target would not take it as it is.
    Reencoded(Why),
}

/// Why a batch is encoded again; the `reason` label of `kmirror_slow_batches_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Compaction took records out of it.
    Holes,
    /// The broker set its timestamps.
    LogAppendTime,
    /// The mirror begins in the middle of it.
    Partial,
    /// Its offsets inside are not in step.
    OutOfStep,
}

/// Source records without a gap between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Source offsets without a counterpart right before this run, in order.
    pub gaps: Vec<(GapReason, u64)>,
    /// Source offset of the first record.
    pub source: i64,
    /// Records in the run.
    pub count: u32,
}

/// A batch ready for the target but for its sequence.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Header to be stamped; its count equals `last_offset_delta + 1`.
    pub header: BatchHeader,
    /// The records section, compressed as the header says.
    pub payload: Bytes,
    /// The source runs it holds, in order.
    pub runs: Vec<Run>,
    /// Leader epoch of the source batch.
    pub leader_epoch: i32,
    /// How it travels.
    pub path: Path,
}

impl Ready {
    /// Records in the batch.
    pub fn count(&self) -> u32 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// Bytes it holds in memory.
    pub fn bytes(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// The reading side of a mirrored partition.
#[derive(Debug, Clone)]
pub struct Intake {
    next: i64,
    last_epoch: Option<i32>,
    isolation: Isolation,
    gaps: Vec<(GapReason, u64)>,
    /// Ranges given up, by policy or by `resume --accept-loss`.
    given_up: Vec<(i64, i64, GapReason)>,
    decode_limit_bytes: usize,
}

impl Intake {
    /// Reads on from source offset `next`; `last_epoch` is the leader epoch of the record before it, if known.
    /// `decode_limit_bytes` caps what one compressed batch may unfold to where it must be re-encoded.
    pub fn new(next: i64, last_epoch: Option<i32>, isolation: Isolation, decode_limit_bytes: usize) -> Self {
        Self { next, last_epoch, isolation, gaps: Vec::new(), given_up: Vec::new(), decode_limit_bytes }
    }

    /// The next source offset to fetch.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The source offset up to which everything was read and nothing lost, where the last of it has no counterpart on the
    /// target: the position alone does not tell. A loss ends it: noted as read, it would pass for markers in the next life.
    pub fn scanned(&self) -> Option<i64> {
        let trailing: u64 = self.gaps.iter().map(|(_, len)| len).sum();
        let lossless = self.gaps.iter().take_while(|(reason, _)| !reason.is_loss()).map(|(_, len)| len).sum::<u64>();
        (lossless > 0).then(|| self.next - (trailing - lossless) as i64)
    }

    /// Leader epoch of the last batch read: `LastFetchedEpoch` of the next fetch (KIP-595).
    pub fn last_epoch(&self) -> Option<i32> {
        self.last_epoch
    }

    /// Skips to `to`: the offsets between have no counterpart on the target, for this reason. The leader epoch of the
    /// record before `to` is not known then: an older one would look like truncation to the broker (KIP-595).
    pub fn skip(&mut self, to: i64, reason: GapReason) {
        if to > self.next {
            push_gap(&mut self.gaps, reason, to.abs_diff(self.next));
            self.next = to;
            self.last_epoch = None;
        }
    }

    /// Skips source offsets `[from, to)` once they are reached.
    pub fn give_up(&mut self, from: i64, to: i64, reason: GapReason) {
        self.given_up.push((from, to, reason));
        self.skip_given_up();
    }

    fn skip_given_up(&mut self) {
        while let Some(at) = self.given_up.iter().position(|(from, to, _)| (*from..*to).contains(&self.next)) {
            let (_, to, reason) = self.given_up.swap_remove(at);
            self.skip(to, reason);
        }
        self.given_up.retain(|(_, to, _)| *to > self.next);
    }

    /// The source says that the next offset is not within these bounds. What was read up to `scanned` in an earlier life
    /// held nothing to mirror: that it has gone is no loss.
    pub fn out_of_range(&mut self, scanned: i64, at: Bounds) -> OutOfRange {
        self.skip(at.start.min(scanned), GapReason::Control);
        // What follows may have been given up already: told as lost again, it would be given up without end.
        self.skip_given_up();
        let next = self.next;
        if next < at.start {
            let (start, lost) = (at.start, at.start - next);
            let detail = format!("the source log starts at {start}, {lost} records behind it were not mirrored yet");
            return OutOfRange::Lost(Halt::over(HaltKind::RetentionLoss, next, start, detail));
        }
        if next > at.end { OutOfRange::Truncated } else { OutOfRange::No }
    }

    /// Takes what a fetch brought. On a halt, the batches before the evidence are still returned, and the intake
    /// stands right at the evidence.
    pub fn take(&mut self, fetched: &FetchedRecords) -> (Vec<Ready>, Option<Halt>) {
        let mut aborts = Aborts::new(&fetched.aborted);
        let mut out = Vec::new();
        let asked = self.next;
        let mut walked = 0;
        let mut batches = Batches::new(fetched.records.clone());
        for batch in batches.by_ref() {
            let rest = fetched.records.get(walked..).unwrap_or_default();
            let step = match batch {
                Ok(batch) => {
                    walked += batch.bytes.len();
                    let step = self.batch(&batch, &mut aborts);
                    step.map_err(|error| self.halt(batch.header.next_offset(), &error))
                }
                // The evidence lies below what was given up meanwhile: the next fetch begins behind it.
                Err(_) if self.next > asked && range_end(rest) <= self.next => return (out, None),
                Err(error) => Err(self.halt(range_end(rest), &error)),
            };
            match step {
                Ok(ready) => out.extend(ready),
                Err(halt) => return (out, Some(halt)),
            }
        }
        if walked == 0 && batches.truncated() {
            // A broker sends the first batch whole, whatever the limits (KIP-74).
            let (have, need) = (fetched.records.len(), batch_len(&fetched.records));
            let error = BatchError::Truncated { have, need };
            return (out, Some(self.halt(range_end(&fetched.records), &error)));
        }
        (out, None)
    }

    /// A halt over all of the batch that ends before `end`; over the next offset where that cannot be the end.
    fn halt(&self, end: i64, error: &BatchError) -> Halt {
        let kind = match error {
            BatchError::TooLarge { .. } => HaltKind::MessageTooLarge,
            // Nothing is wrong with such data, so no policy about corrupt batches may drop it.
            BatchError::UnsupportedMagic { .. } => HaltKind::InvalidRecord,
            _ => HaltKind::CorruptBatch,
        };
        let least = self.next.saturating_add(1);
        let plausible = (least..=self.next.saturating_add(LEAP_MAX)).contains(&end);
        Halt::over(kind, self.next, if plausible { end } else { least }, error.to_string())
    }

    fn batch(&mut self, batch: &RawBatch, aborts: &mut Aborts) -> Result<Option<Ready>, BatchError> {
        let header = &batch.header;
        if header.base_offset.saturating_sub(self.next) > LEAP_MAX {
            let what = format!("it follows offset {}, too far away to be true", self.next);
            return Err(BatchError::Malformed { offset: header.base_offset, what });
        }
        if header.base_offset > self.next {
            self.skip(header.base_offset, GapReason::Compaction);
        }
        self.skip_given_up();
        let passed = header.next_offset() <= self.next;
        aborts.reach(header.last_offset());
        if header.is_control() {
            match batch::control_type(batch) {
                Ok(ControlType::Abort) => aborts.end(header.producer_id),
                Ok(_) => {}
                // Given up. Whatever it said, it ended the transaction.
                Err(_) if passed => aborts.end(header.producer_id),
                Err(error) => return Err(error),
            }
        }
        if passed {
            return Ok(None);
        }
        if self.isolation == Isolation::ReadCommitted && header.is_transactional() && aborts.hold(header) {
            return Ok(self.pass_over(header, GapReason::Aborted));
        }
        match batch::passage(header)? {
            Passage::Empty => Ok(self.pass_over(header, GapReason::Compaction)),
            Passage::Control => Ok(self.pass_over(header, GapReason::Control)),
            Passage::Raw if header.base_offset == self.next && is_in_step(batch) => Ok(Some(self.raw(batch))),
            Passage::Raw if header.base_offset < self.next => self.reencode(batch, Why::Partial),
            // Decoding it says what is wrong.
            Passage::Raw => self.reencode(batch, Why::OutOfStep),
            Passage::Reencode(ReencodeReason::Holes) => self.reencode(batch, Why::Holes),
            Passage::Reencode(ReencodeReason::LogAppendTime) => self.reencode(batch, Why::LogAppendTime),
        }
    }

    fn pass_over(&mut self, header: &BatchHeader, reason: GapReason) -> Option<Ready> {
        self.skip(header.next_offset(), reason);
        self.advance(header);
        None
    }

    fn raw(&mut self, batch: &RawBatch) -> Ready {
        let header = batch.header;
        let count = header.records_count.unsigned_abs();
        let run = Run { gaps: std::mem::take(&mut self.gaps), source: header.base_offset, count };
        self.advance(&header);
        Ready {
            header,
            payload: batch.payload(),
            runs: vec![run],
            leader_epoch: header.partition_leader_epoch,
            path: Path::Raw,
        }
    }

    /// A batch with holes, with broker-set timestamps, or one that the mirror starts in the middle of.
    fn reencode(&mut self, batch: &RawBatch, why: Why) -> Result<Option<Ready>, BatchError> {
        let made = batch::reencode(batch, self.next, self.decode_limit_bytes)?;
        let header = batch.header;
        if made.runs.is_empty() {
            return Ok(self.pass_over(&header, GapReason::Compaction));
        }
        let mut at = self.next;
        let mut runs = Vec::with_capacity(made.runs.len());
        for (source, count) in made.runs {
            let mut gaps = std::mem::take(&mut self.gaps);
            push_gap(&mut gaps, GapReason::Compaction, source.abs_diff(at));
            runs.push(Run { gaps, source, count });
            at = source + i64::from(count);
        }
        push_gap(&mut self.gaps, GapReason::Compaction, header.next_offset().abs_diff(at));
        self.advance(&header);
        Ok(Some(Ready {
            header: made.header,
            payload: made.payload,
            runs,
            leader_epoch: header.partition_leader_epoch,
            path: Path::Reencoded(why),
        }))
    }

    fn advance(&mut self, header: &BatchHeader) {
        self.next = header.next_offset();
        self.last_epoch = Some(header.partition_leader_epoch);
        self.skip_given_up();
    }
}

/// No two batches of a log lie further apart than this, offsets; base offsets stand outside of every checksum.
const LEAP_MAX: i64 = 1 << 48;

fn is_in_step(batch: &RawBatch) -> bool {
    batch.header.codec() != Ok(Codec::None)
        || inner::in_step(batch.bytes.get(HEADER_LEN..).unwrap_or_default(), batch.header.records_count.unsigned_abs())
}

/// The offset after a batch whose header does not make sense, by the fields that say so; 0 where nothing does.
fn range_end(bytes: &[u8]) -> i64 {
    let base_offset = bytes.first_chunk().map_or(-1, |b: &[u8; 8]| i64::from_be_bytes(*b));
    let magic = bytes.get(16).copied();
    // Of a format that nobody knows the length alone is known: it ends where the next batch begins.
    if magic.is_some_and(|magic| magic > 2) {
        let next =
            bytes.get(batch_len(bytes)..).and_then(|b| b.first_chunk()).map(|b: &[u8; 8]| i64::from_be_bytes(*b));
        return next.filter(|next| *next > base_offset).unwrap_or(base_offset.saturating_add(1));
    }
    // Message formats v0 and v1 stand at the offset of their (last) message.
    let delta = bytes.get(23..27).and_then(|b| b.first_chunk()).map_or(0, |b: &[u8; 4]| i32::from_be_bytes(*b));
    let delta = if magic == Some(2) { delta.max(0) } else { 0 };
    base_offset.saturating_add(i64::from(delta)).saturating_add(1)
}

/// Bytes of a batch by its own account.
fn batch_len(bytes: &[u8]) -> usize {
    let len = bytes.get(8..12).and_then(|b| b.first_chunk()).map_or(0, |b: &[u8; 4]| i32::from_be_bytes(*b));
    (LOG_OVERHEAD + usize::try_from(len).unwrap_or(0)).max(HEADER_LEN)
}

/// The aborted transactions that cover the batch at hand.
pub(crate) struct Aborts {
    /// First offset → producer ids, those not reached yet.
    ahead: BTreeMap<i64, Vec<i64>>,
    open: HashSet<i64>,
}

impl Aborts {
    pub(crate) fn new(aborted: &[(i64, i64)]) -> Self {
        let mut ahead: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (producer_id, first_offset) in aborted {
            ahead.entry(*first_offset).or_default().push(*producer_id);
        }
        Self { ahead, open: HashSet::new() }
    }

    pub(crate) fn reach(&mut self, last_offset: i64) {
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() > last_offset {
                return;
            }
            self.open.extend(entry.remove());
        }
    }

    pub(crate) fn end(&mut self, producer_id: i64) {
        self.open.remove(&producer_id);
    }

    pub(crate) fn hold(&self, header: &BatchHeader) -> bool {
        self.open.contains(&header.producer_id)
    }
}

#[cfg(test)]
mod tests;
