//! The offset map of one partition: segments in which source and target offsets run in step.
//!
//! A segment ends where the next begins; what lies between on the source are gaps with their reasons, on the target
//! markers. Segments may be written ahead of the batches that need them, so every question is asked together with
//! the settled end of the target: what lies at or beyond it does not count.

mod inverse;

use super::{Gap, GapReason};

/// Where both sides run in step from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Target offset of the first record.
    pub target: i64,
    /// Source offset of the first record.
    pub source: i64,
    /// Leader epoch of the source batches; −1 where unknown (nothing read yet).
    pub leader_epoch: i32,
    /// Producer epoch under which the target's batches are written.
    pub writer_epoch: i16,
    /// A fact of the target's log (the start, a marker), not something written ahead.
    pub fixed: bool,
}

/// The step from one segment to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Records in the segment that ends here, counted from its start; 0 for the first of a map.
    pub run: u64,
    /// Source offsets skipped, in order.
    pub gaps: Vec<(GapReason, u64)>,
    /// Target offsets skipped; for the first segment the target offset it starts at.
    pub target_gap: u64,
    /// Leader epoch of the source batches that follow.
    pub leader_epoch: i32,
    /// Producer epoch that writes them.
    pub writer_epoch: i16,
}

/// A translated offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// The offset on the other side.
    pub offset: i64,
    /// The very same record, or the very end of what is mirrored.
    pub exact: bool,
    /// Where it is not: the reason of the gap that the offset lies in.
    pub reason: Option<GapReason>,
    /// It lies beyond what is mirrored; `offset` is the end.
    pub beyond_end: bool,
}

/// What cannot be added to a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Offsets would overflow.
    #[error("a break leads beyond the largest offset")]
    Overflow,
    /// The first break has records before it.
    #[error("the first break of a map ends a segment of {run} records")]
    RunBeforeStart {
        /// Records claimed.
        run: u64,
    },
    /// An offset that the map does not reach.
    #[error("target offset {target} is before the map's start")]
    BeforeStart {
        /// The offset.
        target: i64,
    },
    /// Something that cannot be where the map stands.
    #[error("target offset {target}: {what}")]
    Contradiction {
        /// The offset.
        target: i64,
        /// What contradicts what.
        what: &'static str,
    },
}

/// The map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetMap {
    segments: Vec<Segment>,
    /// `gaps_end[i]`: the gaps in front of segment `i` end here; they begin where those of `i − 1` end.
    gaps_end: Vec<u32>,
    gaps: Vec<Gap>,
}

impl OffsetMap {
    /// Whether nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The newest segment.
    pub fn last(&self) -> Option<Segment> {
        self.segments.last().copied()
    }

    /// All gaps, by source offset.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        self.gaps.iter().copied()
    }

    /// The gaps in front of segment `at`.
    pub fn gaps_before(&self, at: usize) -> &[Gap] {
        let from = at.checked_sub(1).and_then(|i| self.gaps_end.get(i)).map_or(0, |end| *end as usize);
        let to = self.gaps_end.get(at).map_or(from, |end| *end as usize);
        self.gaps.get(from..to).unwrap_or_default()
    }

    /// Adds a segment behind the last.
    pub fn push(&mut self, step: &Break) -> Result<(), MapError> {
        let last = self.segments.last();
        if last.is_none() && step.run != 0 {
            return Err(MapError::RunBeforeStart { run: step.run });
        }
        let add = |a: i64, b: u64| i64::try_from(b).ok().and_then(|b| a.checked_add(b)).ok_or(MapError::Overflow);
        let mut source = add(last.map_or(0, |l| l.source), step.run)?;
        let target = add(add(last.map_or(0, |l| l.target), step.run)?, step.target_gap)?;
        let mut gaps = Vec::with_capacity(step.gaps.len());
        for (reason, len) in &step.gaps {
            let to = add(source, *len)?;
            gaps.push(Gap { reason: *reason, from: source, to });
            source = to;
        }
        let fixed = self.segments.is_empty();
        let (leader_epoch, writer_epoch) = (step.leader_epoch, step.writer_epoch);
        self.add(Segment { target, source, leader_epoch, writer_epoch, fixed }, &gaps)
    }

    /// Adds a segment with the gaps in front of it, as a snapshot holds them. It may not lie before the last one, and
    /// its gaps must lead up to it.
    pub(super) fn add(&mut self, segment: Segment, gaps: &[Gap]) -> Result<(), MapError> {
        let contradiction = |what| MapError::Contradiction { target: segment.target, what };
        let gaps_end = u32::try_from(self.gaps.len() + gaps.len()).map_err(|_| MapError::Overflow)?;
        let from = gaps.first().map_or(segment.source, |gap| gap.from);
        if let Some(last) = self.segments.last() {
            let (run, room) = (from - last.source, segment.target - last.target);
            if run < 0 || room < run {
                return Err(contradiction("a segment begins before the one in front of it ends"));
            }
        }
        let led_up_to = gaps.iter().try_fold(from, |at, gap| (gap.from == at && gap.to > at).then_some(gap.to));
        if led_up_to != Some(segment.source) || from < 0 || segment.target < 0 {
            return Err(contradiction("the gaps in front of a segment do not lead up to it"));
        }
        self.gaps.extend_from_slice(gaps);
        self.segments.push(segment);
        self.gaps_end.push(gaps_end);
        Ok(())
    }

    fn truncate(&mut self, keep: usize) {
        let keep = keep.max(usize::from(!self.segments.is_empty()));
        self.segments.truncate(keep);
        self.gaps_end.truncate(keep);
        self.gaps.truncate(self.gaps_end.last().map_or(0, |end| *end as usize));
    }

    /// Drops what was written ahead at or beyond target offset `end`: nothing was appended there.
    pub fn void_ahead(&mut self, end: i64) {
        let keep = self.segments.iter().rposition(|s| s.target < end || (s.fixed && s.target == end));
        self.truncate(keep.map_or(1, |at| at + 1));
    }

    /// A take-over: the data ends at `settled`, our marker stands at `marker`; data goes on behind it. What was
    /// written ahead at or beyond `settled` is void. An empty map stays empty: without a first break acknowledged,
    /// nothing of ours was ever sent.
    ///
    /// Errors, and changes nothing, where this contradicts the map: a marker within the data, an end before the start
    /// of the map, or an end where the map has no data of ours.
    pub fn take_over(&mut self, settled: i64, marker: i64, writer_epoch: i16) -> Result<(), MapError> {
        let contradiction = |what| MapError::Contradiction { target: settled, what };
        if settled < 0 || marker < settled || marker == i64::MAX {
            return Err(contradiction("the marker of a take-over lies before the end of the data"));
        }
        let Some(first) = self.segments.first() else { return Ok(()) };
        if settled < first.target {
            return Err(MapError::BeforeStart { target: settled });
        }
        let effective = self.effective(settled);
        if let Some(at) = effective.checked_sub(1)
            && let Some(segment) = self.segments.get(at)
        {
            let data_end = segment.target + self.run(at, settled);
            let begins_here = self.segments.get(effective).is_some_and(|next| next.target == settled);
            if data_end != settled && !begins_here {
                return Err(contradiction("the data is said to end where the map has markers only"));
            }
        }
        let (source, leader_epoch) = (self.position(settled), self.leader_epoch_at(settled));
        // Not only up to `effective`: a truncation of the source may have been noted right at the settled end.
        self.void_ahead(settled);
        self.add(Segment { target: marker + 1, source, leader_epoch, writer_epoch, fixed: true }, &[])
    }

    /// Batches bound for `at` landed `by` above, and so did all after them up to `end` (as it stands on the target).
    /// What was written ahead beyond it is void. Errors, and changes nothing, where nothing can have landed so.
    pub fn displace(&mut self, at: i64, by: i64, end: i64) -> Result<(), MapError> {
        if by <= 0 || end.checked_sub(by).is_none_or(|bound_end| bound_end <= at) {
            return Err(MapError::Contradiction {
                target: at,
                what: "nothing landed above the offset it was bound to",
            });
        }
        if self.segments.first().is_none_or(|first| at < first.target) {
            return Err(MapError::BeforeStart { target: at });
        }
        let first = self.segments.partition_point(|s| s.target < at);
        let starts_here = self.segments.get(first).is_some_and(|s| s.target == at);
        let in_data = |(i, s): (usize, &Segment)| self.run(i, at) == at - s.target;
        if !starts_here && !first.checked_sub(1).and_then(|i| Some((i, self.segments.get(i)?))).is_some_and(in_data) {
            return Err(MapError::Contradiction { target: at, what: "batches are said to be bound for markers" });
        }
        let keep = self.segments.partition_point(|s| s.target < end - by).max(first);
        self.truncate(keep);
        for segment in self.segments.iter_mut().skip(first) {
            segment.target += by;
            segment.fixed = true;
        }
        let before = first.checked_sub(1).and_then(|i| Some((*self.segments.get(i)?, *self.gaps_end.get(i)?)));
        if let Some((before, gaps_end)) = before.filter(|_| !starts_here) {
            let source = before.source + (at - before.target);
            self.segments.insert(first, Segment { target: at + by, source, fixed: true, ..before });
            self.gaps_end.insert(first, gaps_end);
        }
        Ok(())
    }

    /// The source was truncated: the records it had at or beyond source offset `to` are no more, other ones follow
    /// there. Their copies stay on the target, without a counterpart; what the source holds from `to` on goes on at
    /// target offset `end`, which is the settled end. Errors, and changes nothing, where nothing of ours is beyond `to`.
    pub fn diverge(&mut self, to: i64, end: i64, writer_epoch: i16) -> Result<(), MapError> {
        let first = self.segments.first().map_or(i64::MAX, |first| first.source);
        if to < first || to >= self.position(end) {
            let what = "a truncation of the source that concerns nothing that is mapped";
            return Err(MapError::Contradiction { target: end, what });
        }
        let keep = self.segments.partition_point(|s| s.source < to).max(1);
        let mut gaps: Vec<Gap> = self.gaps_before(keep).iter().copied().filter(|gap| gap.from < to).collect();
        if let Some(last) = gaps.last_mut() {
            last.to = last.to.min(to);
        }
        self.truncate(keep);
        let leader_epoch = self.segments.last().map_or(-1, |last| last.leader_epoch);
        self.add(Segment { target: end, source: to, leader_epoch, writer_epoch, fixed: true }, &gaps)
    }

    /// Target offset of the newest segment that is a fact of the target's log: whatever the last epoch wrote lies at or
    /// above it, and what lies below is settled.
    pub fn floor(&self) -> i64 {
        self.segments.iter().rfind(|s| s.fixed).map_or(0, |s| s.target)
    }

    /// The source offset at which the records of later leader epochs than this one begin, as far as they are mirrored;
    /// the position where there are none. This is the log end that a follower would have for that epoch (KIP-101).
    pub fn end_of_epoch(&self, leader_epoch: i32, end: i64) -> i64 {
        let mut mapped = self.segments[..self.effective(end)].iter();
        mapped.find(|s| s.leader_epoch > leader_epoch).map_or_else(|| self.position(end), |s| s.source)
    }

    /// The source offset behind the last record mirrored below `to`: between the two stand gaps only. (No earlier than the
    /// map begins.)
    pub fn end_of_records(&self, to: i64, end: i64) -> i64 {
        let below = self.segments[..self.effective(end)].partition_point(|s| s.source < to);
        match self.last_with_records(below, end) {
            Some(at) => to.min(self.segments[at].source + self.run(at, end)),
            None => self.segments.first().map_or(0, |first| first.source),
        }
    }

    /// The newest of the first `count` segments that holds any records.
    fn last_with_records(&self, count: usize, end: i64) -> Option<usize> {
        (0..count).rev().find(|at| self.run(*at, end) > 0)
    }

    /// Forgets the segments that lie wholly below the target's log start.
    pub fn drop_below(&mut self, log_start: i64) {
        // Where the log is empty, what was written ahead begins at its start as well, and does not count yet.
        let covers = |s: &Segment| s.target < log_start || (s.fixed && s.target == log_start);
        let Some(keep_from) = self.segments.iter().rposition(covers).filter(|at| *at > 0) else { return };
        let gaps_cut = self.gaps_end.get(keep_from).copied().unwrap_or(0);
        self.segments.drain(..keep_from);
        self.gaps_end.drain(..keep_from);
        self.gaps.drain(..gaps_cut as usize);
        for end in &mut self.gaps_end {
            *end -= gaps_cut;
        }
        if let Some(first) = self.segments.first_mut() {
            first.fixed = true;
        }
    }

    /// Records in segment `at`, as far as the settled end reaches.
    fn run(&self, at: usize, end: i64) -> i64 {
        let Some(segment) = self.segments.get(at) else { return 0 };
        let whole = match self.segments.get(at + 1) {
            Some(next) => {
                let gap_from = self.gaps_before(at + 1).first().map_or(next.source, |g| g.from);
                gap_from - segment.source
            }
            // No record has an offset beyond the largest, whatever end is asked about.
            None => i64::MAX - segment.source,
        };
        whole.min(end - segment.target).max(0)
    }

    /// How many segments begin below the settled end.
    fn effective(&self, end: i64) -> usize {
        self.segments.partition_point(|s| s.target < end)
    }

    /// The source offset after the record at target offset `end − 1`: where mirroring goes on.
    pub fn position(&self, end: i64) -> i64 {
        // A segment that begins right here may go on elsewhere than the records before it end (a truncation).
        let up_to = self.segments.partition_point(|s| s.target <= end);
        let mut here = self.segments[..up_to].iter().rev().take_while(|s| s.target == end);
        if let Some(begins) = here.find(|s| s.fixed) {
            return begins.source;
        }
        match self.effective(end).checked_sub(1) {
            Some(at) => self.segments.get(at).map_or(0, |s| s.source) + self.run(at, end),
            None => self.segments.first().map_or(0, |s| s.source),
        }
    }

    /// The source leader epoch of the record at target offset `end − 1`; −1 where unknown.
    pub fn leader_epoch_at(&self, end: i64) -> i32 {
        // A segment whose records the source has lost says nothing of what stands there now.
        let at = self.last_with_records(self.effective(end), end);
        at.and_then(|at| self.segments.get(at)).map_or(-1, |s| s.leader_epoch)
    }

    /// Source offset to target offset, given the settled end of the target.
    pub fn to_target(&self, source: i64, end: i64) -> Translation {
        let exact = |offset| Translation { offset, exact: true, reason: None, beyond_end: false };
        let beyond = Translation { offset: end, exact: false, reason: None, beyond_end: true };
        if self.is_empty() {
            return beyond;
        }
        let position = self.position(end);
        if source >= position {
            return if source == position { exact(end) } else { beyond };
        }
        let effective = self.effective(end);
        let at = self.segments[..effective].partition_point(|s| s.source <= source);
        if let Some(i) = at.checked_sub(1) {
            let into = source - self.segments[i].source;
            if into < self.run(i, end) {
                return exact(self.segments[i].target + into);
            }
        }
        let offset = self.segments.get(at).filter(|_| at < effective).map_or(end, |s| s.target);
        Translation { offset, exact: false, reason: self.reason_at(at, source), beyond_end: false }
    }

    fn reason_at(&self, segment: usize, source: i64) -> Option<GapReason> {
        self.gaps_before(segment).iter().find(|g| (g.from..g.to).contains(&source)).map(|g| g.reason)
    }

    /// Target offset to source offset, given the settled end of the target.
    pub fn to_source(&self, target: i64, end: i64) -> Translation {
        let exact = |offset| Translation { offset, exact: true, reason: None, beyond_end: false };
        if target >= end || self.is_empty() {
            let at_end = target == end && !self.is_empty();
            return Translation { beyond_end: !at_end, exact: at_end, ..exact(self.position(end)) };
        }
        let effective = self.effective(end);
        let at = self.segments[..effective].partition_point(|s| s.target <= target);
        if let Some(i) = at.checked_sub(1) {
            let into = target - self.segments[i].target;
            if into < self.run(i, end) {
                return exact(self.segments[i].source + into);
            }
        }
        let next = self.segments.get(at).filter(|_| at < effective).map_or(self.position(end), |s| s.source);
        Translation { offset: next, exact: false, reason: Some(GapReason::TakeOver), beyond_end: false }
    }
}

#[cfg(test)]
mod tests;
