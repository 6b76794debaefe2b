//! What lies ahead of a source position: data or not, of what time, for how long the source keeps it; and whose transaction
//! holds back its end. Asked by the running mirror and by `status`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::client::{Cluster, ProducerView, ReadError, ReadOptions, TopicPartition, read_log};
use crate::mirror::{FetchedRecords, Headroom, Hold, Holder, Intake, Isolation, LogStart, OpenTransaction, Retention};

use super::EngineError;

/// Partitions looked at side by side.
pub(crate) const AT_ONCE: usize = 16;
/// Reads per partition: so much that is not data may lie in front of what is.
const PEEK_ROUNDS: usize = 64;
/// How long one partition's record is asked for where others wait.
const HOLD_DEADLINE: Duration = Duration::from_secs(2);
/// How long a topic's configuration is taken to stay as it is, ms.
const CONFIGS_LAST_MS: i64 = 60_000;

/// The first record to mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// There is none: markers, and what was aborted or compacted.
    Nothing,
    /// It is of this time, ms.
    At(i64),
    /// Retention has taken it.
    Gone,
    /// It cannot be read.
    Unreadable,
}

/// Reads from a source offset on until there is a record, at most up to `to`: the offset in front of it, and what it is.
pub(crate) async fn look_ahead(
    source: &Cluster,
    isolation: Isolation,
    tp: &TopicPartition,
    (from, to): (i64, i64),
    options: ReadOptions,
) -> Result<(i64, First), EngineError> {
    let committed = isolation == Isolation::ReadCommitted;
    let options = ReadOptions { max_wait_ms: 0, committed, ..options };
    let decode_limit = usize::try_from(options.max_bytes).unwrap_or(0).saturating_mul(PEEK_ROUNDS);
    let mut intake = Intake::new(from, None, isolation, decode_limit);
    for _ in 0..PEEK_ROUNDS {
        let at = intake.next();
        if at >= to {
            return Ok((at, First::Nothing));
        }
        let slice = match read_log(source, tp, at, options).await {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange { .. }) => return Ok((at, First::Gone)),
            Err(ReadError::Batch { .. }) => return Ok((at, First::Unreadable)),
            Err(error) => return Err(error.into()),
        };
        let records = slice.batches.iter().map(|batch| &batch.bytes[..]).collect::<Vec<_>>().concat();
        let (ready, halt) = intake.take(&FetchedRecords { aborted: slice.aborted, records: records.into() });
        if let Some(first) = ready.first() {
            let offset = first.runs.first().map_or(at, |r| r.source);
            return Ok((offset.max(from), First::At(first.header.base_timestamp)));
        }
        if halt.is_some() || intake.next() == at {
            return Ok((at, First::Unreadable));
        }
    }
    Ok((intake.next(), First::Unreadable))
}

/// What the source's topics say about retention, asked for again every so often.
#[derive(Debug, Default)]
pub(crate) struct Retentions {
    read_ms: i64,
    by_topic: HashMap<String, Option<Retention>>,
}

impl Retentions {
    async fn learn(&mut self, source: &Cluster, topics: BTreeSet<&str>, now_ms: i64) {
        if now_ms - self.read_ms > CONFIGS_LAST_MS {
            *self = Self { read_ms: now_ms, ..Self::default() };
        }
        let missing: Vec<&str> = topics.into_iter().filter(|topic| !self.by_topic.contains_key(*topic)).collect();
        match source.configs_of_topics(&missing, &Retention::KEYS).await {
            Ok(found) => {
                let retention = |topic: &str| found.get(topic).and_then(|c| Retention::of(|key| c.get(key).cloned()));
                self.by_topic.extend(missing.iter().map(|topic| ((*topic).to_owned(), retention(topic))));
            }
            Err(error) => tracing::debug!(%error, "the source's topic configs are not known"),
        }
    }

    /// How long the source keeps what lies ahead.
    pub(crate) async fn headrooms(
        &mut self,
        source: &Cluster,
        firsts: &[(TopicPartition, First)],
        now_ms: i64,
    ) -> Vec<Headroom> {
        let waiting = || firsts.iter().filter(|(_, first)| matches!(first, First::At(_))).map(|(tp, _)| tp);
        self.learn(source, waiting().map(|tp| tp.topic.as_str()).collect(), now_ms).await;
        let of = |tp: &TopicPartition| self.by_topic.get(&tp.topic).copied().flatten();
        let sized: Vec<TopicPartition> =
            waiting().filter(|tp| of(tp).is_some_and(|r| r.bytes.is_some())).cloned().collect();
        let starts = source.first_records_each(&sized).await;
        let headroom = |(tp, first): &(TopicPartition, First)| match (*first, of(tp), starts.get(tp)) {
            (First::Nothing, ..) => Headroom::Unlimited,
            (First::Gone, ..) => Headroom::Until { due_ms: 0, lifetime_ms: 0 },
            (First::Unreadable, ..) | (_, None, _) | (_, _, Some(Err(_))) => Headroom::Unknown,
            (First::At(timestamp), Some(retention), start) => {
                let start = start.and_then(|s| s.as_ref().ok());
                let start = start.map(|(offset, timestamp)| LogStart { offset: *offset, timestamp: *timestamp });
                Headroom::of(timestamp, retention.lifetime_ms(start, now_ms))
            }
        };
        firsts.iter().map(headroom).collect()
    }
}

/// What holds the last stable offset back where it stands; `None` where nothing does any more. `since_ms` is when that was
/// first seen; the record there may tell of an earlier time. The leader is asked for its producers once that is long.
pub(crate) async fn hold(
    source: &Cluster,
    tp: &TopicPartition,
    (offset, since_ms): (i64, i64),
    now_ms: i64,
) -> Result<Option<Hold>, EngineError> {
    // The first batch comes whole.
    let options =
        ReadOptions { max_bytes: 1, max_wait_ms: 0, committed: false, deadline: HOLD_DEADLINE, last_fetched_epoch: -1 };
    let slice = read_log(source, tp, offset, options).await?;
    let written = slice.batches.first().map(|batch| match &batch.header {
        header if header.is_log_append_time() => header.max_timestamp,
        header => header.base_timestamp,
    });
    let since_ms = written.filter(|written| *written >= 0).map_or(since_ms, |written| written.min(since_ms));
    let hold = Hold { offset, since_ms, holder: Holder::NotAsked };
    if !hold.is_long(now_ms) {
        return Ok(Some(hold));
    }
    let open = |p: ProducerView| OpenTransaction {
        producer_id: p.producer_id,
        producer_epoch: p.producer_epoch,
        start: p.transaction_start,
    };
    let producers = source.describe_producers_soon(tp).await;
    Ok(hold.asked(producers.map(|all| all.into_iter().map(open).collect()).map_err(|error| error.to_string())))
}
