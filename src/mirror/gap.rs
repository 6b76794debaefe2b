//! Why a source offset has no counterpart on the target.

use std::fmt;

/// The reason of a gap. Codes and names are stable: they stand in the state topic and in `status --json`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum GapReason {
    /// Before the mirror's start (`start:`, or the log start offset at that time).
    Start = 1,
    /// Transaction markers.
    Control = 2,
    /// Records of aborted transactions.
    Aborted = 3,
    /// Removed by compaction before they were read.
    Compaction = 4,
    /// Removed by retention or DeleteRecords before they were read.
    Retention = 5,
    /// The source log was truncated and went on differently.
    Divergence = 6,
    /// None on the source: markers of a take-over on the target.
    TakeOver = 7,
    /// The mirror was promoted here.
    Promotion = 8,
    /// A batch that fails its checksum, given up by policy.
    Corrupt = 9,
    /// Given up by `resume --accept-loss`.
    Accepted = 10,
    /// The source topic was deleted and made again.
    Recreated = 11,
    /// Records of somebody else on the target.
    Foreign = 12,
    /// Not on the target, and the record of why was lost: found so by `state rebuild`.
    Unknown = 13,
}

const ALL: [(GapReason, &str); 13] = [
    (GapReason::Start, "start"),
    (GapReason::Control, "control"),
    (GapReason::Aborted, "aborted"),
    (GapReason::Compaction, "compaction"),
    (GapReason::Retention, "retention"),
    (GapReason::Divergence, "divergence"),
    (GapReason::TakeOver, "take_over"),
    (GapReason::Promotion, "promotion"),
    (GapReason::Corrupt, "corrupt"),
    (GapReason::Accepted, "accepted"),
    (GapReason::Recreated, "recreated"),
    (GapReason::Foreign, "foreign"),
    (GapReason::Unknown, "unknown"),
];

impl GapReason {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter().map(|(reason, _)| reason)
    }

    /// The code in the state topic.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        ALL.into_iter().map(|(reason, _)| reason).find(|reason| reason.code() == code)
    }

    /// Whether records that counted are missing, or may be.
    pub fn is_loss(self) -> bool {
        self.weight().is_none()
    }

    /// Which reason a merged gap keeps, for the reasons that lose nothing.
    fn weight(self) -> Option<u8> {
        match self {
            Self::Control => Some(0),
            Self::Compaction => Some(1),
            Self::Aborted => Some(2),
            _ => None,
        }
    }
}

/// Gaps in a row from which on neighbours are merged although their reasons differ: bounds what waits for the next
/// record while a source holds nothing but aborted transactions.
const EXACT_MAX: usize = 64;

/// Adds a gap behind the last one. Gaps of one reason become one. From [`EXACT_MAX`] gaps on, neighbours that lost
/// nothing (markers, aborted data, compaction) become one as well, under the weightier of their reasons; a gap that
/// is a loss always stays by itself.
pub(super) fn push_gap(gaps: &mut Vec<(GapReason, u64)>, reason: GapReason, len: u64) {
    if len == 0 {
        return;
    }
    let coarse = gaps.len() >= EXACT_MAX;
    match gaps.last_mut() {
        Some((last, n)) if *last == reason => *n += len,
        Some((last, n)) if coarse && last.weight().is_some() && reason.weight().is_some() => {
            *n += len;
            *last = if reason.weight() > last.weight() { reason } else { *last };
        }
        _ => gaps.push((reason, len)),
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.into_iter().find(|(reason, _)| reason == self).map_or("", |(_, name)| name))
    }
}

/// Source offsets `[from, to)` without a counterpart on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// First source offset.
    pub from: i64,
    /// Source offset after the last.
    pub to: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(gaps: &[(GapReason, u64)]) -> u64 {
        gaps.iter().map(|(_, len)| len).sum()
    }

    #[test]
    fn codes_and_names_are_stable() {
        for (reason, name) in ALL {
            assert_eq!(GapReason::from_code(reason.code()), Some(reason));
            assert_eq!(reason.to_string(), name);
            assert_eq!(serde_json::to_value(reason).unwrap(), name);
        }
        assert_eq!((GapReason::from_code(0), GapReason::from_code(14)), (None, None));
        assert_eq!((GapReason::Start.code(), GapReason::Control.code(), GapReason::Foreign.code()), (1, 2, 12));
    }

    #[test]
    fn neighbours_of_one_reason_are_one_gap() {
        let mut gaps = Vec::new();
        for (reason, len) in [(GapReason::Control, 1), (GapReason::Control, 2), (GapReason::Aborted, 0)] {
            push_gap(&mut gaps, reason, len);
        }
        push_gap(&mut gaps, GapReason::Aborted, 5);
        assert_eq!(gaps, [(GapReason::Control, 3), (GapReason::Aborted, 5)]);
    }

    #[test]
    fn a_long_aborted_stretch_stays_small_and_loses_no_offset() {
        let mut gaps = Vec::new();
        for _ in 0..100_000 {
            push_gap(&mut gaps, GapReason::Aborted, 7);
            push_gap(&mut gaps, GapReason::Control, 1);
        }
        assert_eq!(gaps.len(), EXACT_MAX);
        assert_eq!(total(&gaps), 800_000);
        assert_eq!(gaps.last().unwrap().0, GapReason::Aborted, "aborted data weighs more than its markers");
    }

    #[test]
    fn a_loss_is_never_merged_into_anything_else() {
        let mut gaps = Vec::new();
        for _ in 0..EXACT_MAX {
            push_gap(&mut gaps, GapReason::Aborted, 7);
            push_gap(&mut gaps, GapReason::Control, 1);
        }
        push_gap(&mut gaps, GapReason::Corrupt, 3);
        push_gap(&mut gaps, GapReason::Control, 1);
        push_gap(&mut gaps, GapReason::Retention, 4);
        push_gap(&mut gaps, GapReason::Accepted, 5);
        let end =
            [(GapReason::Corrupt, 3), (GapReason::Control, 1), (GapReason::Retention, 4), (GapReason::Accepted, 5)];
        assert!(gaps.ends_with(&end), "{gaps:?}");
        assert_eq!(total(&gaps), 8 * EXACT_MAX as u64 + 13);
    }
}
