//! What a comparison found, in counts and in ranges. Ranges are bounded; counts are not.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::GapReason;

/// Ranges of each kind that are listed for one partition; the rest is counted only.
const RANGES_MAX: usize = 100;

/// What is wrong at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Both sides have a record, and they are not the same.
    Differing,
    /// The source has a record, the target none, and nothing explains it.
    Missing,
    /// The target has a record that the source does not have.
    Extra,
}

/// In what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Keys differ.
    Key,
    /// Values differ.
    Value,
    /// Headers differ, in names, values or order.
    Headers,
    /// Timestamps differ.
    Timestamp,
    /// The source batch fails its checksum or cannot be opened.
    SourceBatchDamaged,
    /// The target batch fails its checksum or cannot be opened.
    TargetBatchDamaged,
    /// The target has nothing at the offset.
    NotOnTarget,
    /// The target is compacted and holds nothing at the offset, and no newer record of that key either.
    NoNewerRecord,
    /// The target has let go of the offset (DeleteRecords), and its retention cannot have been the reason.
    DeletedOnTarget,
    /// What stands there on the target belongs to an aborted transaction, or is a marker.
    HiddenOnTarget,
    /// The offset map has a gap where readers of the source see a record.
    InGap,
    /// No source offset belongs to the record.
    NotOfTheMirror,
    /// What stands at its source offset belongs to an aborted transaction, or is a marker.
    HiddenOnSource,
    /// Its source offset lies beyond the end of the source.
    BeyondSourceEnd,
}

/// Why two records cannot be compared (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotComparable {
    /// Below the source's log start: retention or DeleteRecords.
    SourceRetention,
    /// Below the target's log start, where its retention may have been the reason.
    TargetRetention,
    /// Removed within the source's log.
    SourceCompaction,
    /// Removed within the target's log, by its cleaner.
    TargetCompaction,
    /// Gone from a compacted target; whether a newer record of that key is there was not followed up.
    TargetCompactionUnproven,
    /// The source topic is gone, or was made again.
    SourceGone,
}

/// A range of offsets under one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span<R> {
    /// Why.
    pub reason: R,
    /// First source offset.
    pub from: i64,
    /// Source offset after the last.
    pub to: i64,
}

/// A range in which every offset has the same kind of problem; the first is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub kind: Kind,
    /// First offset: of the source, of `extra` ones on the target.
    pub from: i64,
    /// Offset after the last.
    pub to: i64,
    /// Source offset of the first record; `null` where it has none.
    pub source_offset: Option<i64>,
    /// Target offset of the first record; `null` where it has none.
    pub target_offset: Option<i64>,
    /// What it is about the first record.
    pub what: Vec<What>,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Source offsets looked at: the sum of what follows, `extra` aside.
    pub offsets: u64,
    /// Records that are the same on both sides.
    pub equal: u64,
    /// Records that are not.
    pub differing: u64,
    /// Records of the source that the target lacks.
    pub missing: u64,
    /// Records of the target that the source lacks.
    pub extra: u64,
    /// Records of the target that the source lacks, and that are known: on the way home, what the old source had alone.
    pub divergent: u64,
    /// Source offsets without a counterpart, as the offset map has it.
    pub in_gaps: u64,
    /// Source offsets whose records cannot be compared (any more).
    pub not_comparable: u64,
    /// Batches that are the same on both sides, by header and payload checksum.
    pub batches_by_crc: u64,
    /// Source batches that were compared record by record.
    pub batches_by_record: u64,
    /// Bytes read from the source.
    pub source_bytes: u64,
    /// Bytes read from the target.
    pub target_bytes: u64,
    /// Where something is wrong, in order; no more than 100.
    pub problems: Vec<Problem>,
    /// How many such ranges there are.
    pub problem_ranges: u64,
    /// Offsets in gaps by reason.
    pub gaps_by_reason: BTreeMap<GapReason, u64>,
    /// Gaps, in order; no more than 100.
    pub gaps: Vec<Span<GapReason>>,
    /// What cannot be compared, by reason.
    pub not_comparable_by_reason: BTreeMap<NotComparable, u64>,
    /// What cannot be compared, in order; no more than 100 ranges.
    pub not_comparable_ranges: Vec<Span<NotComparable>>,
    #[serde(skip)]
    last_problem: Option<(Kind, i64)>,
}

impl Tally {
    /// Whether anything is wrong.
    pub fn has_problems(&self) -> bool {
        self.differing + self.missing + self.extra > 0
    }

    pub(super) fn equal(&mut self, count: i64) {
        self.offsets += count.unsigned_abs();
        self.equal += count.unsigned_abs();
    }

    pub(super) fn gap(&mut self, reason: GapReason, (from, to): (i64, i64)) {
        let count = to.abs_diff(from);
        self.offsets += count;
        self.in_gaps += count;
        *self.gaps_by_reason.entry(reason).or_default() += count;
        put(&mut self.gaps, reason, (from, to));
    }

    /// These source offsets cannot be compared.
    pub fn not_comparable(&mut self, reason: NotComparable, (from, to): (i64, i64)) {
        let count = to.abs_diff(from);
        self.offsets += count;
        self.not_comparable += count;
        *self.not_comparable_by_reason.entry(reason).or_default() += count;
        put(&mut self.not_comparable_ranges, reason, (from, to));
    }

    /// A source offset that was counted as not comparable is a problem after all.
    pub(super) fn not_comparable_after_all(&mut self, reason: NotComparable, offset: i64) {
        self.offsets -= 1;
        self.not_comparable -= 1;
        if let Some(count) = self.not_comparable_by_reason.get_mut(&reason) {
            *count -= 1;
        }
        self.not_comparable_by_reason.retain(|_, count| *count > 0);
        let ranges = std::mem::take(&mut self.not_comparable_ranges);
        let within = |span: &Span<NotComparable>| span.reason == reason && (span.from..span.to).contains(&offset);
        for span in ranges {
            if within(&span) {
                let halves = [(span.from, offset), (offset + 1, span.to)].into_iter().filter(|(from, to)| from < to);
                self.not_comparable_ranges.extend(halves.map(|(from, to)| Span { reason, from, to }));
            } else {
                self.not_comparable_ranges.push(span);
            }
        }
        self.not_comparable_ranges.truncate(RANGES_MAX);
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        let count = problem.to.abs_diff(problem.from);
        match problem.kind {
            Kind::Differing => self.differing += count,
            Kind::Missing => self.missing += count,
            Kind::Extra => self.extra += count,
        }
        if problem.kind != Kind::Extra {
            self.offsets += count;
        }
        let goes_on = self.last_problem == Some((problem.kind, problem.from));
        self.last_problem = Some((problem.kind, problem.to));
        if !goes_on {
            self.problem_ranges += 1;
            if self.problems.len() < RANGES_MAX {
                self.problems.push(problem);
            }
        } else if self.problem_ranges == self.problems.len() as u64
            && let Some(last) = self.problems.last_mut()
        {
            last.to = problem.to;
        }
    }

    /// Adds what another stretch of the same partition, further up, has shown.
    pub fn add(&mut self, other: Self) {
        self.offsets += other.offsets;
        self.equal += other.equal;
        self.differing += other.differing;
        self.missing += other.missing;
        self.extra += other.extra;
        self.divergent += other.divergent;
        self.in_gaps += other.in_gaps;
        self.not_comparable += other.not_comparable;
        self.batches_by_crc += other.batches_by_crc;
        self.batches_by_record += other.batches_by_record;
        self.source_bytes += other.source_bytes;
        self.target_bytes += other.target_bytes;
        self.problem_ranges += other.problem_ranges;
        let room = RANGES_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
        for (reason, count) in other.gaps_by_reason {
            *self.gaps_by_reason.entry(reason).or_default() += count;
        }
        for (reason, count) in other.not_comparable_by_reason {
            *self.not_comparable_by_reason.entry(reason).or_default() += count;
        }
        other.gaps.into_iter().for_each(|span| put(&mut self.gaps, span.reason, (span.from, span.to)));
        for span in other.not_comparable_ranges {
            put(&mut self.not_comparable_ranges, span.reason, (span.from, span.to));
        }
    }
}

/// Adds a range behind the others; where it goes on with the last one, it becomes part of it.
fn put<R: PartialEq>(spans: &mut Vec<Span<R>>, reason: R, (from, to): (i64, i64)) {
    if let Some(last) = spans.last_mut().filter(|last| last.reason == reason && last.to == from) {
        last.to = to;
    } else if from < to && spans.len() < RANGES_MAX {
        spans.push(Span { reason, from, to });
    }
}
