//! Records that keep coming, and how long each partition of the target stands still meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kmirror::broker::Cluster;

use super::{PARTITIONS, Pair};
use crate::e2e::mirror::LIMIT;
use crate::embedded::append;
use crate::kafka::harness::wait_until;

/// Between two looks at the target.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Between two batches of a partition.
const WRITE_EVERY: Duration = Duration::from_millis(10);

/// What was seen of one partition of the target.
#[derive(Debug, Clone, Copy)]
struct Seen {
    end: i64,
    since: Instant,
    longest: Duration,
}

pub(super) struct Load {
    source: Arc<Cluster>,
    target: Arc<Cluster>,
    topic: String,
    written: Arc<Vec<AtomicU64>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Writes three records at a time to every partition in turn, until it is stopped.
    pub(super) fn start(pair: &Pair) -> Self {
        let written: Arc<Vec<AtomicU64>> = Arc::new((0..PARTITIONS).map(|_| AtomicU64::new(0)).collect());
        let seen = Seen { end: 0, since: Instant::now(), longest: Duration::ZERO };
        let seen = Arc::new(Mutex::new(vec![seen; PARTITIONS as usize]));
        let over = Arc::new(AtomicBool::new(false));
        let (source, target, topic) = (pair.source.clone(), pair.target.clone(), pair.topic.clone());
        let write = {
            let (source, topic, written, over) = (source.clone(), topic.clone(), written.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    for (partition, count) in (0..).zip(written.iter()) {
                        let from = count.load(Ordering::Relaxed);
                        append(&source, &topic, partition, "", from, from + 3);
                        count.store(from + 3, Ordering::Relaxed);
                    }
                    std::thread::sleep(WRITE_EVERY);
                }
            }
        };
        let look = {
            let (target, topic, seen, over) = (target.clone(), topic.clone(), seen.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    for (partition, seen) in (0..).zip(seen.lock().unwrap().iter_mut()) {
                        let end = target.log(&topic, partition).map_or(0, |log| log.end_offset);
                        if end > seen.end {
                            (seen.end, seen.since) = (end, Instant::now());
                        }
                        seen.longest = seen.longest.max(seen.since.elapsed());
                    }
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        };
        let threads = vec![std::thread::spawn(write), std::thread::spawn(look)];
        Self { source, target, topic, written, seen, over, threads }
    }

    /// Waits until all that was written up to now is on the target.
    pub(super) fn await_flow(&self) {
        // What nothing was written to is empty, and flows for nobody.
        let ends = wait_until("records in every partition", LIMIT, || {
            let end = |p| self.source.log(&self.topic, p).unwrap().end_offset;
            let ends: Vec<i64> = (0..PARTITIONS).map(end).collect();
            if ends.iter().all(|end| *end > 0) { Ok(ends) } else { Err(format!("{ends:?}")) }
        });
        wait_until("the records written so far", LIMIT, || {
            let there = |p: i32| self.target.records(&self.topic, p, 0).map_or(0, |records| records.len() as i64);
            let behind: Vec<i32> = (0..).zip(&ends).filter(|(p, end)| there(*p) < **end).map(|(p, _)| p).collect();
            if behind.is_empty() { Ok(()) } else { Err(format!("{behind:?} are behind")) }
        });
    }

    /// Begins to measure anew.
    pub(super) fn forget_stalls(&self) {
        let now = Instant::now();
        self.seen.lock().unwrap().iter_mut().for_each(|seen| (seen.since, seen.longest) = (now, Duration::ZERO));
    }

    /// The longest that one of these partitions stood still, and one of the others; measured anew from here on.
    pub(super) fn stalls(&self, these: &[i32]) -> (Duration, Duration) {
        let longest = |inside: bool| {
            let seen = self.seen.lock().unwrap();
            let some = (0..).zip(seen.iter()).filter(|(partition, _)| these.contains(partition) == inside);
            some.map(|(_, seen)| seen.longest).max().unwrap_or_default()
        };
        let found = (longest(true), longest(false));
        self.forget_stalls();
        found
    }

    /// Writes no more; how many records each partition got.
    pub(super) fn stop(self) -> Vec<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.written.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
