//! Backed logs: partitions whose batches lie elsewhere and are brought when they are read. What lies elsewhere, and how it is
//! brought, is the business of a [`Backing`]; topic id, offsets, leader epochs, aborted transactions and configs are those
//! that the partition is said to have.
//!
//! A backed topic is there to be read. Produce, DeleteRecords, transaction markers, CreatePartitions, DeleteTopics and
//! IncrementalAlterConfigs on it are refused with POLICY_VIOLATION; group offsets may be committed.
//!
//! Omitted: the maximum timestamp (ListOffsets −3 is refused with UNSUPPORTED_FOR_MESSAGE_FORMAT), producers
//! (DescribeProducers lists none), and what looks into stored batches: [`Cluster::read`], [`Cluster::records`], compaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::BrokerError;
use super::cluster::Cluster;
use super::create_topics;
use super::epochs::Epochs;
use super::log::{AbortedTxn, Log};
use super::state::{Partition, Shared, State};
use crate::batch::LOG_OVERHEAD;

/// Where a batch says how long the rest of it is.
const LENGTH_AT: usize = 8;

/// Where the batches of a backed log come from.
///
/// It is asked while the cluster is locked, by every fetch: it must answer at once from what is in memory, and must not call
/// the [`Cluster`]. What has to be brought first is [`Pending`](BackedRead::Pending) until a [`Waker`] says that it is here.
pub trait Backing: Send + Sync + std::fmt::Debug {
    /// Whole batches, in order, from the one that holds `offset` (or the next there is) on, none that begins at or behind
    /// `bound`; as many as `max_bytes` need, at least one. What is more than that is cut off.
    fn read(&self, offset: i64, bound: i64, max_bytes: usize) -> BackedRead;

    /// Offset and timestamp of the log's first record whose timestamp is at least this; `None` where there is no such record.
    fn offset_for_time(&self, timestamp_ms: i64) -> Option<(i64, i64)>;
}

/// What a [`Backing`] answers to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackedRead {
    /// Batches as they lay on the broker's disk.
    Bytes(Bytes),
    /// They are not here yet, and have been asked for. Clients wait as they wait for new records.
    Pending,
    /// There is no batch between `offset` and `bound`.
    Nothing,
    /// They cannot be brought: the client gets KAFKA_STORAGE_ERROR, and asks again.
    Failed,
}

/// A log that lies elsewhere.
#[derive(Debug, Clone)]
pub struct BackedLog {
    /// First offset that may be read.
    pub start_offset: i64,
    /// Offset of the next record, high watermark and last stable offset in one. Where it is not the end of the last batch,
    /// whoever reads waits for the rest.
    pub end_offset: i64,
    /// Leader epochs and where each began, oldest first: all that batches in the log bear.
    pub leader_epochs: Vec<(i32, i64)>,
    /// Aborted transactions: producer id, first offset, offset of the marker.
    pub aborted: Vec<(i64, i64, i64)>,
    /// Where its batches come from.
    pub backing: Arc<dyn Backing>,
}

/// Says that something that was [`Pending`](BackedRead::Pending) is here. Cheap to clone; does not keep the cluster alive.
#[derive(Debug, Clone)]
pub struct Waker(Weak<Shared>);

impl Waker {
    /// All fetches that wait look again.
    pub fn wake(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.wake();
        }
    }
}

/// What stands for a log that was not given yet. Nobody leads its partition, so nobody reads it.
#[derive(Debug)]
struct NotGiven;

impl Backing for NotGiven {
    fn read(&self, _offset: i64, _bound: i64, _max_bytes: usize) -> BackedRead {
        BackedRead::Pending
    }

    fn offset_for_time(&self, _timestamp_ms: i64) -> Option<(i64, i64)> {
        None
    }
}

/// As [`Log::read`].
pub(super) fn read(
    backing: &dyn Backing,
    (offset, bound): (i64, i64),
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Bytes, ResponseError> {
    if offset >= bound || (max_bytes == 0 && !at_least_one) {
        return Ok(Bytes::new());
    }
    let bytes = match backing.read(offset, bound, max_bytes) {
        BackedRead::Bytes(bytes) if !bytes.is_empty() => bytes,
        BackedRead::Bytes(_) | BackedRead::Pending | BackedRead::Nothing => return Ok(Bytes::new()),
        BackedRead::Failed => return Err(ResponseError::KafkaStorageError),
    };
    let first = first_len(&bytes);
    if first > max_bytes && !at_least_one {
        return Ok(Bytes::new());
    }
    Ok(bytes.slice(..bytes.len().min(max_bytes.max(first))))
}

/// Length of the first batch. Nothing else of it is looked at: what is wrong with it is for the reader to find.
fn first_len(bytes: &Bytes) -> usize {
    let length = bytes.get(LENGTH_AT..LOG_OVERHEAD).and_then(|length| length.try_into().ok()).map(i32::from_be_bytes);
    let whole = length.and_then(|length| usize::try_from(length).ok()).map(|length| LOG_OVERHEAD + length);
    whole.map_or(bytes.len(), |whole| whole.min(bytes.len()))
}

impl BackedLog {
    fn check(&self) -> Result<(), &'static str> {
        let ascends = |pair: &[(i32, i64)]| matches!(pair, [a, b] if a.0 < b.0 && a.1 <= b.1);
        if self.start_offset < 0 || self.start_offset > self.end_offset {
            return Err("its end lies before its start");
        }
        if !self.leader_epochs.windows(2).all(ascends) || self.leader_epochs.iter().any(|&(epoch, _)| epoch < 0) {
            return Err("its leader epochs do not ascend");
        }
        if self.leader_epochs.is_empty() && self.start_offset < self.end_offset {
            return Err("it has records and no leader epoch");
        }
        Ok(())
    }

    fn into_log(self) -> Log {
        let mut epochs = Epochs::default();
        for (epoch, start_offset) in self.leader_epochs {
            epochs.assign(epoch, start_offset);
        }
        let aborted = |(producer_id, first_offset, last_offset)| AbortedTxn { producer_id, first_offset, last_offset };
        let mut aborted: Vec<_> = self.aborted.into_iter().map(aborted).collect();
        aborted.sort_by_key(|txn| txn.last_offset);
        Log::backed(self.backing, (self.start_offset, self.end_offset), epochs, aborted)
    }
}

impl State {
    /// Whether a topic is there to be read alone.
    pub(super) fn is_backed(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.partitions.iter().any(|partition| partition.log.is_backed()))
    }

    /// The leader of a backed partition, the one replica that it has.
    fn place_backed(&self, index: i32) -> Option<i32> {
        let up: Vec<i32> = self.nodes.iter().filter(|(_, node)| node.up).map(|(id, _)| *id).collect();
        up.get(usize::try_from(index).ok()?.checked_rem(up.len())?).copied()
    }
}

fn refused(operation: &'static str, object: String, error: ResponseError) -> BrokerError {
    BrokerError::Refused { operation, object, error }
}

impl Cluster {
    /// Creates a topic of backed logs under this id; configs are taken as they are. Its partitions have no leader until each is
    /// given its log ([`Cluster::back`]).
    pub fn create_backed_topic(
        &self,
        name: &str,
        topic_id: Uuid,
        partitions: i32,
        configs: BTreeMap<String, String>,
    ) -> Result<(), BrokerError> {
        let mut state = self.shared.lock();
        let plan = create_topics::plan(&state, &self.shared.options, name, (partitions, 1), BTreeMap::new());
        let plan = plan.map_err(|(error, message)| refused("creation", format!("topic {name} ({message})"), error))?;
        if topic_id.is_nil() || state.names.contains_key(&topic_id) {
            let object = format!("topic {name} ({topic_id} is nobody's id, or another topic's)");
            return Err(refused("creation", object, ResponseError::InvalidRequest));
        }
        let backing: Arc<dyn Backing> = Arc::new(NotGiven);
        let waiting = |_| Partition {
            leader_epoch: -1,
            log: Log::backed(backing.clone(), (0, 0), Epochs::default(), Vec::new()),
            ..Partition::default()
        };
        state.insert_topic(name, topic_id, configs, (0..plan.partitions).map(waiting).collect());
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// Gives a partition of a backed topic its log, in place of the one that it has.
    pub fn back(&self, topic: &str, partition: i32, log: BackedLog) -> Result<(), BrokerError> {
        let object = |what: &str| format!("{topic}-{partition} ({what})");
        log.check().map_err(|what| refused("backing", object(what), ResponseError::InvalidRequest))?;
        let mut state = self.shared.lock();
        if state.partition(topic, partition).is_ok() && !state.is_backed(topic) {
            return Err(refused("backing", object("it has a log of its own"), ResponseError::PolicyViolation));
        }
        let node = state.place_backed(partition);
        let found = state.partition_mut(topic, partition);
        let found = found.map_err(|_| BrokerError::UnknownPartition { topic: topic.to_owned(), partition })?;
        found.log = log.into_log();
        let (epoch, start) = (found.log.epochs.latest().unwrap_or(0), found.log.start_offset);
        found.leader_epoch = found.leader_epoch.max(epoch);
        found.epoch_start_offset = start;
        if found.replicas.is_empty() {
            (found.replicas, found.leader) = (node.into_iter().collect(), node);
        }
        drop(state);
        self.shared.wake();
        Ok(())
    }

    /// What a [`Backing`] calls once something has come.
    pub fn waker(&self) -> Waker {
        Waker(Arc::downgrade(&self.shared))
    }

    /// Fetches that wait look again.
    pub fn wake(&self) {
        self.shared.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batches, Codec, Record, Stamp, encode};

    /// Whatever is asked, the same answer.
    #[derive(Debug)]
    struct Always(BackedRead);

    impl Backing for Always {
        fn read(&self, _offset: i64, _bound: i64, _max_bytes: usize) -> BackedRead {
            self.0.clone()
        }

        fn offset_for_time(&self, _timestamp_ms: i64) -> Option<(i64, i64)> {
            Some((7, 70))
        }
    }

    fn batch(offset: i64, len: usize) -> Bytes {
        let value = Some(Bytes::from(vec![7; len]));
        let record = Record { offset, timestamp: 5, attributes: 0, key: None, value, headers: Vec::new() };
        encode(&[record], Codec::None, Stamp::NONE).unwrap().bytes
    }

    fn log(leader_epochs: &[(i32, i64)], (start_offset, end_offset): (i64, i64)) -> BackedLog {
        let (aborted, backing) = (vec![(9, 5, 8), (8, 1, 3)], Arc::new(Always(BackedRead::Pending)));
        BackedLog { start_offset, end_offset, leader_epochs: leader_epochs.to_vec(), aborted, backing }
    }

    #[test]
    fn a_limit_cuts_behind_the_first_batch_alone() {
        let (first, second) = (batch(0, 10), batch(1, 300));
        let both = Bytes::from([&first[..], &second[..]].concat());
        let always = Always(BackedRead::Bytes(both.clone()));
        let read = |max_bytes, at_least_one| read(&always, (0, 2), max_bytes, at_least_one).unwrap();
        assert_eq!(read(1 << 20, false), both);
        assert_eq!(read(5, true), first);
        assert_eq!(read(0, true), first);
        assert!(read(5, false).is_empty() && read(0, false).is_empty());
        let mut cut = Batches::new(read(first.len() + 5, false));
        assert_eq!((cut.by_ref().count(), cut.truncated()), (1, true));
    }

    #[test]
    fn what_is_not_here_is_nothing_yet_and_what_failed_is_an_error() {
        let of = |answer, range| read(&Always(answer), range, 1 << 20, true);
        for nothing in [BackedRead::Pending, BackedRead::Nothing, BackedRead::Bytes(Bytes::new())] {
            assert_eq!(of(nothing, (0, 2)), Ok(Bytes::new()));
        }
        assert_eq!(of(BackedRead::Failed, (0, 2)), Err(ResponseError::KafkaStorageError));
        assert_eq!(of(BackedRead::Failed, (2, 2)), Ok(Bytes::new()), "nothing is asked for at the end");
    }

    #[test]
    fn damage_is_handed_on_as_it_is() {
        let mut old = batch(0, 10).to_vec();
        old[16] = 1;
        for damaged in [old, vec![0; 5], vec![0xff; 40]] {
            let always = Always(BackedRead::Bytes(damaged.clone().into()));
            assert_eq!(read(&always, (0, 2), 1 << 20, false).unwrap(), damaged);
        }
    }

    #[test]
    fn a_log_has_the_epochs_and_aborted_transactions_that_it_was_given() {
        let given = log(&[(2, 0), (5, 6)], (1, 9));
        assert_eq!(given.check(), Ok(()));
        let log = given.into_log();
        assert_eq!((log.start_offset, log.end_offset, log.high_watermark, log.last_stable_offset()), (1, 9, 9, 9));
        assert_eq!(log.epochs.end_offset_for(3, log.end_offset), Some((2, 6)));
        let ids = |from, to| log.aborted_between(from, to).iter().map(|txn| txn.producer_id).collect::<Vec<_>>();
        assert_eq!((ids(0, 9), ids(4, 9), ids(0, 5)), (vec![8, 9], vec![9], vec![8]));
        assert_eq!(log.writable(), Err(ResponseError::PolicyViolation));
    }

    #[test]
    fn what_contradicts_itself_is_no_log() {
        let start = [(0, 0)];
        for (epochs, range) in [
            (&start[..], (3, 2)),
            (&start[..], (-1, 2)),
            (&[][..], (0, 2)),
            (&[(1, 0), (1, 1)][..], (0, 2)),
            (&[(1, 1), (2, 0)][..], (0, 2)),
            (&[(-1, 0)][..], (0, 2)),
        ] {
            assert!(log(epochs, range).check().is_err(), "{epochs:?} {range:?}");
        }
        assert_eq!(log(&[], (4, 4)).check(), Ok(()), "nothing was ever written");
    }
}
