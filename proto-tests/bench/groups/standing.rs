//! The groups, and how far each has read.

use crate::kafka::harness::dump::Digest;

/// A moment at which groups commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round(pub(crate) u32);

impl Round {
    /// Before anybody copies.
    pub(crate) const FIRST: Self = Self(0);
    /// The number of the last one: who stands still from there on is judged.
    pub(crate) const LAST: u32 = 10;

    fn is_last(self) -> bool {
        self.0 == Self::LAST
    }
}

/// Where a group stands in each partition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing {
    /// So many offsets in front of the end, in every round.
    Behind(i64),
    /// At this share of the log, %, in every round.
    Share(i64),
    /// At the end until this round, and there for good.
    Until(u32),
    /// At this offset from the beginning.
    At(i64),
    /// At the end, and in the last round at a quarter of the log.
    Rewinds,
    /// Begins in the last round, inside the first gap (markers, aborted records, compaction) behind this share of the log, %.
    /// Where there is none: right there.
    Gap(i64),
}

impl Standing {
    /// What it commits in a round; `visible`: the partition's records.
    pub(crate) fn offset(self, round: Round, end: i64, visible: &[Digest]) -> Option<i64> {
        match self {
            Self::Behind(offsets) => Some((end - offsets).max(0)),
            Self::Share(percent) => Some(end * percent / 100),
            Self::Until(last) => (round.0 <= last).then_some(end),
            Self::At(offset) => Some(offset),
            Self::Rewinds => Some(if round.is_last() { end / 4 } else { end }),
            Self::Gap(percent) => round.is_last().then(|| in_gap(visible, end * percent / 100)),
        }
    }
}

/// In the middle of the first gap behind an offset.
fn in_gap(visible: &[Digest], from: i64) -> i64 {
    let behind = visible.partition_point(|record| record.offset < from);
    let gap = visible[behind..].windows(2).find(|pair| pair[1].offset - pair[0].offset > 2);
    gap.map_or(from, |pair| i64::midpoint(pair[0].offset + 1, pair[1].offset))
}

/// A group that is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) standing: Standing,
    /// In the table.
    pub(crate) what: &'static str,
}

const fn group(name: &'static str, standing: Standing, what: &'static str) -> Group {
    Group { name, standing, what }
}

/// What the groups' names begin with, and nothing else's.
pub(crate) const PREFIX: &str = "bench-";

/// All of them, in the order of the table.
pub(crate) const GROUPS: [Group; 14] = [
    group("done", Standing::Behind(0), "at the end"),
    group("mid-batch", Standing::Behind(7), "7 behind, in a batch"),
    group("behind-1000", Standing::Behind(1_000), "1,000 behind"),
    group("behind-10000", Standing::Behind(10_000), "10,000 behind"),
    group("late", Standing::Share(90), "always at 90 % of the log"),
    group("halfway", Standing::Share(50), "always at 50 %"),
    group("far-behind", Standing::Share(5), "always at 5 %"),
    group("stopped-midway", Standing::Until(Round::LAST / 2), "stopped while it was mirrored"),
    group("stopped-before", Standing::Until(0), "stopped before it was mirrored"),
    group("rewound", Standing::Rewinds, "was at the end, rewound to 25 %"),
    group("gap-late", Standing::Gap(85), "new, in a gap at 85 %"),
    group("gap-early", Standing::Gap(20), "new, in a gap at 20 %"),
    group("first", Standing::At(1), "behind the first offset"),
    group("zero", Standing::At(0), "at offset 0"),
];

impl Group {
    /// As Kafka knows it.
    pub(crate) fn id(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}

/// All group ids.
pub(crate) fn ids() -> Vec<String> {
    GROUPS.iter().map(Group::id).collect()
}
