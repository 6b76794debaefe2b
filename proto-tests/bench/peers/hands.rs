//! The commands of the Java driver that only the benchmark uses (`proto-tests/java/Measuring.java`).

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kafka::harness::{Cluster, driver};
use crate::load::{Filled, Stage};
use crate::peer::Running;

/// Topics in one call: the driver answers each within minutes.
const TOPICS_PER_CALL: usize = 250;

fn call<T: DeserializeOwned>(command: &str, to: &Cluster, args: Value) -> T {
    let answer = driver().try_call(command, &to.bootstrap(), args).unwrap_or_else(|error| panic!("{command}: {error}"));
    serde_json::from_value(Value::Object(answer)).unwrap_or_else(|error| panic!("the answer to {command}: {error}"))
}

/// Creates topics of `partitions` each, and waits until all are served.
pub(crate) fn create_topics(on: &Cluster, topics: &[String], partitions: i32) {
    for some in topics.chunks(TOPICS_PER_CALL) {
        let _: Value = call("create_topics", on, json!({ "topics": some, "partitions": partitions }));
    }
}

/// Writes one record into each partition.
pub(crate) fn one_each(on: &Cluster, topics: &[String], partitions: i32) {
    for some in topics.chunks(TOPICS_PER_CALL) {
        let _: Value = call("one_each", on, json!({ "topics": some, "partitions": partitions }));
    }
}

/// Deletes all topics of users but those named.
pub(crate) fn clear(on: &Cluster, keep: &[String]) {
    let _: Value = call("clear", on, json!({ "keep": keep }));
}

/// Milliseconds of the clock that the driver reads too.
pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() * 1e3
}

/// What the driver's watch over the target's end offsets has seen; times in milliseconds of the wall clock, 0 for not yet.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Seen {
    /// Records of the source when the watch began.
    pub(crate) expected: u64,
    /// Records on the target.
    pub(crate) there: u64,
    /// The first look that found a record …
    pub(crate) first_ms: f64,
    /// … and how many it found.
    pub(crate) first_count: u64,
    /// The look that found the last one.
    pub(crate) done_ms: f64,
}

/// Begins to watch for the records that the source has now, looking every `poll`.
pub(crate) fn watch(stage: &Stage, filled: &Filled, prefix: &str, poll: Duration) {
    let args = json!({
        "source": stage.from.bootstrap(), "topics": filled.topics, "partitions": filled.partitions,
        "prefix": prefix, "poll_ms": poll.as_millis() as u64,
    });
    let _: Value = call("watch", &stage.to, args);
}

/// Waits until the watch has seen every record; the error says how far it came within `limit`.
pub(crate) fn await_copied(stage: &Stage, running: &mut Running, limit: Duration) -> Result<Seen, String> {
    let began = Instant::now();
    loop {
        let seen: Seen = call("watched", &stage.to, json!({}));
        if seen.done_ms > 0.0 {
            return Ok(seen);
        }
        running.assert_runs();
        if began.elapsed() > limit {
            return Err(format!("not within {} s: {} of {} records", limit.as_secs(), seen.there, seen.expected));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A stretch of records at a steady rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Records a second.
    pub(crate) rate: u64,
    /// For how long.
    pub(crate) seconds: u64,
    /// Smallest and largest value, bytes.
    pub(crate) value_bytes: (u32, u32),
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What became of a [`Pace`]. Latencies run from the producer's send to the end of the poll that read the record.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Paced {
    /// At a consumer of the source.
    pub(crate) source: Percentiles,
    /// At a consumer of the target.
    pub(crate) target: Percentiles,
    /// Of the differences, record by record: what the replicator added.
    pub(crate) added: Percentiles,
    /// CPU seconds of the replicator meanwhile.
    pub(crate) cpu_s: f64,
    /// How long the writing took, seconds.
    pub(crate) paced_s: f64,
    /// How far the producer fell behind its own pace at most.
    pub(crate) late_max_ms: f64,
}

/// Where records are written and where they are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) from: &'a Cluster,
    pub(crate) topic: &'a str,
    pub(crate) to: &'a Cluster,
    pub(crate) target_topic: &'a str,
    pub(crate) partitions: i32,
}

/// Writes at a steady pace and reads both sides meanwhile; `pid` is whose CPU time is counted.
pub(crate) fn pace(route: Route<'_>, pace: Pace, pid: u32) -> Paced {
    let args = json!({
        "topic": route.topic, "target": route.to.bootstrap(), "target_topic": route.target_topic,
        "partitions": route.partitions, "rate": pace.rate, "seconds": pace.seconds, "value_min": pace.value_bytes.0,
        "value_max": pace.value_bytes.1, "linger_ms": 0, "pid": pid,
    });
    call("pace", route.from, args)
}
