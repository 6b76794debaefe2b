//! Where the log of the old source and that of the standby part: up to there both hold the same records, at offsets that the
//! mirror's map names.

use crate::client::{Cluster, TopicPartition};
use crate::engine::EngineError;
use crate::mirror::OffsetMap;

use super::super::records::{is_same, record_at};

/// Records looked at for one that both sides still have.
const PROBES: u64 = 32;

/// A partition on both sides, and what the mirror knows of it.
pub(super) struct Sides<'a> {
    pub(super) old: &'a Cluster,
    pub(super) standby: &'a Cluster,
    pub(super) old_tp: &'a TopicPartition,
    pub(super) standby_tp: &'a TopicPartition,
    pub(super) map: &'a OffsetMap,
    /// End on the standby of what the mirror wrote.
    pub(super) end: i64,
    /// First offset of the old source's log and the one after its last.
    pub(super) old_bounds: (i64, i64),
    /// First offset of the standby's log.
    pub(super) standby_start: i64,
}

/// Where they part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parting {
    /// Offset on the old source: what lies at or beyond it is there alone.
    pub(super) old: i64,
    /// Offset on the standby: from here on it goes its own way.
    pub(super) standby: i64,
    /// Whether records in front of it were found to be the same; where retention has taken them all, nobody knows.
    pub(super) compared: bool,
}

/// What both sides have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Up to here.
    Parting(Parting),
    /// Nothing, although both should hold the same: it is another log.
    Different {
        /// Offset of the first record that differs, on the old source.
        at: i64,
    },
}

impl Sides<'_> {
    /// Finds the place. The newest record that both should have tells most of the time; where it differs, the old source has
    /// lost its end and has gone on differently, and the last common record is searched for by halves.
    pub(super) async fn parting(&self) -> Result<Found, EngineError> {
        let common = Common::new(self);
        let Some(last) = common.total.checked_sub(1) else { return Ok(Found::Parting(self.at_end(false))) };
        match self.agrees(&common, last).await? {
            Some(true) => return Ok(Found::Parting(self.at_end(true))),
            None => return Ok(Found::Parting(self.at_end(false))),
            Some(false) => {}
        }
        // The first `same` records agree, the one at `differs` does not.
        let (mut same, mut differs) = (0, last);
        while same < differs {
            let middle = same + (differs - same) / 2;
            if self.agrees(&common, middle).await? == Some(false) {
                differs = middle;
            } else {
                same = middle + 1;
            }
        }
        let (old, standby) = common.nth(differs);
        if differs == 0 {
            return Ok(Found::Different { at: old });
        }
        Ok(Found::Parting(Parting { old, standby, compared: true }))
    }

    /// The end of what was mirrored, or of what the old source still has of it.
    fn at_end(&self, compared: bool) -> Parting {
        let old = self.map.position(self.end).min(self.old_bounds.1);
        Parting { old, standby: self.map.to_target(old, self.end).offset, compared }
    }

    /// Whether a record is the same on both sides; one that is missing on either says nothing, and those before it are asked.
    async fn agrees(&self, common: &Common, nth: u64) -> Result<Option<bool>, EngineError> {
        for nth in (0..=nth).rev().take(PROBES as usize) {
            let (old, standby) = common.nth(nth);
            let theirs = record_at(self.old, self.old_tp, old).await?;
            let ours = record_at(self.standby, self.standby_tp, standby).await?;
            if let (Some(theirs), Some(ours)) = (theirs, ours) {
                return Ok(Some(is_same(&theirs, &ours)));
            }
        }
        Ok(None)
    }
}

/// The records that both logs should hold, counted from the first.
struct Common {
    /// Number of the first record of a run, its offset on the old source and on the standby.
    runs: Vec<(u64, i64, i64)>,
    total: u64,
}

impl Common {
    fn new(sides: &Sides<'_>) -> Self {
        let ((old_start, old_end), standby_start) = (sides.old_bounds, sides.standby_start);
        let mut common = Self { runs: Vec::new(), total: 0 };
        for (old, standby, records) in sides.map.runs(sides.end) {
            let skip = (old_start - old).max(standby_start - standby).max(0);
            let records = records.min(old_end - old) - skip;
            if records > 0 {
                common.runs.push((common.total, old + skip, standby + skip));
                common.total += records.unsigned_abs();
            }
        }
        common
    }

    fn nth(&self, nth: u64) -> (i64, i64) {
        let at = self.runs.partition_point(|(first, ..)| *first <= nth).saturating_sub(1);
        let (first, old, standby) = self.runs.get(at).copied().unwrap_or_default();
        let into = i64::try_from(nth - first).unwrap_or(0);
        (old + into, standby + into)
    }
}
