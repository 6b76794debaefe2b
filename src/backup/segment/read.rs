//! Blocks of a segment, checked and opened.

use bytes::Bytes;

use super::build::bound_to;
use super::frame::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, TRAILER_BYTES, Trailer};
use super::index::{BlockPlace, INDEX_BYTES_MAX, Index};
use super::{SegmentError, SegmentHeader};
use crate::backup::bounds::OFFSET_MAX;
use crate::backup::seal::SegmentKey;
use crate::batch::{Batches, Codec, RawBatch, check_crc, decompress};

/// The most that a block may hold once opened: a batch of the largest size that Kafka's protocol has room for is refused by brokers
/// long before (`message.max.bytes`).
pub const BLOCK_BYTES_MAX: usize = 256 << 20;

/// Checks and opens a block that begins `bytes`; gives its header and what it holds.
///
/// # Errors
/// Cut off, damaged, sealed under another key, or larger than [`BLOCK_BYTES_MAX`].
pub fn open_block(
    segment: &SegmentHeader,
    key: Option<&SegmentKey>,
    bytes: &Bytes,
    position: u64,
) -> Result<(BlockHeader, Bytes), SegmentError> {
    let bad = |what: String| SegmentError::at(position, what);
    let (header, crc) = BlockHeader::parse(bytes, position)?;
    if header.raw_bytes as usize > BLOCK_BYTES_MAX {
        return Err(bad(format!("a block of {} bytes, more than {BLOCK_BYTES_MAX}", header.raw_bytes)));
    }
    if header.is_sealed != segment.wrapped_key.is_some() {
        // In a segment that is sealed a block that is not comes from somebody without the key.
        let what = if header.is_sealed {
            "a sealed block in a segment that is not"
        } else {
            "a block that is not sealed in a segment that is"
        };
        return Err(bad(what.to_owned()));
    }
    if header.kind == BlockKind::Index && header.raw_bytes as usize > INDEX_BYTES_MAX {
        return Err(bad(format!("an index of {} bytes, more than {INDEX_BYTES_MAX}", header.raw_bytes)));
    }
    let end = BLOCK_HEADER_BYTES + header.stored_bytes as usize;
    if bytes.len() < end {
        return Err(bad(format!("a block of {end} bytes is cut off after {}", bytes.len())));
    }
    let mut payload = bytes.slice(BLOCK_HEADER_BYTES..end);
    let front = header.front();
    if crc32c::crc32c_append(crc32c::crc32c(&front), &payload) != crc {
        return Err(bad("the block's checksum is wrong".to_owned()));
    }
    if header.is_sealed {
        let key = key.ok_or_else(|| bad("the block is sealed, and no key is at hand".to_owned()))?;
        let opened = key.open(header.number, &bound_to(&segment.of, &front), &payload);
        payload = opened.map_err(|error| bad(error.to_string()))?.into();
    }
    if header.is_zstd {
        payload =
            decompress(Codec::Zstd, &payload, header.raw_bytes as usize).map_err(|error| bad(error.to_string()))?;
    }
    if payload.len() != header.raw_bytes as usize {
        return Err(bad(format!("{} bytes where the header says {}", payload.len(), header.raw_bytes)));
    }
    Ok((header, payload))
}

/// The batches of an opened block, each with its checksum compared and where it should stand.
///
/// # Errors
/// What is in it is not what its header says.
pub fn batches_of(header: &BlockHeader, payload: Bytes, position: u64) -> Result<Vec<RawBatch>, SegmentError> {
    let bad = |what: String| SegmentError::at(position, what);
    let mut walk = Batches::new(payload);
    let mut out: Vec<RawBatch> = Vec::new();
    for batch in walk.by_ref() {
        let batch = batch.map_err(|error| bad(error.to_string()))?;
        check_crc(&batch).map_err(|error| bad(error.to_string()))?;
        let expected = out.last().map_or(header.first_offset, |last| last.header.next_offset());
        if batch.header.base_offset < expected || (out.is_empty() && batch.header.base_offset != expected) {
            return Err(bad(format!("a batch at offset {} where {expected} was due", batch.header.base_offset)));
        }
        out.push(batch);
    }
    if walk.truncated() || out.last().map(|last| last.header.next_offset()) != Some(header.next_offset) {
        return Err(bad(format!("the block ends before offset {}", header.next_offset)));
    }
    Ok(out)
}

/// The header of a segment that is in memory: from its front, or from its end where the front is damaged.
///
/// # Errors
/// Neither can be read.
pub fn header_of(bytes: &[u8]) -> Result<SegmentHeader, SegmentError> {
    SegmentHeader::parse(bytes).or_else(|error| header_at_end(bytes, bytes.len() as u64).ok_or(error))
}

/// The header that stands in front of the trailer; `tail` are the last bytes of a segment of so many.
pub fn header_at_end(tail: &[u8], segment_bytes: u64) -> Option<SegmentHeader> {
    let end = tail.len().checked_sub(TRAILER_BYTES)?;
    let trailer = Trailer::parse(&tail[end..], end as u64).ok()?;
    let begins = trailer.index_position.checked_add(u64::from(trailer.index_bytes))?;
    let begins = begins.checked_sub(segment_bytes.checked_sub(tail.len() as u64)?)?;
    let header = tail.get(usize::try_from(begins).ok()?..end)?;
    SegmentHeader::parse(header).ok().filter(|parsed| parsed.to_bytes().len() == header.len())
}

/// The index of a segment with these offsets that is in memory, where it can be read.
pub fn index_of(segment: &SegmentHeader, key: Option<&SegmentKey>, bytes: &Bytes, range: (i64, i64)) -> Option<Index> {
    let end = bytes.len().checked_sub(TRAILER_BYTES)?;
    let trailer = Trailer::parse(&bytes[end..], end as u64).ok()?;
    let position = usize::try_from(trailer.index_position).ok().filter(|position| *position < end)?;
    let (header, payload) = open_block(segment, key, &bytes.slice(position..end), position as u64).ok()?;
    let room = segment.to_bytes().len() as u64..position as u64;
    (header.kind == BlockKind::Index).then(|| Index::parse(&payload, range, room).ok()).flatten()
}

/// The blocks of batches of a segment with these offsets, found from the front by their headers, without its index.
pub fn walk(segment: &SegmentHeader, bytes: &Bytes, range: (i64, i64)) -> Index {
    index_from(places(segment, bytes), range)
}

/// The index of these blocks. What is missing between two, or behind the last, is in it as a place without bytes: it is lost, and no
/// hole that compaction has left.
pub fn index_from(places: impl IntoIterator<Item = (u32, BlockPlace)>, (from, to): (i64, i64)) -> Index {
    let mut index = Index::default();
    let (mut at, mut due) = (from, 0);
    let lost = |index: &mut Index, first_offset: i64, next_offset: i64| {
        if first_offset < next_offset {
            let max_timestamp_ms = i64::MAX;
            index.blocks.push(BlockPlace { position: 0, bytes: 0, first_offset, next_offset, max_timestamp_ms });
        }
    };
    for (number, place) in places {
        if place.first_offset < at || place.next_offset <= place.first_offset || place.next_offset > OFFSET_MAX {
            // No block of this segment, whatever its checksum says.
            continue;
        }
        if number != due {
            lost(&mut index, at, place.first_offset);
        }
        index.blocks.push(place);
        (at, due) = (place.next_offset, number.saturating_add(1));
    }
    lost(&mut index, at, to);
    index
}

/// Where whole blocks of batches are, with their numbers. What follows a damaged one is found by its length, or by looking for it.
pub fn places(segment: &SegmentHeader, bytes: &Bytes) -> Vec<(u32, BlockPlace)> {
    let mut out: Vec<(u32, BlockPlace)> = Vec::new();
    let mut position = segment.to_bytes().len();
    loop {
        let (header, len) = match block_at(bytes, position) {
            Some((header, len, true)) => (header, len),
            damaged => {
                let behind = damaged.map(|(_, len, _)| position + len);
                let behind = behind.filter(|at| block_at(bytes, *at).is_some_and(|(_, _, is_whole)| is_whole));
                let Some(next) = behind.or_else(|| next_whole(bytes, position + 1, out.last())) else { return out };
                position = next;
                continue;
            }
        };
        if header.kind == BlockKind::Index {
            return out;
        }
        let place = BlockPlace {
            position: position as u64,
            bytes: len as u32,
            first_offset: header.first_offset,
            next_offset: header.next_offset,
            max_timestamp_ms: header.max_timestamp,
        };
        out.push((header.number, place));
        position += len;
    }
}

/// The next whole block at or behind a position. Only where a header could follow these blocks the checksum is made.
fn next_whole(bytes: &Bytes, from: usize, last: Option<&(u32, BlockPlace)>) -> Option<usize> {
    let (due, at) = last.map_or((0, i64::MIN), |(number, place)| (number.saturating_add(1), place.next_offset));
    let follows = |position: &usize| {
        let header = BlockHeader::parse(&bytes[*position..], *position as u64);
        header.is_ok_and(|(header, _)| {
            let is_index = header.kind == BlockKind::Index;
            let is_next = (at..=header.next_offset).contains(&header.first_offset);
            header.number >= due && header.number - due < 1 << 20 && (is_index || is_next)
        })
    };
    let is_whole = |position: &usize| block_at(bytes, *position).is_some_and(|(_, _, is_whole)| is_whole);
    (from..bytes.len()).filter(follows).find(is_whole)
}

/// Whether a block stands there whose checksum is right: all that can be told of a sealed one without its key.
pub fn is_whole(bytes: &Bytes, position: u64) -> bool {
    let position = usize::try_from(position).unwrap_or(usize::MAX);
    block_at(bytes, position).is_some_and(|(_, _, is_whole)| is_whole)
}

/// A block, its length, and whether its checksum is right.
fn block_at(bytes: &Bytes, position: usize) -> Option<(BlockHeader, usize, bool)> {
    let rest = bytes.get(position..)?;
    let (header, crc) = BlockHeader::parse(rest, position as u64).ok()?;
    let len = BLOCK_HEADER_BYTES + header.stored_bytes as usize;
    let payload = rest.get(BLOCK_HEADER_BYTES..len)?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&header.front()), payload);
    Some((header, len, found == crc))
}
