//! The transaction coordinator: one state machine per transactional id (KIP-98, KIP-360; Kafka's
//! `TransactionMetadata` and `TransactionCoordinator`, transaction version 1).
//!
//! Omitted: the transaction log topic, transaction version 2 (epoch bump at every end), group offsets, two-phase commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use super::marker::Marker;
use super::state::{State, now_ms};

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TxnStatus {
    /// Initialised, nothing added yet.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// Decided; markers are being written.
    Prepare {
        /// COMMIT, else ABORT.
        commit: bool,
    },
    /// All markers are written.
    Complete {
        /// COMMIT, else ABORT.
        commit: bool,
    },
}

impl TxnStatus {
    /// Kafka's name, as DescribeTransactions and ListTransactions give it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Prepare { commit: true } => "PrepareCommit",
            Self::Prepare { commit: false } => "PrepareAbort",
            Self::Complete { commit: true } => "CompleteCommit",
            Self::Complete { commit: false } => "CompleteAbort",
        }
    }
}

/// One transactional id.
#[derive(Debug, Clone)]
pub(super) struct Txn {
    /// Its producer id.
    pub(super) producer_id: i64,
    /// Its epoch; −1 before the first Init is done.
    pub(super) epoch: i16,
    /// Epoch before the last bump that a client asked for by naming it (KIP-360); −1 when none.
    last_epoch: i16,
    /// Producer id before the last rotation; −1 when none.
    last_producer_id: i64,
    /// Open longer than this: aborted and fenced, ms.
    pub(super) timeout_ms: i32,
    /// Where it stands.
    pub(super) status: TxnStatus,
    /// Partitions of the open transaction; while markers are written, those still without one.
    pub(super) partitions: BTreeSet<(String, i32)>,
    /// When the open transaction began, ms since 1970; −1 when none is open.
    pub(super) started_ms: i64,
    markers_due: Option<Instant>,
}

/// Kafka's `TransactionMetadata.isEpochExhausted`: the very last epoch is kept for a fence.
fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

impl Txn {
    fn new(producer_id: i64) -> Self {
        Self {
            producer_id,
            epoch: -1,
            last_epoch: -1,
            last_producer_id: -1,
            timeout_ms: 0,
            status: TxnStatus::Empty,
            partitions: BTreeSet::new(),
            started_ms: -1,
            markers_due: None,
        }
    }

    /// Whether a client that names this producer id and epoch may initialise (KIP-360).
    fn accepts(&self, producer_id: i64, epoch: i16) -> bool {
        self.epoch == -1
            || producer_id == self.producer_id
            || (producer_id == self.last_producer_id && is_exhausted(epoch))
    }

    fn bump(&mut self, expected: Option<(i64, i16)>, fresh_producer_id: i64) -> Result<(), ResponseError> {
        let named = expected.map(|(_, epoch)| epoch);
        let current = named.is_none_or(|epoch| epoch == self.epoch);
        if is_exhausted(self.epoch) && current {
            self.last_producer_id = self.producer_id;
            self.last_epoch = if named.is_some() { self.epoch } else { -1 };
            self.producer_id = fresh_producer_id;
            self.epoch = 0;
            return Ok(());
        }
        if self.epoch == -1 || current {
            self.last_epoch = if named.is_some() { self.epoch } else { -1 };
            self.epoch += 1;
            return Ok(());
        }
        // A retry of an Init that was answered already: the same answer.
        if named == Some(self.last_epoch) { Ok(()) } else { Err(ResponseError::ProducerFenced) }
    }

    fn decide(&mut self, commit: bool, delay: Duration) {
        self.status = TxnStatus::Prepare { commit };
        self.markers_due = Some(Instant::now() + delay);
    }

    fn check(&self, producer_id: i64, epoch: i16) -> Result<(), ResponseError> {
        if self.producer_id != producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if self.epoch != epoch { Err(ResponseError::ProducerFenced) } else { Ok(()) }
    }
}

impl State {
    /// A producer id that nobody had.
    pub(super) fn fresh_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }

    /// InitProducerId of a transactional id. An open transaction is aborted under a bumped epoch and the client told to
    /// come again (CONCURRENT_TRANSACTIONS): hence the epoch it finally gets need not be the old one plus one.
    pub(super) fn init_txn(
        &mut self,
        id: &str,
        timeout_ms: i32,
        expected: Option<(i64, i16)>,
        marker_delay: Duration,
    ) -> Result<(i64, i16), ResponseError> {
        let fresh = self.fresh_producer_id();
        let txn = self.txns.entry(id.to_owned()).or_insert_with(|| Txn::new(fresh));
        if expected.is_some_and(|(producer_id, epoch)| !txn.accepts(producer_id, epoch)) {
            return Err(ResponseError::ProducerFenced);
        }
        match txn.status {
            TxnStatus::Prepare { .. } => Err(ResponseError::ConcurrentTransactions),
            TxnStatus::Ongoing => {
                if expected.is_some_and(|(_, epoch)| epoch != txn.epoch) {
                    return Err(ResponseError::ProducerFenced);
                }
                txn.epoch = txn.epoch.saturating_add(1);
                txn.last_epoch = -1;
                txn.decide(false, marker_delay);
                self.advance_txns();
                Err(ResponseError::ConcurrentTransactions)
            }
            TxnStatus::Empty | TxnStatus::Complete { .. } => {
                txn.bump(expected, fresh)?;
                txn.timeout_ms = timeout_ms;
                txn.status = TxnStatus::Empty;
                Ok((txn.producer_id, txn.epoch))
            }
        }
    }

    /// AddPartitionsToTxn, once all the partitions are known to exist.
    pub(super) fn add_to_txn(
        &mut self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        partitions: BTreeSet<(String, i32)>,
    ) -> Result<(), ResponseError> {
        let txn = self.txns.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        txn.check(producer_id, epoch)?;
        if matches!(txn.status, TxnStatus::Prepare { .. }) {
            return Err(ResponseError::ConcurrentTransactions);
        }
        if txn.status != TxnStatus::Ongoing {
            txn.status = TxnStatus::Ongoing;
            txn.started_ms = now_ms();
            txn.partitions.clear();
        }
        txn.partitions.extend(partitions);
        Ok(())
    }

    /// EndTxn: decides; the markers follow after `marker_delay`, at once when that is zero.
    pub(super) fn end_txn(
        &mut self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        commit: bool,
        marker_delay: Duration,
    ) -> Result<(), ResponseError> {
        let txn = self.txns.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        txn.check(producer_id, epoch)?;
        match txn.status {
            TxnStatus::Ongoing => txn.decide(commit, marker_delay),
            TxnStatus::Complete { commit: done } if done == commit => return Ok(()),
            TxnStatus::Prepare { commit: wanted } if wanted == commit => {
                return Err(ResponseError::ConcurrentTransactions);
            }
            TxnStatus::Empty | TxnStatus::Complete { .. } | TxnStatus::Prepare { .. } => {
                return Err(ResponseError::InvalidTxnState);
            }
        }
        self.advance_txns();
        Ok(())
    }

    /// Whether a transactional write to this partition belongs to an open transaction (KIP-890, part 1).
    pub(super) fn verify_txn(
        &self,
        id: &str,
        producer_id: i64,
        epoch: i16,
        partition: &(String, i32),
    ) -> Result<(), ResponseError> {
        let txn = self.txns.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        txn.check(producer_id, epoch).map_err(|error| match error {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            other => other,
        })?;
        match txn.status {
            TxnStatus::Ongoing if txn.partitions.contains(partition) => Ok(()),
            TxnStatus::Prepare { .. } => Err(ResponseError::ConcurrentTransactions),
            TxnStatus::Ongoing | TxnStatus::Empty | TxnStatus::Complete { .. } => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Writes the markers that are due; true when anything was written. A partition without a leader keeps its
    /// transaction open; one that was deleted is left out.
    pub(super) fn advance_txns(&mut self) -> bool {
        let now = Instant::now();
        let due: Vec<String> = self
            .txns
            .iter()
            .filter(|(_, txn)| txn.markers_due.is_some_and(|due| due <= now))
            .map(|(id, _)| id.clone())
            .collect();
        let mut wrote = false;
        for id in &due {
            wrote |= self.write_markers(id);
        }
        wrote
    }

    fn write_markers(&mut self, id: &str) -> bool {
        let Some(txn) = self.txns.get(id) else { return false };
        let TxnStatus::Prepare { commit } = txn.status else { return false };
        let marker = Marker { producer_id: txn.producer_id, producer_epoch: txn.epoch, commit, coordinator_epoch: 0 };
        let wanted = txn.partitions.clone();
        let left: BTreeSet<_> = wanted.iter().filter(|tp| !self.write_marker(tp, &marker)).cloned().collect();
        let wrote = left.len() < wanted.len();
        let Some(txn) = self.txns.get_mut(id) else { return wrote };
        txn.partitions = left;
        if txn.partitions.is_empty() {
            txn.status = TxnStatus::Complete { commit };
            txn.started_ms = -1;
            txn.markers_due = None;
            return true;
        }
        wrote
    }

    /// True when this partition needs the marker no longer.
    fn write_marker(&mut self, (topic, index): &(String, i32), marker: &Marker) -> bool {
        let Ok(partition) = self.partition_mut(topic, *index) else { return true };
        if partition.leader.is_none() {
            return false;
        }
        let epoch = partition.leader_epoch;
        if let Err(error) = partition.log.append_marker(marker, epoch, now_ms()) {
            tracing::debug!(topic, index, %error, "marker refused: the producer was fenced meanwhile");
        }
        true
    }

    /// Aborts and fences transactions that stayed open beyond their time-out; true when there were any.
    pub(super) fn abort_timed_out(&mut self, marker_delay: Duration) -> bool {
        let now = now_ms();
        let mut found = false;
        for txn in self.txns.values_mut() {
            if txn.status == TxnStatus::Ongoing && now > txn.started_ms + i64::from(txn.timeout_ms) {
                txn.epoch = txn.epoch.saturating_add(1);
                txn.decide(false, marker_delay);
                found = true;
            }
        }
        found
    }

    /// `transactional.id.expiration.ms` has passed: the id is forgotten, unless a transaction is open.
    pub(super) fn expire_txn(&mut self, id: &str) -> bool {
        let idle =
            self.txns.get(id).is_some_and(|txn| matches!(txn.status, TxnStatus::Empty | TxnStatus::Complete { .. }));
        if idle {
            self.txns.remove(id);
        }
        idle
    }

    /// Partitions by topic, as describing answers need them.
    pub(super) fn by_topic(partitions: &BTreeSet<(String, i32)>) -> BTreeMap<String, Vec<i32>> {
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, index) in partitions {
            topics.entry(topic.clone()).or_default().push(*index);
        }
        topics
    }
}
