//! The offset map of one partition, for looking at.

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::Cluster;
use crate::engine::EngineError;
use crate::mirror::{OffsetMap, PartitionState};

use super::{MirrorState, PartitionStatus};

/// Segments that are shown; older ones are counted.
const SEGMENTS_MAX: usize = 2_000;

/// An offset map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MapView {
    /// Where both sides run in step, oldest first; the last two thousand.
    pub segments: Vec<SegmentView>,
    /// Older segments that are not listed.
    pub more_segments: usize,
}

/// A segment: offset `source_from + n` of the source is offset `target_from + n` of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SegmentView {
    /// First source offset.
    pub source_from: i64,
    /// Source offset after the last one mirrored.
    pub source_to: i64,
    /// First target offset.
    pub target_from: i64,
    /// Target offset after the last one mirrored.
    pub target_to: i64,
    /// Leader epoch of the source's batches; −1 where unknown.
    pub leader_epoch: i32,
    /// Producer epoch under which they were written.
    pub writer_epoch: i16,
}

/// The map of a partition, as far as it is mirrored; `None` where the mirror has not begun with it.
///
/// # Errors
/// The state cannot be read.
pub async fn map_of(mirror: &str, target: &Cluster, of: &PartitionStatus) -> Result<Option<MapView>, EngineError> {
    let state = MirrorState::read(mirror, target).await?.unwrap_or_default();
    let is_of = |p: &&PartitionState| p.declared.source_topic == of.topic && p.declared.partition == of.partition;
    // Where the topic was made again under its name, the newest: furthest up on the target.
    let newest = state.partitions().filter(is_of).max_by_key(|p| p.map.segments().first().map(|first| first.target));
    Ok(newest.filter(|known| !known.map.is_empty()).map(|known| view(&known.map, of.mirrored_to)))
}

/// Breaks are written ahead: what lies beyond `mirrored_to` does not count yet.
fn view(map: &OffsetMap, mirrored_to: i64) -> MapView {
    let segments = map.segments();
    let count = segments.iter().take_while(|segment| segment.source < mirrored_to).count();
    let skipped = count.saturating_sub(SEGMENTS_MAX);
    let one = |(at, segment): (usize, &crate::mirror::Segment)| {
        let next = segments.get(at + 1).map(|next| next.source);
        let end = map.gaps_before(at + 1).first().map(|gap| gap.from).or(next).unwrap_or(mirrored_to).min(mirrored_to);
        SegmentView {
            source_from: segment.source,
            source_to: end,
            target_from: segment.target,
            target_to: segment.target + (end - segment.source),
            leader_epoch: segment.leader_epoch,
            writer_epoch: segment.writer_epoch,
        }
    };
    // One that nothing was written in is no more than a note of where the mirror stood.
    let shown = segments.iter().enumerate().take(count).skip(skipped).map(one);
    MapView { segments: shown.filter(|s| s.source_to > s.source_from).collect(), more_segments: skipped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Break, GapReason};

    #[test]
    fn segments_end_where_gaps_begin_and_at_what_is_mirrored() {
        let mut map = OffsetMap::default();
        let step = |run, gap, target_gap| Break {
            run,
            gaps: Vec::from_iter((gap > 0).then_some((GapReason::Aborted, gap))),
            target_gap,
            leader_epoch: 0,
            writer_epoch: 0,
        };
        for step in [step(0, 0, 5), step(0, 0, 0), step(10, 3, 1), step(10, 0, 2), step(10, 5, 0)] {
            map.push(&step).unwrap();
        }
        let shown = |mirrored_to| {
            let view = view(&map, mirrored_to);
            let row = |s: &SegmentView| (s.source_from, s.source_to, s.target_from, s.target_to);
            (view.segments.iter().map(row).collect::<Vec<_>>(), view.more_segments)
        };
        let all = vec![(0, 10, 5, 15), (13, 23, 16, 26), (23, 33, 28, 38), (38, 40, 38, 40)];
        assert_eq!(shown(40), (all.clone(), 0));
        assert_eq!(shown(25), (vec![all[0], all[1], (23, 25, 28, 30)], 0));
        assert_eq!(shown(12), (all[..1].to_vec(), 0));
        assert_eq!(shown(0).0, Vec::new());
    }
}
