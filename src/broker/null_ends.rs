//! The ends of a measurement: a log that is made up where it is read, and one that counts what it is given and forgets it.
//! Nothing grows and next to nothing is computed, so that what stands between two such ends can be measured alone.
//!
//! Offsets, sequences, watermarks and fetch sessions are those of any other log. Omitted: what looks into batches (time
//! lookups, compaction), elections (a made-up log is of leader epoch 0), transactions; checks of a batch's content.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::backed::{BackedRead, Backing};
use super::cluster::Cluster;
use super::log::Log;
use super::producers::SequenceCheck;
use super::{BrokerError, validate};
use crate::batch::{BatchError, BatchHeader, RawBatch};

/// What a made-up log repeats: batches with the same number of records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template {
    batches: Arc<[Bytes]>,
    records_each: i64,
}

impl Template {
    /// A template of these batches.
    ///
    /// # Errors
    /// Where there are none, or where their counts differ.
    pub fn new(batches: &[RawBatch]) -> Result<Self, BatchError> {
        let records_each = batches.first().map_or(0, |first| first.header.next_offset() - first.header.base_offset);
        let odd = |batch: &&RawBatch| batch.header.has_holes() || i64::from(batch.header.records_count) != records_each;
        if records_each == 0 || batches.iter().any(|batch| odd(&batch)) {
            let what = "a template needs batches of the same number of records".to_owned();
            return Err(BatchError::Malformed { offset: 0, what });
        }
        Ok(Self { batches: batches.iter().map(of_epoch_0).collect(), records_each })
    }

    fn batch(&self, number: usize) -> &Bytes {
        &self.batches[number % self.batches.len()]
    }
}

impl Backing for Template {
    fn read(&self, offset: i64, bound: i64, max_bytes: usize) -> BackedRead {
        let first = usize::try_from(offset / self.records_each).unwrap_or(0);
        let last = usize::try_from(bound / self.records_each).unwrap_or(0);
        if first >= last {
            return BackedRead::Nothing;
        }
        let largest = self.batches.iter().map(Bytes::len).max().unwrap_or(0);
        let mut out = BytesMut::with_capacity(max_bytes.min((last - first) * largest) + largest);
        for number in first..last {
            let at = out.len();
            if at > 0 && at >= max_bytes {
                break;
            }
            out.extend_from_slice(self.batch(number));
            let base_offset = (number as i64 * self.records_each).to_be_bytes();
            out[at..at + base_offset.len()].copy_from_slice(&base_offset);
        }
        BackedRead::Bytes(out.freeze())
    }

    fn offset_for_time(&self, _timestamp_ms: i64) -> Option<(i64, i64)> {
        None
    }
}

/// Base offset and leader epoch lie outside the checksum.
fn of_epoch_0(batch: &RawBatch) -> Bytes {
    let mut out = batch.bytes.to_vec();
    let header = BatchHeader { base_offset: 0, partition_leader_epoch: 0, ..batch.header }.to_bytes();
    out[..header.len()].copy_from_slice(&header);
    out.into()
}

impl Log {
    /// Counts a batch as appended and gives its base offset and the offset behind it: offset and sequence are checked,
    /// nothing is kept.
    pub(super) fn count(&mut self, records: Bytes) -> Result<(i64, i64), validate::Refusal> {
        let header = RawBatch::parse(records).map_err(|_| (ResponseError::CorruptMessage, None))?.header;
        let len = header.next_offset() - header.base_offset;
        if header.producer_id >= 0
            && let SequenceCheck::Duplicate(range) = self.producers.check(&header).map_err(|error| (error, None))?
        {
            return Ok((range.first_offset, range.first_offset + len));
        }
        let base_offset = self.end_offset;
        if header.producer_id >= 0 {
            self.producers.record(&BatchHeader { base_offset, ..header });
        }
        self.end_offset += len;
        self.release_watermark();
        Ok((base_offset, self.end_offset))
    }
}

impl Cluster {
    /// From now on the partition's log is made up of this template, up to so many batches.
    pub fn generate(&self, topic: &str, partition: i32, template: &Template, batches: u64) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| {
            let log = &mut partition.log;
            log.end_offset = batches.cast_signed() * template.records_each;
            log.backing = Some(Arc::new(template.clone()));
            log.release_watermark();
        })
    }

    /// From now on the partition counts what is produced to it, and forgets it.
    pub fn forget(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        self.change(topic, partition, |partition| partition.log.forgets = true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::backed;
    use super::*;
    use crate::batch::{Batches, Codec, Record, Stamp, check_crc, encode};

    fn template(lens: &[usize]) -> Template {
        let record = |offset, len| {
            let value = Some(Bytes::from(vec![7; len]));
            Record { offset, timestamp: 5, attributes: 0, key: None, value, headers: Vec::new() }
        };
        let batch = |len: &usize| encode(&[record(0, *len), record(1, *len)], Codec::None, Stamp::NONE).unwrap();
        Template::new(&lens.iter().map(batch).collect::<Vec<_>>()).unwrap()
    }

    fn read(template: &Template, range: (i64, i64), max_bytes: usize, at_least_one: bool) -> Bytes {
        backed::read(template, range, max_bytes, at_least_one).unwrap()
    }

    #[test]
    fn a_made_up_log_has_valid_batches_at_the_offsets_asked_for() {
        let template = template(&[10, 300]);
        let mut walk = Batches::new(read(&template, (3, 10), 1 << 20, true));
        for (number, batch) in (1..).zip(walk.by_ref()) {
            let batch = batch.unwrap();
            check_crc(&batch).unwrap();
            let header = batch.header;
            assert_eq!((header.base_offset, header.partition_leader_epoch, header.records_count), (number * 2, 0, 2));
            assert_eq!(batch.bytes.len() > 300, number % 2 == 1);
        }
        assert!(!walk.truncated() && read(&template, (10, 10), 1 << 20, true).is_empty());
    }

    #[test]
    fn a_limit_cuts_the_last_batch_and_never_the_first() {
        let template = template(&[10]);
        let whole = read(&template, (0, 2), 1 << 20, true).len();
        assert_eq!(read(&template, (0, 10), 5, true).len(), whole);
        assert!(read(&template, (0, 10), 5, false).is_empty());
        for cut in 0..whole {
            let mut walk = Batches::new(read(&template, (0, 10), whole + cut, true));
            assert_eq!((walk.by_ref().count(), walk.truncated()), (1, cut > 0), "{cut}");
        }
    }
}
