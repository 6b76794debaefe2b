//! Compaction, on demand (Kafka's `LogCleaner`). Batches keep their offsets; records vanish from them. A batch without
//! records goes, unless it is the newest of its producer, whose sequence must stay known: then its header stays.
//!
//! Omitted: delete horizons and the removal of tombstones and markers; aborted records are kept like others.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::BrokerError;
use super::cluster::Cluster;
use super::log::Log;
use super::records;
use crate::batch::{BatchError, Record};

impl Cluster {
    /// Takes the records that `keep` does not want out of a partition, up to the last stable offset; gives how many. The
    /// log's last batch is never touched, as Kafka leaves the active segment alone.
    pub fn punch_holes(
        &self,
        topic: &str,
        partition: i32,
        keep: impl Fn(&Record) -> bool,
    ) -> Result<usize, BrokerError> {
        Ok(self.change(topic, partition, |partition| clean(&mut partition.log, &keep))??)
    }

    /// Compacts a partition: of each key only the newest record stays. Gives how many records went.
    pub fn compact(&self, topic: &str, partition: i32) -> Result<usize, BrokerError> {
        let removed = self.change(topic, partition, |partition| {
            let log = &mut partition.log;
            let newest = newest_of_each_key(log)?;
            clean(log, &|record| {
                record.key.as_ref().is_some_and(|key| newest.get(key).is_none_or(|offset| record.offset >= *offset))
            })
        });
        Ok(removed??)
    }
}

/// How many batches the cleaner may touch.
fn cleanable(log: &Log) -> usize {
    let stable = log.last_stable_offset();
    let below = log.batches.partition_point(|batch| batch.header.next_offset() <= stable);
    below.min(log.batches.len().saturating_sub(1))
}

fn newest_of_each_key(log: &Log) -> Result<HashMap<Bytes, i64>, BatchError> {
    let mut newest = HashMap::new();
    for batch in log.batches.range(..cleanable(log)).filter(|batch| !batch.header.is_control()) {
        let keyed = records::decode(batch)?.into_iter().filter_map(|record| Some((record.key?, record.offset)));
        newest.extend(keyed);
    }
    Ok(newest)
}

fn clean(log: &mut Log, keep: &dyn Fn(&Record) -> bool) -> Result<usize, BatchError> {
    let count = cleanable(log);
    let newest_of_producer: HashMap<i64, i64> = log
        .batches
        .iter()
        .filter(|batch| batch.header.producer_id >= 0 && !batch.header.is_control())
        .map(|batch| (batch.header.producer_id, batch.header.base_offset))
        .collect();
    let mut removed = 0;
    let mut cleaned = VecDeque::with_capacity(log.batches.len());
    for (at, batch) in log.batches.iter().enumerate() {
        if at >= count || batch.header.is_control() || batch.header.records_count == 0 {
            cleaned.push_back(batch.clone());
            continue;
        }
        let mut kept = records::decode(batch)?;
        let had = kept.len();
        kept.retain(|record| keep(record));
        removed += had - kept.len();
        let header = &batch.header;
        if kept.len() == had {
            cleaned.push_back(batch.clone());
        } else if !kept.is_empty() || newest_of_producer.get(&header.producer_id) == Some(&header.base_offset) {
            cleaned.push_back(records::rebuild(header, &kept, header.codec()?)?);
        }
    }
    log.replace_batches(cleaned);
    Ok(removed)
}
