//! A round of translating consumer groups: what is looked at every few seconds, and mostly finds nothing to write.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::rc::Rc;

use kmirror::groups::{
    ByPartition, Committed, Facts, GroupType, Ledger, Options, Overwrite, Planner, SourceGroup, TargetGroup, TopicView,
    Totals, View, Views,
};
use kmirror::mirror::{OffsetMap, Scan};

use super::Work;

const TOPICS: i32 = 10;
const PARTITIONS: i32 = 10;
const SEGMENTS: usize = 1_000;
const REFRESH_MS: i64 = 86_400_000;

struct World {
    map: OffsetMap,
    end: i64,
    sources: BTreeMap<String, SourceGroup>,
    targets: BTreeMap<String, TargetGroup>,
    ledger: Ledger,
}

pub(super) fn all() -> Vec<Work> {
    [400, 4_000].into_iter().map(round).collect()
}

fn round(groups: u32) -> Work {
    let offsets = groups * TOPICS.unsigned_abs() * PARTITIONS.unsigned_abs();
    Work::new(format!("plan of {groups} groups, 100 partitions"), (offsets, "offset"), move || {
        let world = Rc::new(world(groups));
        move || {
            let world = world.clone();
            move || {
                black_box(plan(&world));
            }
        }
    })
}

/// Groups all over the log; of each one partition moved since the last round.
fn world(groups: u32) -> World {
    let (map, end) = super::map::with_gaps(SEGMENTS);
    let (mut sources, mut targets, mut ledger) = (BTreeMap::new(), BTreeMap::new(), Ledger::default());
    for number in 0..groups {
        let group = format!("group-{number}");
        let (mut source, mut target) = (ByPartition::default(), ByPartition::default());
        for (topic, partition) in (0..TOPICS).flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic, partition)))
        {
            let source_offset = i64::from(number) * 1_000_003 % end;
            let there = map.to_target(source_offset, end).offset;
            let moved = i64::from(topic == 0 && partition == 0);
            let committed = |offset| Committed { offset, leader_epoch: 0, metadata: String::new() };
            source.insert(&format!("topic-{topic}"), partition, committed(source_offset + moved));
            target.insert(&format!("dr.topic-{topic}"), partition, committed(there));
            ledger.restore(&group, &format!("dr.topic-{topic}"), partition, there, 0);
        }
        sources.insert(group.clone(), SourceGroup { kind: GroupType::Consumer, offsets: source });
        let target = TargetGroup { kind: GroupType::Classic, live: false, ever_joined: false, offsets: target };
        targets.insert(group, target);
    }
    World { map, end, sources, targets, ledger }
}

fn plan(world: &World) -> Totals {
    let scanned = Scan::default();
    let (map, end) = (&world.map, world.end);
    let facts =
        Facts { map, end, scanned, target_start: 0, source_start: Some(0), source_end: None, target_epochs: &[] };
    let topic = |number| {
        let partitions = (0..PARTITIONS).map(|partition| (partition, View::new(facts))).collect();
        (format!("topic-{number}"), TopicView { target_topic: format!("dr.topic-{number}"), partitions })
    };
    let views: Views<'_> = (0..TOPICS).map(topic).collect();
    let options = Options { refresh_ms: REFRESH_MS, overwrite: Overwrite::Own };
    let mut totals = Totals::default();
    let planner = Planner::new(&views, &world.ledger, options, REFRESH_MS / 2);
    for plan in planner.all(&world.sources, &world.targets, |_| true) {
        totals.add(&plan);
    }
    assert_eq!(totals.unchanged + totals.commits, totals.groups * 100, "{totals:?}");
    totals
}
