//! A shard that another member gives up: seen in the shard's own log, so that a move takes no word from member to member.

use std::time::{Duration, Instant};

use crate::batch::{self, RawBatch};
use crate::client::{Cluster, ReadError, ReadOptions, read_log};
use crate::mirror::{StateRecord, decode_state};

use super::settle::{PATIENT, last_data_below};
use super::shard::ShardSpec;

/// How long a member is given to release a shard: longer than it gives itself. Then the shard is taken from it.
const PATIENCE: Duration = Duration::from_secs(6);
const DECODE_LIMIT_BYTES: usize = 64 << 20;
/// Looks do not wait at the broker: those for other shards, on the same connection, would wait as well.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Waits until the shard's owner has released it, or for long enough. Whoever released it has written nothing since: a release is the
/// last thing that an owner writes, and an id the first.
pub(crate) async fn await_release(cluster: &Cluster, spec: &ShardSpec, is_over: impl Fn() -> bool) {
    let began = Instant::now();
    let (mut from, mut pause) = (None, PAUSE);
    while began.elapsed() < PATIENCE && !is_over() {
        match look(cluster, spec, &mut from).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(mirror = %spec.mirror, shard = spec.shard, %error, "the shard's log cannot be read yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(PAUSE_MAX);
    }
    if !is_over() {
        tracing::warn!(mirror = %spec.mirror, shard = spec.shard, waited_ms = began.elapsed().as_millis() as u64,
            "the shard was not released in time; it is taken over");
    }
}

/// Whether a release is the last word; later looks wait for another.
async fn look(cluster: &Cluster, spec: &ShardSpec, from: &mut Option<i64>) -> Result<bool, ReadError> {
    let Some(at) = *from else {
        let end = cluster.log_end(&spec.tp).await?;
        let start = cluster.log_start(&spec.tp).await?;
        let last = last_data_below(cluster, &spec.tp, end, start, |_| true).await?;
        *from = Some(end);
        return Ok(last.is_some_and(|batch| is_release(&batch)));
    };
    let slice = read_log(cluster, &spec.tp, at, ReadOptions { max_wait_ms: 0, ..PATIENT }).await?;
    let news: Vec<&RawBatch> = slice.batches.iter().filter(|batch| batch.header.next_offset() > at).collect();
    if let Some(last) = news.last() {
        *from = Some(last.header.next_offset());
    }
    Ok(news.iter().rfind(|batch| !batch.header.is_control()).is_some_and(|batch| is_release(batch)))
}

fn is_release(batch: &RawBatch) -> bool {
    let Ok(records) = batch::decode(batch, DECODE_LIMIT_BYTES) else { return false };
    let last = records.last().and_then(|record| record.value.as_deref());
    last.is_some_and(|value| matches!(decode_state(value), Ok(StateRecord::Release { .. })))
}
