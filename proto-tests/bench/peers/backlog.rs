//! A backlog on real brokers, as several benchmarks want it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::thread;

use crate::kafka::harness::{Cluster, Produce, driver, jars};

/// Records of one call to the driver, which answers each within minutes.
const RECORDS_PER_CALL: u64 = 250_000;
/// Codecs of [`fill_mixed`], one topic each.
pub(crate) const CODECS: [&str; 3] = ["none", "lz4", "zstd"];
/// Bytes of a value of it.
pub(crate) const JSON_BYTES: usize = 730;
/// `batch.size` of its producers.
pub(crate) const BATCH_BYTES: usize = 128 << 10;

/// What stands in the source's logs, counted there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) batches: u64,
    /// As they go over the wire.
    pub(crate) wire_bytes: u64,
}

/// `count` times `factor`, and at least `least`.
pub(crate) fn scaled(count: u64, factor: f64, least: u64) -> u64 {
    ((count as f64 * factor).round() as u64).max(least)
}

/// Writes `each` JSON records to each of three topics, one producer for each codec, side by side.
pub(crate) fn fill_mixed(from: &Cluster, topics: &[String], partitions: i32, each: u64) -> u64 {
    let raw = each * topics.len() as u64 * JSON_BYTES as u64;
    ensure_space(raw * 2, "the source and one copy");
    let bootstrap = from.bootstrap();
    let bootstrap = bootstrap.as_str();
    thread::scope(|scope| {
        for (topic, codec) in topics.iter().zip(CODECS) {
            let spec = Produce {
                kind: "json",
                codec,
                partitions,
                batch_size: BATCH_BYTES,
                linger_ms: 50,
                value_min: JSON_BYTES,
                value_max: JSON_BYTES,
                keys: 100_000,
                ..Produce::new(topic, each)
            };
            scope.spawn(move || produce(bootstrap, &spec));
        }
    });
    each * topics.len() as u64
}

/// Call by call; each has a seed of its own, so that none repeats another.
pub(crate) fn produce(bootstrap: &str, spec: &Produce) {
    let mut left = spec.count;
    for seed in 1.. {
        let count = left.min(RECORDS_PER_CALL);
        driver().produce(bootstrap, &Produce { seed, count, ..spec.clone() });
        left -= count;
        if left == 0 {
            return;
        }
    }
}

/// Batches in the logs of these topics, and their bytes.
pub(crate) fn logged(cluster: &Cluster, topics: &[String], partitions: i32) -> Logged {
    let all = topics.iter().flat_map(|topic| (0..partitions).map(move |partition| (topic, partition)));
    let each = all.map(|(topic, partition)| {
        let folder = cluster.log_folder(1, topic, partition);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files = entries.map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).fold((0, 0), |sum, path| {
            let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let (batches, bytes) = batches(&file);
            (sum.0 + batches, sum.1 + bytes)
        })
    });
    let (batches, wire_bytes) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Logged { batches, wire_bytes }
}

/// Batches of a segment, hopped over by their lengths, and their bytes.
fn batches(segment: &File) -> (u64, u64) {
    let (mut count, mut at) = (0, 0);
    // Base offset and the length of what follows.
    let mut head = [0; 12];
    while segment.read_exact_at(&mut head, at).is_ok() {
        let length = u64::from(u32::from_be_bytes([head[8], head[9], head[10], head[11]]));
        // Behind the last batch of a segment that the broker has made room for.
        if length == 0 {
            break;
        }
        at += 12 + length;
        count += 1;
    }
    (count, at)
}

/// A full disk ends a broker in the middle; better not to begin.
fn ensure_space(bytes: u64, what: &str) {
    let home = jars::home();
    let said = jars::run(Command::new("df").args(["--output=avail", "-B1"]).arg(&home));
    let free: u64 = said.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let wanted = bytes + (1 << 30);
    assert!(
        free > wanted,
        "{}: {:.1} GB free, and {what} may take {:.1} GB; say --records-factor",
        home.display(),
        free as f64 / 1e9,
        wanted as f64 / 1e9
    );
}
