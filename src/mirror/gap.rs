//! Why a source offset has no counterpart on the target.

use std::fmt;

/// The reason of a gap. Codes and names are stable: they stand in the state topic and in `status --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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
}

const ALL: [(GapReason, &str); 12] = [
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
];

impl GapReason {
    /// The code in the state topic.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        ALL.into_iter().map(|(reason, _)| reason).find(|reason| reason.code() == code)
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
