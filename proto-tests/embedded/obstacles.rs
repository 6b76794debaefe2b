//! Partitions that cannot be reached, or cannot begin: the others go on, and what was meant for them still holds later.

use kmirror::broker::Cluster;
use kmirror::mirror::{shard_of, state_topic};

use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Partition 0 is without a leader on one side; the others must flow, and it must follow once it has one.
fn one_without_a_leader(topic: &str, side: fn(&Pair) -> &Cluster) {
    let mut pair = Pair::new(topic, 2, 3, "");
    pair.target.create_topic(topic, 3, 1, &[]).unwrap();
    side(&pair).set_leaderless(topic, 0).unwrap();
    for partition in 1..3 {
        pair.write(partition, 0, 10);
    }
    pair.mirror.start();
    for partition in 1..3 {
        pair.await_values(partition, &numbered("", 0, 10));
    }
    wait_until("status to say why", LIMIT, || {
        let row = pair.mirror.row(topic, 0)?;
        let reason = row["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!((row["lag_records"].as_i64(), row["state"].as_str()), (Some(-1), Some("starting")), "{row}");
        if reason.contains("LEADER_NOT_AVAILABLE") { Ok(()) } else { Err(row.to_string()) }
    });
    side(&pair).move_leader(topic, 0, 1).unwrap();
    pair.write(0, 0, 10);
    pair.await_values(0, &numbered("", 0, 10));
    // While it runs, and then over a crash: the same.
    side(&pair).set_leaderless(topic, 0).unwrap();
    for partition in 1..3 {
        pair.write(partition, 10, 20);
        pair.await_values(partition, &numbered("", 0, 20));
    }
    pair.mirror.kill();
    pair.mirror.start();
    for partition in 1..3 {
        pair.write(partition, 20, 30);
        pair.await_values(partition, &numbered("", 0, 30));
    }
    side(&pair).move_leader(topic, 0, 2).unwrap();
    pair.write(0, 10, 20);
    pair.await_values(0, &numbered("", 0, 20));
    pair.mirror.await_caught_up(3);
    assert!(!pair.mirror.log().contains("starting it anew"), "{}", pair.mirror.log());
    for partition in 0..3 {
        pair.assert_mapped(partition);
    }
    pair.mirror.stop();
}

#[test]
fn a_target_partition_without_a_leader_holds_up_no_other() {
    one_without_a_leader("leaderless-target", |pair| &pair.target);
}

#[test]
fn a_source_partition_without_a_leader_holds_up_no_other() {
    one_without_a_leader("leaderless-source", |pair| &pair.source);
}

/// `start: latest` speaks of the mirror's first start, also for a partition that could not begin then.
#[test]
fn a_start_holds_for_a_partition_that_cannot_begin_yet() {
    let topic = "latest-later";
    let mut pair = Pair::new(topic, 2, 3, "    start: latest\n");
    pair.target.create_topic(topic, 3, 1, &[]).unwrap();
    for partition in 0..3 {
        pair.write(partition, 0, 5);
    }
    pair.target.set_leaderless(topic, 0).unwrap();
    append(&pair.target, topic, 1, "foreign-", 0, 3);
    pair.mirror.start();
    pair.mirror.await_state(topic, 1, "halted");
    wait_until("partition 2 to begin", LIMIT, || {
        let row = pair.mirror.row(topic, 2)?;
        if row["mirrored_to"] == 5 { Ok(()) } else { Err(row.to_string()) }
    });
    for partition in 0..3 {
        pair.write(partition, 5, 10);
    }
    pair.await_values(2, &numbered("", 5, 10));
    pair.mirror.kill();
    pair.mirror.start();
    pair.target.move_leader(topic, 0, 1).unwrap();
    pair.await_values(0, &numbered("", 5, 10));
    let resume = ["resume", "--partition", &format!("{topic}:1")];
    assert_eq!(pair.mirror.output(&resume).status.code(), Some(0));
    pair.await_values(1, &[numbered("foreign-", 0, 3), numbered("", 5, 10)].concat());
    pair.mirror.await_caught_up(3);
    pair.mirror.stop();
}

/// A shard whose partition of the state topic has no leader cannot be taken: the others are.
#[test]
fn a_state_partition_without_a_leader_holds_up_no_other_shard() {
    let topic = "leaderless-state";
    let mut pair = Pair::new(topic, 2, 3, "");
    for partition in 0..3 {
        pair.write(partition, 0, 10);
    }
    pair.mirror.start();
    for partition in 0..3 {
        pair.await_values(partition, &numbered("", 0, 10));
    }
    pair.mirror.kill();
    let id = pair.source.topics().into_iter().find(|t| t.name == topic).expect("it was made").id;
    let shard = i32::try_from(shard_of(id, 0, 16)).unwrap();
    pair.target.set_leaderless(&state_topic(topic), shard).unwrap();
    for partition in 0..3 {
        pair.write(partition, 10, 20);
    }
    pair.mirror.start();
    for partition in 1..3 {
        pair.await_values(partition, &numbered("", 0, 20));
    }
    assert_eq!(pair.values(&pair.target, 0), numbered("", 0, 10));
    pair.target.move_leader(&state_topic(topic), shard, 1).unwrap();
    pair.await_values(0, &numbered("", 0, 20));
    pair.mirror.await_caught_up(3);
    assert!(!pair.mirror.log().contains("starting it anew"), "{}", pair.mirror.log());
    pair.mirror.stop();
}
