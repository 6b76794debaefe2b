//! Whether source and target hold the same, by the offset map: every source offset of a stretch is found to be equal,
//! differing, missing on the target, in a gap, or not comparable (any more); and every record that the target has alone is
//! found as well. Batches go in in order, findings come out; who reads them from where is not known here.
//!
//! Two batches at offsets that the map names for each other are the same where length, count, offsets, codec and both timestamps of
//! their headers agree and so do the checksums of their payloads, each derived from the batch's stored CRC32C and the header bytes
//! that it covers ([`batch::payload_crc`]); both stored checksums are computed anew over the bytes that came. Nothing is
//! decompressed for it. What that proves: a payload that was altered on either side after its producer had computed its
//! checksum is found, for its own checksum fails. Two payloads of the same length that are both intact and differ nevertheless
//! would have to collide in 32 bits: one chance in four thousand million for an accident, none that holds against somebody who forges
//! batches. [`Terms::bytes`] compares the payloads themselves, which leaves no such chance. All other batches are opened and
//! compared record by record, by key, value, headers and timestamp.

mod doubts;
mod log;
mod pieces;
mod sample;
mod tally;

use std::collections::VecDeque;

use crate::batch::{self, RawBatch, Record};

use super::{GapReason, OffsetMap};
use doubts::Doubts;
use log::{Cover, Held, Log};
use pieces::{Piece, pieces};

pub use pieces::begins;
pub use sample::stretches;
pub use tally::{Kind, NotComparable, Problem, Span, Tally, What};

/// What holds for a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// First offset of the source's log, and the one after its last.
    pub source: (i64, i64),
    /// First offset of the target's log, and the settled end of what is mirrored.
    pub target: (i64, i64),
    /// End of the target's log when that settled end was found: what stands between the two is somebody else's.
    pub alone_to: i64,
    /// Source offset from which on the target's retention cannot have taken anything by now. Below its log start records are missing
    /// from there on; in front of that nobody can tell.
    pub kept_from: i64,
    /// End of the target's log, where newer records are looked for.
    pub target_log_end: i64,
    /// The target topic is compacted: a record without a trace there may have been removed by its cleaner.
    pub target_is_compacted: bool,
    /// The stretch is all that there is: whether the cleaner had a reason for what it removed is followed up.
    pub follow_up: bool,
    /// Readers see committed records only, so that gaps of aborted records can be looked into.
    pub committed: bool,
    /// Source offset from which on gaps are looked into.
    pub gaps_from: i64,
    /// Payloads are compared byte for byte as well.
    pub bytes: bool,
    /// Caps what one compressed batch may unfold to.
    pub decode_limit_bytes: usize,
}

/// What must be read before the comparison can go on: the offset on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// From the source.
    pub source: Option<i64>,
    /// From the target.
    pub target: Option<i64>,
}

/// A stop: what is left of the piece, and what it waits for.
type Stop = (Piece, Wanted);

/// The comparison of one stretch.
#[derive(Debug)]
pub struct Verifier {
    pieces: VecDeque<Piece>,
    source: Log,
    target: Log,
    terms: Terms,
    /// Target ranges that are known to be there alone.
    divergent: Vec<(i64, i64)>,
    tally: Tally,
    doubts: Doubts,
}

impl Verifier {
    /// Compares the source offsets `[from, to)` of `stretch` with what the map names for them.
    pub fn new(map: &OffsetMap, stretch: (i64, i64), terms: Terms) -> Self {
        let log = |start, end| Log::new(start, end, terms.decode_limit_bytes);
        let alone_to = terms.alone_to.max(terms.target.1);
        let mut pieces = VecDeque::from(pieces(map, (terms.target.1, alone_to), stretch));
        if terms.follow_up && terms.target_is_compacted {
            pieces.push_back(Piece::Newer { from: alone_to, to: terms.target_log_end });
        }
        Self {
            pieces,
            source: log(terms.source.0, terms.source.1),
            target: log(terms.target.0, terms.target_log_end.max(alone_to)),
            terms,
            divergent: Vec::new(),
            tally: Tally::default(),
            doubts: Doubts::default(),
        }
    }

    /// Records in these target ranges are known to be there alone: a target had them before the mirror came.
    #[must_use]
    pub fn knowing(self, divergent: Vec<(i64, i64)>) -> Self {
        Self { divergent, ..self }
    }

    /// Compares what there is; says what is to be read for more, or `None` at the end.
    pub fn step(&mut self) -> Option<Wanted> {
        while let Some(piece) = self.pieces.front().copied() {
            let done = match piece {
                Piece::Run { source, target, records } => self.run(source, target, records),
                Piece::Gap { reason, from, to } => self.gap(reason, from, to),
                Piece::Alone { from, to } => self.alone(from, to),
                Piece::Newer { from, to } => self.newer(from, to),
            };
            match done {
                Ok(()) => self.pieces.pop_front(),
                Err((rest, wanted)) => {
                    self.pieces[0] = rest;
                    return Some(wanted);
                }
            };
        }
        None
    }

    /// What a read of the source brought; `aborted` as the broker lists aborted transactions.
    pub fn take_source(&mut self, batches: Vec<RawBatch>, aborted: &[(i64, i64)]) {
        self.source.take(batches, aborted);
    }

    /// What a read of the target brought.
    pub fn take_target(&mut self, batches: Vec<RawBatch>, aborted: &[(i64, i64)]) {
        self.target.take(batches, aborted);
    }

    /// Retention has passed by: the source begins here now.
    pub fn source_starts(&mut self, at: i64) {
        self.source.start = self.source.start.max(at);
    }

    /// The same of the target.
    pub fn target_starts(&mut self, at: i64) {
        self.target.start = self.target.start.max(at);
    }

    /// Source offsets done so far.
    pub fn passed(&self) -> u64 {
        self.tally.offsets
    }

    /// What was found.
    pub fn finish(mut self) -> Tally {
        for (source, target) in self.doubts.left() {
            let first = (Some(source), Some(target));
            self.tally.not_comparable_after_all(NotComparable::TargetCompaction, source);
            self.tally.problem(problem(Kind::Missing, (source, source + 1), first, vec![What::NoNewerRecord]));
        }
        (self.tally.source_bytes, self.tally.target_bytes) = (self.source.bytes, self.target.bytes);
        self.tally
    }

    fn run(&mut self, mut source: i64, mut target: i64, mut records: i64) -> Result<(), Stop> {
        while records > 0 {
            let wanted =
                |this: &mut Self| Wanted { source: this.source.wants(source), target: this.target.wants(target) };
            let done = match self.below_start(source, target, records) {
                0 => {
                    let wanted = wanted(self);
                    if wanted != Wanted::default() {
                        return Err((Piece::Run { source, target, records }, wanted));
                    }
                    self.whole(source, target, records).unwrap_or_else(|| self.opened(source, target, records))
                }
                gone => gone,
            };
            (source, target, records) = (source + done, target + done, records - done);
        }
        Ok(())
    }

    /// How many records from here on one side has let go of, as it may.
    fn below_start(&mut self, source: i64, target: i64, records: i64) -> i64 {
        let of_source = self.source.start - source;
        let of_target = (self.target.start - target).min(self.terms.kept_from - source);
        let (gone, reason) = if of_source > 0 {
            (of_source, NotComparable::SourceRetention)
        } else {
            (of_target, NotComparable::TargetRetention)
        };
        let gone = gone.clamp(0, records);
        if gone > 0 {
            self.tally.not_comparable(reason, (source, source + gone));
        }
        gone
    }

    /// A batch that both sides hold as the same; how many records it has.
    fn whole(&mut self, source: i64, target: i64, records: i64) -> Option<i64> {
        if !self.doubts.is_empty() {
            // The keys within may explain what is gone.
            return None;
        }
        let (ours, theirs) = (self.source.whole_at(source)?, self.target.whole_at(target)?);
        let count = i64::from(ours.batch.header.records_count);
        if count > records || !is_same_batch(ours, theirs, self.terms.bytes) {
            return None;
        }
        self.source.pass();
        self.target.pass();
        self.tally.equal(count);
        self.tally.batches_by_crc += 1;
        Some(count)
    }

    /// Record by record, as far as what is open on both sides reaches; how many offsets that are.
    fn opened(&mut self, source: i64, target: i64, records: i64) -> i64 {
        let (ours, ours_to, opened) = self.source.open(source);
        let (theirs, theirs_to, _) = self.target.open(target);
        self.tally.batches_by_record += u64::from(opened && ours == Cover::Batch);
        let count = records.min(ours_to - source).min(theirs_to - target);
        let (shift, to) = (target - source, source + count);
        let mut at = source;
        while at < to {
            let next = [self.source.next_record(), self.target.next_record().map(|offset| offset - shift)];
            let next = next.into_iter().flatten().fold(to, i64::min);
            self.neither((at, next), shift, (ours, theirs));
            if next < to {
                let records = (self.source.record(next), self.target.record(next + shift));
                self.judge(next, shift, records, (ours, theirs));
            }
            at = next + 1;
        }
        count
    }

    /// Offsets at which no side has a record to show.
    fn neither(&mut self, (from, to): (i64, i64), shift: i64, covers: (Cover, Cover)) {
        if from >= to {
            return;
        }
        let differs = |what| problem(Kind::Differing, (from, to), (Some(from), Some(from + shift)), vec![what]);
        match covers {
            (Cover::Damaged, _) => self.tally.problem(differs(What::SourceBatchDamaged)),
            (_, Cover::Damaged) => self.tally.problem(differs(What::TargetBatchDamaged)),
            (Cover::Unseen, _) => self.tally.gap(GapReason::Aborted, (from, to)),
            (Cover::Batch | Cover::Gone | Cover::Deleted, _) => {
                self.tally.not_comparable(NotComparable::SourceCompaction, (from, to));
            }
            // No offsets of the source.
            (Cover::BeyondEnd, _) => {}
        }
    }

    fn judge(&mut self, at: i64, shift: i64, records: (Option<Record>, Option<Record>), covers: (Cover, Cover)) {
        if let (_, Some(theirs)) = &records {
            self.doubts.explained_by(theirs);
        }
        let range = (at, at + 1);
        let both = (Some(at), Some(at + shift));
        let alone = |what| problem(Kind::Extra, (at + shift, at + shift + 1), both, vec![what]);
        let found = match (records, covers) {
            ((Some(ours), Some(theirs)), _) => {
                let what = difference(&ours, &theirs);
                if what.is_empty() {
                    return self.tally.equal(1);
                }
                problem(Kind::Differing, range, both, what)
            }
            ((Some(ours), None), (_, theirs)) => match theirs {
                Cover::Damaged => problem(Kind::Differing, range, both, vec![What::TargetBatchDamaged]),
                Cover::Unseen => problem(Kind::Missing, range, both, vec![What::HiddenOnTarget]),
                Cover::Deleted => problem(Kind::Missing, range, both, vec![What::DeletedOnTarget]),
                Cover::Gone | Cover::BeyondEnd if !self.terms.target_is_compacted => {
                    problem(Kind::Missing, range, (Some(at), None), vec![What::NotOnTarget])
                }
                Cover::Gone | Cover::BeyondEnd if !self.terms.follow_up || !self.doubts.take(&ours, at + shift) => {
                    return self.tally.not_comparable(NotComparable::TargetCompactionUnproven, range);
                }
                // Producers cannot leave holes within a batch: there a cleaner was at work, whatever the topic says today.
                _ => return self.tally.not_comparable(NotComparable::TargetCompaction, range),
            },
            ((None, _), (ours, _)) => match ours {
                Cover::Damaged => problem(Kind::Differing, range, both, vec![What::SourceBatchDamaged]),
                Cover::Batch | Cover::Gone | Cover::Deleted => {
                    return self.tally.not_comparable(NotComparable::SourceCompaction, range);
                }
                Cover::Unseen => {
                    self.tally.gap(GapReason::Aborted, range);
                    alone(What::HiddenOnSource)
                }
                Cover::BeyondEnd => alone(What::BeyondSourceEnd),
            },
        };
        self.tally.problem(found);
    }

    /// A gap. Where it says that there is nothing to copy, that is looked into.
    fn gap(&mut self, reason: GapReason, mut from: i64, to: i64) -> Result<(), Stop> {
        let is_known_loss = reason.is_loss() || !self.terms.committed;
        let blind = if is_known_loss { to } else { self.source.start.max(self.terms.gaps_from).clamp(from, to) };
        if blind > from {
            self.tally.gap(reason, (from, blind));
            from = blind;
        }
        while from < to {
            if let Some(at) = self.source.wants(from) {
                return Err((Piece::Gap { reason, from, to }, Wanted { source: Some(at), target: None }));
            }
            let (_, covered_to, _) = self.source.open(from);
            let upto = covered_to.min(to);
            while from < upto {
                let next = self.source.next_record().map_or(upto, |next| next.min(upto));
                if next > from {
                    self.tally.gap(reason, (from, next));
                }
                if next < upto && self.source.record(next).is_some() {
                    self.tally.problem(problem(Kind::Missing, (next, next + 1), (Some(next), None), vec![What::InGap]));
                }
                from = if next < upto { next + 1 } else { upto };
            }
        }
        Ok(())
    }

    /// Looks for newer records behind what is compared, as long as something is to be explained.
    fn newer(&mut self, mut from: i64, to: i64) -> Result<(), Stop> {
        while from < to && !self.doubts.is_empty() {
            if let Some(at) = self.target.wants(from) {
                return Err((Piece::Newer { from, to }, Wanted { source: None, target: Some(at) }));
            }
            let (_, covered_to, _) = self.target.open(from);
            while let Some(next) = self.target.next_record() {
                self.target.record(next).iter().for_each(|record| self.doubts.explained_by(record));
            }
            from = covered_to;
        }
        Ok(())
    }

    /// Target offsets that belong to no source offset.
    fn alone(&mut self, from: i64, to: i64) -> Result<(), Stop> {
        let mut from = from.max(self.target.start);
        while from < to {
            if let Some(at) = self.target.wants(from) {
                return Err((Piece::Alone { from, to }, Wanted { source: None, target: Some(at) }));
            }
            let (cover, covered_to, _) = self.target.open(from);
            let upto = covered_to.min(to);
            if cover == Cover::Damaged {
                self.tally.problem(problem(
                    Kind::Extra,
                    (from, upto),
                    (None, Some(from)),
                    vec![What::TargetBatchDamaged],
                ));
            }
            while let Some(next) = self.target.next_record().filter(|next| *next < upto) {
                self.target.record(next).iter().for_each(|record| self.doubts.explained_by(record));
                if self.divergent.iter().any(|(from, to)| (*from..*to).contains(&next)) {
                    self.tally.divergent += 1;
                } else {
                    let what = vec![What::NotOfTheMirror];
                    self.tally.problem(problem(Kind::Extra, (next, next + 1), (None, Some(next)), what));
                }
            }
            from = upto;
        }
        Ok(())
    }
}

fn problem(kind: Kind, (from, to): (i64, i64), first: (Option<i64>, Option<i64>), what: Vec<What>) -> Problem {
    Problem { kind, from, to, source_offset: first.0, target_offset: first.1, what }
}

/// In what two records differ.
fn difference(ours: &Record, theirs: &Record) -> Vec<What> {
    let all = [
        (What::Key, ours.key != theirs.key),
        (What::Value, ours.value != theirs.value),
        (What::Headers, ours.headers != theirs.headers),
        (What::Timestamp, ours.timestamp != theirs.timestamp),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

/// Whether two batches hold the same records at the same offsets, told without opening them; no is no proof of the contrary.
fn is_same_batch(ours: &Held, theirs: &Held, bytes: bool) -> bool {
    let (a, b) = (&ours.batch.header, &theirs.batch.header);
    let timestamps = |header: &batch::BatchHeader| (header.base_timestamp, header.max_timestamp);
    let seen = ours.seen && theirs.seen && !a.is_log_append_time() && !b.is_log_append_time();
    let shape = a.records_count == b.records_count && a.last_offset_delta == b.last_offset_delta && !a.has_holes();
    let codec = a.codec().is_ok_and(|codec| b.codec() == Ok(codec));
    let payload = a.payload_len() == b.payload_len() && batch::payload_crc(a) == batch::payload_crc(b);
    let alike = seen && shape && codec && timestamps(a) == timestamps(b) && payload;
    let intact = || batch::check_crc(&ours.batch).is_ok() && batch::check_crc(&theirs.batch).is_ok();
    alike && intact() && (!bytes || ours.batch.payload() == theirs.batch.payload())
}

#[cfg(test)]
mod tests;
