//! Consumer groups kept in step by a running mirror, and by command, between embedded brokers.

use kmirror::broker::Cluster;

use super::Pair;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

const GROUPS: &str = "    groups: { include: [\".*\"], exclude: [\"not-.*\"], interval: 1s }\n";

/// The offset of a group in partition 0 of a topic.
fn offset(cluster: &Cluster, group: &str, topic: &str) -> Option<i64> {
    cluster.group_offsets(group).get(&(topic.to_owned(), 0)).map(|committed| committed.offset)
}

fn await_offset(pair: &Pair, group: &str, expected: i64) {
    wait_until(&format!("{group} at {expected}"), LIMIT, || match offset(&pair.target, group, &pair.topic) {
        Some(there) if there == expected => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_running_mirror_keeps_groups_in_step() {
    let topic = "group-sync-thin";
    let mut pair = Pair::new(topic, 2, 1, GROUPS);
    pair.write(0, 0, 10);
    pair.source.commit_offset("billing", topic, 0, 4);
    pair.source.commit_offset("not-this", topic, 0, 4);
    pair.mirror.start();
    await_offset(&pair, "billing", 4);
    pair.source.commit_offset("billing", topic, 0, 10);
    await_offset(&pair, "billing", 10);
    pair.source.commit_offset("billing", topic, 0, 2);
    await_offset(&pair, "billing", 2);
    assert_eq!(offset(&pair.target, "not-this", topic), None);
    pair.mirror.stop();
}
