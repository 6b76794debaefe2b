//! The bandwidth limit: how much passes at both ends, who gets it, and how it is changed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::Codec;
use kmirror::broker::{Action, Cluster, RequestContext, RequestKind, ResponseKind};

use super::Pair;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// What a loaded machine may add to the time between a look at the clock and a request, as a share of a second.
const JITTER_S: f64 = 0.3;

/// Bytes that passed a cluster, each with its time.
type Passed = Arc<Mutex<Vec<(Instant, usize)>>>;

fn note(passed: &Passed, bytes: usize) {
    passed.lock().unwrap().push((Instant::now(), bytes));
}

/// What is answered to fetch sessions; looks without one are not the copy.
fn fetched(cluster: &Cluster) -> Passed {
    let passed = Passed::default();
    let inside = Arc::clone(&passed);
    cluster.intercept(ApiKey::Fetch, None, move |context: &RequestContext<'_>| {
        if !matches!(context.request, RequestKind::Fetch(request) if request.session_epoch >= 0) {
            return Action::Pass;
        }
        let inside = Arc::clone(&inside);
        Action::Edit(Box::new(move |response| {
            if let ResponseKind::Fetch(response) = response {
                let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
                note(&inside, partitions.filter_map(|p| p.records.as_ref()).map(Bytes::len).sum());
            }
        }))
    });
    passed
}

/// What is to be written; the state's few bytes among it. The first request that is not small is answered late.
fn produced(cluster: &Cluster, held: Duration) -> Passed {
    let passed = Passed::default();
    let inside = Arc::clone(&passed);
    cluster.intercept(ApiKey::Produce, None, move |context: &RequestContext<'_>| {
        let RequestKind::Produce(request) = context.request else { return Action::Pass };
        let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let bytes = partitions.filter_map(|p| p.records.as_ref()).map(Bytes::len).sum();
        let first = bytes > 4 * KIB && inside.lock().unwrap().iter().all(|(_, bytes)| *bytes <= 4 * KIB);
        note(&inside, bytes);
        if first { Action::DelayAnswer(held) } else { Action::Pass }
    });
    passed
}

/// No window of time holds more than its share, a burst, and what else may come at once.
fn assert_within(what: &str, passed: &Passed, rate: usize, at_once: usize) {
    let passed = passed.lock().unwrap();
    let allowed = rate as f64 / 4.0 + at_once as f64 + rate as f64 * JITTER_S;
    for (at, (from, _)) in passed.iter().enumerate() {
        let mut sum = 0;
        for (to, bytes) in &passed[at..] {
            sum += bytes;
            let share = (*to - *from).as_secs_f64() * rate as f64;
            assert!(sum as f64 <= share + allowed, "{what}: {sum} bytes in {:?}", *to - *from);
        }
    }
}

/// Appends batches of one record of so many bytes.
fn fill(pair: &Pair, topic: &str, partition: i32, batches: usize, bytes: usize) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let record = (None, Some(Bytes::from(vec![b'x'; bytes])));
    for _ in 0..batches {
        pair.source.append_records(topic, partition, Codec::None, now_ms, std::slice::from_ref(&record)).unwrap();
    }
}

/// Records of these partitions on the target.
fn there(pair: &Pair, topic: &str, partitions: i32) -> i64 {
    (0..partitions).map(|partition| pair.target.log(topic, partition).map_or(0, |log| log.end_offset)).sum()
}

fn await_there(pair: &Pair, topic: &str, partitions: i32, count: i64) {
    wait_until(&format!("{count} records of {topic}"), LIMIT, || match there(pair, topic, partitions) {
        records if records >= count => Ok(()),
        records => Err(records.to_string()),
    });
}

fn limited(rate: &str) -> String {
    format!("    limits: {{ bandwidth: {rate}, coalesced_batch: 0B }}\n")
}

fn told(pair: &Pair, args: &[&str]) {
    let output = pair.mirror.output(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
}

fn await_log(pair: &Pair, words: &str, times: usize) {
    wait_until(words, LIMIT, || {
        let found = pair.mirror.log().matches(words).count();
        if found >= times { Ok(()) } else { Err(format!("{found} times")) }
    });
}

#[test]
fn the_limit_holds_at_both_ends() {
    let (rate, topic) = (MIB, "bandwidth-ends");
    let mut pair = Pair::new(topic, 1, 4, &limited("1MiB"));
    for partition in 0..4 {
        fill(&pair, topic, partition, 96, 16 * KIB);
    }
    let (fetched, produced) = (fetched(&pair.source), produced(&pair.target, Duration::ZERO));
    pair.mirror.start();
    await_there(&pair, topic, 4, 1);
    let began = Instant::now();
    await_there(&pair, topic, 4, 4 * 96);
    let took = began.elapsed();
    // 6 MiB at 1 MiB a second, less a burst.
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(16), "{took:?}");
    pair.mirror.stop();
    // A fetch may hold one batch too many, and so may a request.
    assert_within("from the source", &fetched, rate, 64 * KIB);
    assert_within("to the target", &produced, rate, 64 * KIB + 16 * KIB);
}

#[test]
fn a_backlog_in_memory_is_not_poured_out() {
    let (rate, topic) = (MIB, "bandwidth-memory");
    let mut pair = Pair::new(topic, 1, 1, &limited("1MiB"));
    fill(&pair, topic, 0, 256, 16 * KIB);
    let (fetched, produced) = (fetched(&pair.source), produced(&pair.target, Duration::from_secs(2)));
    pair.mirror.start();
    await_there(&pair, topic, 1, 256);
    pair.mirror.stop();
    assert_within("from the source", &fetched, rate, 64 * KIB);
    assert_within("to the target", &produced, rate, 64 * KIB + 16 * KIB);
    let produced = produced.lock().unwrap();
    let between = |(from, to): (&(Instant, usize), &(Instant, usize))| to.0 - from.0;
    let still = produced.iter().zip(produced.iter().skip(1)).map(between).max();
    assert!(still > Some(Duration::from_secs(1)), "the target stood still, and what came meanwhile waited: {still:?}");
}

#[test]
fn a_topic_with_little_does_not_wait_for_one_with_many_partitions() {
    const WIDE: i32 = 40;
    let (wide, narrow) = ("bandwidth-wide", "bandwidth-narrow");
    let mut pair = Pair::matching("bandwidth-trickle", "bandwidth-(wide|narrow)", 1, &limited("512KiB"));
    pair.source.create_topic(wide, WIDE, 1, &[]).unwrap();
    pair.source.create_topic(narrow, 1, 1, &[]).unwrap();
    for partition in 0..WIDE {
        fill(&pair, wide, partition, 40, 16 * KIB);
    }
    pair.mirror.start();
    await_there(&pair, wide, WIDE, 80);
    let mut worst = Duration::ZERO;
    for count in 1..=40 {
        let began = Instant::now();
        fill(&pair, narrow, 0, 1, KIB);
        await_there(&pair, narrow, 1, count);
        worst = worst.max(began.elapsed());
    }
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    assert!(there(&pair, wide, WIDE) < i64::from(WIDE) * 40, "it was limited to the end");
    pair.mirror.stop();
}

#[test]
fn topics_with_many_and_with_few_partitions_get_the_same() {
    let (many, one) = ("bandwidth-many", "bandwidth-one");
    let mut pair = Pair::matching("bandwidth-same", "bandwidth-(many|one)", 1, &limited("1MiB"));
    pair.source.create_topic(many, 8, 1, &[]).unwrap();
    pair.source.create_topic(one, 1, 1, &[]).unwrap();
    for partition in 0..8 {
        fill(&pair, many, partition, 64, 16 * KIB);
    }
    fill(&pair, one, 0, 512, 16 * KIB);
    pair.mirror.start();
    // 5 MiB of both: neither is through.
    wait_until("320 records", LIMIT, || match there(&pair, many, 8) + there(&pair, one, 1) {
        records if records >= 320 => Ok(()),
        records => Err(records.to_string()),
    });
    let (many_got, one_got) = (there(&pair, many, 8), there(&pair, one, 1));
    assert!(one_got * 10 >= many_got * 7 && many_got * 10 >= one_got * 7, "{many_got} and {one_got}");
    let each: Vec<i64> = (0..8).map(|p| pair.target.log(many, p).map_or(0, |log| log.end_offset)).collect();
    assert!(each.iter().all(|got| *got * 8 * 2 >= many_got), "and of its partitions none is left behind: {each:?}");
    pair.mirror.stop();
}

/// What has news is always asked for: behind it in an answer there is no room for a batch that is larger than the rest.
#[test]
fn large_batches_are_not_kept_waiting_by_small_ones() {
    let (large, small) = ("bandwidth-large", "bandwidth-small");
    let mut pair = Pair::matching("bandwidth-sizes", "bandwidth-(large|small)", 1, &limited("512KiB"));
    pair.source.create_topic(large, 4, 1, &[]).unwrap();
    pair.source.create_topic(small, 1, 1, &[]).unwrap();
    for partition in 0..4 {
        fill(&pair, large, partition, 4, 256 * KIB);
    }
    pair.mirror.start();
    let began = Instant::now();
    wait_until("the large batches", LIMIT, || {
        fill(&pair, small, 0, 1, KIB);
        match there(&pair, large, 4) {
            16 => Ok(()),
            records => Err(records.to_string()),
        }
    });
    // 4 MiB, and what little there is of the other.
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    pair.mirror.stop();
}

#[test]
fn a_command_changes_the_limit_while_it_runs_and_over_restarts() {
    let topic = "bandwidth-command";
    let mut pair = Pair::new(topic, 1, 2, &limited("100MiB"));
    fill(&pair, topic, 0, 1, KIB);
    pair.mirror.start();
    pair.mirror.await_caught_up(2);
    let shown = |pair: &Pair| {
        let mirror = pair.mirror.json(&["status"], 0)["mirrors"][0].clone();
        let mut shown = pair.mirror.json(&["bandwidth"], 0);
        for field in ["bandwidth_bytes_per_s", "bandwidth_from"] {
            assert_eq!(shown[field], mirror[field]);
        }
        (shown["bandwidth_bytes_per_s"].take(), mirror["bandwidth_from"].as_str().expect("a word").to_owned())
    };
    told(&pair, &["bandwidth", "64KiB", "--dry-run"]);
    assert_eq!(shown(&pair), ((100 * MIB).into(), "file".to_owned()), "a dry run changes nothing");
    told(&pair, &["bandwidth", "64KiB"]);
    assert_eq!(shown(&pair), ((64 * KIB).into(), "command".to_owned()));
    await_log(&pair, "bandwidth is limited", 2);
    let fetched = fetched(&pair.source);
    fill(&pair, topic, 1, 256, 16 * KIB);
    await_there(&pair, topic, 2, 12);
    pair.mirror.kill();
    pair.mirror.start();
    await_log(&pair, "bandwidth is limited", 3);
    assert_eq!(shown(&pair), ((64 * KIB).into(), "command".to_owned()), "over a restart");
    let before = there(&pair, topic, 2);
    await_there(&pair, topic, 2, before + 8);
    let text = String::from_utf8(pair.mirror.output(&["status"]).stdout).unwrap();
    assert!(text.contains("bandwidth 64KiB/s (by command)"), "{text}");
    // A start begins with a burst.
    assert_within("under the command", &fetched, 64 * KIB, 3 * 64 * KIB);
    let began = Instant::now();
    told(&pair, &["bandwidth", "unlimited"]);
    await_there(&pair, topic, 2, 257);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}: a minute was left", began.elapsed());
    assert_eq!(shown(&pair), (serde_json::Value::Null, "command".to_owned()));
    await_log(&pair, "bandwidth is not limited any more", 1);
    told(&pair, &["bandwidth", "--reset"]);
    await_log(&pair, "bandwidth is limited", 4);
    assert_eq!(shown(&pair), ((100 * MIB).into(), "file".to_owned()));
    pair.mirror.stop();
}

/// One batch is owed for a quarter of a minute when it stops; more wait in memory and on the source.
#[test]
fn a_stop_does_not_wait_for_bandwidth_and_loses_nothing() {
    let topic = "bandwidth-stop";
    let mut pair = Pair::new(topic, 1, 2, &limited("64KiB"));
    for partition in 0..2 {
        fill(&pair, topic, partition, 8, MIB - KIB);
    }
    pair.mirror.start();
    await_there(&pair, topic, 2, 1);
    let began = Instant::now();
    pair.mirror.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(there(&pair, topic, 2) < 8, "most of it was not sent");
    pair.mirror.start();
    told(&pair, &["bandwidth", "unlimited"]);
    pair.mirror.await_caught_up(2);
    for partition in 0..2 {
        // No marker: what was in flight was answered, and the partitions were released.
        assert_eq!(pair.target.log(topic, partition).unwrap().end_offset, 8);
    }
    pair.mirror.stop();
}

/// Batches wait for longer than the coordinator's word lasts (two seconds here), and than the target remembers producers.
#[test]
fn waiting_for_bandwidth_costs_neither_the_lease_nor_a_take_over() {
    let topic = "bandwidth-lease";
    let config = [("producer.id.expiration.ms", "8000")];
    let mut pair = Pair::with_target(topic, topic, 1, &limited("64KiB"), &config);
    pair.source.create_topic(topic, 2, 1, &[]).unwrap();
    for partition in 0..2 {
        fill(&pair, topic, partition, 2, 256 * KIB);
    }
    pair.mirror.start();
    await_there(&pair, topic, 2, 4);
    pair.mirror.await_caught_up(2);
    pair.mirror.stop();
    let log = pair.mirror.log();
    for word in ["starting it anew", "settling the partition", " WARN", "ERROR"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    assert_eq!(there(&pair, topic, 2), 4, "no marker, and nothing twice");
}

#[test]
fn a_rate_that_is_none_is_refused_and_a_mirror_that_never_ran_is_told_nothing() {
    let pair = Pair::new("bandwidth-refused", 1, 1, "");
    assert_eq!(pair.mirror.output(&["bandwidth", "1KiB"]).status.code(), Some(2));
    assert_eq!(pair.mirror.output(&["bandwidth", "1MiB", "--reset"]).status.code(), Some(2));
    assert_eq!(pair.mirror.json(&["bandwidth"], 0)["bandwidth_bytes_per_s"], serde_json::Value::Null);
    let output = pair.mirror.output(&["bandwidth", "1MiB"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it has never run"), "{output:?}");
}
