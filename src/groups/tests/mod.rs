//! Committed offsets against a naive model that holds every record of both sides.

mod model;
mod planning;
mod rollback;
mod translation;

use crate::mirror::{Break, GapReason, OffsetMap, Scan};

use super::{ByPartition, Committed, Facts, GroupType, SourceGroup, TargetGroup, View};

const NO_SCAN: Scan = Scan { source: 0, end: 0 };

fn step(run: u64, gaps: &[(GapReason, u64)], leader_epoch: i32) -> Break {
    Break { run, gaps: gaps.to_vec(), target_gap: 0, leader_epoch, writer_epoch: 1 }
}

/// Source 5..15 (epoch 3) at target 0..10, retention took source 15..25, source 25..35 (epoch 4) at target 10..20.
fn with_a_loss() -> OffsetMap {
    let mut map = OffsetMap::default();
    map.push(&step(0, &[(GapReason::Start, 5)], 3)).unwrap();
    map.push(&step(10, &[(GapReason::Retention, 10)], 4)).unwrap();
    map
}

/// `records` of the source at the same offsets of the target.
fn plain(records: u64) -> OffsetMap {
    let mut map = OffsetMap::default();
    map.push(&step(0, &[], 0)).unwrap();
    map.push(&step(records, &[], 0)).unwrap();
    map
}

fn facts(map: &OffsetMap, end: i64) -> Facts<'_> {
    Facts { map, end, scanned: NO_SCAN, target_start: 0, source_start: None, source_end: None, target_epochs: &[] }
}

fn view(map: &OffsetMap, end: i64) -> View<'_> {
    View::new(facts(map, end))
}

fn at(offset: i64) -> Committed {
    Committed { offset, leader_epoch: -1, metadata: String::new() }
}

fn offsets(entries: &[(&str, i32, i64)]) -> ByPartition<Committed> {
    let mut offsets = ByPartition::default();
    for (topic, partition, offset) in entries {
        offsets.insert(topic, *partition, at(*offset));
    }
    offsets
}

fn source(entries: &[(&str, i32, i64)]) -> SourceGroup {
    SourceGroup { kind: GroupType::Consumer, offsets: offsets(entries) }
}

fn target(entries: &[(&str, i32, i64)]) -> TargetGroup {
    TargetGroup { kind: GroupType::Classic, live: false, ever_joined: false, offsets: offsets(entries) }
}

#[test]
fn group_types_go_by_the_brokers_names() {
    let types = ["Classic", "consumer", "Share", "STREAMS", "", "other"].map(GroupType::from_name);
    use GroupType::{Classic, Consumer, Share, Streams, Unknown};
    assert_eq!(types, [Classic, Consumer, Share, Streams, Classic, Unknown]);
    for kind in [Classic, Consumer, Share, Streams] {
        assert_eq!(GroupType::from_name(&kind.to_string()), kind);
    }
}

#[test]
fn what_is_kept_by_partition_comes_in_order() {
    let mut kept = offsets(&[("b", 1, 4), ("a", 10, 2), ("a", 9, 1)]);
    assert_eq!(
        kept.iter().map(|(topic, partition, c)| (topic, partition, c.offset)).collect::<Vec<_>>(),
        [("a", 9, 1), ("a", 10, 2), ("b", 1, 4)]
    );
    assert_eq!(
        (kept.insert("b", 1, at(5)), kept.remove("b", 1), kept.remove("b", 1)),
        (Some(at(4)), Some(at(5)), None)
    );
    assert_eq!((kept.len(), kept.topic("b").is_none(), kept.get("a", 9)), (2, true, Some(&at(1))));
    assert!(!kept.is_empty());
}
