//! What threatens the copy before it costs anything: it is told in time, and told that it is over.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::case::{Case, PARTITIONS, Pair, joined};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::{Cluster, Produce, TopicSpec, Transact, driver, wait_until};

const RETENTION_MS: i64 = 300_000;
/// Nothing can be lost.
const UNLIMITED: Range<f64> = f64::INFINITY..f64::INFINITY;
/// Records of one lot.
const LOT: u64 = 400;
/// Longer than a fetch waits at the broker.
const LAST_FETCH: Duration = Duration::from_secs(1);

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A transaction that nobody ends holds back what is behind it in its partition, until its time is up; the others go on.
/// Meanwhile log, metric and status name its producer.
pub(super) fn hanging_transaction(pair: &mut Pair) {
    let port = free_port();
    let mut case = Case::new("hanging_transaction", &pair.source, &pair.target, 1, &http::section(port));
    case.mirror.start();
    case.write();
    case.await_more(&pair.target, 200);
    let records = Produce { partition: Some(0), timestamp: now_ms() - 300_000, ..Produce::odd(&case.topic, 50) };
    let open = Transact {
        leave_open: true,
        records_per_transaction: 1_000,
        transaction_timeout_ms: 30_000,
        ..Transact::new(records)
    };
    assert_eq!(driver().transact(&pair.source.bootstrap(), &open).left_open, 50);
    let stable = |cluster: &Cluster| driver().offsets(&cluster.bootstrap(), &[&case.topic])[0].stable_end;
    let held = stable(&pair.source);
    case.await_more(&pair.target, 800);
    assert_names_the_producer(&case, pair, port, held);
    assert_eq!(stable(&pair.source), held, "the transaction is open");
    assert!(case.ends(&pair.target)[0] <= held, "nothing behind it was mirrored");
    wait_until("the end of the transaction", LIMIT, || {
        if stable(&pair.source) > held { Ok(()) } else { Err(held.to_string()) }
    });
    case.await_more(&pair.target, 400);
    wait_until("the reason to go away", LIMIT, || {
        let row = case.mirror.row(&case.topic, 0)?;
        let age = age(port, &case.topic, 0)?;
        if row["reason"].is_null() && age == 0.0 { Ok(()) } else { Err(format!("{age}: {row}")) }
    });
    let log = case.mirror.log();
    assert_eq!(log.matches("held by an open transaction mirror").count(), 1, "told once: {log}");
    assert_eq!(log.matches("the transaction that held the partition back has ended").count(), 1, "{log}");
    case.assert_whole(&pair.source, &pair.target);
}

fn age(port: u16, topic: &str, partition: i32) -> Result<f64, String> {
    http::gauge(port, "kmirror_open_transaction_age_seconds", topic, partition)
}

/// The producer is the one that Kafka's own client names.
fn assert_names_the_producer(case: &Case, pair: &Pair, port: u16, held: i64) {
    let producers = driver().producers(&pair.source.bootstrap(), &case.topic, 0);
    let open: Vec<_> = producers.iter().filter(|producer| producer.transaction_start >= 0).collect();
    let [producer] = open[..] else { panic!("{producers:?}") };
    assert_eq!(producer.transaction_start, held);
    let (id, epoch) = (producer.producer_id, producer.producer_epoch);
    let row = case.mirror.row(&case.topic, 0).unwrap();
    let words = format!("held by an open transaction of producer {id} (epoch {epoch}) since offset {held}, open for 3");
    assert!(row["reason"].as_str().is_some_and(|reason| reason.starts_with(&words)), "{words}: {row}");
    assert_eq!(row["state"], "mirroring", "{row}");
    assert!(case.mirror.row(&case.topic, 1).unwrap()["reason"].is_null(), "it concerns that partition only");
    let told = format!("producer_id={id} producer_epoch={epoch} last_stable_offset={held} ");
    wait_until("the log and the metric", LIMIT, || {
        let age = age(port, &case.topic, 0)?;
        if age >= 300.0 && case.mirror.log().contains(&told) { Ok(()) } else { Err(format!("{age}; {told}")) }
    });
    assert_eq!(age(port, &case.topic, 1), Ok(0.0));
    let output = case.mirror.output(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("\nHELD {}:0: {words}", case.topic)), "{text}");
}

/// The mirror is paused while the source's retention comes closer: that is told before anything is lost, and that it is well
/// again once the mirror goes on. The second time nobody listens: exactly what was warned of is lost.
pub(super) fn headroom_shrinks(pair: &mut Pair) {
    let (name, port, source) = ("headroom_shrinks", free_port(), pair.source.bootstrap());
    // The target keeps everything: what was mirrored is seen in full.
    driver().create_topic(&pair.target.bootstrap(), &TopicSpec::new(name, PARTITIONS));
    let spec = TopicSpec::new(name, PARTITIONS).set("retention.ms", RETENTION_MS);
    let more = format!("    sync: {{ topic_configs: false }}\n{}", http::section(port));
    let mut case = Case::of(&spec, &pair.source, &pair.target, &more);
    let write = |seed, left_ms| {
        let timestamp = now_ms() - RETENTION_MS + left_ms;
        let odd = Produce { timestamp, timestamp_step: 0, ..Produce::odd(name, LOT) };
        driver().produce(&source, &Produce { seed, partitions: PARTITIONS, ..odd });
    };
    write(1, 40_000);
    case.mirror.start();
    case.mirror.await_caught_up(PARTITIONS as usize);
    await_headroom(&case, port, &UNLIMITED);
    pause(&case, 1);
    write(2, 40_000);
    await_headroom(&case, port, &(30.5..40.0));
    // A tenth of 300 s is short: time alone brings it there.
    await_told(&case, (PARTITIONS as usize, 0));
    await_headroom(&case, port, &(1.0..30.0));
    let text = String::from_utf8_lossy(&case.mirror.output(&["status"]).stdout).into_owned();
    assert_eq!(text.matches("\nSHORT headroom_shrinks:").count(), PARTITIONS as usize, "{text}");
    resume(&case);
    case.mirror.await_caught_up(PARTITIONS as usize);
    await_headroom(&case, port, &UNLIMITED);
    await_told(&case, (4, 4));
    assert_nothing_lost(&pair.source, name);
    case.counts(2 * LOT);
    let whole = case.dump(&pair.source);
    pause(&case, 2);
    write(3, 25_000);
    await_told(&case, (8, 4));
    assert_nothing_lost(&pair.source, name);
    case.await_emptied(&pair.source);
    resume(&case);
    for partition in 0..PARTITIONS {
        case.obey(&case.await_halt(partition, "retention_loss"));
    }
    await_headroom(&case, port, &UNLIMITED);
    write(4, RETENTION_MS);
    case.counts(LOT);
    case.mirror.await_caught_up(PARTITIONS as usize);
    case.mirror.stop();
    let expected = joined(&whole, &case.dump(&pair.source), |_, _| true);
    case.assert_same(&pair.target, &expected, &case.dump(&pair.target), case.written() as usize);
}

fn assert_nothing_lost(source: &Cluster, topic: &str) {
    let rows = driver().offsets(&source.bootstrap(), &[topic]);
    assert!(rows.iter().all(|row| row.start == 0), "before the loss: {rows:?}");
}

fn await_told(case: &Case, times: (usize, usize)) {
    wait_until("warnings", LIMIT, || match told(case) {
        told if told == times => Ok(()),
        told => Err(format!("{told:?}")),
    });
}

/// How often each was said: that headroom is short, and that it is well.
fn told(case: &Case) -> (usize, usize) {
    let log = case.mirror.log();
    let count = |words: &str| log.matches(words).count();
    (count("retention on the source comes close to records"), count("retention headroom is well again"))
}

/// Waits until `status` and the metric agree on what every partition has left, seconds.
fn await_headroom(case: &Case, port: u16, within: &Range<f64>) {
    let fits = |left: f64| if *within == UNLIMITED { left == f64::INFINITY } else { within.contains(&left) };
    wait_until(&format!("headroom {within:?}"), LIMIT, || {
        for partition in 0..PARTITIONS {
            let row = case.mirror.row(&case.topic, partition)?;
            let status = row["retention_headroom_seconds"].as_f64().unwrap_or(f64::INFINITY);
            let metric = http::gauge(port, "kmirror_retention_headroom_seconds", &case.topic, partition)?;
            if !fits(status) || !fits(metric) {
                return Err(format!("{metric}: {row}"));
            }
        }
        Ok(())
    });
}

fn pause(case: &Case, time: usize) {
    assert_eq!(case.mirror.output(&["pause"]).status.code(), Some(0));
    wait_until("the pause", LIMIT, || {
        let paused = case.mirror.log().matches("paused=true").count();
        if paused == time * PARTITIONS as usize { Ok(()) } else { Err(format!("{paused}")) }
    });
    sleep(LAST_FETCH);
}

fn resume(case: &Case) {
    assert_eq!(case.mirror.output(&["resume"]).status.code(), Some(0));
}
