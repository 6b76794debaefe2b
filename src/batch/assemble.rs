//! Batches put together from records of others, record by record and without loss: key, value and headers are carried
//! over byte for byte and unopened; timestamps are those that a reader of the source sees.

use bytes::{Bytes, BytesMut};

use super::codec;
use super::crc;
use super::header::{ATTR_CODEC_MASK, BatchError, BatchHeader, RawBatch};
use super::record::{Slice, codec_error, count_of, length_of, put_record, slices};

/// A batch put together anew from records of another.
#[derive(Debug, Clone)]
pub struct Reencoded {
    /// Header, not stamped yet; its checksum belongs to the payload below.
    pub header: BatchHeader,
    /// Records section, compressed as the original was.
    pub payload: Bytes,
    /// Source offset and count of each run of consecutive records, in order. Empty where nothing was left.
    pub runs: Vec<(i64, u32)>,
}

/// Several batches as one.
#[derive(Debug, Clone)]
pub struct Coalesced {
    /// Header, not stamped yet; its checksum belongs to the payload below.
    pub header: BatchHeader,
    /// Records section, compressed as the originals were.
    pub payload: Bytes,
    /// How many of the batches it holds, from the first on. Behind them stands one that cannot be joined to the others.
    pub used: usize,
}

/// Puts the records from offset `from` on into a batch without holes, under the producer's own kind of timestamps.
///
/// The codec stays. Offsets in the new batch count from 0.
pub fn reencode(batch: &RawBatch, from: i64, limit_bytes: usize) -> Result<Reencoded, BatchError> {
    let mut kept = slices(&batch.header, &batch.payload(), limit_bytes)?;
    kept.retain(|slice| slice.offset >= from);
    let (header, payload) = assemble(&batch.header, &kept)?;
    Ok(Reencoded { header, payload, runs: runs(&kept) })
}

/// Joins batches without holes, given as header and records section, into one: what a broker makes one append of instead
/// of many. The same batches give the same bytes. All have the first one's codec, which stays.
///
/// A batch is left out, with all behind it, where its checksum or its records do not fit its header (it must travel as it
/// is, for the target to say so), or where the records would unfold to more than `limit_bytes`. An error is about the very
/// first.
pub fn coalesce<'a>(
    batches: impl IntoIterator<Item = (&'a BatchHeader, &'a Bytes)>,
    limit_bytes: usize,
) -> Result<Coalesced, BatchError> {
    let mut first = None;
    let mut kept = Vec::new();
    let mut used = 0;
    let mut room_bytes = limit_bytes;
    for (header, payload) in batches {
        match slices(header, payload, room_bytes) {
            Ok(more) => {
                room_bytes = room_bytes.saturating_sub(section_len(&more));
                kept.extend(more);
            }
            Err(error) if used == 0 => return Err(error),
            Err(_) => break,
        }
        first.get_or_insert(*header);
        used += 1;
    }
    let nothing = BatchError::Malformed { offset: 0, what: "no batches to coalesce".to_owned() };
    let (header, payload) = assemble(&first.ok_or(nothing)?, &kept)?;
    Ok(Coalesced { header, payload, used })
}

/// Records as one batch after the model of `like`: its codec and, until it is stamped, its producer.
fn assemble(like: &BatchHeader, kept: &[Slice]) -> Result<(BatchHeader, Bytes), BatchError> {
    let base_timestamp = kept.first().map_or(-1, |slice| slice.timestamp);
    let max_timestamp = kept.iter().map(|slice| slice.timestamp).max().unwrap_or(-1);
    let count = count_of(like, kept.len())?;
    let mut section = BytesMut::with_capacity(section_len(kept));
    for (delta, slice) in (0i64..).zip(kept) {
        put_record(&mut section, slice.attributes, slice.timestamp.wrapping_sub(base_timestamp), delta, &slice.tail);
    }
    let codec = like.codec()?;
    let payload = codec::compress(codec, &section.freeze()).map_err(|error| codec_error(like, codec, error))?;
    let mut header = BatchHeader {
        base_offset: 0,
        batch_length: length_of(like, payload.len())?,
        attributes: like.attributes & ATTR_CODEC_MASK,
        last_offset_delta: (count - 1).max(0),
        base_timestamp,
        max_timestamp,
        records_count: count,
        ..*like
    };
    header.crc = crc::over(&header, &payload);
    Ok((header, payload))
}

/// What the length, the attributes and the two deltas of most records take, bytes.
const RECORD_HEAD_LEN: usize = 8;

fn section_len(kept: &[Slice]) -> usize {
    kept.iter().map(|slice| slice.tail.len() + RECORD_HEAD_LEN).sum()
}

fn runs(kept: &[Slice]) -> Vec<(i64, u32)> {
    let mut runs: Vec<(i64, u32)> = Vec::new();
    for slice in kept {
        match runs.last_mut() {
            Some((start, count)) if *start + i64::from(*count) == slice.offset => *count += 1,
            _ => runs.push((slice.offset, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
