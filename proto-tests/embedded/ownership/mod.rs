//! Shards that change hands while records flow: several members in this process, told by the test what is theirs.

mod fleet;
mod load;
mod member;
mod reload;
mod upgrade;
mod versions;

use std::collections::BTreeSet;
use std::time::Duration;

use kmirror::mirror::shard_of;
use kmirror::plan::ShardStage;

use self::load::Load;
use self::member::Member;
use super::{Pair, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// As many as shards: with consecutive numbers each is of another one.
const PARTITIONS: i32 = 16;
const SHARDS: u32 = 16;

fn pair(topic: &str) -> Pair {
    Pair::new(topic, 2, PARTITIONS, "")
}

fn all() -> BTreeSet<u32> {
    (0..SHARDS).collect()
}

fn half() -> Vec<u32> {
    (0..SHARDS / 2).collect()
}

fn other_half() -> Vec<u32> {
    (SHARDS / 2..SHARDS).collect()
}

/// The partitions of these shards.
fn partitions_of(pair: &Pair, shards: &[u32]) -> Vec<i32> {
    let id = pair.source.topics().into_iter().find(|topic| topic.name == pair.topic).unwrap().id;
    (0..PARTITIONS).filter(|partition| shards.contains(&shard_of(id, *partition, SHARDS))).collect()
}

/// Markers in the target's partitions: there is one for each take-over that was no hand-over.
fn markers(pair: &Pair) -> Vec<usize> {
    let count = |partition| {
        let batches = pair.target.read(&pair.topic, partition, 0).unwrap();
        batches.iter().filter(|batch| batch.header.is_control()).count()
    };
    (0..PARTITIONS).map(count).collect()
}

/// What was written is on the target once and in order, and the map says so.
fn ends_well(pair: &Pair, written: &[u64]) {
    for (partition, count) in (0..).zip(written) {
        pair.await_values(partition, &numbered("", 0, *count));
    }
    let report = pair.mirror.json(&["verify"], 0);
    let partitions = report["partitions"].as_array().unwrap();
    let equal: u64 = partitions.iter().map(|partition| partition["equal"].as_u64().unwrap()).sum();
    assert_eq!(equal, written.iter().sum::<u64>(), "{report}");
}

#[test]
fn shards_that_are_handed_over_go_on_unmarked_and_the_others_never_notice() {
    let pair = pair("handed-over");
    let mut a = Member::start("a", &pair.mirror);
    let mut b = Member::start("b", &pair.mirror);
    a.assign(all(), &[], true);
    a.await_settled();
    b.assign([], &[], false);
    b.await_settled();
    let load = Load::start(&pair);
    load.await_flow();
    let moved = partitions_of(&pair, &half());
    let mut longest = Vec::new();
    for _ in 0..2 {
        // Half of it to b and back.
        load.forget_stalls();
        a.assign(other_half(), &[], true);
        b.assign(half(), &half(), false);
        a.await_settled();
        b.await_settled();
        load.await_flow();
        longest.push(load.stalls(&moved));
        b.assign([], &[], false);
        a.assign(all(), &half(), true);
        a.await_settled();
        b.await_settled();
        load.await_flow();
        longest.push(load.stalls(&moved));
    }
    let written = load.stop();
    eprintln!("longest stall of partitions that moved, and of those that did not: {longest:?}");
    assert_eq!(markers(&pair), [0; PARTITIONS as usize], "a move that was no hand-over");
    ends_well(&pair, &written);
    a.stop();
    b.stop();
}

#[test]
fn shards_of_a_member_that_stands_still_are_taken_and_it_writes_nothing_when_it_wakes() {
    let pair = pair("frozen");
    let mut a = Member::start("a", &pair.mirror);
    let mut b = Member::start("b", &pair.mirror);
    a.assign(half(), &[], true);
    b.assign(other_half(), &[], false);
    a.await_settled();
    b.await_settled();
    let load = Load::start(&pair);
    load.await_flow();
    load.forget_stalls();
    let wake = a.freeze();
    // More than a sleeper has in flight: it will have to fetch and send.
    std::thread::sleep(Duration::from_millis(200));
    b.assign(all(), &[], true);
    b.await_settled();
    load.await_flow();
    let stalls = load.stalls(&partitions_of(&pair, &half()));
    let before = markers(&pair);
    wake.wait();
    wait_until("a to learn that half of it is lost", LIMIT, || {
        let held = a.held();
        let lost = half().into_iter().filter(|shard| a.stage(*shard) == Some(ShardStage::Lost { epoch: 1 })).count();
        if lost == half().len() && held.held().is_empty() { Ok(()) } else { Err(format!("{held:?}")) }
    });
    load.await_flow();
    assert_eq!(markers(&pair), before, "a has taken something back");
    eprintln!("stall of partitions that were taken over, and of those that were not: {stalls:?}");
    // What a newer assignment names it takes again.
    b.assign(other_half(), &[], true);
    a.assign(half(), &half(), false);
    a.await_settled();
    b.await_settled();
    load.await_flow();
    let written = load.stop();
    assert_eq!(markers(&pair), before, "a move that was no hand-over");
    let marked: Vec<i32> =
        (0..).zip(&before).filter(|(_, count)| **count > 0).map(|(partition, _)| partition).collect();
    assert_eq!(marked, partitions_of(&pair, &half()), "{before:?}");
    ends_well(&pair, &written);
    a.stop();
    b.stop();
}

#[test]
fn shards_of_a_member_that_died_are_taken_over_and_the_others_go_on() {
    let pair = pair("died");
    let mut a = Member::start("a", &pair.mirror);
    let mut b = Member::start("b", &pair.mirror);
    let mut c = Member::start("c", &pair.mirror);
    a.assign(0..6, &[], true);
    b.assign(6..11, &[], false);
    c.assign(11..SHARDS, &[], false);
    a.await_settled();
    b.await_settled();
    c.await_settled();
    let load = Load::start(&pair);
    load.await_flow();
    load.forget_stalls();
    a.kill();
    b.assign((0..3).chain(6..11), &[], true);
    c.assign((3..6).chain(11..SHARDS), &[], false);
    b.await_settled();
    c.await_settled();
    load.await_flow();
    let moved: Vec<u32> = (0..6).collect();
    let moved = partitions_of(&pair, &moved);
    eprintln!("stall of partitions that were taken over, and of those that were not: {:?}", load.stalls(&moved));
    // What dies before it has released anything was told to: its successor does not wait for ever.
    b.kill();
    c.assign(all(), &[6, 7], true);
    c.await_settled();
    load.await_flow();
    let written = load.stop();
    let marked: Vec<usize> = markers(&pair);
    let kept = partitions_of(&pair, &(11..SHARDS).collect::<Vec<u32>>());
    for (partition, count) in (0..).zip(&marked) {
        assert_eq!(*count == 0, kept.contains(&partition), "partition {partition}: {marked:?}");
    }
    ends_well(&pair, &written);
    c.stop();
}
