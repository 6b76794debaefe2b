//! Instances that share a mirror between real clusters: they come, go, die and sleep while records flow, and every record is on the
//! target once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Mirror;
use super::mirror::LIMIT;
use crate::kafka::harness::{
    Produce, Tier, TopicSpec, compare, driver, real_kafka_wanted, source, target, tier, wait_until,
};

const TOPIC: &str = "fleet";
/// Records of one turn over all partitions.
const ROUND: u64 = 600;
/// What a partition gets in two rounds, at least; a take-over leaves a marker or two.
const GAIN: i64 = 16;
const PACE: Duration = Duration::from_millis(100);
/// Kafka's least session time-out is `group.min.session.timeout.ms`, 6 s.
const FLEET: &str = "fleet: { session_timeout: 6s }\n";

fn partitions() -> i32 {
    if tier() == Tier::Full { 300 } else { 48 }
}

/// Records that keep coming.
struct Load {
    over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&over), Arc::clone(&written));
        let writer = std::thread::spawn(move || {
            for seed in 0.. {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                let round = Produce { seed, partitions: partitions(), ..Produce::new(TOPIC, ROUND) };
                driver().produce(&source().bootstrap(), &round);
                count.fetch_add(ROUND, Ordering::SeqCst);
                // Kept slow, so that what is compared in the end stays small.
                std::thread::sleep(PACE);
            }
        });
        Self { over, written, writer: Some(writer) }
    }

    /// Waits until every partition of the target has got more from now on than markers could be; how long the slowest took.
    fn await_flow(&self, what: &str) -> Duration {
        let (began, before) = (Instant::now(), ends(&target().bootstrap()));
        wait_until(&format!("every partition to flow: {what}"), LIMIT, || {
            let there = ends(&target().bootstrap());
            let flows = |p: &i32| there.get(p).copied().unwrap_or(0) >= before.get(p).copied().unwrap_or(0) + GAIN;
            let still: Vec<i32> = (0..partitions()).filter(|partition| !flows(partition)).collect();
            if still.is_empty() { Ok(()) } else { Err(format!("{still:?} stand still")) }
        });
        began.elapsed()
    }

    fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.writer.take().expect("it is stopped once").join().unwrap();
        self.written.load(Ordering::SeqCst)
    }
}

/// Ends of the topic's partitions.
fn ends(bootstrap: &str) -> BTreeMap<i32, i64> {
    driver().offsets(bootstrap, &[TOPIC]).into_iter().map(|row| (row.partition, row.end)).collect()
}

fn instance() -> Mirror {
    Mirror::new(TOPIC, source(), target(), &[TOPIC], FLEET)
}

/// How many times the instance has begun to take shards.
fn turns(mirror: &Mirror) -> usize {
    mirror.log().matches("taking shards").count()
}

/// Waits until the instance takes shards once more than it had.
fn await_turn(mirror: &Mirror, before: usize) {
    wait_until("the instance to be given shards", LIMIT, || match turns(mirror) {
        now if now > before => Ok(()),
        now => Err(format!("{now} times; its log:\n{}", mirror.log())),
    });
}

/// Waits until `status` shows so many instances that go by the same file and share all shards.
fn await_shown(mirror: &Mirror, instances: usize) {
    wait_until("the fleet in status", LIMIT, || {
        let fleet = mirror.json(&["status"], 0)["mirrors"][0]["fleet"].clone();
        let members = fleet["members"].as_array().cloned().unwrap_or_default();
        let owned: Vec<_> = members.iter().filter_map(|member| member["shards"].as_array()).flatten().collect();
        let elected = members.iter().filter(|member| member["elected"] == true).count();
        let is_whole = owned.len() == 16 && elected == 1 && fleet["is_skewed"] == false;
        if members.len() == instances && is_whole { Ok(()) } else { Err(fleet.to_string()) }
    });
}

/// Lines of the mirror that only the second file has.
const LIMITS: &str = "    limits: { bandwidth: 1GiB }\n";

fn is_other_file(mirror: &Mirror) -> bool {
    std::fs::read_to_string(&mirror.config).unwrap().contains(LIMITS)
}

fn put_other_file(mirror: &Mirror) {
    let text = std::fs::read_to_string(&mirror.config).unwrap();
    std::fs::write(&mirror.config, text.replace(FLEET, &format!("{LIMITS}{FLEET}"))).unwrap();
    assert!(is_other_file(mirror));
}

/// Waits until `status` shows that one of so many instances goes by another file than the others.
fn await_skewed(mirror: &Mirror, instances: usize) {
    wait_until("the other file in status", LIMIT, || {
        let fleet = mirror.json(&["status"], 0)["mirrors"][0]["fleet"].clone();
        let members = fleet["members"].as_array().cloned().unwrap_or_default();
        let mut files: Vec<&str> = members.iter().filter_map(|member| member["config_hash"].as_str()).collect();
        files.sort_unstable();
        files.dedup();
        let is_skewed = fleet["is_skewed"] == true && files.len() == 2;
        if members.len() == instances && is_skewed { Ok(()) } else { Err(fleet.to_string()) }
    });
}

#[test]
fn instances_come_and_go_and_die_and_sleep_and_no_record_is_lost_or_there_twice() {
    if !real_kafka_wanted("instances_come_and_go_and_die_and_sleep_and_no_record_is_lost_or_there_twice") {
        return;
    }
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(TOPIC, partitions()));
    let mut fleet: Vec<Mirror> = (0..3).map(|_| instance()).collect();
    fleet.iter_mut().for_each(|mirror| {
        mirror.start();
    });
    fleet.iter().for_each(|mirror| await_turn(mirror, 0));
    let load = Load::start();
    let mut took = vec![("started", load.await_flow("three instances"))];
    // A fourth comes.
    let mut fourth = instance();
    fourth.start();
    await_turn(&fourth, 0);
    took.push(("a fourth came", load.await_flow("with a fourth")));
    await_shown(&fourth, 4);
    // Another file reaches one of them before the others.
    put_other_file(&fleet[1]);
    await_skewed(&fourth, 4);
    fleet.iter().chain([&fourth]).filter(|mirror| !is_other_file(mirror)).for_each(put_other_file);
    await_shown(&fourth, 4);
    took.push(("another file was taken up", load.await_flow("by another file")));
    // One dies.
    let mut dead = fleet.remove(0);
    dead.kill();
    took.push(("one was killed", load.await_flow("after a kill -9")));
    // One sleeps, for longer than its session lasts, and wakes up.
    fleet[0].process().signal("STOP");
    took.push(("one slept", load.await_flow("while one sleeps")));
    fleet[0].process().signal("CONT");
    took.push(("it woke up", load.await_flow("after it woke up")));
    // All are started anew, one by one.
    for mirror in fleet.iter_mut().chain([&mut fourth]) {
        let before = turns(mirror);
        mirror.stop();
        mirror.start();
        await_turn(mirror, before);
    }
    took.push(("all were started anew", load.await_flow("after a rolling restart")));
    let written = load.stop();
    fourth.await_caught_up(usize::try_from(partitions()).unwrap());
    fleet.iter_mut().chain([&mut fourth]).for_each(Mirror::stop);
    let (here, there) = fourth.dumps(&[TOPIC], &[TOPIC]);
    compare(&here, &there).assert_exactly(usize::try_from(written).unwrap());
    eprintln!("{written} records; until every partition had flowed again: {took:?}");
}
