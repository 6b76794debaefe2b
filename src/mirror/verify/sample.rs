//! Which stretches of a partition a sample looks at.

use super::super::OffsetMap;

/// Source offsets in a stretch.
const STRETCH: i64 = 500;
/// Breaks of the map whose both sides are looked at.
const BREAKS_MAX: usize = 32;

/// Stretches of source offsets within `[from, to)`, in order and apart from each other: the beginning, the end, both sides of the map's
/// breaks (of more than 32, as many of them, spread evenly), and `count` others that follow from the seed.
pub fn stretches(map: &OffsetMap, end: i64, (from, to): (i64, i64), (count, seed): (usize, u64)) -> Vec<(i64, i64)> {
    let around = |at: i64| (at - STRETCH / 2, at.saturating_add(STRETCH / 2));
    let mut before = None;
    // The last record in front of a break, and the first one behind it: a long gap may lie between.
    let sides = map.runs(end).filter_map(|(source, _, records)| Some((before.replace(source + records)?, source)));
    let breaks: Vec<(i64, i64)> = sides.filter(|(_, at)| (from + 1..to).contains(at)).collect();
    let every = breaks.len().div_ceil(BREAKS_MAX).max(1);
    let mut picked = vec![(from, from + STRETCH), (to - STRETCH, to)];
    picked.extend(breaks.iter().rev().step_by(every).flat_map(|(before, behind)| [around(*before), around(*behind)]));
    let mut random = seed;
    for _ in 0..count {
        let room = to.abs_diff(from).max(1);
        picked.push(around(from.saturating_add_unsigned(next(&mut random) % room)));
    }
    picked.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    for (begin, finish) in picked.into_iter().map(|(a, b)| (a.max(from), b.min(to))).filter(|(a, b)| a < b) {
        match out.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(finish),
            _ => out.push((begin, finish)),
        }
    }
    out
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
