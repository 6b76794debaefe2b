//! Heartbeats: records that are written to a topic of the source, travel through the mirror as any other, and are read on the
//! target. What they took is what a record takes, measured by one clock. They have the form of MirrorMaker 2's heartbeats.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use metrics::Histogram;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::batch::{self, BatchError, Codec, Record, Stamp};
use crate::client::{
    Cluster, Metadata, NewTopic, ReadError, ReadOptions, TopicPartition, Topics, append_batch, read_log,
};
use crate::config::{Config, Heartbeats, MirrorConfig};
use crate::engine::{Board, EngineError, Lacks, connect_source, connect_target, now_ms};

use super::records::DECODE_LIMIT_BYTES;

/// How long the reader's broker waits for news, ms.
const WAIT_MS: i32 = 2_000;
const PAUSE: Duration = Duration::from_secs(1);
/// What the topic keeps. Of a mirror that is further behind than that, heartbeats say nothing.
const RETENTION_MS: &str = "86400000";
const SEGMENT_MS: &str = "21600000";

/// Writes and reads a mirror's heartbeats until told to stop, or the mirror is promoted.
pub async fn keep_beating(
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    board: Board,
    mut stop: watch::Receiver<bool>,
) {
    let Some(heartbeats) = mirror.heartbeats.clone() else { return };
    board.heartbeat(0);
    let took = metrics::histogram!("kmirror_heartbeat_latency_seconds", "mirror" => mirror.name.clone());
    tokio::select! {
        () = write(&config, &mirror, &heartbeats, &board) => {}
        () = read(&config, &mirror, &heartbeats, &board, &took) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Tells what is wrong once, and that it is over.
struct Told<'a> {
    mirror: &'a str,
    doing: &'static str,
    last: Option<String>,
}

impl Told<'_> {
    fn tell(&mut self, outcome: &Result<(), EngineError>) {
        let (mirror, doing) = (self.mirror, self.doing);
        match outcome.as_ref().err().map(ToString::to_string) {
            Some(error) if self.last.is_none() => {
                tracing::warn!(mirror, error, "{doing} heartbeats failed, trying again");
                self.last = Some(error);
            }
            None if self.last.take().is_some() => tracing::info!(mirror, "{doing} heartbeats works again"),
            _ => {}
        }
    }
}

async fn write(config: &Config, mirror: &MirrorConfig, heartbeats: &Heartbeats, board: &Board) {
    let mut told = Told { mirror: &mirror.name, doing: "writing", last: None };
    let mut ready: Option<(Cluster, TopicPartition)> = None;
    let mut ticks = tokio::time::interval(heartbeats.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if board.is_promoted() {
            return;
        }
        let outcome = async {
            let (source, tp) = match ready.take() {
                Some(known) => known,
                None => {
                    let source = connect_source(config, mirror).await?;
                    let tp = made(&source, &heartbeats.topic).await?;
                    (source, tp)
                }
            };
            append_batch(&source, &tp, encoded(mirror, now_ms())?).await?;
            ready = Some((source, tp));
            Ok(())
        };
        let outcome = outcome.await;
        board.note_outcome(Lacks::Heartbeats, &outcome);
        told.tell(&outcome);
        if outcome.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The first partition of the topic, which is made where it is not there.
async fn made(source: &Cluster, topic: &str) -> Result<TopicPartition, EngineError> {
    let found = source.refresh(Topics::Named(&[topic])).await?;
    let found = if found.topic(topic).is_some() {
        found
    } else {
        let configs = [("cleanup.policy", "delete"), ("retention.ms", RETENTION_MS), ("segment.ms", SEGMENT_MS)];
        let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let new = NewTopic { name: topic.to_owned(), partitions: 1, replication_factor: -1, configs };
        source.create_topic_if_absent(&new).await?;
        source.refresh(Topics::Named(&[topic])).await?
    };
    first_partition(&found, topic).ok_or_else(|| source.api_error("Metadata", found.obstacle(topic, 0), topic).into())
}

fn first_partition(metadata: &Metadata, topic: &str) -> Option<TopicPartition> {
    metadata.topic(topic)?.partitions().next()
}

async fn read(config: &Config, mirror: &MirrorConfig, heartbeats: &Heartbeats, board: &Board, took: &Histogram) {
    let mut told = Told { mirror: &mirror.name, doing: "reading", last: None };
    let topic = mirror.target_topic(&heartbeats.topic);
    loop {
        let outcome = follow(config, mirror, &topic, board, took, &mut told).await;
        if board.is_promoted() {
            return;
        }
        told.tell(&outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(
    config: &Config,
    mirror: &MirrorConfig,
    topic: &str,
    board: &Board,
    took: &Histogram,
    told: &mut Told<'_>,
) -> Result<(), EngineError> {
    let target = connect_target(config, mirror).await?;
    let metadata = target.refresh(Topics::Named(&[topic])).await?;
    // The mirror has not made it yet.
    let Some(tp) = first_partition(&metadata, topic) else { return Ok(()) };
    let end = target.log_end(&tp).await?;
    // The newest one tells the age. How long it took nobody knows any more.
    let (mut at, known) = ((end - 1).max(target.log_start(&tp).await?), end);
    while !board.is_promoted() {
        let options = ReadOptions { max_wait_ms: WAIT_MS, ..ReadOptions::default() };
        let slice = match read_log(&target, &tp, at, options).await {
            // Retention, or a topic that was made again.
            Err(ReadError::OutOfRange { .. }) => return Ok(()),
            outcome => outcome?,
        };
        told.tell(&Ok(()));
        let now = now_ms();
        for batch in &slice.batches {
            let is_known = batch.header.next_offset() <= at;
            at = at.max(batch.header.next_offset());
            if is_known || batch.header.is_control() {
                continue;
            }
            for record in batch::decode(batch, DECODE_LIMIT_BYTES).map_err(|error| unexpected(mirror, &error))? {
                let Some(written_ms) = written_ms(&record) else { continue };
                board.heartbeat(written_ms);
                if record.offset >= known {
                    took.record(now.saturating_sub(written_ms).max(0) as f64 / 1000.0);
                }
            }
        }
    }
    Ok(())
}

/// `Heartbeat` of MirrorMaker 2: the key names both clusters, the value the time. Versions are 0.
fn encoded(mirror: &MirrorConfig, now_ms: i64) -> Result<Bytes, EngineError> {
    let mut key = BytesMut::new();
    for name in [&mirror.source, &mirror.target] {
        key.put_u16(u16::try_from(name.len()).unwrap_or_default());
        key.put_slice(name.as_bytes());
    }
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i64(now_ms);
    let record = Record {
        offset: 0,
        timestamp: now_ms,
        attributes: 0,
        key: Some(key.freeze()),
        value: Some(value.freeze()),
        headers: Vec::new(),
    };
    let batch = batch::encode(&[record], Codec::None, Stamp::NONE).map_err(|error| unexpected(mirror, &error))?;
    Ok(batch.bytes)
}

fn unexpected(mirror: &MirrorConfig, error: &BatchError) -> EngineError {
    EngineError::Unexpected { mirror: mirror.name.clone(), detail: format!("a heartbeat: {error}") }
}

/// When a heartbeat was written, ms since the epoch; `None` where the record is none.
pub(super) fn written_ms(record: &Record) -> Option<i64> {
    let mut value = record.value.clone().filter(|value| value.len() == 10)?;
    (value.get_i16() == 0).then(|| value.get_i64())
}
