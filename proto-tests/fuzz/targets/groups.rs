//! Offsets that groups have committed, whatever they are, translated by a map, and what is written by them.

use std::collections::BTreeMap;

use kmirror::groups::{
    ByPartition, Committed, EpochStart, Facts, GroupType, Ledger, Options, Outcome, Overwrite, Planner, SourceGroup,
    TargetGroup, TopicView, View, Views,
};
use kmirror::mirror::{OffsetMap, Scan};

use super::{Input, map};

/// A map by its changes, ends of logs, then committed offsets.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut known = OffsetMap::default();
    for _ in 0..input.u8() % 16 {
        map::change(&mut known, &mut input);
    }
    let end = input.offset();
    let epochs = [EpochStart { epoch: 0, start: 0 }, EpochStart { epoch: 3, start: input.offset() }];
    let optional = |input: &mut Input<'_>| (input.u8() & 1 == 1).then(|| input.offset());
    let facts = Facts {
        map: &known,
        end,
        scanned: Scan { source: input.offset(), end: input.offset() },
        target_start: input.offset(),
        source_start: optional(&mut input),
        source_end: optional(&mut input),
        target_epochs: &epochs,
    };
    let view = View::new(facts);
    let mut committed = vec![0, i64::MAX, i64::MIN, -1];
    while !input.is_empty() && committed.len() < 64 {
        committed.push(if input.u8() & 1 == 0 { input.offset() } else { input.i64() });
    }
    committed.sort_unstable();
    in_order(&view, &committed);
    for offset in committed {
        planned(view.clone(), offset, &mut input);
    }
}

/// Never beyond what is mirrored, never below the log start, and a higher offset never comes out lower.
fn in_order(view: &View<'_>, committed: &[i64]) {
    let mut last = i64::MIN;
    for offset in committed {
        for epoch in [-1, 0, i32::MAX] {
            let Ok(to) = view.translate(*offset, epoch) else { continue };
            assert!((0..=view.end()).contains(&to.offset), "{offset} → {to:?}");
            assert!(to.offset >= last, "{offset} → {to:?}, and one before it → {last}");
            last = to.offset;
        }
    }
}

fn planned(view: View<'_>, offset: i64, input: &mut Input<'_>) {
    let translated = view.translate(offset, -1).ok();
    let found = input.offset();
    let committed = |offset: i64| {
        let mut all = ByPartition::default();
        all.insert("t", 0, Committed { offset, leader_epoch: -1, metadata: String::new() });
        all
    };
    let views: Views<'_> =
        [("t".to_owned(), TopicView { target_topic: "t".to_owned(), partitions: BTreeMap::from([(0, view)]) })].into();
    let source = SourceGroup { kind: GroupType::Classic, offsets: committed(offset) };
    let target = TargetGroup { kind: GroupType::Classic, live: false, ever_joined: true, offsets: committed(found) };
    let ledger = Ledger::default();
    let options = Options { refresh_ms: 1, overwrite: Overwrite::Own };
    let planner = Planner::new(&views, &ledger, options, 0);
    let plan = planner.group("g", &source, Some(&target));
    for line in plan.lines() {
        // What stands there is nobody's of this mirror: it is left alone, or is the right one already.
        let right = translated.is_some_and(|to| to.offset == found);
        assert!(right || !matches!(line.outcome, Outcome::Commit { .. }), "{line:?}");
    }
}
