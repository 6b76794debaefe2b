//! What happens to the data on the source while it is mirrored.

use super::case::{Case, PARTITIONS, Pair, joined};
use super::{Scenario, run, threats};
use crate::e2e::crash::maps;
use crate::e2e::mirror::{LIMIT, gaps};
use crate::kafka::harness::proxy::{Fault, Way};
use crate::kafka::harness::{Cluster, Produce, TopicSpec, compare, driver, wait_until};

pub(crate) const SOURCE_DATA: &[Scenario<Pair>] = &[
    Scenario::new("source_topic_recreated", source_topic_recreated),
    Scenario::new("retention_overtakes", retention_overtakes),
    Scenario::new("records_deleted_behind", records_deleted_behind),
    Scenario::new("hanging_transaction", threats::hanging_transaction),
    Scenario::new("headroom_shrinks", threats::headroom_shrinks),
    Scenario::new("compacted_while_asleep", compacted_while_asleep),
    Scenario::new("flipped_byte", flipped_byte),
];

/// The first partition's halt, for this reason; the others go on.
fn assert_halts_alone(case: &Case, pair: &Pair, reason: &str) -> Vec<String> {
    let command = case.await_halt(0, reason);
    let before = case.ends(&pair.target);
    wait_until("the other partitions to go on", LIMIT, || {
        let now = case.ends(&pair.target);
        if now[1..].iter().zip(&before[1..]).all(|(now, before)| now > before) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    command
}

/// Every partition halts; each is freed by the command that its halt names, and the new topic follows behind the old one.
fn source_topic_recreated(pair: &mut Pair) {
    let mut case = Case::flowing("source_topic_recreated", pair);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    let old = case.dump(&pair.target);
    let bootstrap = pair.source.bootstrap();
    driver().delete_topic(&bootstrap, &case.topic);
    case.await_gone(&pair.source);
    driver().create_topic(&bootstrap, &TopicSpec::new(&case.topic, PARTITIONS));
    case.write();
    for partition in 0..PARTITIONS {
        case.obey(&case.await_halt(partition, "source_recreated"));
    }
    case.await_written(1_000);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let expected = joined(&old, &case.dump(&pair.source), |_, _| true);
    compare(&expected, &case.dump(&pair.target)).assert_exactly(case.written() as usize);
}

/// The mirror hangs, retention goes on: what it took is a loss that has a range, and is accepted by name.
fn retention_overtakes(pair: &mut Pair) {
    let mut case = Case::flowing("retention_overtakes", pair);
    pair.source.disturb(Fault::Hold(Way::Down));
    case.await_stall(&pair.target);
    case.pause_writing();
    driver().alter_configs(&pair.source.bootstrap(), &case.topic, &[("retention.ms", "1")]);
    case.await_emptied(&pair.source);
    case.end_retention(&pair.source);
    case.write();
    pair.source.disturb(Fault::None);
    for partition in 0..PARTITIONS {
        case.obey(&case.await_halt(partition, "retention_loss"));
    }
    case.await_more(&pair.target, 400);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    assert_only_lost(&case, pair);
    case.mirror.stop();
}

/// What the target has is what was mirrored before the loss and all that came behind it.
fn assert_only_lost(case: &Case, pair: &Pair) {
    let (here, there) = (case.dump(&pair.source), case.dump(&pair.target));
    for partition in 0..PARTITIONS {
        let at = (case.topic.clone(), partition);
        let row = case.mirror.row(&case.topic, partition).unwrap();
        let lost = gaps(&row);
        let [(reason, from, to)] = lost.as_slice() else { panic!("{row}") };
        assert_eq!(reason, "accepted");
        let behind: Vec<_> = here.partitions[&at].iter().filter(|record| record.offset >= *to).collect();
        let mirrored = &there.partitions[&at];
        assert_eq!(mirrored.len(), *from as usize + behind.len(), "{row}");
        for (ours, theirs) in mirrored[*from as usize..].iter().zip(behind) {
            assert_eq!((ours.key, ours.value, ours.timestamp), (theirs.key, theirs.value, theirs.timestamp));
        }
    }
}

/// The log start moves within what was mirrored, while it is mirrored: nobody misses anything.
fn records_deleted_behind(pair: &mut Pair) {
    let mut case = Case::flowing("records_deleted_behind", pair);
    case.await_more(&pair.target, 1_000);
    let (early, bootstrap) = (case.dump(&pair.source), pair.source.bootstrap());
    let last = |at: &(String, i32)| early.partitions[at].last().map_or(-1, |record| record.offset);
    let lasts: Vec<i64> = early.partitions.keys().map(last).collect();
    wait_until("all of that to be mirrored", LIMIT, || {
        let ends = case.ends(&pair.target);
        if ends.iter().zip(&lasts).all(|(end, last)| end > last) { Ok(()) } else { Err(format!("{ends:?}")) }
    });
    for (partition, before) in (0..).zip(&lasts) {
        assert_eq!(driver().delete_records(&bootstrap, &case.topic, partition, *before), *before);
    }
    case.await_more(&pair.target, 400);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let all = joined(&early, &case.dump(&pair.source), |at, record| record.offset > last(at));
    case.assert_same(&pair.target, &all, &case.dump(&pair.target), case.written() as usize);
}

/// The mirror sleeps while another one takes over and the source is compacted: of what the source still has, all is on the
/// target, where the map says; and nothing is there twice.
fn compacted_while_asleep(pair: &mut Pair) {
    let name = "compacted_while_asleep";
    // The target keeps everything: what was mirrored is seen in full.
    driver().create_topic(&pair.target.bootstrap(), &TopicSpec::new(name, PARTITIONS));
    let spec = TopicSpec::new(name, PARTITIONS).set("cleanup.policy", "compact").set("segment.ms", 100);
    let mut case = Case::of(&spec.set("min.cleanable.dirty.ratio", 0.01), &pair.source, &pair.target, "");
    let keyed = |seed| Produce { seed, partitions: PARTITIONS, keys: 60, ..Produce::new(name, 3_000) };
    driver().produce(&pair.source.bootstrap(), &keyed(1));
    case.mirror.start();
    case.await_more(&pair.target, 1_000);
    case.mirror.process().signal("STOP");
    let mut sleeper = case.hand_over();
    driver().produce(&pair.source.bootstrap(), &keyed(2));
    driver().compact(&pair.source.bootstrap(), name, 500);
    case.mirror.start();
    case.mirror.await_caught_up(PARTITIONS as usize);
    sleeper.process().signal("CONT");
    assert_eq!(sleeper.await_end(), 1, "{}", sleeper.log());
    assert!(sleeper.log().contains("fenced"), "{}", sleeper.log());
    driver().produce(&pair.source.bootstrap(), &keyed(3));
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    assert_where_the_map_says(&case, pair);
}

fn assert_where_the_map_says(case: &Case, pair: &Pair) {
    let (here, there, maps) = (case.dump(&pair.source), case.dump(&pair.target), maps(&case.topic, &pair.target));
    for (at, records) in &here.partitions {
        let (map, end) = &maps[at];
        for record in records {
            let found = map.to_target(record.offset, *end);
            assert!(found.exact, "{at:?}: {record:?}: {found:?}");
            let copy = there.partitions[at].iter().find(|other| other.offset == found.offset).expect("a record there");
            assert_eq!((copy.key, copy.value, copy.timestamp), (record.key, record.value, record.timestamp));
        }
        let back: Vec<i64> = there.partitions[at].iter().map(|r| map.to_source(r.offset, *end).offset).collect();
        assert!(back.windows(2).all(|pair| pair[0] < pair[1]), "{at:?}: every record once, in order");
        assert!(records.len() < there.partitions[at].len(), "{at:?}: the source was compacted after it was mirrored");
    }
}

/// A byte of a batch on the source's disk turned over: its partition halts in front of that batch, and goes on behind it
/// once that is accepted.
fn flipped_byte(pair: &mut Pair) {
    let mut case = Case::flowing("flipped_byte", pair);
    case.await_more(&pair.target, 400);
    case.mirror.stop();
    case.await_written(2_000);
    case.pause_writing();
    let whole = case.dump(&pair.source);
    let mirrored = case.ends(&pair.target)[0];
    pair.source.shut_down_node(1);
    let (from, to) = flip(&pair.source, &case.topic, mirrored + 50);
    pair.source.restart_node(1);
    case.mirror.start();
    case.write();
    let command = assert_halts_alone(&case, pair, &format!("corrupt_batch at source offsets [{from}, {to}): "));
    case.obey(&command);
    case.pause_writing();
    case.mirror.await_caught_up(PARTITIONS as usize);
    assert_eq!(gaps(&case.mirror.row(&case.topic, 0).unwrap()), [("accepted".to_owned(), from, to)]);
    case.mirror.stop();
    let there = case.dump(&pair.target);
    // No consumer gets past the batch on the source: compared is what was there before it was damaged.
    for (at, records) in &there.partitions {
        let expected: Vec<_> =
            whole.partitions[at].iter().filter(|r| at.1 != 0 || !(from..to).contains(&r.offset)).collect();
        assert!(records.len() > expected.len(), "{at:?}: what came later is there as well");
        for (ours, theirs) in records.iter().zip(expected) {
            assert_eq!((ours.key, ours.value, ours.timestamp), (theirs.key, theirs.value, theirs.timestamp), "{at:?}");
        }
    }
}

/// Turns over one byte in the records of the batch of the first partition that holds this offset; its range.
fn flip(cluster: &Cluster, topic: &str, offset: i64) -> (i64, i64) {
    let file = cluster.log_folder(1, topic, 0).join("00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let mut at = 0;
    loop {
        let number = |from: usize, len: usize| {
            bytes[from..from + len].iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte))
        };
        let (base, len, last) = (number(at, 8), number(at + 8, 4) as usize, number(at + 23, 4));
        if offset <= base + last {
            bytes[at + 12 + len - 1] ^= 0x40;
            std::fs::write(&file, bytes).unwrap();
            return (base, base + last + 1);
        }
        at += 12 + len;
    }
}

#[test]
fn a_source_that_loses_or_changes_data_is_followed_with_care() {
    run("a_source_that_loses_or_changes_data_is_followed_with_care", SOURCE_DATA);
}
