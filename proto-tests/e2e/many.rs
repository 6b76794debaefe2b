//! Many topics in one mirror: found by pattern, followed as they come and grow, and cheap once nothing happens.

use std::thread;
use std::time::{Duration, Instant};

use super::Mirror;
use super::mirror::LIMIT;
use crate::kafka::harness::{Produce, TopicSpec, compare, driver, real_kafka_wanted, source, target, wait_until};

const TOPICS: usize = 50;
const RECORDS: usize = 60;
const PARTITIONS: i32 = 6;
/// Far below the 30 s that a coordinator needs to send markers again whose answer was lost.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
const EXCLUDED: &str = "many-private.ledger";

fn name(number: usize) -> String {
    format!("many-{number:02}")
}

fn create(topic: &str) {
    driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, PARTITIONS));
}

fn fill(topic: &str) {
    let spec = Produce { partitions: PARTITIONS, codec: "lz4", ..Produce::odd(topic, RECORDS as u64) };
    driver().produce(&source().bootstrap(), &spec);
}

/// Topics with records and empty ones.
fn create_all() -> usize {
    let names: Vec<String> = (0..TOPICS).map(name).chain([EXCLUDED.to_owned()]).collect();
    names.iter().for_each(|topic| create(topic));
    let filled: Vec<&String> = names.iter().step_by(5).collect();
    filled.iter().for_each(|topic| fill(topic));
    assert_eq!(filled.last().map(|name| name.as_str()), Some(EXCLUDED));
    (filled.len() - 1) * RECORDS
}

/// Nothing to mirror must cost next to nothing: measured over time, not at a moment.
fn assert_idle_is_cheap(mirror: &mut Mirror) {
    const SPAN: Duration = Duration::from_secs(8);
    let (before, began) = (mirror.process().cpu_s().expect("it runs"), Instant::now());
    thread::sleep(SPAN);
    let used = mirror.process().cpu_s().expect("it runs") - before;
    let share = used / began.elapsed().as_secs_f64();
    let peak_mib = mirror.process().peak_rss_bytes().expect("it runs") as f64 / 1_048_576.0;
    eprintln!("idle over {TOPICS} topics of {PARTITIONS}: {share:.4} CPU s per second; peak memory {peak_mib:.1} MiB");
    assert!(share < 0.1, "idle costs {share:.3} CPU s per second");
}

/// A topic that comes while the mirror runs, and partitions that come to one.
fn assert_growth_is_followed(mirror: &mut Mirror) {
    let (driver, bootstrap, grown) = (driver(), source().bootstrap(), name(7));
    let began = Instant::now();
    create(&name(TOPICS));
    fill(&name(TOPICS));
    mirror.await_caught_up((TOPICS + 1) * PARTITIONS as usize);
    eprintln!("a new topic was found and mirrored after {:.1} s", began.elapsed().as_secs_f64());
    driver.add_partitions(&bootstrap, &grown, PARTITIONS + 2);
    let added = Produce { seed: 5, partition: Some(PARTITIONS + 1), ..Produce::odd(&grown, 40) };
    driver.produce(&bootstrap, &added);
    let began = Instant::now();
    mirror.await_caught_up((TOPICS + 1) * PARTITIONS as usize + 2);
    eprintln!("added partitions were followed after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(driver.describe_topic(&target().bootstrap(), &grown).len(), PARTITIONS as usize + 2);
}

#[test]
fn fifty_topics_by_one_pattern_come_and_grow_and_idle_cheaply() {
    if !real_kafka_wanted("fifty_topics_by_one_pattern_come_and_grow_and_idle_cheaply") {
        return;
    }
    let records = create_all();
    let mut mirror = Mirror::with_topics("many", r#"include: ["many-.*"], exclude: ["many-private[.].*"]"#, "");
    let began = Instant::now();
    mirror.start().await_caught_up(TOPICS * PARTITIONS as usize);
    let took = began.elapsed();
    eprintln!("{TOPICS} topics were found and mirrored after {:.1} s", took.as_secs_f64());
    assert!(took < FOUND_WITHIN, "{TOPICS} topics took {took:?}");
    assert_growth_is_followed(&mut mirror);
    assert_idle_is_cheap(&mut mirror);
    mirror.stop();
    let names: Vec<String> = (0..=TOPICS).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (here, there) = mirror.dumps(&names, &names);
    let report = compare(&here, &there);
    report.assert_exactly(records + RECORDS + 40);
    assert!(report.offsets_identical);
    let listed = driver().list_topics(&target().bootstrap());
    assert!(!listed.iter().any(|topic| topic == EXCLUDED), "an excluded topic was mirrored");
}

/// A mirror of no topic at all waits for the first one.
#[test]
fn a_mirror_that_matches_nothing_yet_takes_up_the_first_topic() {
    if !real_kafka_wanted("a_mirror_that_matches_nothing_yet_takes_up_the_first_topic") {
        return;
    }
    let topic = "first-of-all";
    let mut mirror = Mirror::new("first", source(), target(), &["first-.*"], "");
    mirror.start();
    wait_until("the state topic", LIMIT, || {
        let listed = driver().list_topics(&target().bootstrap());
        if listed.iter().any(|name| name == "__kmirror.first") { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    assert_eq!(mirror.status().map(|rows| rows.len()), Ok(0));
    create(topic);
    fill(topic);
    mirror.await_caught_up(PARTITIONS as usize);
    mirror.stop();
    mirror.compare(&[topic]).assert_exactly(RECORDS);
}
