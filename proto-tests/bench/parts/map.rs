//! The offset map, in both directions.

use std::hint::black_box;
use std::rc::Rc;

use kmirror::mirror::{Break, GapReason, OffsetMap};

use super::Work;

const LOOKUPS: u32 = 1000;
/// Records of a segment, and source offsets of the gap behind it.
const RUN: i64 = 100;
const GAP: i64 = 1;

fn map(segments: usize) -> OffsetMap {
    let mut map = OffsetMap::default();
    for at in 0..segments {
        let (run, gaps) = if at == 0 { (0, Vec::new()) } else { (RUN, vec![(GapReason::Control, GAP)]) };
        let run = run.unsigned_abs();
        let gaps = gaps.into_iter().map(|(reason, len)| (reason, len.unsigned_abs())).collect();
        map.push(&Break { run, gaps, target_gap: 0, leader_epoch: 0, writer_epoch: 0 })
            .expect("a break behind the last");
    }
    map
}

/// A map of so many segments with gaps between, and the settled end of the target.
pub(super) fn with_gaps(segments: usize) -> (OffsetMap, i64) {
    (map(segments), segments as i64 * RUN)
}

pub(super) fn all() -> Vec<Work> {
    let mut all = Vec::new();
    for segments in [10, 1_000, 100_000] {
        let end = segments as i64 * RUN;
        let mut add = |name: &str, look: fn(&OffsetMap, i64, i64) -> i64| {
            let name = format!("offset map of {segments}, {name}");
            all.push(Work::new(name, (LOOKUPS, "lookup"), move || {
                let map = Rc::new(map(segments));
                move || {
                    let map = map.clone();
                    move || look_up(&map, end, look)
                }
            }));
        };
        add("to target", |map, source, end| map.to_target(source, end).offset);
        add("to source", |map, target, end| map.to_source(target, end).offset);
        add("position", |map, target, _| map.position(target));
    }
    all
}

/// Offsets from all over the map, and never two close ones in turn.
fn look_up(map: &OffsetMap, end: i64, look: fn(&OffsetMap, i64, i64) -> i64) {
    for number in 0..i64::from(LOOKUPS) {
        let offset = number * 1_000_003 % end;
        black_box(look(black_box(map), offset, end));
    }
}
