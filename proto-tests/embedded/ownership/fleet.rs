//! Several processes of the program that share a mirror through its group.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::load::Load;
use super::{PARTITIONS, Pair, SHARDS, ends_well, markers, partitions_of};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// The least that brokers let a session last.
pub(super) const FLEET: &str = "fleet: { session_timeout: 6s }\n";

/// Longer than anything that is waited for: what happens within it is not the session's end.
const WATCHFUL: &str = "fleet: { session_timeout: 30s, suspect_after: 1500ms }\n";
/// After an instance has died, with some room for a slow machine; the aim is 3 s.
const FOUND_WITHIN: Duration = Duration::from_secs(4);

pub(super) fn another(pair: &Pair, fleet: &str) -> Mirror {
    let addresses = |cluster: &kmirror::broker::Cluster| cluster.bootstrap().join(",");
    Mirror::between(&pair.topic, &addresses(&pair.source), &addresses(&pair.target), &[&pair.topic], fleet)
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
    let (mut second, mut third) = (another(&pair, FLEET), another(&pair, FLEET));
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

/// The partitions of an instance's shards.
fn partitions_at(pair: &Pair, members: &[Value], pid: u32) -> Vec<i32> {
    let end = format!(":{pid}");
    let member = members.iter().find(|member| member["host"].as_str().is_some_and(|host| host.ends_with(&end)));
    let shards: Vec<u32> = shards(member.unwrap()).into_iter().map(|shard| u32::try_from(shard).unwrap()).collect();
    partitions_of(pair, &shards)
}

/// Who was put out, as `status` shows it: host of the one, host of whoever did it.
fn shown_put_out(members: &[Value]) -> Vec<(String, String)> {
    let of = |member: &Value| {
        let by = member["host"].as_str().unwrap().to_owned();
        let out = member["put_out"].as_array().cloned().unwrap_or_default();
        out.into_iter().map(move |out| (out["host"].as_str().unwrap().to_owned(), by.clone())).collect::<Vec<_>>()
    };
    members.iter().flat_map(of).collect()
}

/// Waits until so many instances have given signs enough to be missed: nobody is suspected on what stood there at first.
fn await_heard(pair: &Pair, count: usize) {
    let group = format!("kmirror.{}", pair.topic);
    let before = pair.target.group_offsets(&group);
    wait_until("signs of life", LIMIT, || {
        let signs = pair.target.group_offsets(&group);
        let first = |place| before.get(place).map_or(0, |sign| sign.offset);
        let heard = signs.iter().filter(|(place, sign)| sign.offset < i64::MAX && sign.offset >= first(*place) + 3);
        if heard.count() == count { Ok(()) } else { Err(format!("{signs:?}")) }
    });
}

/// Waits until one of so many says that it has put one out.
fn await_put_out(pair: &Pair, count: usize) -> Vec<Value> {
    wait_until("an instance to be put out", LIMIT, || {
        let members = pair.mirror.json(&["status"], 0)["mirrors"][0]["fleet"]["members"].clone();
        let members = members.as_array().cloned().unwrap_or_default();
        let is_shown = members.len() == count && shown_put_out(&members).len() == 1;
        if is_shown { Ok(members) } else { Err(format!("{members:?}")) }
    })
}

#[test]
fn a_silent_instance_is_put_out_by_the_others_and_nobody_else_stands_still() {
    let mut pair = Pair::new("fleet-silent", 2, PARTITIONS, WATCHFUL);
    pair.mirror.start();
    await_shared(&pair, 1);
    let load = Load::start(&pair);
    load.await_flow();
    let (mut second, mut third) = (another(&pair, WATCHFUL), another(&pair, WATCHFUL));
    second.start();
    third.start();
    let members = await_shared(&pair, 3);
    assert_eq!(shown_put_out(&members), []);

    // The first leads the group. Who assigns next finds itself.
    let pid = pair.mirror.process().pid();
    let theirs = partitions_at(&pair, &members, pid);
    load.await_flow();
    await_heard(&pair, 3);
    load.forget_stalls();
    pair.mirror.kill();
    await_shared(&pair, 2);
    load.await_flow();
    let killed = load.stalls(&theirs);
    let members = await_put_out(&pair, 2);
    let shown = shown_put_out(&members);
    assert!(shown[0].0.ends_with(&format!(":{pid}")), "{shown:?}");

    let theirs = partitions_at(&pair, &members, second.process().pid());
    await_heard(&pair, 2);
    load.forget_stalls();
    second.process().signal("STOP");
    await_shared(&pair, 1);
    load.await_flow();
    let slept = load.stalls(&theirs);
    second.process().signal("CONT");
    await_shared(&pair, 2);
    load.await_flow();
    let written = load.stop();
    eprintln!(
        "longest stall of a partition of the one that was killed, of all others: {killed:?}; that slept: {slept:?}"
    );
    for (what, (theirs, others)) in [("killed", killed), ("slept", slept)] {
        assert!(theirs < FOUND_WITHIN, "{what}: {theirs:?}");
        assert!(others < theirs / 2, "{what}: {others:?} for those of the others, {theirs:?}");
    }
    assert!(second.log().contains("put out of the fleet"), "{}", second.log());
    ends_well(&pair, &written);
    second.stop();
    third.stop();
}

#[test]
fn a_static_instance_that_is_stopped_is_not_suspected() {
    let with_id = |id: &str| format!("fleet: {{ session_timeout: 20s, suspect_after: 1s, instance_id: {id} }}\n");
    let mut pair = Pair::new("fleet-static-silent", 1, PARTITIONS, &with_id("one"));
    let mut second = another(&pair, &with_id("two"));
    pair.mirror.start();
    second.start();
    await_shared(&pair, 2);
    let generation = || pair.target.group_generation("kmirror.fleet-static-silent");
    let group = generation();
    let await_sign = |count: usize| {
        wait_until("signs of life", LIMIT, || {
            let signs = pair.target.group_offsets("kmirror.fleet-static-silent");
            // One that says that it comes back says nothing else.
            let live = signs.values().filter(|sign| sign.offset < i64::MAX && !sign.metadata.contains("is_last"));
            if live.count() == count { Ok(()) } else { Err(format!("{signs:?}")) }
        });
    };
    await_sign(2);
    second.stop();
    await_sign(1);
    // Three times as long as it is waited for with signs of life, and shorter than its session.
    std::thread::sleep(Duration::from_secs(3));
    second.start();
    await_sign(2);
    let after = await_shared(&pair, 2);
    assert_eq!(generation(), group, "no rebalance");
    assert_eq!(shown_put_out(&after), []);
    // Killed, it has not said that it comes back.
    await_heard(&pair, 2);
    second.kill();
    await_put_out(&pair, 1);
    pair.mirror.stop();
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
