//! The map of the way home: what was source is target, and the other way around.

use super::{Gap, GapReason, MapError, OffsetMap, Segment};

impl OffsetMap {
    /// The map of the opposite direction, of what is mirrored below target offset `end`. What lies between its segments on
    /// what is the source then were markers of take-overs, or records that the other side lacks; `reason` tells by range.
    /// Of the leader epochs there nothing is known.
    pub fn inverted(&self, end: i64, reason: impl Fn(i64, i64) -> GapReason) -> Result<Self, MapError> {
        let mut inverse = Self::default();
        let mut at = 0;
        for (from, to, records) in self.runs(end) {
            inverse.begin(to, from, (at, &reason))?;
            at = to + records;
        }
        Ok(inverse)
    }

    /// Goes on at other offsets than those where the last segment ends: `source` follows the source offsets up to `read`.
    /// That is a fact, and nothing written ahead.
    pub fn go_on_at(&mut self, source: i64, target: i64, (read, reason): (i64, GapReason)) -> Result<(), MapError> {
        self.begin(source, target, (read.min(source), &|_, _| reason))
    }

    fn begin(
        &mut self,
        source: i64,
        target: i64,
        (at, reason): (i64, &dyn Fn(i64, i64) -> GapReason),
    ) -> Result<(), MapError> {
        let gap = Gap { reason: reason(at, source), from: at, to: source };
        let gaps: &[Gap] = if at < source { &[gap] } else { &[] };
        self.add(Segment { target, source, leader_epoch: -1, writer_epoch: 0, fixed: true }, gaps)
    }

    /// Where both sides run in step below target offset `end`: source offset, target offset, records.
    pub fn runs(&self, end: i64) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        (0..self.effective(end)).zip(&self.segments).filter_map(move |(at, segment)| {
            let records = self.run(at, end);
            (records > 0).then_some((segment.source, segment.target, records))
        })
    }
}
