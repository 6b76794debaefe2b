//! Straight from a live topic: what stands in it when the export begins, read as a consumer reads it.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Exported, Row, Sink, Wanted};
use crate::backup::BackupError;
use crate::backup::fetch::DECODE_LIMIT_BYTES;
use crate::backup::pass::Meter;
use crate::batch::{BatchError, ControlType, RawBatch, control_type, decode};
use crate::client::{Cluster, LogSlice, ReadError, ReadOptions, TopicPartition, Topics, nothing_below_end, read_log};
use crate::engine::EngineError;
use crate::mirror::Aborts;

/// What is asked for at a time: two such answers are held, one that is written and one on its way.
const READ_BYTES: i32 = 1 << 20;

/// A partition, and what of it is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLog {
    tp: TopicPartition,
    from: i64,
    to: i64,
    undecided: i64,
}

impl LiveLog {
    /// Offsets that are to be read.
    pub fn offsets_due(&self) -> u64 {
        self.to.abs_diff(self.from)
    }
}

/// Partitions that are asked for, with what they hold now. Time is a way to begin further up: in front of the first record that is
/// young enough all are older.
///
/// # Errors
/// The cluster cannot be asked, or a partition has no leader.
pub async fn live_logs(
    cluster: &Cluster,
    is_asked: &(dyn Fn(&str, i32) -> bool + Sync),
    wanted: &Wanted,
) -> Result<Vec<LiveLog>, BackupError> {
    let metadata = cluster.refresh(Topics::All).await?;
    let mut tps = Vec::new();
    for (name, topic) in &metadata.topics {
        let of = |partition| TopicPartition { topic: name.clone(), topic_id: topic.id, partition };
        let numbers = (0..).take(topic.partitions.len()).filter(|partition| is_asked(name, *partition));
        let asked: Vec<TopicPartition> = numbers.map(of).collect();
        // A topic that may not be read tells no partitions.
        if topic.error != 0 && (!asked.is_empty() || is_asked(name, 0)) {
            return Err(cluster.api_error("Metadata", topic.error, name).into());
        }
        tps.extend(asked);
    }
    tps.sort();
    let committed = !wanted.with_aborted;
    let starts = match wanted.since_ms {
        Some(since_ms) => cluster.offsets_at(&tps, since_ms, committed).await?,
        None => cluster.log_starts(&tps).await?,
    };
    let ends = cluster.log_ends(&tps, committed).await?;
    let all = cluster.log_ends(&tps, false).await?;
    let bounds = |tp: TopicPartition| {
        let (start, end, all) = (*starts.get(&tp)?, *ends.get(&tp)?, *all.get(&tp)?);
        let from = wanted.from.map_or(start, |from| from.max(start));
        let to = wanted.to.map_or(end, |to| to.min(end)).max(from);
        let undecided = wanted.to.map_or(all, |to| to.min(all)) - to;
        Some(LiveLog { tp, from, to, undecided: undecided.max(0) })
    };
    Ok(tps.into_iter().filter_map(bounds).collect())
}

/// Puts each record of a partition that is wanted.
///
/// # Errors
/// It cannot be read to its end, or the sink takes no more.
pub async fn export_live(
    cluster: &Cluster,
    log: &LiveLog,
    wanted: &Wanted,
    meter: &Meter,
    sink: &mut dyn Sink,
) -> Result<Exported, BackupError> {
    let exported = Exported {
        topic: log.tp.topic.clone(),
        partition: log.tp.partition,
        from: log.from,
        to: log.to,
        records: 0,
        lost_offsets: 0,
        undecided_offsets: log.undecided,
    };
    let mut reading = Reading { cluster, log, wanted, meter, at: log.from, exported };
    reading.run(sink).await?;
    sink.end_log()?;
    if log.undecided > 0 {
        tracing::warn!(topic = %log.tp.topic, partition = log.tp.partition, from = log.to, offsets = log.undecided,
            "a transaction is open: from here on nothing counts yet, and none of it was exported");
    }
    Ok(reading.exported)
}

struct Reading<'a> {
    cluster: &'a Cluster,
    log: &'a LiveLog,
    wanted: &'a Wanted,
    meter: &'a Meter,
    at: i64,
    exported: Exported,
}

type Ahead = JoinHandle<Result<LogSlice, ReadError>>;

impl Reading<'_> {
    async fn run(&mut self, sink: &mut dyn Sink) -> Result<(), BackupError> {
        let mut ahead = None;
        while self.at < self.log.to {
            let reading = ahead.take().unwrap_or_else(|| self.read_from(self.at));
            let slice = match reading.await.map_err(|error| self.unexpected(&error.to_string()))? {
                Ok(slice) => slice,
                Err(ReadError::OutOfRange { .. }) => {
                    self.overtaken().await?;
                    continue;
                }
                Err(error) => return Err(EngineError::from(error).into()),
            };
            let next = slice.batches.last().map_or(self.at, |last| last.header.next_offset());
            if next <= self.at {
                return Err(nothing_below_end(self.cluster, &self.log.tp).into());
            }
            // The next answer is on its way while this one is written.
            if next < self.log.to {
                ahead = Some(self.read_from(next));
            }
            let mut aborts = Aborts::new(&slice.aborted);
            for batch in &slice.batches {
                self.take(batch, &mut aborts, sink)?;
            }
        }
        Ok(())
    }

    fn read_from(&self, offset: i64) -> Ahead {
        let (cluster, tp) = (self.cluster.clone(), self.log.tp.clone());
        let options = ReadOptions {
            max_bytes: READ_BYTES,
            committed: !self.wanted.with_aborted,
            deadline: Duration::from_secs(60),
            ..ReadOptions::default()
        };
        tokio::spawn(async move { read_log(&cluster, &tp, offset, options).await })
    }

    /// Retention has passed by, or the log ends in front of the position.
    async fn overtaken(&mut self) -> Result<(), BackupError> {
        let (cluster, tp) = (self.cluster, &self.log.tp);
        let start = cluster.log_start(tp).await?.min(self.log.to);
        if start <= self.at {
            let end = cluster.log_end(tp).await?;
            return Err(self.unexpected(&format!(
                "it ends at offset {end} now, in front of {}, which it held: it lost records (an unclean leader election), or a leader \
                 that was just elected does not know its end yet. Export again once it stands",
                self.at
            )));
        }
        tracing::warn!(topic = %tp.topic, partition = tp.partition, from = self.at, to = start, "gone before it was read");
        self.exported.lost_offsets += start - self.at;
        self.meter.read(start.abs_diff(self.at));
        self.at = start;
        Ok(())
    }

    fn take(&mut self, batch: &RawBatch, aborts: &mut Aborts, sink: &mut dyn Sink) -> Result<(), BackupError> {
        let header = &batch.header;
        let next = header.next_offset().min(self.log.to);
        aborts.reach(header.last_offset());
        if header.is_control() && !self.wanted.with_aborted {
            let kind = control_type(batch).map_err(|error| self.unreadable(batch, error))?;
            if kind == ControlType::Abort {
                aborts.end(header.producer_id);
            }
        }
        let is_aborted = !self.wanted.with_aborted && header.is_transactional() && aborts.hold(header);
        let is_out = self.wanted.rules_out(header.base_offset, header.next_offset(), header.max_timestamp);
        if next > self.at && !header.is_control() && !is_aborted && !is_out {
            let records = decode(batch, DECODE_LIMIT_BYTES).map_err(|error| self.unreadable(batch, error))?;
            let range = self.at..self.log.to;
            for record in records.iter().filter(|r| range.contains(&r.offset) && self.wanted.takes(r)) {
                let tp = &self.log.tp;
                sink.put(&Row { topic: &tp.topic, partition: tp.partition, header, record })?;
                self.exported.records += 1;
            }
        }
        if next > self.at {
            self.meter.read(next.abs_diff(self.at));
            self.at = next;
        }
        Ok(())
    }

    fn unexpected(&self, detail: &str) -> BackupError {
        BackupError::Live {
            cluster: self.cluster.name().to_owned(),
            subject: self.log.tp.to_string(),
            detail: detail.to_owned(),
        }
    }

    fn unreadable(&self, batch: &RawBatch, source: BatchError) -> BackupError {
        let (cluster, subject) = (self.cluster.name().to_owned(), self.log.tp.to_string());
        let offset = batch.header.base_offset;
        EngineError::from(ReadError::Batch { cluster, subject, offset, source }).into()
    }
}
