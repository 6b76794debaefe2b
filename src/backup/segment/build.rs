//! Batches to a segment, block by block: no more than one block is held.

use bytes::Bytes;

use super::frame::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, SegmentHeader, Trailer};
use super::index::{BlockPlace, Index};
use super::{BLOCK_BYTES, SegmentOf};
use crate::backup::digest::{ObjectDigest, ObjectHasher};
use crate::backup::seal::{SealError, SegmentKey, WrappedKey};
use crate::batch::{Codec, CodecError, RawBatch, append_batch_crc, compress};
use crate::config::Compression;

/// Why a block could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// zstd.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Sealing.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What a segment holds, once it is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Bytes of the object.
    pub bytes: u64,
    /// Of the object.
    pub digest: ObjectDigest,
    /// First offset of its first batch.
    pub first_offset: i64,
    /// Offset behind its last batch.
    pub next_offset: i64,
    /// Batches.
    pub batches: u64,
    /// Records, those of control batches and aborted transactions included.
    pub records: u64,
    /// Bytes of the batches as the source has them.
    pub raw_bytes: u64,
    /// Least base timestamp of its batches, ms.
    pub min_timestamp_ms: i64,
    /// Greatest timestamp, ms.
    pub max_timestamp_ms: i64,
}

/// What goes into a block.
enum Content {
    Batches(Vec<RawBatch>),
    Index(Bytes),
}

impl Content {
    fn kind(&self) -> BlockKind {
        match self {
            Self::Batches(_) => BlockKind::Batches,
            Self::Index(_) => BlockKind::Index,
        }
    }

    fn parts(&self) -> Vec<Bytes> {
        match self {
            Self::Batches(batches) => batches.iter().map(|batch| batch.bytes.clone()).collect(),
            Self::Index(text) => vec![text.clone()],
        }
    }

    /// The checksum behind all of it. Batches have brought theirs, so nothing is read once more.
    fn append_crc(&self, crc: u32) -> u32 {
        match self {
            Self::Batches(batches) => batches.iter().fold(crc, append_batch_crc),
            Self::Index(text) => crc32c::crc32c_append(crc, text),
        }
    }
}

/// Takes batches and gives the bytes of a segment.
#[derive(Debug)]
pub struct SegmentBuilder {
    of: SegmentOf,
    header: Bytes,
    key: Option<SegmentKey>,
    compression: Compression,
    block_bytes: usize,
    digest: ObjectHasher,
    open: Vec<RawBatch>,
    open_bytes: usize,
    index: Index,
    built: Built,
}

impl SegmentBuilder {
    /// An empty segment, and the bytes that it begins with.
    pub fn new(of: SegmentOf, key: Option<(SegmentKey, WrappedKey)>, compression: Compression) -> (Self, Bytes) {
        let wrapped_key = key.as_ref().map(|(_, wrapped)| wrapped.to_bytes());
        let header: Bytes = SegmentHeader { of, wrapped_key }.to_bytes().into();
        let built = Built {
            bytes: 0,
            digest: ObjectDigest::Blake3(String::new()),
            first_offset: of.base_offset,
            next_offset: of.base_offset,
            batches: 0,
            records: 0,
            raw_bytes: 0,
            min_timestamp_ms: i64::MAX,
            max_timestamp_ms: -1,
        };
        let mut this = Self {
            of,
            header: header.clone(),
            key: key.map(|(key, _)| key),
            compression,
            block_bytes: BLOCK_BYTES,
            digest: ObjectHasher::blake3(),
            open: Vec::new(),
            open_bytes: 0,
            index: Index::default(),
            built,
        };
        this.count(&header);
        (this, header)
    }

    /// Closes blocks when they hold this much, not [`BLOCK_BYTES`]: a reader takes any size.
    pub fn with_block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Bytes given out so far.
    pub fn bytes(&self) -> u64 {
        self.built.bytes
    }

    /// Takes the next batch, whose checksum was found right; gives the bytes of the block that it completes, if it does.
    pub fn push(&mut self, batch: RawBatch) -> Result<Vec<Bytes>, BuildError> {
        let header = batch.header;
        if self.built.batches == 0 {
            self.built.first_offset = header.base_offset;
        }
        self.built.next_offset = header.next_offset();
        self.built.batches += 1;
        self.built.records += u64::from(header.records_count.unsigned_abs());
        self.built.raw_bytes += batch.bytes.len() as u64;
        self.built.min_timestamp_ms = self.built.min_timestamp_ms.min(header.base_timestamp);
        self.built.max_timestamp_ms = self.built.max_timestamp_ms.max(header.max_timestamp);
        self.open_bytes += batch.bytes.len();
        self.open.push(batch);
        if self.open_bytes < self.block_bytes { Ok(Vec::new()) } else { self.close_block() }
    }

    /// The rest of the bytes, and what they hold.
    pub fn finish(mut self) -> Result<(Vec<Bytes>, Built), BuildError> {
        let mut out = self.close_block()?;
        let position = self.built.bytes;
        let text: Bytes = serde_json::to_vec(&self.index).unwrap_or_default().into();
        let range = (self.built.first_offset, self.built.next_offset);
        let block = self.block(&Content::Index(text), range, self.built.max_timestamp_ms, true)?;
        let trailer = Trailer { index_position: position, index_bytes: len_of(&block) as u32 };
        out.extend(block);
        // Once more: without it nothing sealed could be opened, and it takes one wrong bit at the front.
        let header = self.header.clone();
        self.count(&header);
        out.push(header);
        let trailer = Bytes::copy_from_slice(&trailer.to_bytes());
        self.count(&trailer);
        out.push(trailer);
        self.built.digest = self.digest.finish();
        Ok((out, self.built))
    }

    fn close_block(&mut self) -> Result<Vec<Bytes>, BuildError> {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else { return Ok(Vec::new()) };
        let range = (first.header.base_offset, last.header.next_offset());
        let max_timestamp = self.open.iter().map(|batch| batch.header.max_timestamp).max().unwrap_or(-1);
        let is_plain = |batch: &&RawBatch| batch.header.codec().is_ok_and(|codec| codec == Codec::None);
        let plain_bytes: usize = self.open.iter().filter(is_plain).map(|batch| batch.bytes.len()).sum();
        let pays = self.compression == Compression::Zstd && plain_bytes * 2 > self.open_bytes;
        let batches = std::mem::take(&mut self.open);
        self.open_bytes = 0;
        let position = self.built.bytes;
        let block = self.block(&Content::Batches(batches), range, max_timestamp, pays)?;
        self.index.blocks.push(BlockPlace {
            position,
            bytes: len_of(&block) as u32,
            first_offset: range.0,
            next_offset: range.1,
            max_timestamp_ms: max_timestamp,
        });
        Ok(block)
    }

    /// Header and payload. Payload that is neither compressed nor sealed is not copied.
    fn block(
        &mut self,
        content: &Content,
        (first_offset, next_offset): (i64, i64),
        max_timestamp: i64,
        compressed: bool,
    ) -> Result<Vec<Bytes>, BuildError> {
        let parts = content.parts();
        let raw_bytes = len_of(&parts) as u32;
        let packed = if compressed { Some(compress(Codec::Zstd, &joined(&parts))?) } else { None };
        let packed = packed.filter(|packed| packed.len() < raw_bytes as usize);
        let number = self.index.blocks.len() as u32;
        let (is_zstd, is_sealed) = (packed.is_some(), self.key.is_some());
        let stored = packed.as_ref().map_or(raw_bytes as usize, Bytes::len);
        let header = BlockHeader {
            stored_bytes: (stored + if is_sealed { SegmentKey::TAG_BYTES } else { 0 }) as u32,
            kind: content.kind(),
            is_zstd,
            is_sealed,
            raw_bytes,
            number,
            first_offset,
            next_offset,
            max_timestamp,
        };
        let front = header.front();
        let changed = match (&self.key, packed) {
            (None, packed) => packed,
            (Some(key), packed) => {
                let plain = packed.unwrap_or_else(|| joined(&parts));
                Some(key.seal(number, &bound_to(&self.of, &front), &plain)?.into())
            }
        };
        let crc = crc32c::crc32c(&front);
        let (crc, payload) = match changed {
            Some(changed) => (crc32c::crc32c_append(crc, &changed), vec![changed]),
            None => (content.append_crc(crc), parts),
        };
        let mut start = Vec::with_capacity(BLOCK_HEADER_BYTES);
        start.extend(front);
        start.extend(crc.to_be_bytes());
        let mut out = vec![Bytes::from(start)];
        out.extend(payload);
        out.iter().for_each(|part| self.count(part));
        Ok(out)
    }

    fn count(&mut self, bytes: &Bytes) {
        self.digest.update(bytes);
        self.built.bytes += bytes.len() as u64;
    }
}

/// What a sealed block is bound to: its own header, and the segment it stands in.
pub(super) fn bound_to(of: &SegmentOf, front: &[u8]) -> Vec<u8> {
    [front, of.segment_id.as_bytes()].concat()
}

fn len_of(parts: &[Bytes]) -> usize {
    parts.iter().map(Bytes::len).sum()
}

fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        _ => parts.concat().into(),
    }
}
