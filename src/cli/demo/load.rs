//! The load: orders, written over the wire as any producer does, one task a partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::TOPIC;
use super::side::{Side, number};
use crate::batch::{self, Codec, Record, Stamp};
use crate::client::{Cluster, TopicPartition, Topics};
use crate::engine::now_ms;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const SIZES: [u64; 5] = [250, 1, 400, 7, 90];

/// Who writes a record; its number counts from 0 for each of them and partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The load on the source, before it was lost.
    Source,
    /// Producers that have moved to the standby.
    Standby,
    /// And are home again.
    Home,
    /// A job that should not have run.
    Rubbish,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Standby => "standby",
            Self::Home => "home",
            Self::Rubbish => "rubbish",
        }
    }
}

/// So many records, shared out among partitions.
pub(super) fn shared_out(records: u64, partitions: i32) -> Vec<u64> {
    let among = u64::from(partitions.unsigned_abs());
    (0..among).map(|index| records / among + u64::from(index < records % among)).collect()
}

/// How far the producer of a partition is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Records handed to the cluster.
    sent: AtomicU64,
    /// Records that it has acknowledged.
    acknowledged: AtomicU64,
}

/// Producers at work.
#[derive(Debug)]
pub(super) struct Load {
    tasks: JoinSet<anyhow::Result<()>>,
    progress: Vec<Arc<Progress>>,
    /// Whether the last sixth may be written.
    gate: watch::Sender<bool>,
}

/// What a partition's producer is to do.
#[derive(Debug)]
struct Task {
    tp: TopicPartition,
    origin: Origin,
    from: u64,
    to: u64,
    /// From this number on it waits for the gate.
    held: u64,
    /// Evenly over this time.
    over: Duration,
    gate: watch::Receiver<bool>,
    progress: Arc<Progress>,
}

/// What a partition's producer knows in the end: records acknowledged, and sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) acknowledged: u64,
    pub(super) sent: u64,
}

impl Load {
    /// Writes the records with these numbers to each partition, evenly over a time.
    pub(super) async fn start(
        side: &Side,
        origin: Origin,
        ranges: &[(u64, u64)],
        over: Duration,
    ) -> anyhow::Result<Self> {
        let load = Self::start_held(side, origin, ranges, over).await?;
        load.let_go_on();
        Ok(load)
    }

    /// The same, but the last sixth waits for [`Load::let_go_on`], however slow whoever waits for the rest is.
    pub(super) async fn start_held(
        side: &Side,
        origin: Origin,
        ranges: &[(u64, u64)],
        over: Duration,
    ) -> anyhow::Result<Self> {
        let cluster = side.client("load").await?;
        let metadata = cluster.refresh(Topics::Named(&[TOPIC])).await?;
        let topic_id = metadata.topic(TOPIC).context("the demo's topic is there")?.id;
        let (mut tasks, mut progress) = (JoinSet::new(), Vec::new());
        let (gate, closed) = watch::channel(false);
        for (index, &(from, to)) in ranges.iter().enumerate() {
            let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id, partition: number(index) };
            let known = Arc::new(Progress::default());
            progress.push(Arc::clone(&known));
            // One record at least is held, be there ever so few in each partition.
            let last = ((to - from) / 6).max(u64::from(index == 0));
            let (held, gate) = (to - last, closed.clone());
            tasks.spawn(write(cluster.clone(), Task { tp, origin, from, to, held, over, gate, progress: known }));
        }
        Ok(Self { tasks, progress, gate })
    }

    pub(super) fn let_go_on(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until all is written.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Producers whose cluster is gone, by partition.
    pub(super) async fn abandon(mut self) -> Vec<Written> {
        self.tasks.shutdown().await;
        let known = |progress: &Arc<Progress>| Written {
            acknowledged: progress.acknowledged.load(Ordering::Relaxed),
            sent: progress.sent.load(Ordering::Relaxed),
        };
        self.progress.iter().map(known).collect()
    }
}

async fn write(cluster: Cluster, task: Task) -> anyhow::Result<()> {
    let Task { tp, origin, from, to, held, over, mut gate, progress } = task;
    let (began, mut next) = (Instant::now(), from);
    for (size, codec) in SIZES.into_iter().cycle().zip(CODECS.into_iter().cycle()) {
        if next >= to {
            break;
        }
        let base = next;
        let stop = if base < held { held } else { to };
        next = stop.min(base + size.min(batch_max(to - from, over)));
        if next > held {
            // Nobody is left who could open it where this fails, and nobody who waits.
            gate.wait_for(|open| *open).await?;
        }
        let now = now_ms();
        let records: Vec<Record> = (base..next)
            .map(|number| Record { offset: (number - base).cast_signed(), ..order(origin, tp.partition, number, now) })
            .collect();
        let batch = batch::encode(&records, codec, Stamp::NONE)?;
        progress.sent.store(next - from, Ordering::Relaxed);
        cluster.append_plain(&tp, batch.bytes).await?;
        progress.acknowledged.store(next - from, Ordering::Relaxed);
        tokio::time::sleep_until(began + over.mul_f64((next - from) as f64 / (to - from) as f64)).await;
    }
    Ok(())
}

/// A load that is spread over a time comes in at least fifty batches, or as many as there are records.
fn batch_max(records: u64, over: Duration) -> u64 {
    if over.is_zero() { u64::MAX } else { records.div_ceil(50) }
}

/// A record, by who writes it and its number; the same content for the same number.
pub(super) fn order(origin: Origin, partition: i32, number: u64, timestamp: i64) -> Record {
    let who = origin.word();
    let value = format!("{{\"order\":\"{who}-{partition}-{number}\",\"amount\":{}}}", number * 7 % 1_000);
    Record {
        offset: 0,
        timestamp,
        attributes: 0,
        key: (!number.is_multiple_of(10)).then(|| Bytes::from(format!("customer-{}", number % 997))),
        value: (!number.is_multiple_of(50)).then(|| Bytes::from(value)),
        // The same name twice: both must arrive, in order.
        headers: vec![
            (Bytes::from_static(b"trace"), Some(Bytes::from(format!("{who}-{number}")))),
            (Bytes::from_static(b"trace"), None),
        ],
    }
}
