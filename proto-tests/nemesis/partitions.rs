//! Single partitions of a larger cluster that lose their leader, or records with it.

use super::Scenario;
use super::case::{Case, PARTITIONS, Three};
use crate::e2e::Mirror;
use crate::e2e::crash::assert_map_is_exact;
use crate::e2e::mirror::{LIMIT, await_end_offsets, gaps};
use crate::kafka::harness::{Cluster, Dump, Produce, TopicSpec, compare, driver, wait_until};

pub(crate) const LEADERLESS: Scenario<Three> = Scenario::new("leaderless_partitions", leaderless_partitions);
pub(crate) const LEADERLESS_AT_START: Scenario<Three> = Scenario::slow("leaderless_at_start", leaderless_at_start);
pub(crate) const UNCLEAN_SOURCE: Scenario<Three> =
    Scenario::slow("unclean_election_on_source", unclean_election_on_source);
pub(crate) const UNCLEAN_TARGET: Scenario<Three> =
    Scenario::slow("unclean_election_on_target", unclean_election_on_target);

/// Partitions of `topic` that this node leads.
fn led_by(cluster: &Cluster, topic: &str, node: u16) -> Vec<i32> {
    let all = driver().describe_topic(&cluster.bootstrap(), topic);
    all.into_iter()
        .filter(|partition| partition.leader == i32::from(node))
        .map(|partition| partition.partition)
        .collect()
}

/// Waits until every partition of the target that has a leader has grown by some records.
fn await_others(target: &Cluster, topic: &str, without: &[i32], more: i64) {
    // Asked one by one: an answer about the partitions without a leader does not come.
    let ends = || driver().ends_of(&target.bootstrap(), topic, &others(without));
    let before = ends();
    wait_until("the other partitions to go on", LIMIT, || {
        let now = ends();
        if now.iter().zip(&before).all(|(now, before)| *now >= before + more) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
}

fn others(without: &[i32]) -> Vec<i32> {
    (0..PARTITIONS).filter(|partition| !without.contains(partition)).collect()
}

/// One replica each, on three nodes, one of which is gone: on the side of the source of one mirror and of the target of
/// another.
fn leaderless_partitions(rig: &mut Three) {
    let (mut from_three, mut to_three) = one_replica_each(rig, "leaderless");
    from_three.mirror.start();
    to_three.mirror.start();
    to_three.write();
    write_to(&from_three, &rig.three, 1, &others(&[]));
    from_three.counts(200 * PARTITIONS as u64);
    await_end_offsets(&rig.one, &from_three.topic, 200 * i64::from(PARTITIONS), LIMIT);
    to_three.await_more(&rig.three, 400);
    let node = 2;
    let (gone_out, gone_into) =
        (led_by(&rig.three, &from_three.topic, node), led_by(&rig.three, &to_three.topic, node));
    assert!(!gone_out.is_empty() && !gone_into.is_empty());
    let restarts = |case: &Case| case.mirror.log().matches("starting it anew").count();
    let before = [restarts(&from_three), restarts(&to_three)];
    rig.three.kill_node(node);
    await_others(&rig.three, &to_three.topic, &gone_into, 400);
    write_to(&from_three, &rig.three, 2, &others(&gone_out));
    from_three.counts(200 * others(&gone_out).len() as u64);
    let expected: i64 = (200 * PARTITIONS as usize + 200 * others(&gone_out).len()) as i64;
    await_end_offsets(&rig.one, &from_three.topic, expected, LIMIT);
    assert_eq!([restarts(&from_three), restarts(&to_three)], before, "{}", to_three.mirror.log());
    rig.three.restart_node(node);
    from_three.assert_whole(&rig.three, &rig.one);
    to_three.assert_whole(&rig.one, &rig.three);
}

/// The same while the mirrors start.
fn leaderless_at_start(rig: &mut Three) {
    let (mut from_three, mut to_three) = one_replica_each(rig, "leaderless-start");
    let node = 2;
    let (gone_out, gone_into) =
        (led_by(&rig.three, &from_three.topic, node), led_by(&rig.three, &to_three.topic, node));
    assert!(!gone_out.is_empty() && !gone_into.is_empty());
    rig.three.kill_node(node);
    to_three.write();
    write_to(&from_three, &rig.three, 2, &others(&gone_out));
    from_three.counts(200 * others(&gone_out).len() as u64);
    from_three.mirror.start();
    to_three.mirror.start();
    await_others(&rig.three, &to_three.topic, &gone_into, 400);
    await_end_offsets(&rig.one, &from_three.topic, 200 * others(&gone_out).len() as i64, LIMIT);
    rig.three.restart_node(node);
    from_three.assert_whole(&rig.three, &rig.one);
    to_three.assert_whole(&rig.one, &rig.three);
}

fn one_replica_each(rig: &Three, name: &str) -> (Case, Case) {
    let (out, into) = (format!("{name}-out"), format!("{name}-into"));
    driver().create_topic(&rig.three.bootstrap(), &TopicSpec::new(&into, PARTITIONS));
    let from_three = Case::new(&out, &rig.three, &rig.one, 1, "");
    let to_three = Case::new(&into, &rig.one, &rig.three, 1, "");
    (from_three, to_three)
}

fn write_to(case: &Case, cluster: &Cluster, seed: u64, partitions: &[i32]) {
    for partition in partitions {
        let seed = seed * 100 + u64::try_from(*partition).unwrap();
        driver().produce(
            &cluster.bootstrap(),
            &Produce { seed, partition: Some(*partition), ..Produce::odd(&case.topic, 200) },
        );
    }
}

fn both_sides(from: &Cluster, to: &Cluster, topic: &str) -> (Dump, Dump) {
    (driver().dump(&from.bootstrap(), &[topic]), driver().dump(&to.bootstrap(), &[topic]))
}

const LOST: u64 = 100;

/// A partition of two replicas that may be led by one that lags.
fn two_replicas(topic: &str) -> TopicSpec {
    TopicSpec::new(topic, 1).replication(2).set("unclean.leader.election.enable", true).set("min.insync.replicas", 1)
}

fn records(topic: &str, seed: u64, count: u64) -> Produce {
    Produce { seed, timestamp: 0, ..Produce::odd(topic, count) }
}

/// Leader and follower of the one partition.
fn pair_of(cluster: &Cluster, topic: &str) -> (u16, u16) {
    let partition = driver().describe_topic(&cluster.bootstrap(), topic).remove(0);
    let follower = partition.replicas.iter().find(|node| **node != partition.leader).unwrap();
    (partition.leader as u16, *follower as u16)
}

fn await_isr(cluster: &Cluster, topic: &str, isr: usize) {
    wait_until("the in-sync replicas", LIMIT, || {
        let partition = driver().describe_topic(&cluster.bootstrap(), topic).remove(0);
        if partition.isr.len() == isr { Ok(()) } else { Err(format!("{partition:?}")) }
    });
}

/// The leader, which alone has the last records, makes way for the follower, which has not.
fn elect_uncleanly(cluster: &mut Cluster, topic: &str, (leader, follower): (u16, u16)) {
    cluster.kill_node(leader);
    cluster.restart_node(follower);
    wait_until("the follower to lead", LIMIT, || {
        let partition = driver().describe_topic(&cluster.bootstrap(), topic).remove(0);
        if partition.leader == i32::from(follower) { Ok(()) } else { Err(format!("{partition:?}")) }
    });
}

/// The source loses records that were mirrored: the partition halts, names them, and goes on behind them when told to.
fn unclean_election_on_source(rig: &mut Three) {
    let topic = "unclean-source";
    let bootstrap = rig.three.bootstrap();
    driver().create_topic(&bootstrap, &two_replicas(topic));
    let (from, to) = (rig.three.proxied_bootstrap(), rig.one.proxied_bootstrap());
    let mut mirror = Mirror::between(topic, &from, &to, &[topic], "");
    driver().produce(&bootstrap, &records(topic, 1, 200));
    await_isr(&rig.three, topic, 2);
    let nodes = pair_of(&rig.three, topic);
    rig.three.kill_node(nodes.1);
    await_isr(&rig.three, topic, 1);
    driver().produce(&bootstrap, &records(topic, 2, LOST));
    mirror.start();
    await_end_offsets(&rig.one, topic, 300, LIMIT);
    let both = driver().dump(&rig.one.bootstrap(), &[topic]);
    elect_uncleanly(&mut rig.three, topic, nodes);
    driver().produce(&bootstrap, &records(topic, 3, 150));
    let row = mirror.await_state(topic, 0, "halted");
    assert!(row["reason"].as_str().unwrap().starts_with("truncation at source offsets [200, 300): "), "{row}");
    assert_eq!(driver().dump(&rig.one.bootstrap(), &[topic]), both, "nothing was written over it");
    assert_eq!(
        mirror.output(&["resume", "--partition", &format!("{topic}:0"), "--accept-loss", "200..300"]).status.code(),
        Some(0)
    );
    rig.three.restart_node(nodes.0);
    mirror.await_caught_up(1);
    assert!(gaps(&mirror.row(topic, 0).unwrap()).iter().all(|(reason, ..)| reason != "retention"));
    mirror.stop();
    let (mut here, there) = both_sides(&rig.three, &rig.one, topic);
    let at = (topic.to_owned(), 0);
    let lost = both.partitions[&at][200..].to_vec();
    here.partitions.get_mut(&at).unwrap().splice(200..200, lost);
    compare(&here, &there).assert_exactly(450);
}

/// The target loses records that it had acknowledged: its next answer tells, and what was lost is copied again.
fn unclean_election_on_target(rig: &mut Three) {
    let topic = "unclean-target";
    let (from, to) = (rig.one.bootstrap(), rig.three.bootstrap());
    driver().create_topic(&from, &TopicSpec::new(topic, 1));
    driver().create_topic(&to, &two_replicas(topic));
    let mut mirror = Mirror::between(topic, &rig.one.proxied_bootstrap(), &rig.three.proxied_bootstrap(), &[topic], "");
    driver().produce(&from, &records(topic, 1, 200));
    mirror.start();
    await_end_offsets(&rig.three, topic, 200, LIMIT);
    await_isr(&rig.three, topic, 2);
    let nodes = pair_of(&rig.three, topic);
    rig.three.kill_node(nodes.1);
    await_isr(&rig.three, topic, 1);
    driver().produce(&from, &records(topic, 2, LOST));
    await_end_offsets(&rig.three, topic, 300, LIMIT);
    elect_uncleanly(&mut rig.three, topic, nodes);
    driver().produce(&from, &records(topic, 3, 150));
    rig.three.restart_node(nodes.0);
    mirror.await_caught_up(1);
    mirror.stop();
    let (here, there) = both_sides(&rig.one, &rig.three, topic);
    compare(&here, &there).assert_exactly(450);
    assert_map_is_exact(topic, &rig.three, &here, &there);
}
