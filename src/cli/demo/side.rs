//! One of the two clusters: its broker, and how many records each of its partitions holds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use super::{MIRROR, TOPIC};
use crate::batch::Record;
use crate::broker::{Cluster as Broker, ClusterOptions};
use crate::client::{Cluster, ClusterSpec};

/// How far a partition was counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    next_offset: i64,
    records: u64,
    /// Newest epoch of whoever wrote them.
    epoch: i16,
}

/// A cluster of the demo.
#[derive(Debug)]
pub(super) struct Side {
    /// Its name in the file.
    pub(super) name: &'static str,
    pub(super) broker: Broker,
    address: String,
    partitions: i32,
    counted: Mutex<Vec<Counted>>,
}

impl Side {
    pub(super) async fn start(name: &'static str, partitions: i32) -> anyhow::Result<Self> {
        let options =
            ClusterOptions { cluster_id: format!("demo-{name}"), auto_create_topics: false, ..Default::default() };
        let broker = Broker::start(options).await.with_context(|| format!("starting the {name} broker"))?;
        let counted = vec![Counted::default(); usize::try_from(partitions).unwrap_or_default()];
        let address = broker.bootstrap().join(",");
        Ok(Self { name, broker, address, partitions, counted: Mutex::new(counted) })
    }

    /// `host:port`, whether it runs or not.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_up(&self) -> bool {
        !self.broker.bootstrap().is_empty()
    }

    /// Records of each partition now, markers aside. Only what is new is looked at.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.look().iter().map(|counted| counted.records).collect()
    }

    /// Newest epoch of a producer that has written records here.
    pub(super) fn epoch(&self) -> i16 {
        self.look().iter().map(|counted| counted.epoch).max().unwrap_or_default()
    }

    fn look(&self) -> MutexGuard<'_, Vec<Counted>> {
        let mut all = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (counted, partition) in all.iter_mut().zip(0..) {
            let from = counted.next_offset;
            let Ok(batches) = self.broker.read(TOPIC, partition, from) else { continue };
            for batch in batches.iter().filter(|batch| batch.header.base_offset >= from) {
                counted.next_offset = batch.header.next_offset();
                if !batch.header.is_control() {
                    counted.records += u64::from(batch.header.records_count.unsigned_abs());
                    counted.epoch = counted.epoch.max(batch.header.producer_epoch);
                }
            }
        }
        all
    }

    /// Control batches in the topic.
    pub(super) fn markers(&self) -> u64 {
        let batches = (0..self.partitions).filter_map(|partition| self.broker.read(TOPIC, partition, 0).ok()).flatten();
        batches.filter(|batch| batch.header.is_control()).count() as u64
    }

    /// The topic was deleted: what comes under its name is counted anew.
    pub(super) fn forget(&self) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).fill(Counted::default());
    }

    /// Records of all partitions now.
    pub(super) fn count(&self) -> u64 {
        self.counts().into_iter().sum()
    }

    /// Whether the topic is there with all of its partitions.
    pub(super) fn has_topic(&self) -> bool {
        (0..self.partitions).all(|partition| self.broker.log(TOPIC, partition).is_ok())
    }

    /// What the partitions hold, as a consumer reads it; also while the cluster is down.
    pub(super) fn contents(&self) -> anyhow::Result<Vec<Vec<Record>>> {
        (0..self.partitions).map(|partition| Ok(self.broker.records(TOPIC, partition, 0)?)).collect()
    }

    /// A client of it, as an application is.
    pub(super) async fn client(&self, id: &str) -> anyhow::Result<Cluster> {
        let spec = ClusterSpec::new(self.name, vec![self.address.clone()], format!("{MIRROR}-{id}"));
        Ok(Cluster::connect(spec).await?)
    }
}

/// The partition's number for a place in a list of partitions.
pub(super) fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}
