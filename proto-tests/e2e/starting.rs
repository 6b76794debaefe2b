//! Where a mirror begins and how soon, and that stopping and starting leave no trace.

use std::time::{Duration, Instant};

use super::Mirror;
use super::crash::assert_map_is_exact;
use super::mirror::gaps;
use crate::kafka::harness::dump::Digest;
use crate::kafka::harness::{Dump, Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target};

/// 2023-11-14T22:13:20Z, the time of a spec's first record.
const FIRST_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 1_000;

fn write(topic: &str, seed: u64, count: u64) {
    let shift = i64::try_from(seed).unwrap() * 10_000_000;
    let timestamp = FIRST_MS + shift;
    let spec = Produce { seed, partitions: 2, timestamp, timestamp_step: STEP_MS, ..Produce::odd(topic, count) };
    driver().produce(&source().bootstrap(), &spec);
}

fn create(topic: &str) {
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, 2));
}

fn only(dump: Dump, keep: impl Fn(&Digest) -> bool) -> Dump {
    let part = |(at, rows): (_, Vec<Digest>)| (at, rows.into_iter().filter(&keep).collect());
    Dump { partitions: dump.partitions.into_iter().map(part).collect() }
}

/// What existed at the first start begins where `start` says, what came later at its first record: topics and
/// partitions made while the mirror ran, and those made while it did not.
fn begins_once(name: &str, start: &str, begin: impl Fn(&Digest) -> bool, first: usize) {
    let topic = |which: &str| format!("{name}-{which}");
    let (old, empty, running, stopped) = (topic("old"), topic("empty"), topic("running"), topic("stopped"));
    create(&old);
    create(&empty);
    write(&old, 0, 100);
    let more = format!("    start: {start}\n");
    let mut mirror = Mirror::new(name, source(), target(), &[&topic(".*")], &more);
    mirror.start().await_caught_up(4);
    write(&old, 1, 60);
    write(&empty, 1, 60);
    create(&running);
    write(&running, 0, 80);
    mirror.await_caught_up(6);
    mirror.stop();
    create(&stopped);
    write(&stopped, 0, 40);
    driver().add_partitions(&source().bootstrap(), &empty, 3);
    driver().produce(&source().bootstrap(), &Produce { partition: Some(2), ..Produce::odd(&empty, 20) });
    write(&old, 2, 20);
    mirror.start().await_caught_up(9);
    let row = mirror.row(&old, 0).unwrap();
    assert_eq!(gaps(&row), [("start".to_owned(), 0, 50 - first as i64 / 2)]);
    mirror.stop();
    let (here, there) = mirror.dumps(&[&old], &[&old]);
    let here = only(here, begin);
    compare(&here, &there).assert_exactly(first + 80);
    assert_map_is_exact(name, target(), &here, &there);
    let later = [empty.as_str(), &running, &stopped];
    mirror.compare(&later).assert_exactly(60 + 20 + 80 + 40);
}

#[test]
fn start_latest_holds_for_what_there_is_at_the_first_start() {
    if real_kafka_wanted("start_latest_holds_for_what_there_is_at_the_first_start") {
        begins_once("starting-latest", "latest", |record| record.offset >= 50, 0);
    }
}

#[test]
fn start_at_a_time_holds_for_what_there_is_at_the_first_start() {
    if real_kafka_wanted("start_at_a_time_holds_for_what_there_is_at_the_first_start") {
        // 70 s after the first record: 30 of the hundred are left.
        let from_ms = FIRST_MS + 70 * STEP_MS;
        begins_once("starting-time", "2023-11-14T22:14:30Z", move |record| record.timestamp >= from_ms, 30);
    }
}

#[test]
fn stopping_and_starting_leaves_every_offset_as_it_is() {
    if !real_kafka_wanted("stopping_and_starting_leaves_every_offset_as_it_is") {
        return;
    }
    let (topic, driver) = ("starting-again", driver());
    create(topic);
    let mut mirror = Mirror::new(topic, source(), target(), &[topic], "");
    let mut records = 0;
    for (round, (signal, count)) in [("TERM", 0), ("INT", 90), ("INT", 0), ("TERM", 70), ("TERM", 0)].iter().enumerate()
    {
        if *count > 0 {
            write(topic, round as u64, *count);
        }
        records += *count as usize;
        mirror.start().await_caught_up(2);
        mirror.stop_by(signal);
        let ends = |bootstrap: &str| {
            driver.offsets(bootstrap, &[topic]).into_iter().map(|row| (row.start, row.end)).collect::<Vec<_>>()
        };
        // A marker would take an offset of its own, also behind the last record.
        assert_eq!(ends(&target().bootstrap()), ends(&source().bootstrap()), "after round {round}");
    }
    let report = mirror.compare(&[topic]);
    report.assert_exactly(records);
    assert!(report.offsets_identical);
}

/// Half of the time after which a coordinator sends markers again whose answer was lost (`request.timeout.ms`).
const FIRST_START_LIMIT: Duration = Duration::from_secs(15);

/// Every start makes a state topic and new topics, and marks partitions that were not there a moment before.
#[test]
fn first_starts_are_quick_one_after_another() {
    if !real_kafka_wanted("first_starts_are_quick_one_after_another") {
        return;
    }
    const MIRRORS: usize = 6;
    const TOPICS: usize = 16;
    (0..TOPICS).for_each(|number| create(&format!("starting-quick-{number}")));
    for number in 0..MIRRORS {
        let name = format!("starting-quick-mirror-{number}");
        let more = format!("    rename: \"{name}.{{topic}}\"\n");
        let mut mirror = Mirror::new(&name, source(), target(), &["starting-quick-[0-9]+"], &more);
        let began = Instant::now();
        mirror.start().await_caught_up(TOPICS * 2);
        let took = began.elapsed();
        eprintln!("{name}: {TOPICS} topics were mirrored after {:.1} s", took.as_secs_f64());
        assert!(took < FIRST_START_LIMIT, "{name}: {took:?}\n{}", mirror.log());
        mirror.stop();
    }
}
