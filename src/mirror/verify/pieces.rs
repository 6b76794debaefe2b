//! A stretch of the source cut into what the offset map says of it.

use super::super::{GapReason, OffsetMap};

/// A part of the stretch under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Both sides hold the same records here, in step.
    Run { source: i64, target: i64, records: i64 },
    /// The source has offsets here that the target does not.
    Gap { reason: GapReason, from: i64, to: i64 },
    /// Target offsets without a counterpart: there should be nothing but markers.
    Alone { from: i64, to: i64 },
    /// Target offsets behind what is compared, where newer records may explain what a cleaner removed.
    Newer { from: i64, to: i64 },
}

/// The pieces of `stretch` (source offsets), in order; `end` is the settled end of the target, `alone_to` that of its log. Offsets of
/// which the map does not speak come as a gap of reason unknown.
pub(super) fn pieces(map: &OffsetMap, (end, alone_to): (i64, i64), (from, to): (i64, i64)) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut gaps = map.gaps().skip_while(|gap| gap.to <= from).peekable();
    let mut at = from;
    let mut target = None;
    // Where the last run in front of the stretch ends: what stands behind it is looked at where the next one begins.
    let mut in_front = None;
    let mut skip_to = |out: &mut Vec<Piece>, at: &mut i64, upto: i64| {
        while *at < upto {
            while gaps.peek().is_some_and(|gap| gap.to <= *at) {
                gaps.next();
            }
            let (reason, next) = match gaps.peek() {
                Some(gap) if gap.from <= *at => (gap.reason, gap.to.min(upto)),
                Some(gap) => (GapReason::Unknown, gap.from.min(upto)),
                None => (GapReason::Unknown, upto),
            };
            out.push(Piece::Gap { reason, from: *at, to: next });
            *at = next;
        }
    };
    for (run_source, run_target, records) in map.runs(end) {
        if run_source >= to {
            break;
        }
        // Records that the source lost to a truncation do not count any more, where others took their place.
        let (begin, finish) = (run_source.max(at), (run_source + records).min(to));
        if finish <= begin {
            in_front = Some(run_target + records).filter(|_| run_source + records <= from).or(in_front);
            continue;
        }
        skip_to(&mut out, &mut at, begin);
        let here = run_target + (begin - run_source);
        let before = target.or(in_front.filter(|_| begin == run_source));
        if let Some(before) = before.filter(|before| *before < here) {
            out.push(Piece::Alone { from: before, to: here });
        }
        out.push(Piece::Run { source: begin, target: here, records: finish - begin });
        (at, target) = (finish, Some(run_target + (finish - run_source)));
    }
    skip_to(&mut out, &mut at, to);
    // Where nothing was mirrored yet, whatever is there is somebody else's.
    let first = || map.segments().first().map_or(0, |first| first.target);
    let before = target.or(in_front).unwrap_or_else(first);
    if to >= map.position(end) && before < alone_to {
        out.push(Piece::Alone { from: before, to: alone_to });
    }
    out
}

/// The source offset at which a map begins: what it knows is a gap begins there.
pub fn begins(map: &OffsetMap) -> i64 {
    let first = map.segments().first().map_or(0, |first| first.source);
    map.gaps_before(0).first().map_or(first, |gap| gap.from)
}
