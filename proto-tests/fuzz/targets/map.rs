//! Offset maps: any sequence of changes is taken, or refused without a trace; the map stays one that can be inverted.

use kmirror::mirror::{Break, GapReason, OffsetMap};

use super::Input;

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut map = OffsetMap::default();
    for _ in 0..64 {
        if input.is_empty() {
            return;
        }
        let before = map.clone();
        if !change(&mut map, &mut input) {
            assert_eq!(map, before, "refused, and yet changed");
        }
        let target = map.last().map_or(0, |last| last.target);
        for end in [target.saturating_add(20), input.offset()] {
            invertible(&map, end);
        }
    }
}

pub fn change(map: &mut OffsetMap, input: &mut Input<'_>) -> bool {
    match input.u8() % 7 {
        0 | 1 => map.push(&a_break(input)).is_ok(),
        2 => map.take_over(input.offset(), input.offset(), 1).is_ok(),
        3 => map.displace(input.offset(), input.offset(), input.offset()).is_ok(),
        4 => map.diverge(input.offset(), input.offset(), 2).is_ok(),
        5 => {
            map.void_ahead(input.offset());
            true
        }
        _ => {
            map.drop_below(input.offset());
            true
        }
    }
}

fn a_break(input: &mut Input<'_>) -> Break {
    let gaps = input.u8() % 3;
    Break {
        run: input.offset().unsigned_abs(),
        gaps: (0..gaps)
            .map(|_| (GapReason::from_code(input.u8()).unwrap_or(GapReason::Control), input.offset().unsigned_abs()))
            .collect(),
        target_gap: input.offset().unsigned_abs(),
        leader_epoch: i32::from(input.u8()),
        writer_epoch: 0,
    }
}

fn invertible(map: &OffsetMap, end: i64) {
    let segments = map.segments();
    assert!(segments.windows(2).all(|pair| pair[0].target <= pair[1].target && pair[0].source <= pair[1].source));
    assert!(segments.iter().all(|segment| segment.target >= 0 && segment.source >= 0));
    let _ = (map.position(end), map.leader_epoch_at(end), map.end_of_epoch(0, end), map.floor());
    let mut last = i64::MIN;
    for segment in segments {
        for source in [segment.source.saturating_sub(1), segment.source, segment.source.saturating_add(3)] {
            let there = map.to_target(source, end);
            if there.exact && there.offset < end {
                let back = map.to_source(there.offset, end);
                assert!(back.exact && back.offset == source, "{source} → {there:?} → {back:?} in {map:?}");
            }
        }
        let there = map.to_target(segment.source, end);
        assert!(there.offset >= last, "source {} goes back to {there:?} in {map:?}", segment.source);
        last = there.offset;
    }
}
