//! Records of an archive fed into a topic of real Kafka that is in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::kafka::{Seen, backed, backed_between, said};
use crate::e2e::kinds::CODECS;
use crate::e2e::mirror::{LIMIT, end_offsets};
use crate::kafka::harness::driver::FullRecord;
use crate::kafka::harness::proxy::{Fault, Way};
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, TopicSpec, Transact, Version, driver, real_kafka_wanted, source, target, wait_until,
};

fn words<'a>(topic: &'a str, into: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["replay", "--topic", topic, "--to", "to", "--into", into], more].concat()
}

fn count(report: &Value, name: &str) -> u64 {
    report["replayed"][name].as_u64().unwrap_or_else(|| panic!("{report}"))
}

/// A record as it was, and where on the source it stood: partition and offset.
fn unmarked(record: &FullRecord, replay: &str) -> Option<(FullRecord, i32, i64)> {
    let text = |value: &Option<String>| {
        String::from_utf8(BASE64_STANDARD.decode(value.as_deref().unwrap_or_default()).unwrap()).unwrap()
    };
    let [rest @ .., (origin, from), (name, of)] = &record.headers[..] else { return None };
    if (origin.as_str(), name.as_str()) != ("kmirror-origin", "kmirror-replay") || text(of) != replay {
        return None;
    }
    let from = text(from);
    let (rest_of, offset) = from.rsplit_once(':').unwrap();
    let (_, partition) = rest_of.rsplit_once(':').unwrap();
    let was = FullRecord { headers: rest.to_vec(), ..record.clone() };
    Some((was, partition.parse().unwrap(), offset.parse().unwrap()))
}

/// What a replay has put into a topic is what a reader of the source sees, partition by partition and in order; gives how many records
/// of others are there.
fn assert_replayed(before: &[FullRecord], into: &str, who: (&str, i32, i32)) -> usize {
    // Nothing is there twice for those either who read uncommitted.
    assert_same(before, &driver().records(&target().bootstrap(), into, "read_uncommitted"), who)
}

fn assert_same(before: &[FullRecord], there: &[FullRecord], (replay, partitions, of): (&str, i32, i32)) -> usize {
    let replayed: Vec<_> = there.iter().filter_map(|record| unmarked(record, replay)).collect();
    for partition in 0..partitions {
        let mine = replayed.iter().filter(|(_, from, _)| *from == partition);
        let mine: Vec<(Seen<'_>, i64)> = mine
            .inspect(|(record, from, _)| assert_eq!(record.partition, from % of))
            .map(|(r, _, offset)| ((r.timestamp, &r.key, &r.value, &r.headers), *offset))
            .collect();
        let expected = said(before, partition);
        let offsets: Vec<i64> = before.iter().filter(|r| r.partition == partition).map(|r| r.offset).collect();
        assert_eq!(mine.len(), expected.len(), "partition {partition}");
        assert!(mine.iter().map(|(seen, _)| seen).eq(expected.iter()), "partition {partition} differs");
        assert!(mine.iter().map(|(_, offset)| *offset).eq(offsets), "partition {partition} comes from elsewhere");
    }
    there.len() - replayed.len()
}

/// Others write to a topic all the while.
struct Busy<'a> {
    stop: &'a AtomicBool,
    written: &'a AtomicU64,
}

impl Busy<'_> {
    fn write(&self, topic: &str, partitions: i32) {
        let (driver, mut seed) = (driver(), 1_000);
        while !self.stop.load(Ordering::Relaxed) {
            let spec = Produce { seed, partitions, ..Produce::new(topic, 200) };
            driver.produce(&target().bootstrap(), &spec);
            self.written.fetch_add(200, Ordering::Relaxed);
            seed += 1;
        }
    }
}

/// Runs something while others write; gives how much they wrote.
fn while_others_write<T>(topic: &str, partitions: i32, work: impl FnOnce() -> T) -> (T, u64) {
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let busy = Busy { stop: &stop, written: &written };
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(|| busy.write(topic, partitions));
        wait_until("others to write", LIMIT, || {
            if written.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(String::new()) }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        done
    });
    (done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), written.load(Ordering::Relaxed))
}

/// Every codec, oddity, transaction and abort, into a topic with fewer partitions that others write to.
#[test]
fn an_archive_is_replayed_into_a_topic_in_use_record_for_record() {
    if !real_kafka_wanted("an_archive_is_replayed_into_a_topic_in_use_record_for_record") {
        return;
    }
    let (driver, bootstrap) = (driver(), source().bootstrap());
    let (topic, into) = ("bk-replay", "in-use-kinds");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 3).set("retention.ms", -1));
    driver.create_topic(&target().bootstrap(), &TopicSpec::new(into, 2).set("retention.ms", -1));
    let (mirror, _) = backed(topic, "    segment_bytes: 1MiB\n");
    for (seed, codec) in CODECS.into_iter().enumerate() {
        let seed = seed as u64;
        let odd = Produce { seed, codec, partitions: 3, ..Produce::odd(topic, 1_500) };
        driver.produce(&bootstrap, &odd);
        let produce = Produce { count: 300, seed: 50 + seed, ..odd };
        driver.transact(&bootstrap, &Transact { producers: 2, ..Transact::new(produce) });
        if seed == 1 {
            mirror.json(&["backup"], 0);
        }
    }
    mirror.json(&["backup"], 0);
    let before = driver.records(&bootstrap, topic, "read_committed");
    let plan = mirror.json(&words(topic, into, &["--dry-run"]), 0);
    assert!(plan["records_at_most"].as_u64().unwrap() >= before.len() as u64, "{plan}");
    assert_eq!(end_offsets(target(), into), Ok(0), "a dry run changes nothing");
    let run = || mirror.json(&words(topic, into, &["--yes"]), 0);
    let (done, written) = while_others_write(into, 2, run);
    assert_eq!((count(&done, "records"), count(&done, "already")), (before.len() as u64, 0), "{done}");
    let replay = done["replayed"]["plan"]["replay"].as_str().unwrap();
    assert_eq!(assert_replayed(&before, into, (replay, 3, 2)) as u64, written);
    let again = mirror.json(&words(topic, into, &["--yes"]), 0);
    assert_eq!((count(&again, "records"), count(&again, "already")), (0, before.len() as u64), "{again}");

    // A range of offsets and one of times, from within batches to within others.
    let of_one: Vec<FullRecord> =
        before.iter().filter(|r| r.partition == 1 && (700..1_500).contains(&r.offset)).cloned().collect();
    let ranged = mirror.json(&words(topic, into, &["--yes", "--partition", "1", "--offsets", "700..1500"]), 0);
    assert_eq!(count(&ranged, "records"), of_one.len() as u64, "{ranged}");
    let times: Vec<i64> = before.iter().map(|record| record.timestamp).collect();
    let (since, until) = (times.iter().min().unwrap() + 1_000, times.iter().min().unwrap() + 5_000);
    let rfc3339 = |ms: i64| {
        humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(ms as u64)).to_string()
    };
    let timed: Vec<FullRecord> = before.iter().filter(|r| (since..until).contains(&r.timestamp)).cloned().collect();
    assert!(timed.len() > 100);
    let (since, until) = (rfc3339(since), rfc3339(until));
    let done = mirror.json(&words(topic, into, &["--yes", "--since", &since, "--until", &until]), 0);
    let replay = done["replayed"]["plan"]["replay"].as_str().unwrap();
    assert_replayed(&timed, into, (replay, 3, 2));
}

/// kill -9 again and again, while others write: nothing is missing in the end, and nothing there twice.
#[test]
fn a_replay_killed_at_any_moment_loses_nothing_and_repeats_nothing() {
    if !real_kafka_wanted("a_replay_killed_at_any_moment_loses_nothing_and_repeats_nothing") {
        return;
    }
    let (driver, bootstrap) = (driver(), source().bootstrap());
    let (topic, into) = ("bk-replay-killed", "in-use-killed");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 4).set("retention.ms", -1));
    driver.create_topic(&target().bootstrap(), &TopicSpec::new(into, 3).set("retention.ms", -1));
    let (mirror, _) = backed(topic, "    segment_bytes: 1MiB\n");
    // Old enough that the broker forgets their producer at its next look.
    let spec = Produce { partitions: 4, batch_size: 4_000, ..Produce::odd(topic, 12_000) };
    driver.produce(&bootstrap, &Produce { headers_max: 1, value_max: 300, ..spec.clone() });
    driver.transact(&bootstrap, &Transact::new(Produce { count: 2_000, seed: 7, value_max: 300, ..spec }));
    mirror.json(&["backup"], 0);
    let before = driver.records(&bootstrap, topic, "read_committed");
    let mut ends = Vec::new();
    let ((), written) = while_others_write(into, 3, || {
        for round in 0..8_u64 {
            let mut call =
                mirror.spawn(&words(topic, into, &["--yes", "--rate", "3000"]), &format!("replay-{round}.log"));
            std::thread::sleep(Duration::from_millis(150 + 110 * round));
            call.kill();
            ends.push(end_offsets(target(), into).unwrap());
        }
    });
    assert!(ends.last() > ends.first(), "{ends:?}");
    let done = mirror.json(&words(topic, into, &["--yes"]), 0);
    let (records, already) = (count(&done, "records"), count(&done, "already"));
    assert_eq!(records + already, before.len() as u64, "{done}");
    assert!(already > 0, "the calls that were killed have done something: {done}");
    let replay = done["replayed"]["plan"]["replay"].as_str().unwrap();
    assert_eq!(assert_replayed(&before, into, (replay, 4, 3)) as u64, written);
}

/// By the broker's own clock: at a rate no second has more than it should, and at a pace records come as far apart as they were written.
#[test]
fn the_broker_sees_the_rate_and_the_pace() {
    if !real_kafka_wanted("the_broker_sees_the_rate_and_the_pace") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "bk-replay-paced");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 2).set("retention.ms", -1));
    let (mirror, _) = backed(topic, "");
    // 1,200 records, 5 ms apart: 6 s.
    let spec = Produce { partitions: 2, timestamp: 1_700_000_000_000, timestamp_step: 5, ..Produce::new(topic, 1_200) };
    driver.produce(&bootstrap, &spec);
    mirror.json(&["backup"], 0);
    let came = |into: &str, how: [&str; 2]| -> Vec<i64> {
        let spec = TopicSpec::new(into, 2);
        driver.create_topic(&target().bootstrap(), &spec.set("message.timestamp.type", "LogAppendTime"));
        let done = mirror.json(&words(topic, into, &[&["--yes"], &how[..]].concat()), 0);
        assert_eq!(count(&done, "records"), 1_200, "{done}");
        let mut times: Vec<i64> =
            driver.records(&target().bootstrap(), into, "read_committed").iter().map(|r| r.timestamp).collect();
        times.sort_unstable();
        times
    };
    let at_a_rate = came("in-use-rate", ["--rate", "100"]);
    // Longer than the lease: the replay has asked meanwhile whether it is still the only one.
    for some in at_a_rate.windows(200) {
        let span = some[199] - some[0];
        assert!(span > 1_500, "200 records within {span} ms");
    }
    assert!((11_500..60_000).contains(&(at_a_rate[1_199] - at_a_rate[0])));
    let at_a_pace = came("in-use-pace", ["--pace", "2"]);
    for (number, time) in at_a_pace.iter().enumerate() {
        let (after, due) = (time - at_a_pace[0], number as i64 * 5 / 2);
        assert!(after >= due - 200 && after < due + 10_000, "record {number} came after {after} ms");
    }
}

/// The network cuts connections in the midst of requests, again and again: of a batch nobody knows then whether it is in.
#[test]
fn a_network_that_cuts_connections_costs_no_record_and_repeats_none() {
    if !real_kafka_wanted("a_network_that_cuts_connections_costs_no_record_and_repeats_none") {
        return;
    }
    let (driver, bootstrap) = (driver(), source().bootstrap());
    let (topic, into) = ("bk-replay-cut", "in-use-cut");
    let cluster = Cluster::start(ClusterSpec::new(Version::V4_3_1).proxied());
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 3).set("retention.ms", -1));
    driver.create_topic(&cluster.bootstrap(), &TopicSpec::new(into, 3).set("retention.ms", -1));
    let mirror = backed_between(topic, &bootstrap, &cluster.proxied_bootstrap(), "").0;
    let spec = Produce { partitions: 3, ..Produce::odd(topic, 12_000) };
    driver.produce(&bootstrap, &spec);
    mirror.json(&["backup"], 0);
    let before = driver.records(&bootstrap, topic, "read_committed");
    cluster.disturb(Fault::ResetAfter(Way::Up, 300_000));
    let done = mirror.json(&words(topic, into, &["--yes"]), 0);
    assert!(cluster.disturbed() > 3, "it was cut {} times", cluster.disturbed());
    cluster.disturb(Fault::None);
    assert_eq!((count(&done, "records"), count(&done, "already")), (12_000, 0), "{done}");
    let replay = done["replayed"]["plan"]["replay"].as_str().unwrap();
    let there = driver.records(&cluster.bootstrap(), into, "read_uncommitted");
    assert_eq!(assert_same(&before, &there, (replay, 3, 3)), 0);
}
