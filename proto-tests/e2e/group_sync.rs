//! Consumer groups that move over: Java consumers read on the source, and on on the target, with no record missed and none twice.

use std::collections::BTreeMap;

use super::Mirror;
use super::mirror::LIMIT;
use super::reencoded::{end_compaction, produce_repeated_keys};
use super::transactions::interleaved;
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::{Cluster, Produce, TopicSpec, driver, real_kafka_wanted, source, target, wait_until};

const PARTITIONS: i32 = 3;
const GROUPS: &str = "    groups: { include: [\"group-sync-.*\"], interval: 1s }\n";

/// Groups by their way of joining, and how many records they read on the source; `None`: all there are.
const READERS: [(&str, &str, Option<u64>); 7] = [
    ("first", "classic", Some(1)),
    ("behind", "consumer", Some(10)),
    ("early", "classic", Some(77)),
    ("middle", "classic", Some(333)),
    ("middle-848", "consumer", Some(400)),
    ("late", "consumer", Some(801)),
    ("done", "classic", None),
];

/// What somebody sees of a record, whichever cluster it is on.
fn content(record: &FullRecord) -> FullRecord {
    FullRecord { offset: 0, ..record.clone() }
}

/// Contents by partition, in the order in which they were read.
fn by_partition<'a>(records: impl IntoIterator<Item = &'a FullRecord>) -> BTreeMap<i32, Vec<FullRecord>> {
    let mut all: BTreeMap<i32, Vec<FullRecord>> = BTreeMap::new();
    for record in records {
        all.entry(record.partition).or_default().push(content(record));
    }
    all
}

/// Records in batches of many, so that groups stop in the middle of one.
fn batches(topic: &str) {
    let bootstrap = source().bootstrap();
    driver().create_topic(&bootstrap, &TopicSpec::new(topic, PARTITIONS));
    let odd = Produce { partitions: PARTITIONS, codec: "zstd", linger_ms: 50, ..Produce::odd(topic, 1_500) };
    driver().produce(&bootstrap, &odd);
}

fn name(topic: &str, reader: &str) -> String {
    format!("{topic}-{reader}")
}

/// Waits until every group stands on the target where a plan would have it.
pub(crate) fn await_in_step(mirror: &Mirror, groups: usize) {
    wait_until("groups in step", LIMIT, || {
        let plan = mirror.json(&["groups", "plan"], 0);
        let totals = &plan["totals"];
        let done = totals["groups"].as_u64() == Some(groups as u64)
            && ["commits", "left_alone", "skipped", "untranslatable"].iter().all(|key| totals[*key] == 0);
        if done { Ok(()) } else { Err(totals.to_string()) }
    });
}

/// Source offsets at which each group goes on, by partition.
type Marks = BTreeMap<&'static str, BTreeMap<i32, i64>>;

/// Every group reads on the source, as far as it does.
fn read_here(topic: &str) -> Marks {
    let mut marks = Marks::new();
    for (reader, protocol, max) in READERS {
        let read = driver().read_on(&source().bootstrap(), &name(topic, reader), topic, protocol, max);
        let at = marks.entry(reader).or_default();
        at.extend(read.iter().map(|record| (record.partition, record.offset + 1)));
    }
    marks
}

/// A group that has read these records on the one cluster reads exactly the others on the other one.
pub(crate) fn assert_reads_on((from, to): (&Cluster, &Cluster), group: &str, topic: &str, read: &[FullRecord]) {
    let mut at: BTreeMap<i32, i64> = BTreeMap::new();
    at.extend(read.iter().map(|record| (record.partition, record.offset + 1)));
    let all = driver().records(&from.bootstrap(), topic, "read_committed");
    let left = all.iter().filter(|record| record.offset >= at.get(&record.partition).copied().unwrap_or(0));
    let read_on = driver().read_on(&to.bootstrap(), group, topic, "classic", None);
    assert_eq!(by_partition(&read_on), by_partition(left), "{topic}: {group}");
}

/// Each group reads on the target exactly what it had not read on the source.
fn assert_all_read_on(topic: &str, marks: &Marks) {
    let all = driver().records(&source().bootstrap(), topic, "read_committed");
    for (reader, protocol, _) in READERS {
        let at = &marks[reader];
        let left = all.iter().filter(|record| record.offset >= at.get(&record.partition).copied().unwrap_or(0));
        let expected = by_partition(left);
        let read_on = driver().read_on(&target().bootstrap(), &name(topic, reader), topic, protocol, None);
        assert_eq!(by_partition(&read_on), expected, "{topic}: {reader}");
    }
}

fn mirror_of(topic: &str) -> Mirror {
    Mirror::new(topic, source(), target(), &[topic], &GROUPS.replace("group-sync-", &format!("{topic}-")))
}

/// The mirror runs while the groups read.
fn move_over(topic: &str) {
    let mut mirror = mirror_of(topic);
    mirror.start().await_caught_up(PARTITIONS as usize);
    let marks = read_here(topic);
    await_in_step(&mirror, READERS.len());
    assert_all_read_on(topic, &marks);
    mirror.stop();
}

#[test]
fn groups_in_the_middle_of_batches_move_over() {
    if real_kafka_wanted("groups_in_the_middle_of_batches_move_over") {
        batches("group-sync-batches");
        move_over("group-sync-batches");
    }
}

#[test]
fn groups_within_transactions_move_over() {
    if real_kafka_wanted("groups_within_transactions_move_over") {
        interleaved(source(), "group-sync-transactions", 900);
        move_over("group-sync-transactions");
    }
}

/// They have read what is compacted before it is mirrored: they stand in holes.
#[test]
fn groups_in_holes_of_compaction_move_over() {
    if !real_kafka_wanted("groups_in_holes_of_compaction_move_over") {
        return;
    }
    let topic = "group-sync-compacted";
    let spec = TopicSpec::new(topic, 2).set("cleanup.policy", "compact").set("segment.ms", 100);
    driver().create_topic(&source().bootstrap(), &spec.set("min.cleanable.dirty.ratio", 0.01));
    produce_repeated_keys(topic);
    let marks = read_here(topic);
    driver().compact(&source().bootstrap(), topic, 1_500);
    end_compaction(source(), topic);
    let mut mirror = mirror_of(topic);
    mirror.start().await_caught_up(2);
    await_in_step(&mirror, READERS.len());
    let plan = mirror.json(&["groups", "plan"], 0).to_string();
    assert!(plan.contains("in_gap") && plan.contains("compaction"), "{plan}");
    assert_all_read_on(topic, &marks);
    mirror.stop();
}

/// After it has read on the target a group goes on only as long as nobody has read there.
#[test]
fn a_group_that_moved_over_is_not_taken_back() {
    if !real_kafka_wanted("a_group_that_moved_over_is_not_taken_back") {
        return;
    }
    let topic = "group-sync-back";
    let (from, to) = (source().bootstrap(), target().bootstrap());
    batches(topic);
    let mut mirror = mirror_of(topic);
    mirror.start().await_caught_up(PARTITIONS as usize);
    for (group, protocol) in [("moved", "consumer"), ("stays", "classic")] {
        driver().read_on(&from, &name(topic, group), topic, protocol, Some(50));
    }
    await_in_step(&mirror, 2);
    // One joins there, live and left alone, and one reads.
    driver().join_group(&to, &name(topic, "stays"), topic, "classic");
    driver().read_on(&to, &name(topic, "moved"), topic, "consumer", Some(100));
    driver().read_on(&from, &name(topic, "moved"), topic, "consumer", Some(10));
    driver().read_on(&from, &name(topic, "stays"), topic, "classic", Some(10));
    let left_alone = |count: u64| {
        wait_until("groups left alone", LIMIT, || {
            let groups = mirror.json(&["status"], 0)["mirrors"][0]["groups"].clone();
            if groups["left_alone"].as_u64() == Some(count) { Ok(()) } else { Err(groups.to_string()) }
        });
    };
    left_alone(2);
    driver().leave_group(&to, &name(topic, "stays"));
    // It had committed nothing there: it goes on.
    left_alone(1);
    mirror.stop();
    let plan = mirror.json(&["groups", "plan"], 0);
    let stays = plan["groups"].as_array().unwrap().iter().find(|group| group["group"] == name(topic, "stays").as_str());
    let lines = stays.unwrap()["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["outcome"]["action"] == "unchanged"), "{plan}");
    let moved = plan["groups"].as_array().unwrap().iter().find(|group| group["group"] == name(topic, "moved").as_str());
    let lines = moved.unwrap()["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["outcome"]["action"] == "left_alone"), "{plan}");
    // A restart knows what it wrote.
    driver().read_on(&from, &name(topic, "stays"), topic, "classic", Some(10));
    mirror.start();
    wait_until("it to go on after a restart", LIMIT, || {
        let plan = mirror.json(&["groups", "plan", "--group", &name(topic, "stays")], 0);
        if plan["totals"]["commits"] == 0 && plan["totals"]["left_alone"] == 0 { Ok(()) } else { Err(plan.to_string()) }
    });
    mirror.stop();
}
