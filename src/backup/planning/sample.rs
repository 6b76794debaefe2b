//! A look at some batches of a topic: how large records are, what zstd would make of them, how many keys there are.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;

use super::super::segment::{SegmentBuilder, SegmentOf};
use crate::batch::{RawBatch, decode};
use crate::client::{Cluster, ReadError, ReadOptions, TopicPartition, read_log};
use crate::config::Compression;

/// Partitions of a topic that are looked at, and places in each.
const PARTITIONS: usize = 4;
const PLACES: [f64; 3] = [0.1, 0.5, 0.9];
const READ_BYTES: i32 = 512 << 10;
const DECODE_LIMIT_BYTES: usize = 32 << 20;

/// What some batches have shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// Offsets that the batches reach over.
    pub(super) offsets: f64,
    /// Records in them.
    pub(super) records: u64,
    /// Bytes of them, as the source has them.
    pub(super) raw_bytes: u64,
    /// Bytes of segments of them, left as they are.
    pub(super) plain_bytes: u64,
    /// Bytes of segments of them where `compression: zstd` is set.
    pub(super) zstd_bytes: u64,
    /// Records with a key.
    pub(super) keyed: u64,
    /// Different keys.
    pub(super) keys: u64,
    /// How long it took to read them.
    pub(super) took: Duration,
}

impl Sample {
    pub(super) fn bytes_per_offset(&self) -> f64 {
        if self.offsets > 0.0 { self.raw_bytes as f64 / self.offsets } else { 0.0 }
    }

    /// Bytes in the archive for each byte of the source.
    pub(super) fn stored_share(&self, compression: Compression) -> f64 {
        let stored = match compression {
            Compression::None => self.plain_bytes,
            Compression::Zstd => self.zstd_bytes,
        };
        if self.raw_bytes > 0 { stored as f64 / self.raw_bytes as f64 } else { 1.0 }
    }

    /// Share of the records whose key came before among those that were looked at; `None` where none has a key.
    pub(super) fn update_share(&self) -> Option<f64> {
        (self.keyed > 0).then(|| (self.keyed - self.keys) as f64 / self.keyed as f64)
    }
}

/// Looks at a topic, given where its partitions begin and end.
pub(super) async fn sample(
    cluster: &Cluster,
    logs: &[(TopicPartition, (i64, i64))],
    committed: bool,
) -> Result<Sample, ReadError> {
    let filled: Vec<_> = logs.iter().filter(|(_, (start, end))| end > start).collect();
    let mut sample = Sample::default();
    for at in spread(filled.len()) {
        let (tp, (start, end)) = filled[at];
        let (mut behind, mut batches) = (*start, Vec::new());
        for place in PLACES {
            let wanted = start + ((end - start) as f64 * place) as i64;
            if wanted < behind {
                continue;
            }
            let options = ReadOptions { max_bytes: READ_BYTES, max_wait_ms: 0, committed, ..ReadOptions::default() };
            let began = Instant::now();
            let slice = match read_log(cluster, tp, wanted, options).await {
                // Retention is faster.
                Err(ReadError::OutOfRange { .. }) => continue,
                slice => slice?,
            };
            sample.took += began.elapsed();
            let some: Vec<RawBatch> =
                slice.batches.into_iter().filter(|batch| batch.header.base_offset >= behind).collect();
            if let Some((first, last)) = some.first().zip(some.last()) {
                // A hole in front of the first, of what was compacted, is as likely as one within.
                sample.offsets += (last.header.next_offset() - first.header.base_offset) as f64;
                behind = last.header.next_offset();
            }
            batches.extend(some);
        }
        take(&mut sample, tp, &batches);
    }
    Ok(sample)
}

/// Some of so many, the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(PARTITIONS);
    (0..taken).map(move |number| if taken > 1 { number * (count - 1) / (taken - 1) } else { 0 })
}

fn take(sample: &mut Sample, tp: &TopicPartition, batches: &[RawBatch]) {
    let mut keys: HashSet<Bytes> = HashSet::new();
    for batch in batches {
        sample.raw_bytes += batch.bytes.len() as u64;
        if batch.header.is_control() {
            continue;
        }
        // What cannot be read is the business of a pass, which says so.
        for record in decode(batch, DECODE_LIMIT_BYTES).unwrap_or_default() {
            sample.records += 1;
            if let Some(key) = record.key {
                sample.keyed += 1;
                keys.insert(key);
            }
        }
    }
    sample.keys += keys.len() as u64;
    sample.plain_bytes += stored(tp, batches, Compression::None);
    sample.zstd_bytes += stored(tp, batches, Compression::Zstd);
}

/// Bytes that these batches take in a segment, less what a segment itself takes.
fn stored(tp: &TopicPartition, batches: &[RawBatch], compression: Compression) -> u64 {
    let Some(first) = batches.first() else { return 0 };
    let of = SegmentOf {
        segment_id: Uuid::nil(),
        topic_id: tp.topic_id,
        partition: tp.partition,
        base_offset: first.header.base_offset,
    };
    let (mut builder, _) = SegmentBuilder::new(of, None, compression);
    let raw = || batches.iter().map(|batch| batch.bytes.len() as u64).sum::<u64>();
    for batch in batches {
        if builder.push(batch.clone()).is_err() {
            return raw();
        }
    }
    builder.finish().map_or_else(|_| raw(), |(_, built)| built.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_that_are_looked_at_are_spread() {
        let of = |count| spread(count).collect::<Vec<_>>();
        assert_eq!((of(0), of(1), of(3), of(4)), (vec![], vec![0], vec![0, 1, 2], vec![0, 1, 2, 3]));
        assert_eq!(of(100), [0, 33, 66, 99]);
    }

    #[test]
    fn a_topic_without_a_record_has_no_figures_that_are_none() {
        let none = Sample::default();
        assert_eq!(
            (none.bytes_per_offset(), none.stored_share(Compression::Zstd), none.update_share()),
            (0.0, 1.0, None)
        );
    }
}
