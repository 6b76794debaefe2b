//! The whole story, between real clusters: load, the source killed under it, failover, consumers and producers on the standby, the old
//! source back with records that the standby never had, failback, the switch home, and the mirror as before. Every record is
//! accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use serde_json::Value;

use super::Mirror;
use super::failover::await_note;
use super::mirror::{LIMIT, await_end_offsets};
use crate::embedded::failover::fail_over;
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, TopicSpec, Version, driver, real_kafka_wanted, target, wait_until,
};

const TOPIC: &str = "story";
const PARTITIONS: i32 = 3;
/// What the producer writes before and while the source dies.
const LOAD: u64 = 60_000;
/// Written right before the source dies, while the mirror sleeps.
const LATE: u64 = 2_000;

/// What somebody sees of a record, whichever cluster it is on, and where it comes from.
type Seen = (i32, Option<String>, Option<String>);

fn seen(record: &FullRecord) -> Seen {
    (record.partition, record.key.clone(), record.value.clone())
}

fn all(cluster: &Cluster) -> Vec<FullRecord> {
    driver().records(&cluster.bootstrap(), TOPIC, "read_committed")
}

fn read_on(cluster: &Cluster, max: Option<u64>) -> Vec<FullRecord> {
    driver().read_on(&cluster.bootstrap(), TOPIC, TOPIC, "classic", max)
}

fn produce(cluster: &Cluster, seed: u64, count: u64) {
    driver().produce(&cluster.bootstrap(), &Produce { seed, partitions: PARTITIONS, ..Produce::new(TOPIC, count) });
}

/// Waits until a mirror that is named has no lag.
fn await_in_step(mirror: &Mirror, name: &str) {
    wait_until(&format!("{name} in step"), LIMIT, || {
        let output = mirror.output(&["status", "--mirror", name, "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let rows = report["mirrors"][0]["partitions"].as_array().cloned().unwrap_or_default();
        let done = rows.len() == PARTITIONS as usize
            && rows.iter().all(|row| row["lag_records"] == 0 && row["state"] == "mirroring");
        if done { Ok(()) } else { Err(report.to_string()) }
    });
}

fn start_home(mirror: &mut Mirror, home: &str) {
    mirror.start_as(|mut command| {
        command.args(["--mirror", home]);
        command
    });
}

/// The next record of each partition of `here`, from where the group stopped reading there, is what it reads first on `there`.
fn assert_reads_on(before: &[FullRecord], here: &[FullRecord], read: &[FullRecord]) {
    let mut stopped: BTreeMap<i32, i64> = BTreeMap::new();
    stopped.extend(before.iter().map(|record| (record.partition, record.offset + 1)));
    let left = |record: &&FullRecord| record.offset >= stopped.get(&record.partition).copied().unwrap_or(0);
    for partition in 0..PARTITIONS {
        let expected: Vec<Seen> = here.iter().filter(|r| r.partition == partition).filter(left).map(seen).collect();
        let found: Vec<Seen> = read.iter().filter(|r| r.partition == partition).map(seen).collect();
        // What the source had not handed on is not there.
        assert!(expected.starts_with(&found), "partition {partition}: {} of {}", found.len(), expected.len());
        assert!(expected.is_empty() || !found.is_empty(), "partition {partition} reads nothing");
    }
}

#[test]
fn there_and_back_with_every_record_accounted_for() {
    if !real_kafka_wanted("there_and_back_with_every_record_accounted_for") {
        return;
    }
    let home = format!("{TOPIC}.failback");
    let mut from = Cluster::start(ClusterSpec::new(Version::V4_3_1));
    driver().create_topic(&from.bootstrap(), &TopicSpec::new(TOPIC, PARTITIONS));
    let groups = format!("    groups: {{ include: [\"{TOPIC}\"], interval: 1s }}\n");
    let mut mirror = Mirror::new(TOPIC, &from, target(), &[TOPIC], &groups);
    let bootstrap = from.bootstrap();
    // Load, a group that reads, and the source dies under both.
    let (report, read_before) = thread::scope(|scope| {
        let spec = Produce { partitions: PARTITIONS, batch_size: 2_000, ..Produce::new(TOPIC, LOAD) };
        let writer = scope.spawn(move || driver().produce(&bootstrap, &spec));
        mirror.start();
        await_end_offsets(target(), TOPIC, 6_000, LIMIT);
        let read_before = read_on(&from, Some(3_000));
        wait_until("the group on the standby", LIMIT, || {
            let plan = mirror.json(&["groups", "plan"], 0);
            let totals = &plan["totals"];
            let done = totals["groups"] == 1 && totals["commits"] == 0 && totals["left_alone"] == 0;
            if done { Ok(()) } else { Err(totals.to_string()) }
        });
        // The mirror sleeps: what comes now is lost for certain, but for what was asked for already.
        mirror.process().signal("STOP");
        produce(&from, 78, LATE);
        from.kill_node(1);
        mirror.process().signal("CONT");
        await_note(TOPIC);
        let report = fail_over(&mirror, &[], 0);
        assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
        // Consumers and producers move, and the old source comes back: its producer had been waiting all the time.
        produce(target(), 77, 2_000);
        from.restart_node(1);
        writer.join().unwrap();
        (report, read_before)
    });
    let (old, standby) = (all(&from), all(target()));
    assert_eq!(old.len() as u64, LOAD + LATE);
    let mirrored = standby.len() - 2_000;
    let lost = old.len() - mirrored;
    assert!(lost > 0, "{report}");
    let read_there = read_on(target(), None);
    let of_load: BTreeSet<Seen> = old.iter().map(seen).collect();
    let from_load: Vec<FullRecord> = read_there.iter().filter(|r| of_load.contains(&seen(r))).cloned().collect();
    assert_reads_on(&read_before, &old, &from_load);
    assert_eq!(read_before.len() + from_load.len(), mirrored, "no record is missed, and none is read twice");
    assert_eq!(read_there.len() - from_load.len(), 2_000, "what was produced on the standby");

    // The way home: what the old source has alone is told, exported, and stays.
    let plan = mirror.json(&["failback", "--dry-run"], 0);
    let tail: u64 = plan["partitions"].as_array().unwrap().iter().map(|p| p["tail"]["records"].as_u64().unwrap()).sum();
    assert_eq!(tail as usize, lost, "{plan}");
    let file = mirror.folder().join("divergent.jsonl");
    mirror.json(&["failback", "--yes", "--export", file.to_str().unwrap()], 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), lost);
    start_home(&mut mirror, &home);
    await_in_step(&mirror, &home);
    let back = fail_over(&mirror, &["--mirror", &home], 0);
    assert_eq!(back["rpo"]["records"], 0, "{back}");
    assert_eq!(mirror.await_end(), 0, "{}", mirror.log());
    assert_eq!(all(&from).len(), old.len() + 2_000, "the load, and what the standby wrote");
    produce(&from, 78, 1_000);
    let read_home = read_on(&from, None);
    assert_eq!(read_home.len(), 1_000, "the group had read everything on the standby, and reads what is new");

    // As before.
    mirror.json(&["failback", "--yes"], 0);
    mirror.start();
    await_in_step(&mirror, TOPIC);
    mirror.stop();
    assert_eq!(all(target()).len(), mirrored + 3_000);
    mirror.json(&["verify"], 0);
    eprintln!(
        "story: {mirrored} of {LOAD} and {LATE} mirrored when the source died, {lost} on it alone; RPO {}, RTO {} s, outage {} s; home: RTO {} s",
        report["rpo"], report["rto_seconds"], report["outage_seconds"], back["rto_seconds"]
    );
}
