//! One committed offset, from the source to the target.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::mirror::GapReason;

use super::view::{View, length, next_record};

/// Where a group goes on, on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Translated {
    /// The offset to commit.
    pub offset: i64,
    /// The leader epoch to commit with it: of the target's record before it (KIP-320); −1 where unknown.
    pub leader_epoch: i32,
    /// How it follows from the source's offset.
    #[serde(flatten)]
    pub basis: Basis,
    /// Source offsets from the committed one up to the record that the group goes on with whose records the target lacks
    /// and the group had not read: at most so many records, markers of transactions among them count too.
    pub missing: u64,
    /// The same behind that record, as far as all is mirrored.
    pub missing_later: u64,
}

/// How the target's offset follows from the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum Basis {
    /// The very same record.
    SameRecord,
    /// The group has read all that is mirrored, and nothing else.
    CaughtUp,
    /// The record is in a gap: the next one that is mirrored.
    InGap {
        /// Why the gap is there.
        reason: GapReason,
    },
    /// Before the mirror's start: the first record that is mirrored.
    BeforeStart {
        /// Why it did not start earlier.
        reason: GapReason,
    },
    /// Retention has taken the record from the target: the first one left.
    Expired,
    /// The group is ahead of the mirror: the end of what is mirrored. It will move on as the mirror does.
    NotMirroredYet {
        /// Source offsets that the group has read and the mirror has not.
        ahead: u64,
    },
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameRecord => f.write_str("same record"),
            Self::CaughtUp => f.write_str("caught up"),
            Self::InGap { reason } => write!(f, "in a gap ({reason}): the next record"),
            Self::BeforeStart { reason } => write!(f, "before the start ({reason}): the first record"),
            Self::Expired => f.write_str("expired on the target: the first record left"),
            Self::NotMirroredYet { ahead } => write!(f, "{ahead} ahead of the mirror: the end"),
        }
    }
}

/// Why there is no offset to commit. Nothing is guessed: what the target holds for the group stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Untranslatable {
    /// The partition has no committed offset (−1 in OffsetFetch), or no valid one.
    #[error("no offset is committed")]
    NoOffset,
    /// Nothing of this partition goes to the target.
    #[error("the partition is not mirrored")]
    NotMirrored,
    /// The mirror has not begun with the partition.
    #[error("the mirror has not begun with this partition")]
    NotBegun,
    /// No consumer of this log can have committed that.
    #[error(
        "the offset is beyond the source's end, {source_end}: the log was truncated, or the topic was made again, after it \
         was committed"
    )]
    BeyondSource {
        /// The source's high watermark.
        source_end: i64,
    },
    /// The log that the group read is not the one that is mirrored (KIP-320: OffsetsForLeaderEpoch answers a smaller end).
    #[error(
        "it was committed in leader epoch {leader_epoch}, which ends at offset {ends_at}: what the group read was truncated \
         since, or the topic was made again"
    )]
    Diverged {
        /// Leader epoch of the commit.
        leader_epoch: i32,
        /// No record from this offset on is of that epoch or an earlier one.
        ends_at: i64,
    },
    /// The group may have read other records at these offsets than the mirror has: the source was truncated, and the
    /// mirror has not come to see it yet, or could not.
    #[error(
        "it was committed in leader epoch {leader_epoch}, and what is mirrored behind it is of epoch {newest} at most: the \
         source may hold other records there than the target"
    )]
    EpochAhead {
        /// Leader epoch of the commit.
        leader_epoch: i32,
        /// The highest one that is mirrored.
        newest: i32,
    },
}

impl View<'_> {
    /// Translates a committed offset. `leader_epoch` is what was committed with it, −1 where nothing was.
    ///
    /// Never beyond [`View::end`], never below the target's log start, and a higher offset never comes out lower.
    ///
    /// # Errors
    /// [`Untranslatable`], where the answer would be a guess.
    pub fn translate(&self, offset: i64, leader_epoch: i32) -> Result<Translated, Untranslatable> {
        self.check(offset, leader_epoch)?;
        if offset >= self.position {
            let ahead = length(self.looked_at, offset);
            let basis = if ahead == 0 { Basis::CaughtUp } else { Basis::NotMirroredYet { ahead } };
            return Ok(self.going_on_with(offset, offset, basis));
        }
        let (map, end) = (self.facts.map, self.facts.end);
        let found = map.to_target(offset, end);
        let next = if found.exact { offset } else { next_record(map, offset, end) };
        if map.to_target(next, end).offset < self.facts.target_start {
            return Ok(self.going_on_with(self.first_source, offset, Basis::Expired));
        }
        let before_start = map.segments().first().is_some_and(|first| offset < first.source);
        let basis = match (found.reason, before_start) {
            _ if found.exact => Basis::SameRecord,
            (Some(reason), true) => Basis::BeforeStart { reason },
            // The map's beginning went with what retention took.
            (None, true) => Basis::Expired,
            (reason, false) => Basis::InGap { reason: reason.unwrap_or(GapReason::Unknown) },
        };
        Ok(self.going_on_with(next, offset, basis))
    }

    /// Whether the offset can be one of this log.
    fn check(&self, offset: i64, leader_epoch: i32) -> Result<(), Untranslatable> {
        if offset < 0 {
            return Err(Untranslatable::NoOffset);
        }
        if self.facts.map.is_empty() {
            return Err(Untranslatable::NotBegun);
        }
        if let Some(source_end) = self.facts.source_end.filter(|end| offset > *end) {
            return Err(Untranslatable::BeyondSource { source_end });
        }
        if leader_epoch < 0 {
            return Ok(());
        }
        if let Some(ends_at) = self.end_of_epoch(leader_epoch).filter(|ends_at| offset > *ends_at) {
            return Err(Untranslatable::Diverged { leader_epoch, ends_at });
        }
        // Whoever reads this log up to here finds a record of that epoch, or of a later one, at or behind the offset.
        let newest = self.newest_epoch;
        if newest >= 0 && leader_epoch > newest && offset < self.position {
            return Err(Untranslatable::EpochAhead { leader_epoch, newest });
        }
        Ok(())
    }

    /// The answer for source offset `offset`, where `next` is the first one from there on that the target has: a record's, or
    /// one at or beyond the position.
    fn going_on_with(&self, next: i64, offset: i64, basis: Basis) -> Translated {
        let there = self.facts.map.to_target(next, self.facts.end).offset;
        // Below the log start no consumer may begin.
        let target = there.max(self.facts.target_start);
        // What the source's own retention has taken no reader of the source would get either.
        let still_there = offset.max(self.facts.source_start.unwrap_or(offset));
        let missing = match basis {
            Basis::Expired => length(still_there, next),
            Basis::BeforeStart { .. } => self.missing(still_there, next),
            _ => self.missing(offset, next),
        };
        let leader_epoch = self.target_epoch_before(target);
        let missing_later = self.missing(next, self.position);
        Translated { offset: target, leader_epoch, basis, missing, missing_later }
    }
}
