//! What is known of one partition, arranged so that any number of committed offsets can be looked up in it.

use std::collections::BTreeMap;

use crate::mirror::{Gap, OffsetMap, Scan};

/// Where a leader epoch begins in a log (Kafka's `LeaderEpochFileCache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: i32,
    /// Its first offset.
    pub start: i64,
}

/// A mirrored partition as it was read off both clusters.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The offset map.
    pub map: &'a OffsetMap,
    /// The settled end of the target: behind the last record that was mirrored.
    pub end: i64,
    /// How far the source was read behind the last record that was mirrored, at which end of the target.
    pub scanned: Scan,
    /// The target's log start.
    pub target_start: i64,
    /// The source's log start; `None` where the source cannot be asked.
    pub source_start: Option<i64>,
    /// The source's high watermark, asked for after the groups; not the last stable offset, which readers of uncommitted
    /// records are ahead of. `None` where the source cannot be asked.
    pub source_end: Option<i64>,
    /// Leader epochs of the target's log, ascending, as far as they are known.
    pub target_epochs: &'a [EpochStart],
}

/// Source offsets of a gap in which records are missing, and how many of those lie in front of it.
#[derive(Debug, Clone, Copy)]
struct Loss {
    from: i64,
    to: i64,
    before: u64,
}

/// The facts of a partition, ready to be asked.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub(super) facts: Facts<'a>,
    /// The source offset up to which all is mirrored or in a gap.
    pub(super) position: i64,
    /// The same, with what was read behind the last record and left nothing to mirror.
    pub(super) looked_at: i64,
    /// Source offset of the first record that the target still has, or of the next one that it gets.
    pub(super) first_source: i64,
    /// Where the source's leader epochs begin, ascending in both, as far as they are mirrored.
    epochs: Vec<EpochStart>,
    /// Leader epoch of the last record mirrored; −1 where unknown.
    pub(super) newest_epoch: i32,
    losses: Vec<Loss>,
}

impl<'a> View<'a> {
    /// Arranges what is known. Costs a walk over the map; every question after that a few binary searches.
    pub fn new(facts: Facts<'a>) -> Self {
        let Facts { map, end, scanned, target_start, .. } = facts;
        let position = map.position(end);
        // Where the target has lost records since, they are to be read again.
        let looked_at = if scanned.end <= end { position.max(scanned.source) } else { position };
        let begin = map.segments().first().map_or(end, |first| first.target).max(target_start);
        Self {
            facts,
            position,
            looked_at,
            first_source: next_record(map, map.to_source(begin, end).offset, end),
            epochs: epochs(map, end),
            newest_epoch: map.leader_epoch_at(end),
            losses: losses(map.gaps().take_while(|gap| gap.from < position)),
        }
    }

    /// The highest offset that a translation comes to: the settled end. Above it only where retention has taken markers of
    /// take-overs that stood there: below the log start no consumer may begin.
    pub fn end(&self) -> i64 {
        self.facts.end.max(self.facts.target_start)
    }

    /// The source offset at which the records of later leader epochs begin, as [`OffsetMap::end_of_epoch`] has it; `None`
    /// where no record of a later one is mirrored.
    pub(super) fn end_of_epoch(&self, leader_epoch: i32) -> Option<i64> {
        let later = self.epochs.partition_point(|known| known.epoch <= leader_epoch);
        self.epochs.get(later).map(|known| known.start)
    }

    /// Leader epoch of the target's record before `offset`; −1 where unknown.
    pub(super) fn target_epoch_before(&self, offset: i64) -> i32 {
        let known = self.facts.target_epochs;
        let begun = known.partition_point(|epoch| epoch.start < offset);
        begun.checked_sub(1).and_then(|at| known.get(at)).map_or(-1, |epoch| epoch.epoch)
    }

    /// How many source offsets of `[from, to)` lie in gaps in which records are missing.
    pub(super) fn missing(&self, from: i64, to: i64) -> u64 {
        self.missing_below(to).saturating_sub(self.missing_below(from))
    }

    fn missing_below(&self, source: i64) -> u64 {
        let begun = self.losses.partition_point(|loss| loss.from < source);
        let last = begun.checked_sub(1).and_then(|at| self.losses.get(at));
        last.map_or(0, |loss| loss.before + length(loss.from, loss.to.min(source)))
    }
}

/// Offsets from one to another; 0 where they are not in this order.
pub(super) fn length(from: i64, to: i64) -> u64 {
    u64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0)
}

/// The first source offset from `source` on that is mirrored; the position where none is. Segments without records may lie
/// between (several take-overs, a truncation with a gap behind it), so one look there and back need not be enough.
pub(super) fn next_record(map: &OffsetMap, mut source: i64, end: i64) -> i64 {
    loop {
        let there = map.to_target(source, end);
        let back = map.to_source(there.offset, end).offset;
        if there.exact || back <= source {
            return source;
        }
        source = back;
    }
}

/// The first segment of every leader epoch that is higher than all before it.
fn epochs(map: &OffsetMap, end: i64) -> Vec<EpochStart> {
    let mut found: Vec<EpochStart> = Vec::new();
    for segment in map.segments().iter().take_while(|segment| segment.target < end) {
        if segment.leader_epoch > found.last().map_or(-1, |last| last.epoch) {
            found.push(EpochStart { epoch: segment.leader_epoch, start: segment.source });
        }
    }
    found
}

fn losses(gaps: impl Iterator<Item = Gap>) -> Vec<Loss> {
    let mut before = 0;
    let with_count = |gap: Gap| {
        let loss = Loss { from: gap.from, to: gap.to, before };
        before += length(gap.from, gap.to);
        loss
    };
    gaps.filter(|gap| gap.reason.is_loss()).map(with_count).collect()
}

/// A source topic on the target.
#[derive(Debug, Clone)]
pub struct TopicView<'a> {
    /// Its name there.
    pub target_topic: String,
    /// Its mirrored partitions by number.
    pub partitions: BTreeMap<i32, View<'a>>,
}

/// All that is mirrored, by source topic. Where a topic was made again under its name: what stands under it now.
pub type Views<'a> = BTreeMap<String, TopicView<'a>>;
