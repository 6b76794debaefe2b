//! What exactly-once streams cost: every one of their markers breaks the offset map.

use super::Mirror;
use super::crash::assert_map_is_exact;
use crate::kafka::harness::{
    Produce, Tier, TopicSpec, Transact, compare, driver, real_kafka_wanted, source, target, tier,
};

const PARTITIONS: i32 = 6;

/// As Kafka Streams writes: small transactions over several partitions, one after another.
fn stream(topic: &str, seed: u64, count: u64) {
    let produce = Produce { seed, partitions: PARTITIONS, ..Produce::new(topic, count) };
    let stream = Transact { producers: 4, records_per_transaction: 6, abort_every: 0, ..Transact::new(produce) };
    assert_eq!(driver().transact(&source().bootstrap(), &stream).committed, count);
}

/// Markers in a topic of committed transactions only: every offset that is no record.
fn markers(topic: &str, records: u64) -> u64 {
    let rows = driver().offsets(&source().bootstrap(), &[topic]);
    rows.iter().map(|row| row.end.unsigned_abs()).sum::<u64>() - records
}

fn state_bytes(mirror: &Mirror) -> u64 {
    driver().log_bytes(&target().bootstrap(), &format!("__kmirror.{}", mirror.name))
}

/// Bytes for each marker, while the mirror follows a stream and where it works a backlog off.
#[test]
fn a_marker_costs_a_few_bytes_of_state() {
    if !real_kafka_wanted("a_marker_costs_a_few_bytes_of_state") {
        return;
    }
    let (topic, count) = ("state-size", if tier() == Tier::Full { 24_000 } else { 3_000 });
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, PARTITIONS));
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    mirror.start().await_caught_up(PARTITIONS as usize);
    let mut seen = 0;
    // A follower's marker may come alone: then a whole batch is its cost. In a backlog many share one.
    for (what, live, bytes_max) in [("while following", true, 100.0), ("from a backlog", false, 16.0)] {
        let before = state_bytes(&mirror);
        if live {
            stream(topic, 1, count);
        } else {
            mirror.stop();
            stream(topic, 2, count);
            mirror.start();
        }
        mirror.await_caught_up(PARTITIONS as usize);
        let all = markers(topic, if live { count } else { 2 * count });
        let bytes = (state_bytes(&mirror) - before) as f64 / (all - seen) as f64;
        eprintln!("state {what}: {bytes:.1} bytes for each of {} markers", all - seen);
        assert!(bytes < bytes_max, "{what}: {bytes:.1} bytes for each marker");
        seen = all;
    }
    mirror.stop();
    let (here, there) = mirror.dumps(&[topic], &[topic]);
    compare(&here, &there).assert_exactly(2 * count as usize);
    assert_map_is_exact(topic, target(), &here, &there);
}
