//! What is told of a source that threatens to lose records or holds them back, where it tells little itself; and that nobody
//! asks it without need.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::ResponseError::TopicAuthorizationFailed;
use kafka_protocol::messages::ApiKey;
use kmirror::batch::{ATTR_TRANSACTIONAL, Codec};
use kmirror::broker::{Action, Cluster};
use serde_json::Value;
use tokio::sync::Notify;

use super::Pair;
use crate::conformance::batch::BatchSpec;
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

const HOUR_MS: i64 = 3_600_000;
const PRODUCER: (i64, i16) = (4711, 3);
/// Longer than two looks at the source.
const LOOKS: Duration = Duration::from_secs(11);

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// One record of this age.
fn write(pair: &Pair, partition: i32, age_ms: i64) {
    let record = (None, Some(Bytes::from_static(b"value")));
    pair.source.append_records(&pair.topic, partition, Codec::None, now_ms() - age_ms, &[record]).unwrap();
}

/// A record in a transaction that no coordinator knows of.
pub(super) fn open_transaction(pair: &Pair, partition: i32, age_ms: i64) {
    let base_timestamp = now_ms() - age_ms;
    let spec = BatchSpec::idempotent("open", PRODUCER, 0, 1);
    let spec = BatchSpec { attributes: ATTR_TRANSACTIONAL, base_timestamp, max_timestamp: base_timestamp, ..spec };
    pair.source.append(&pair.topic, partition, spec.encode()).unwrap();
}

fn count(cluster: &Cluster, api: ApiKey) -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let inside = Arc::clone(&counter);
    cluster.intercept(api, None, move |_| {
        inside.fetch_add(1, Ordering::SeqCst);
        Action::Pass
    });
    counter
}

fn await_row(pair: &Pair, partition: i32, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, LIMIT, || {
        let row = pair.mirror.row(&pair.topic, partition)?;
        if fits(&row) { Ok(row) } else { Err(row.to_string()) }
    })
}

fn await_log(pair: &Pair, words: &str, times: usize) {
    wait_until(words, LIMIT, || {
        let found = pair.mirror.log().matches(words).count();
        if found == times { Ok(()) } else { Err(format!("{found} times")) }
    });
}

fn pause(pair: &Pair) {
    assert_eq!(pair.mirror.output(&["pause"]).status.code(), Some(0));
    pair.await_pause_heeded();
}

/// A young transaction is nobody's business; an old one is told with what is known of it, until it ends.
#[test]
fn a_transaction_whose_producer_may_not_be_seen_is_told_all_the_same() {
    let port = free_port();
    let mut pair = Pair::new("held-unnamed", 1, 3, &http::section(port));
    let asked = count(&pair.source, ApiKey::DescribeProducers);
    pair.source.intercept(ApiKey::DescribeProducers, None, |_| Action::Error(TopicAuthorizationFailed));
    for partition in 0..3 {
        write(&pair, partition, 0);
    }
    pair.mirror.start();
    pair.mirror.await_caught_up(3);
    open_transaction(&pair, 0, 100_000);
    open_transaction(&pair, 1, 0);
    let row = await_row(&pair, 0, "the reason", |row| row["reason"].is_string());
    let reason = row["reason"].as_str().unwrap_or_default();
    let words = "held by an open transaction of a producer that the source does not name (cluster from: DescribeProducers of \
                 held-unnamed:0: TOPIC_AUTHORIZATION_FAILED (29)";
    assert!(reason.starts_with(words) && reason.contains(" since offset 1, open for 1"), "{reason}");
    assert_eq!((row["state"].as_str(), row["lag_records"].as_i64()), (Some("mirroring"), Some(0)), "{row}");
    await_log(&pair, "held by an open transaction mirror", 1);
    sleep(LOOKS);
    await_log(&pair, "held by an open transaction mirror", 1);
    let young = pair.mirror.row(&pair.topic, 1).unwrap();
    assert!(young["reason"].is_null() && young["source_end"] == 1, "{young}");
    assert!(asked.load(Ordering::SeqCst) < 20, "{asked:?}");
    for partition in 0..2 {
        pair.source.write_markers(&pair.topic, partition, PRODUCER, true).unwrap();
    }
    await_row(&pair, 0, "the end", |row| row["reason"].is_null() && row["mirrored_to"] == 3);
    await_log(&pair, "the transaction that held the partition back has ended", 1);
    pair.mirror.await_caught_up(3);
    pair.mirror.stop();
}

/// Nothing waits: nothing is asked.
#[test]
fn a_source_that_is_mirrored_is_not_asked_about_it() {
    // Settings that follow are looked at once a minute.
    let mut pair = Pair::new("idle", 1, 2, "    sync: { topic_configs: false }\n");
    write(&pair, 0, HOUR_MS);
    pair.mirror.start();
    pair.mirror.await_caught_up(2);
    let apis = [ApiKey::DescribeConfigs, ApiKey::DescribeProducers, ApiKey::ListOffsets];
    let asked = apis.map(|api| count(&pair.source, api));
    sleep(LOOKS);
    assert!(asked.iter().all(|count| count.load(Ordering::SeqCst) == 0), "{asked:?}");
    // What it costs where something waits.
    pause(&pair);
    write(&pair, 0, 0);
    sleep(LOOKS);
    let [configs, _, offsets] = asked.map(|count| count.load(Ordering::SeqCst));
    assert!(configs == 1 && (2..=8).contains(&offsets), "{configs} DescribeConfigs, {offsets} ListOffsets");
    pair.mirror.stop();
}

/// A log at its size limit loses records at the pace at which it gets them.
#[test]
fn retention_by_size_leaves_what_the_log_spans() {
    let port = free_port();
    let mut pair = Pair::matching("sized", "sized", 1, &http::section(port));
    let configs = [("retention.ms", "-1"), ("retention.bytes", "4000000"), ("segment.bytes", "1000000")];
    pair.source.create_topic("sized", 1, 1, &configs).unwrap();
    for hours in [30, 10, 0] {
        write(&pair, 0, hours * HOUR_MS);
    }
    pair.mirror.start();
    pair.mirror.await_caught_up(1);
    pause(&pair);
    write(&pair, 0, 5 * HOUR_MS);
    let row = await_row(&pair, 0, "the lag", |row| row["lag_records"] == 1);
    assert!(row["retention_headroom_seconds"].is_null(), "its start never moved: {row}");
    assert_eq!(pair.source.delete_before("sized", 0, 1).unwrap(), 1);
    // Four fifths of ten hours, of which five have gone.
    let fits = |left: f64| (10_500.0..=10_800.0).contains(&left);
    await_row(&pair, 0, "the headroom", |row| row["retention_headroom_seconds"].as_f64().is_some_and(fits));
    let metric = || http::gauge(port, "kmirror_retention_headroom_seconds", "sized", 0);
    wait_until("the metric", LIMIT, || match metric()? {
        left if fits(left) => Ok(()),
        left => Err(left.to_string()),
    });
    // No fetch tells the end of a paused partition: each look asks for it.
    sleep(LOOKS);
    assert!(fits(metric().unwrap()), "{:?}", metric());
    pair.mirror.stop();
}

/// What was read and cannot be written counts as well: nobody reads it once more to learn its age.
#[test]
fn a_target_that_hangs_lets_headroom_shrink() {
    let port = free_port();
    let mut pair = Pair::new("hanging-target", 1, 1, &http::section(port));
    write(&pair, 0, 0);
    pair.mirror.start();
    pair.mirror.await_caught_up(1);
    let never = Arc::new(Notify::new());
    pair.target.intercept(ApiKey::Produce, None, move |_| Action::HoldUntil(Arc::clone(&never)));
    let asked = count(&pair.source, ApiKey::ListOffsets);
    // Six of the seven days that Kafka's default leaves.
    write(&pair, 0, 6 * 24 * HOUR_MS);
    let fits = |left: f64| (86_300.0..86_400.0).contains(&left);
    wait_until("the metric", LIMIT, || {
        match http::gauge(port, "kmirror_retention_headroom_seconds", "hanging-target", 0)? {
            left if fits(left) => Ok(()),
            left => Err(left.to_string()),
        }
    });
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    await_row(&pair, 0, "the same", |row| row["retention_headroom_seconds"].as_f64().is_some_and(fits));
    pair.mirror.kill();
}

/// Without the right to see topic configs nobody can tell; all else goes on.
#[test]
fn retention_that_may_not_be_seen_is_unknown() {
    let port = free_port();
    let mut pair = Pair::new("unseen", 1, 1, &http::section(port));
    pair.target.create_topic("unseen", 1, 1, &[]).unwrap();
    pair.source.intercept(ApiKey::DescribeConfigs, None, |_| Action::Error(TopicAuthorizationFailed));
    pair.mirror.start();
    pair.mirror.await_caught_up(1);
    pause(&pair);
    write(&pair, 0, 0);
    await_row(&pair, 0, "not known", |row| row["lag_records"] == 1 && row["retention_headroom_seconds"] == -1.0);
    wait_until("the metric", LIMIT, || match http::gauge(port, "kmirror_retention_headroom_seconds", "unseen", 0)? {
        left if left.is_nan() => Ok(()),
        left => Err(left.to_string()),
    });
    pair.mirror.stop();
}
