//! Another configuration of a mirror that runs between real clusters, under load: topics come, go and come back, limits change, a bad
//! file is refused. Every record is on the target once, and what nothing was said of goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::join_all;
use kmirror::batch::{Stamp, encode_values};
use kmirror::client::{Cluster as Client, ClusterSpec, TopicPartition, Topics, append_batch};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::mirror::LIMIT;
use super::{Mirror, http};
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::{TopicSpec, compare, driver, real_kafka_wanted, source, target, wait_until};

const STAYS: &str = "reload-stays";
const GOES: &str = "reload-goes";
const COMES: &str = "reload-comes";
const TOPICS: [&str; 3] = [STAYS, GOES, COMES];
const PARTITIONS: i32 = 3;
/// Between two rounds of the load, and two looks at the target.
const PACE: Duration = Duration::from_millis(10);

fn client(runtime: &Runtime, bootstrap: &str) -> Client {
    let spec = ClusterSpec::new("reload", vec![bootstrap.to_owned()], "reload-test".to_owned());
    runtime.block_on(Client::connect(spec)).unwrap()
}

fn partitions(runtime: &Runtime, cluster: &Client, topics: &[&str]) -> Vec<TopicPartition> {
    let metadata = runtime.block_on(cluster.refresh(Topics::Named(topics))).unwrap();
    let of = |topic: &&str| {
        let topic_id = metadata.topic(topic).unwrap().id;
        let name = (*topic).to_owned();
        (0..PARTITIONS).map(move |partition| TopicPartition { topic: name.clone(), topic_id, partition })
    };
    topics.iter().flat_map(of).collect()
}

/// Old records are sent one by one, for the target may have forgotten who wrote them.
fn now_ms() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// What runs beside the test until it is told to stop.
struct Beside<T> {
    over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Beside<T> {
    fn start(work: impl FnOnce(&Runtime, &AtomicBool) -> T + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            work(&runtime, &until)
        });
        Self { over, thread }
    }

    fn stop(self) -> T {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A record to every partition of the source, again and again: rounds, and the longest time between the ends of two.
fn load() -> Beside<(u64, Duration)> {
    Beside::start(|runtime, over| {
        let source = client(runtime, &source().bootstrap());
        let partitions = partitions(runtime, &source, &TOPICS);
        let (mut rounds, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            let append = |tp: &TopicPartition| {
                let value = Bytes::from(format!("{tp} {rounds}"));
                let batch = encode_values(vec![value], now_ms(), Stamp::NONE).unwrap();
                let (source, tp) = (source.clone(), tp.clone());
                async move { append_batch(&source, &tp, batch).await.unwrap() }
            };
            runtime.block_on(join_all(partitions.iter().map(append)));
            rounds += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
            std::thread::sleep(PACE);
        }
        (rounds, longest)
    })
}

/// The longest time that a partition of the topic stood still on the target.
fn watch(topic: &'static str) -> Beside<Duration> {
    Beside::start(move |runtime, over| {
        let target = client(runtime, &target().bootstrap());
        let partitions = partitions(runtime, &target, &[topic]);
        let mut seen: Vec<(i64, Instant)> = partitions.iter().map(|_| (0, Instant::now())).collect();
        let mut longest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let ends = runtime.block_on(target.log_ends(&partitions, false)).unwrap();
            for (tp, (end, since)) in partitions.iter().zip(&mut seen) {
                longest = longest.max(since.elapsed());
                if ends[tp] > *end {
                    (*end, *since) = (ends[tp], Instant::now());
                }
            }
            std::thread::sleep(PACE);
        }
        longest
    })
}

struct Stage {
    mirror: Mirror,
    port: u16,
    first: String,
}

impl Stage {
    fn start() -> Self {
        let port = free_port();
        let mut mirror = Mirror::new("reload", source(), target(), &[&format!("{STAYS}|{GOES}")], &http::section(port));
        let first = std::fs::read_to_string(&mirror.config).unwrap();
        mirror.start_by_file();
        Self { mirror, port, first }
    }

    fn config(&self) -> Result<Value, String> {
        Ok(http::get(self.port, "/api/v1/config", "localhost")?.json()["config"].clone())
    }

    /// Puts the file in its place, with these topics and these lines of the mirror and of the file behind them, and waits until it is in
    /// force.
    fn put(&self, include: &str, of_mirror: &str, of_file: &str) {
        let before = self.config().unwrap()["fingerprint"].clone();
        let text = self.first.replace(&format!("{STAYS}|{GOES}"), include);
        let text = text.replace("http:", &format!("{of_mirror}http:")) + of_file;
        std::fs::write(&self.mirror.config, text).unwrap();
        wait_until("the file to be in force", LIMIT, || match self.config()? {
            now if now["refused"].is_null() && now["fingerprint"] != before => Ok(()),
            now => Err(now.to_string()),
        });
    }

    fn refuse(&self) {
        let good = std::fs::read_to_string(&self.mirror.config).unwrap();
        let before = self.config().unwrap()["fingerprint"].clone();
        std::fs::write(&self.mirror.config, good.replace("source: from", "sauce: from")).unwrap();
        wait_until("the bad file to be refused", LIMIT, || {
            let now = self.config()?;
            assert_eq!(now["fingerprint"], before, "nothing of it is in force");
            let why = now["refused"]["why"].as_str().unwrap_or_default();
            if why.contains("mirrors[0].sauce: unknown key") { Ok(()) } else { Err(now.to_string()) }
        });
        std::fs::write(&self.mirror.config, good).unwrap();
        wait_until("the good file again", LIMIT, || match self.config()? {
            now if now["refused"].is_null() => Ok(()),
            now => Err(now.to_string()),
        });
    }
}

fn ends(topic: &str) -> Vec<i64> {
    let rows = driver().offsets(&target().bootstrap(), &[topic]);
    rows.iter().map(|row| row.end).collect()
}

/// Waits until every partition of the topic has got further on the target.
fn await_flow(topic: &'static str) {
    let is_there = || driver().list_topics(&target().bootstrap()).iter().any(|name| name == topic);
    wait_until(&format!("{topic} on the target"), LIMIT, || if is_there() { Ok(()) } else { Err(String::new()) });
    let before = ends(topic);
    wait_until(&format!("{topic} to flow"), LIMIT, || {
        let now = ends(topic);
        let flows = before.iter().zip(&now).all(|(before, now)| now > before);
        if flows { Ok(()) } else { Err(format!("{before:?}, {now:?}")) }
    });
}

#[test]
fn topics_come_and_go_under_load_and_what_stays_never_pauses() {
    if !real_kafka_wanted("topics_come_and_go_under_load_and_what_stays_never_pauses") {
        return;
    }
    for topic in TOPICS {
        driver().create_topic(&source().bootstrap(), &TopicSpec::new(topic, PARTITIONS));
    }
    let mut stage = Stage::start();
    let load = load();
    await_flow(STAYS);
    await_flow(GOES);
    let watch = watch(STAYS);
    stage.put(&format!("{STAYS}|{GOES}|{COMES}"), "", "");
    await_flow(COMES);
    let limited = "    limits: { bandwidth: 50MiB, coalesced_batch: 0 }\n";
    stage.put(&format!("{STAYS}|{GOES}|{COMES}"), limited, "log: { level: debug }\n");
    wait_until("the log's level", LIMIT, || match stage.mirror.log() {
        log if log.contains(" DEBUG ") => Ok(()),
        _ => Err("no line of that level".to_owned()),
    });
    let status = stage.mirror.json(&["status"], 0);
    assert_eq!(status["mirrors"][0]["bandwidth_bytes_per_s"].as_u64(), Some(50 << 20), "{status}");
    stage.refuse();
    stage.put(&format!("{STAYS}|{COMES}"), limited, "");
    wait_until("the release", LIMIT, || match stage.mirror.log().matches("not mirrored any more").count() {
        count if count == PARTITIONS as usize => Ok(()),
        count => Err(format!("{count} partitions")),
    });
    let released = ends(GOES);
    await_flow(COMES);
    assert_eq!(ends(GOES), released, "nobody asked for it");
    stage.put(&format!("{STAYS}|{GOES}|{COMES}"), "", "");
    await_flow(GOES);
    let longest = watch.stop();
    let (rounds, starved) = load.stop();
    stage.mirror.await_caught_up(TOPICS.len() * PARTITIONS as usize);
    for topic in TOPICS {
        assert_eq!(ends(topic), vec![rounds.cast_signed(); PARTITIONS as usize], "{topic}: a marker, or not all");
    }
    stage.mirror.stop();
    let (here, there) = stage.mirror.dumps(&TOPICS, &TOPICS);
    compare(&here, &there).assert_exactly(rounds as usize * TOPICS.len() * PARTITIONS as usize);
    let log = stage.mirror.log();
    assert!(!log.contains("starting it anew") && !log.contains("partition halted"), "{log}");
    eprintln!("{rounds} records a partition; longest gap of {STAYS} {longest:?}, of the load itself {starved:?}");
    // A machine that is busy with other things holds up all of them alike.
    assert!(longest < starved + Duration::from_secs(2), "{longest:?}, the load {starved:?}");
}
