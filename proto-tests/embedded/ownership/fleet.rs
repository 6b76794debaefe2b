//! Several processes of the program that share a mirror through its group.

use std::collections::BTreeSet;

use serde_json::Value;

use super::load::Load;
use super::{PARTITIONS, Pair, SHARDS, ends_well, markers};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// The least that brokers let a session last.
pub(super) const FLEET: &str = "fleet: { session_timeout: 6s }\n";

pub(super) fn another(pair: &Pair) -> Mirror {
    let addresses = |cluster: &kmirror::broker::Cluster| cluster.bootstrap().join(",");
    Mirror::between(&pair.topic, &addresses(&pair.source), &addresses(&pair.target), &[&pair.topic], FLEET)
}

fn shards(member: &Value) -> BTreeSet<u64> {
    member["shards"].as_array().unwrap().iter().map(|shard| shard.as_u64().unwrap()).collect()
}

/// Waits until the group has so many members, who share all shards evenly.
pub(super) fn await_shared(pair: &Pair, count: usize) -> Vec<Value> {
    wait_until(&format!("{count} instances that share all shards"), LIMIT, || {
        let status = pair.mirror.json(&["status"], 0);
        let fleet = &status["mirrors"][0]["fleet"];
        let members = fleet["members"].as_array().cloned().unwrap_or_default();
        let counts: Vec<usize> = members.iter().map(|member| shards(member).len()).collect();
        let all: BTreeSet<u64> = members.iter().flat_map(shards).collect();
        let even = counts.iter().all(|n| n.abs_diff(SHARDS as usize / count) <= 2);
        let elected = members.iter().filter(|member| member["elected"] == true).count();
        let shared = fleet["state"] == "Stable" && all.len() == SHARDS as usize && even && elected == 1;
        if shared && counts.len() == count { Ok(members) } else { Err(fleet.to_string()) }
    })
}

pub(super) fn everywhere() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

#[test]
fn instances_come_die_freeze_and_stop_and_every_record_is_there_once() {
    let mut pair = Pair::new("fleet", 2, PARTITIONS, FLEET);
    pair.mirror.start();
    await_shared(&pair, 1);
    let load = Load::start(&pair);
    load.await_flow();
    let mut stalls = Vec::new();
    let mut measured = |what: &'static str, load: &Load| {
        load.await_flow();
        stalls.push((what, load.stalls(&everywhere()).0));
    };

    load.forget_stalls();
    let (mut second, mut third) = (another(&pair), another(&pair));
    second.start();
    third.start();
    await_shared(&pair, 3);
    measured("two come", &load);
    assert_eq!(markers(&pair), [0; PARTITIONS as usize], "a planned move is a hand-over");

    third.kill();
    await_shared(&pair, 2);
    measured("one is killed", &load);

    second.process().signal("STOP");
    await_shared(&pair, 1);
    load.await_flow();
    second.process().signal("CONT");
    await_shared(&pair, 2);
    measured("one stands still and wakes", &load);

    let before = markers(&pair);
    pair.mirror.stop();
    await_shared(&pair, 1);
    measured("one stops", &load);
    assert_eq!(markers(&pair), before, "who stops hands over first");

    let written = load.stop();
    eprintln!("longest stall of any partition: {stalls:?}");
    ends_well(&pair, &written);
    second.stop();
}

#[test]
fn a_static_instance_is_expected_back_and_its_name_is_its_own() {
    let with_id = |id: &str| format!("fleet: {{ session_timeout: 6s, instance_id: {id} }}\n");
    let mut pair = Pair::new("fleet-static", 1, PARTITIONS, &with_id("one"));
    let addresses = |cluster: &kmirror::broker::Cluster| cluster.bootstrap().join(",");
    let instance = |id: &str| {
        let (from, to) = (addresses(&pair.source), addresses(&pair.target));
        Mirror::between(&pair.topic, &from, &to, &[&pair.topic], &with_id(id))
    };
    let (mut second, mut impostor) = (instance("two"), instance("two"));
    pair.mirror.start();
    second.start();
    let before = await_shared(&pair, 2);
    let of = |members: &[Value], id: &str| shards(members.iter().find(|m| m["instance_id"] == id).unwrap());
    second.stop();
    let group = pair.target.group_generation("kmirror.fleet-static");
    second.start();
    wait_until("the second instance to have its shards back", LIMIT, || {
        let taken = second.log().matches("shards to own").count();
        if taken >= 2 { Ok(()) } else { Err(format!("told {taken} times")) }
    });
    let after = await_shared(&pair, 2);
    assert_eq!(of(&before, "two"), of(&after, "two"));
    assert_eq!(pair.target.group_generation("kmirror.fleet-static"), group, "no rebalance");

    impostor.start();
    assert_eq!(second.await_end(), 1);
    assert!(second.log().contains("fleet.instance_id two"), "{}", second.log());
    for partition in 0..PARTITIONS {
        pair.write(partition, 0, 10);
    }
    ends_well(&pair, &[10; PARTITIONS as usize]);
    impostor.stop();
    pair.mirror.stop();
}
