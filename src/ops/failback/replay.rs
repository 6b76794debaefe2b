//! The divergent tail once more: appended to a topic of the standby, by choice.
//!
//! Each record goes as it is, with one more header, [`ORIGIN`], which says where it stands on the old source. By that header a
//! replay that was cut short finds out how far it came: it is fenced first, as a mirror's writers are (Init, a marker), so
//! that nothing of it can land any more, and what stands behind where the first one began is read. Within a partition of the
//! old source the order is kept; partition P goes to partition P modulo the number that the topic has.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::batch::{self, Codec, Record, Stamp};
use crate::client::{TopicPartition, Topics};
use crate::config::MirrorConfig;
use crate::engine::EngineError;
use crate::engine::control::Control;
use crate::engine::markers::{Transactor, await_marker, write_markers};
use crate::engine::shard::now_ms;
use crate::mirror::{ControlRecord, Isolation};

use super::super::records::{Shortfall, Stretch};
use super::Ends;
use super::tail::{Tail, located};

/// Name of the header that a replayed record gets; its value is `TOPIC:PARTITION:OFFSET` on the old source.
pub const ORIGIN: &str = "kmirror-origin";

const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
/// Bytes of keys and values in one batch; brokers take a mebibyte by default.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_RECORDS: usize = 1_000;
const CLEANUP_POLICY: &str = "cleanup.policy";

/// What a replay did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Version of this shape.
    pub schema_version: u32,
    /// The mirror.
    pub mirror: String,
    /// Topic on the standby.
    pub into: String,
    /// Records that were appended; in a plan, that would be.
    pub records: u64,
    /// Records that an earlier replay had appended.
    pub already: u64,
    /// By partition of the old source.
    pub partitions: Vec<ReplayedPartition>,
    /// What is not among them, by partition.
    pub shortfalls: Vec<String>,
}

/// A partition of the old source in a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayedPartition {
    /// Topic on the old source.
    pub topic: String,
    /// Partition there.
    pub partition: i32,
    /// Partition of the topic that is replayed into.
    pub into_partition: i32,
    /// Records that were appended, or would be.
    pub records: u64,
    /// Records that were there.
    pub already: u64,
}

/// Why nothing, or not everything, was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// One of the clusters.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The topic to replay into.
    #[error("topic {topic} on cluster {cluster} {what}")]
    Topic {
        /// Cluster name.
        cluster: String,
        /// The topic.
        topic: String,
        /// What about it.
        what: String,
    },
    /// A batch of it.
    #[error(
        "records of {from} from offset {offset} on could not be appended to {into}; what was appended stays, and the same \
             command goes on from there"
    )]
    Append {
        /// Partition of the old source.
        from: TopicPartition,
        /// Offset of the first record of the batch.
        offset: i64,
        /// Partition of the topic.
        into: TopicPartition,
        /// What was wrong.
        #[source]
        source: Box<EngineError>,
    },
}

/// A replay to be.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The mirror that was promoted.
    pub mirror: &'a MirrorConfig,
    /// Both clusters.
    pub ends: Ends<'a>,
    /// What is replayed.
    pub tails: &'a [Tail],
    /// Topic on the standby.
    pub into: &'a str,
}

/// By partition of the old source: the last of its offsets that was replayed, and how many were.
type There = BTreeMap<(String, i32), (i64, u64)>;

impl Replay<'_> {
    /// What a replay would append.
    pub async fn plan(&self) -> Result<Replayed, ReplayError> {
        let into = self.partitions().await?;
        let control = self.control().await?;
        let ends = self.ends.standby.log_ends(&into, false).await.map_err(EngineError::from)?;
        let mut there = There::new();
        if let Some(began) = into.first().and_then(|tp| control.state.replay_began(tp.topic_id)) {
            for (tp, from) in into.iter().zip(began) {
                self.read(tp, (*from, ends.get(tp).copied().unwrap_or(*from)), &mut there).await?;
            }
        }
        let mut report = self.report();
        for (tp, tail) in located(self.ends.old, self.tails).await? {
            let (behind, already) = self.place(&there, tail);
            let stretch = Stretch::new(self.ends.old, &tp, self.mirror.isolation, (behind, tail.range.1));
            let (records, shortfall) = stretch.count().await?;
            report.add((&tp, tail), into_of(&into, tail), (records, already), shortfall);
        }
        Ok(report)
    }

    /// Appends what is not there yet; `each` is told of every batch how many records it had.
    pub async fn run(&self, mut each: impl FnMut(u64)) -> Result<Replayed, ReplayError> {
        let into = self.partitions().await?;
        let mut control = self.control().await?;
        let began = self.begin(&mut control, &into).await?;
        let owner = self.own(control.generation()?.generation).await?;
        let mut there = There::new();
        for (tp, from) in into.iter().zip(began) {
            let end = self.fence(&owner, tp).await?;
            self.read(tp, (from, end), &mut there).await?;
        }
        let mut sequences: BTreeMap<i32, i32> = BTreeMap::new();
        let mut report = self.report();
        for (tp, tail) in located(self.ends.old, self.tails).await? {
            let (behind, already) = self.place(&there, tail);
            let target = into_of(&into, tail);
            let sequence = sequences.entry(target.partition).or_default();
            let mut stretch = Stretch::new(self.ends.old, &tp, self.mirror.isolation, (behind, tail.range.1));
            let mut records = 0;
            while let Some(some) = stretch.next().await? {
                for part in in_parts(&some) {
                    self.append(&owner, (&tp, target), part, sequence).await?;
                    records += part.len() as u64;
                    each(part.len() as u64);
                }
            }
            report.add((&tp, tail), target, (records, already), stretch.shortfall);
        }
        Ok(report)
    }

    fn report(&self) -> Replayed {
        let (mirror, into) = (self.mirror.name.clone(), self.into.to_owned());
        Replayed {
            schema_version: 1,
            mirror,
            into,
            records: 0,
            already: 0,
            partitions: Vec::new(),
            shortfalls: Vec::new(),
        }
    }

    fn topic_error(&self, what: &str) -> ReplayError {
        let (cluster, topic) = (self.ends.standby.name().to_owned(), self.into.to_owned());
        ReplayError::Topic { cluster, topic, what: what.to_owned() }
    }

    async fn partitions(&self) -> Result<Vec<TopicPartition>, ReplayError> {
        if self.into.starts_with("__") {
            return Err(self.topic_error("belongs to Kafka or kmirror"));
        }
        let metadata = self.ends.standby.refresh(Topics::Named(&[self.into])).await.map_err(EngineError::from)?;
        let Some(meta) = metadata.topic(self.into).filter(|meta| !meta.partitions.is_empty()) else {
            return Err(self.topic_error("is not there; create it first"));
        };
        // Without the right to read it nobody knows, and the runbook warns.
        let configs = self.ends.standby.configs_of_topics(&[self.into], &[CLEANUP_POLICY]).await.unwrap_or_default();
        let policy = configs.get(self.into).and_then(|configs| configs.get(CLEANUP_POLICY));
        if policy.is_some_and(|policy| policy.contains("compact")) {
            let what = "is compacted: what was replayed could not be told from what its cleaner took since; replay into another one";
            return Err(self.topic_error(what));
        }
        let count = i32::try_from(meta.partitions.len()).unwrap_or(i32::MAX);
        let tp = |partition| TopicPartition { topic: self.into.to_owned(), topic_id: meta.id, partition };
        Ok((0..count).map(tp).collect())
    }

    async fn control(&self) -> Result<Control, EngineError> {
        let control = Control::open(&self.mirror.name, self.ends.standby).await?;
        control.ok_or_else(|| EngineError::Unexpected {
            mirror: self.mirror.name.clone(),
            detail: "its state topic is gone".to_owned(),
        })
    }

    /// Where the first replay into this topic began; this one, if there was none.
    async fn begin(&self, control: &mut Control, into: &[TopicPartition]) -> Result<Vec<i64>, EngineError> {
        let Some(topic_id) = into.first().map(|tp| tp.topic_id) else { return Ok(Vec::new()) };
        if control.state.replay_began(topic_id).is_none() {
            let ends = self.ends.standby.log_ends(into, false).await?;
            let ends = into.iter().map(|tp| ends.get(tp).copied().unwrap_or(0)).collect();
            let record = ControlRecord::Replay { into: self.into.to_owned(), topic_id, ends, at_ms: now_ms() };
            control.write(record).await?;
            control.read_to_end().await?;
        }
        let mut began = control.state.replay_began(topic_id).unwrap_or_default().to_vec();
        // Partitions that were added since began empty.
        began.resize(into.len(), 0);
        Ok(began)
    }

    async fn own(&self, generation: u32) -> Result<Transactor, EngineError> {
        let transactional_id = format!("kmirror.{}.{generation}.replay", self.mirror.name);
        let producer = self.ends.standby.init_producer_id(&transactional_id, TRANSACTION_TIMEOUT_MS, None).await?;
        let (producer_id, producer_epoch) = (producer.producer_id, producer.producer_epoch);
        Ok(Transactor { transactional_id, producer_id, producer_epoch })
    }

    /// From here on nothing of an earlier replay can land; gives the end of what could.
    async fn fence(&self, owner: &Transactor, tp: &TopicPartition) -> Result<i64, EngineError> {
        let standby = self.ends.standby;
        standby.await_served(std::slice::from_ref(tp)).await?;
        let end = standby.log_end(tp).await?;
        let refused = write_markers(&self.mirror.name, standby, owner, std::slice::from_ref(tp)).await?;
        if let Some(error) = refused.into_values().next() {
            return Err(error.into());
        }
        Ok(await_marker(&self.mirror.name, standby, tp, end, owner, |_| Ok(())).await?.offset)
    }

    /// Finds what was replayed into a partition since the first replay began.
    async fn read(&self, tp: &TopicPartition, range: (i64, i64), there: &mut There) -> Result<(), ReplayError> {
        if range.0 >= range.1 {
            return Ok(());
        }
        if self.ends.standby.log_start(tp).await.map_err(EngineError::from)? > range.0 {
            let what = format!(
                "has lost its records in front of offset {} of partition {}, where an earlier replay began: what was replayed cannot be \
                 told any more; replay into another topic",
                range.0, tp.partition
            );
            return Err(self.topic_error(&what));
        }
        let mut stretch = Stretch::new(self.ends.standby, tp, Isolation::ReadUncommitted, range);
        while let Some(records) = stretch.next().await? {
            for (topic, partition, offset) in records.iter().filter_map(origin) {
                let (last, count) = there.entry((topic, partition)).or_insert((-1, 0));
                (*last, *count) = (offset.max(*last), *count + 1);
            }
        }
        Ok(())
    }

    /// Where to go on in a tail, and how many of its records are there.
    fn place(&self, there: &There, tail: &Tail) -> (i64, u64) {
        let (last, count) = there.get(&(tail.topic.clone(), tail.partition)).copied().unwrap_or((-1, 0));
        (tail.range.0.max(last + 1), count)
    }

    async fn append(
        &self,
        owner: &Transactor,
        (from, into): (&TopicPartition, &TopicPartition),
        records: &[Record],
        sequence: &mut i32,
    ) -> Result<(), ReplayError> {
        let Some(first) = records.first() else { return Ok(()) };
        let failed = |source: EngineError| ReplayError::Append {
            from: from.clone(),
            offset: first.offset,
            into: into.clone(),
            source: Box::new(source),
        };
        let records: Vec<Record> = (0..).zip(records).map(|(at, record)| with_origin(from, at, record)).collect();
        let stamp =
            Stamp { producer_id: owner.producer_id, producer_epoch: owner.producer_epoch, base_sequence: *sequence };
        let batch = batch::encode(&records, Codec::Lz4, stamp).map_err(|error| {
            failed(EngineError::Unexpected { mirror: self.mirror.name.clone(), detail: error.to_string() })
        })?;
        // With its stamp it is taken once, however often it is sent.
        self.ends.standby.append_plain(into, batch.bytes).await.map_err(|error| failed(error.into()))?;
        *sequence = next_sequence(*sequence, records.len());
        Ok(())
    }
}

impl Replayed {
    fn add(
        &mut self,
        (from, tail): (&TopicPartition, &Tail),
        into: &TopicPartition,
        (records, already): (u64, u64),
        shortfall: Shortfall,
    ) {
        self.shortfalls.extend(shortfall.words().map(|words| format!("{from}: {words}")));
        self.records += records;
        self.already += already;
        let (topic, partition, into_partition) = (tail.topic.clone(), tail.partition, into.partition);
        self.partitions.push(ReplayedPartition { topic, partition, into_partition, records, already });
    }
}

/// Sequences go round (`DefaultRecordBatch.incrementSequence`).
fn next_sequence(sequence: i32, records: usize) -> i32 {
    let next = (i64::from(sequence) + records as i64) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).unwrap_or(0)
}

fn into_of<'a>(into: &'a [TopicPartition], tail: &Tail) -> &'a TopicPartition {
    &into[tail.partition.unsigned_abs() as usize % into.len()]
}

fn with_origin(from: &TopicPartition, at: i64, record: &Record) -> Record {
    let origin = Bytes::from(format!("{}:{}:{}", from.topic, from.partition, record.offset));
    let mut copy = Record { offset: at, ..record.clone() };
    copy.headers.push((Bytes::from_static(ORIGIN.as_bytes()), Some(origin)));
    copy
}

/// Where a replayed record comes from; the last header counts, for a record may have been replayed before.
fn origin(record: &Record) -> Option<(String, i32, i64)> {
    let (_, value) = record.headers.iter().rfind(|(name, _)| name.as_ref() == ORIGIN.as_bytes())?;
    let text = std::str::from_utf8(value.as_ref()?).ok()?;
    let (rest, offset) = text.rsplit_once(':')?;
    let (topic, partition) = rest.rsplit_once(':')?;
    Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
}

/// Bytes of a record, its origin and the fields around included.
fn size_of(record: &Record) -> usize {
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + text(value) + 10).sum();
    text(&record.key) + text(&record.value) + headers + 350
}

/// Records in parts that fit a batch; one that does not is alone.
fn in_parts(records: &[Record]) -> Vec<&[Record]> {
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, record) in records.iter().enumerate() {
        let size = size_of(record);
        if at > from && (bytes + size > BATCH_BYTES || at - from >= BATCH_RECORDS) {
            parts.push(&records[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += size;
    }
    if from < records.len() {
        parts.push(&records[from..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        Record {
            offset,
            timestamp: 7,
            attributes: 0,
            key: None,
            value: Some(Bytes::from(vec![1; bytes])),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_record_says_where_it_comes_from() {
        let from = TopicPartition { topic: "a:b".to_owned(), topic_id: uuid::Uuid::nil(), partition: 3 };
        let once = with_origin(&from, 0, &record(42, 1));
        assert_eq!(origin(&once), Some(("a:b".to_owned(), 3, 42)));
        let twice = with_origin(&TopicPartition { partition: 4, ..from }, 0, &Record { offset: 9, ..once });
        assert_eq!(origin(&twice), Some(("a:b".to_owned(), 4, 9)));
        assert_eq!(origin(&record(1, 1)), None);
    }

    #[test]
    fn parts_are_bounded_and_leave_nothing_out() {
        let lengths = |records: &[Record]| in_parts(records).iter().map(|part| part.len()).collect::<Vec<_>>();
        let many: Vec<Record> = (0..1_500).map(|offset| record(offset, 10)).collect();
        assert_eq!(lengths(&many).iter().sum::<usize>(), 1_500);
        for part in in_parts(&many) {
            assert!(part.iter().map(size_of).sum::<usize>() <= BATCH_BYTES && part.len() <= BATCH_RECORDS);
        }
        let large = [record(0, BATCH_BYTES * 2), record(1, BATCH_BYTES / 3), record(2, BATCH_BYTES / 3), record(3, 1)];
        assert_eq!(lengths(&large), [1, 3]);
        // What is in the headers counts as well.
        let header = (Bytes::from_static(b"token"), Some(Bytes::from(vec![7; BATCH_BYTES / 2])));
        let with = |offset| Record { headers: vec![header.clone()], ..record(offset, 1) };
        assert_eq!(lengths(&[with(0), with(1), with(2)]), [1, 1, 1]);
        assert!(in_parts(&[]).is_empty());
    }

    #[test]
    fn sequences_go_round() {
        assert_eq!(next_sequence(0, 3), 3);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }
}
