//! Leaders that move, and a broker that stops and comes back, on three-node clusters on either side.

use std::thread;

use super::Mirror;
use super::mirror::{LIMIT, await_end_offsets};
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, TopicSpec, Version, driver, real_kafka_wanted, source, target,
};

const PARTITIONS: i32 = 6;
const RECORDS: u64 = 60_000;

/// Writes while the leaders of every partition of `topic` on `three` go round.
fn mirrored_while_leaders_move(mirror: &mut Mirror, topic: &str, from: &Cluster, to: &Cluster, three: &Cluster) {
    let bootstrap = from.bootstrap();
    let spec = Produce { partitions: PARTITIONS, batch_size: 4_000, ..Produce::new(topic, RECORDS) };
    thread::scope(|scope| {
        let writer = scope.spawn(|| driver().produce(&bootstrap, &spec));
        await_end_offsets(to, topic, 100, LIMIT);
        for partition in 0..PARTITIONS {
            driver().move_leader(&three.bootstrap(), topic, partition, 1 + (partition + 1) % 3);
        }
        writer.join().unwrap();
    });
    mirror.await_caught_up(PARTITIONS as usize);
}

#[test]
fn leaders_and_brokers_that_move_on_either_side_cost_nothing() {
    if !real_kafka_wanted("leaders_and_brokers_that_move_on_either_side_cost_nothing") {
        return;
    }
    let mut three = Cluster::start(ClusterSpec::new(Version::V4_3_1).nodes(3));
    let (out, into) = ("leaders-source", "leaders-target");
    driver().create_topic(&three.bootstrap(), &TopicSpec::new(out, PARTITIONS).replication(3));
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(into, PARTITIONS));
    let mut from_three = Mirror::new(out, &three, target(), &[out], "");
    let mut to_three = Mirror::new(into, source(), &three, &[into], "");
    from_three.start();
    mirrored_while_leaders_move(&mut from_three, out, &three, target(), &three);
    to_three.start();
    mirrored_while_leaders_move(&mut to_three, into, source(), &three, &three);
    three.shut_down_node(2);
    for (bootstrap, topic) in [(three.bootstrap(), out), (source().bootstrap(), into)] {
        driver().produce(&bootstrap, &Produce { seed: 2, partitions: PARTITIONS, ..Produce::new(topic, 6_000) });
    }
    from_three.await_caught_up(PARTITIONS as usize);
    to_three.await_caught_up(PARTITIONS as usize);
    three.restart_node(2);
    three.kill_node(3);
    for (bootstrap, topic) in [(three.bootstrap(), out), (source().bootstrap(), into)] {
        driver().produce(&bootstrap, &Produce { seed: 3, partitions: PARTITIONS, ..Produce::new(topic, 6_000) });
    }
    for (mirror, topic) in [(&mut from_three, out), (&mut to_three, into)] {
        mirror.await_caught_up(PARTITIONS as usize);
        mirror.stop();
        mirror.compare(&[topic]).assert_exactly(RECORDS as usize + 12_000);
    }
}
