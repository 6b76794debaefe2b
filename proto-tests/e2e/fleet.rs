//! Instances that share a mirror between real clusters: they come, go, die and sleep while records flow, and every record is on the
//! target once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use super::Mirror;
use super::mirror::LIMIT;
use crate::conformance::wire::Conn;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, Tier, TopicSpec, Version, compare, driver, real_kafka_wanted, source, target, tier,
    wait_until,
};

const TOPIC: &str = "fleet";
/// Records of one turn over all partitions.
const ROUND: u64 = 600;
/// What a partition gets in two rounds, at least; a take-over leaves a marker or two.
const GAIN: i64 = 16;
const PACE: Duration = Duration::from_millis(100);
/// Kafka's least session time-out is `group.min.session.timeout.ms`, 6 s.
const FLEET: &str = "fleet: { session_timeout: 6s }\n";
/// Longer than any session that ends in these tests: what is faster than that was not the session's end.
const WATCHFUL: &str = "fleet: { session_timeout: 20s, suspect_after: 1500ms }\n";
/// After an instance died, with some room for a slow machine; the aim is 3 s.
const FOUND_WITHIN: Duration = Duration::from_secs(4);

fn partitions() -> i32 {
    if tier() == Tier::Full { 300 } else { 48 }
}

/// Records that keep coming, to a topic that is mirrored to this target.
struct Load {
    topic: &'static str,
    target: String,
    partitions: i32,
    over: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Load {
    fn start(topic: &'static str, target: &Cluster, partitions: i32) -> Self {
        let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&over), Arc::clone(&written));
        let writer = std::thread::spawn(move || {
            for seed in 0.. {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                let round = Produce { seed, partitions, ..Produce::new(topic, ROUND) };
                driver().produce(&source().bootstrap(), &round);
                count.fetch_add(ROUND, Ordering::SeqCst);
                // Kept slow, so that what is compared in the end stays small.
                std::thread::sleep(PACE);
            }
        });
        Self { topic, target: target.bootstrap(), partitions, over, written, writer: Some(writer) }
    }

    /// Waits until every partition of the target has got more from now on than markers could be; how long the slowest took.
    fn await_flow(&self, what: &str) -> Duration {
        let (began, before) = (Instant::now(), self.ends());
        wait_until(&format!("every partition to flow: {what}"), LIMIT, || {
            let there = self.ends();
            let flows = |p: &i32| there.get(p).copied().unwrap_or(0) >= before.get(p).copied().unwrap_or(0) + GAIN;
            let still: Vec<i32> = (0..self.partitions).filter(|partition| !flows(partition)).collect();
            if still.is_empty() { Ok(()) } else { Err(format!("{still:?} stand still")) }
        });
        began.elapsed()
    }

    /// Ends of the topic's partitions on the target.
    fn ends(&self) -> BTreeMap<i32, i64> {
        driver().offsets(&self.target, &[self.topic]).into_iter().map(|row| (row.partition, row.end)).collect()
    }

    fn stop(mut self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.writer.take().expect("it is stopped once").join().unwrap();
        self.written.load(Ordering::SeqCst)
    }
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
    let load = Load::start(TOPIC, target(), partitions());
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

/// An instance of a fleet that is watchful, between the shared source and this target.
fn watchful(topic: &str, to: &Cluster) -> Mirror {
    Mirror::new(topic, source(), to, &[topic], WATCHFUL)
}

/// How many instances these have put out.
fn put_out<'a>(fleet: impl IntoIterator<Item = &'a Mirror>) -> usize {
    fleet.into_iter().map(|mirror| mirror.log().matches("has given no sign of life").count()).sum()
}

#[test]
fn a_silent_instance_is_found_long_before_its_session_ends() {
    if !real_kafka_wanted("a_silent_instance_is_found_long_before_its_session_ends") {
        return;
    }
    const TOPIC: &str = "fleet-silent";
    let partitions = 48;
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(TOPIC, partitions));
    let mut fleet: Vec<Mirror> = (0..3).map(|_| watchful(TOPIC, target())).collect();
    for mirror in &mut fleet {
        mirror.start();
        await_turn(mirror, 0);
    }
    let load = Load::start(TOPIC, target(), partitions);
    let mut took = vec![("started", load.await_flow("three instances"))];
    await_shown(&fleet[2], 3);
    assert_eq!(put_out(&fleet), 0);
    // The one that came first leads the group, and assigns.
    let mut dead = fleet.remove(0);
    dead.kill();
    let died = load.await_flow("after a kill -9");
    took.push(("one was killed", died));
    assert_eq!(put_out(&fleet), 1);
    // Another one sleeps, and wakes up to a fleet without it.
    await_shown(&fleet[1], 2);
    load.await_flow("between two troubles");
    let before = turns(&fleet[0]);
    fleet[0].process().signal("STOP");
    let slept = load.await_flow("while one sleeps");
    took.push(("one slept", slept));
    assert_eq!(put_out(&fleet), 2);
    fleet[0].process().signal("CONT");
    await_turn(&fleet[0], before);
    took.push(("it woke up", load.await_flow("after it woke up")));
    await_shown(&fleet[1], 2);
    wait_until("status to show who was put out", LIMIT, || {
        let shown = fleet[1].json(&["status"], 0)["mirrors"][0]["fleet"]["members"].clone();
        let members = shown.as_array().cloned().unwrap_or_default();
        let told = members.iter().map(|member| member["put_out"].as_array().map_or(0, Vec::len));
        if told.sum::<usize>() == 2 { Ok(()) } else { Err(shown.to_string()) }
    });
    let written = load.stop();
    fleet[1].await_caught_up(usize::try_from(partitions).unwrap());
    fleet.iter_mut().for_each(Mirror::stop);
    let (here, there) = fleet[1].dumps(&[TOPIC], &[TOPIC]);
    compare(&here, &there).assert_exactly(usize::try_from(written).unwrap());
    eprintln!("{written} records; until every partition had flowed again: {took:?}");
    assert!(died < FOUND_WITHIN && slept < FOUND_WITHIN, "{took:?}");
}

/// The broker that coordinates the group, as another one than `gone` says.
fn coordinator(cluster: &Cluster, group: &str, gone: Option<u16>) -> u16 {
    let key = StrBytes::from_string(group.to_owned());
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
    wait_until("the group's coordinator", LIMIT, || {
        let bootstrap = cluster.bootstrap();
        let mut nodes = (1..).zip(bootstrap.split(',')).filter(|(id, _)| Some(*id) != gone);
        let mut conn = Conn::open(nodes.next().unwrap().1);
        let found = conn.call(4, &find).coordinators.remove(0);
        if found.error_code == 0 { Ok(found.node_id.0 as u16) } else { Err(format!("error {}", found.error_code)) }
    })
}

#[test]
fn the_groups_coordinator_is_killed_under_a_fleet_that_goes_on() {
    if !real_kafka_wanted("the_groups_coordinator_is_killed_under_a_fleet_that_goes_on") {
        return;
    }
    const TOPIC: &str = "fleet-coordinated";
    let partitions = 24;
    let mut three = Cluster::start(ClusterSpec::new(Version::V4_3_1).nodes(3));
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(TOPIC, partitions));
    let mut fleet: Vec<Mirror> = (0..3).map(|_| watchful(TOPIC, &three)).collect();
    for mirror in &mut fleet {
        mirror.start();
        await_turn(mirror, 0);
    }
    let load = Load::start(TOPIC, &three, partitions);
    let mut took = vec![("started", load.await_flow("three instances"))];
    await_shown(&fleet[0], 3);
    let killed = coordinator(&three, "kmirror.fleet-coordinated", None);
    three.kill_node(killed);
    took.push(("its coordinator was killed", load.await_flow("after the coordinator was killed")));
    let next = wait_until("another coordinator", LIMIT, || {
        let next = coordinator(&three, "kmirror.fleet-coordinated", Some(killed));
        if next == killed { Err(format!("{next} still")) } else { Ok(next) }
    });
    await_shown(&fleet[0], 3);
    assert_eq!(put_out(&fleet), 0, "nobody is suspected for the coordinator's sake");
    // Under the new one the fleet is as watchful as before.
    let mut dead = fleet.remove(0);
    dead.kill();
    took.push(("an instance was killed", load.await_flow("after a kill -9 under another coordinator")));
    assert_eq!(put_out(&fleet), 1);
    three.restart_node(killed);
    took.push(("the broker came back", load.await_flow("after the broker came back")));
    let written = load.stop();
    fleet[0].await_caught_up(usize::try_from(partitions).unwrap());
    fleet.iter_mut().for_each(Mirror::stop);
    let (here, there) = fleet[0].dumps(&[TOPIC], &[TOPIC]);
    compare(&here, &there).assert_exactly(usize::try_from(written).unwrap());
    eprintln!(
        "{written} records; broker {killed} coordinated, then {next}; until every partition had flowed: {took:?}"
    );
}
