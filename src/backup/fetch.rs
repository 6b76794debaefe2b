//! Segments of an archive, read block by block.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::BackupError;
use super::copies::Copies;
use super::manifest::SegmentPart;
use super::seal::{Keyring, SegmentKey, WrappedKey};
use super::segment::{
    BLOCK_HEADER_BYTES, BlockHeader, BlockKind, BlockPlace, INDEX_BYTES_MAX, Index, SegmentError, SegmentHeader,
    TRAILER_BYTES, Trailer, batches_of, header_at_end, header_of, index_from, open_block, places,
};
use super::store::{Store, StoreError};
use crate::batch::{RawBatch, Record, decode};

/// Caps what one compressed batch may unfold to.
pub(super) const DECODE_LIMIT_BYTES: usize = 256 << 20;
/// Most that a segment's header takes.
const HEADER_BYTES_MAX: u64 = 256;

/// Reads segments.
#[derive(Debug, Clone)]
pub struct Segments {
    copies: Copies,
    keyring: Option<Arc<Keyring>>,
}

/// A segment whose header and index are known.
#[derive(Debug)]
pub struct Opened {
    part: SegmentPart,
    header: SegmentHeader,
    key: Option<SegmentKey>,
    /// Where its blocks are.
    pub index: Index,
}

impl Segments {
    /// Of an archive in these places.
    pub fn new(copies: Copies, keyring: Option<Arc<Keyring>>) -> Self {
        Self { copies, keyring }
    }

    /// Where the archive lies.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    fn damaged(part: &SegmentPart, error: &SegmentError) -> BackupError {
        BackupError::DamagedSegment {
            object: part.object.clone(),
            from: part.from,
            to: part.to,
            detail: error.to_string(),
        }
    }

    /// The key of a segment, where it is sealed.
    pub fn key(&self, object: &str, header: &SegmentHeader) -> Result<Option<SegmentKey>, BackupError> {
        let Some(wrapped) = &header.wrapped_key else {
            return match &self.keyring {
                Some(ring) if !ring.takes_unsealed() => Err(BackupError::Unsealed { object: object.to_owned() }),
                _ => Ok(None),
            };
        };
        let Some(keyring) = &self.keyring else {
            let key_id = WrappedKey::from_bytes(wrapped).key_id_hex();
            return Err(BackupError::NoKey { object: object.to_owned(), key_id });
        };
        let opened = keyring.open_segment(header.of.segment_id, &WrappedKey::from_bytes(wrapped));
        opened.map(Some).map_err(|source| BackupError::Sealed { object: object.to_owned(), source })
    }

    /// Whether a segment is sealed, by the first copy that tells.
    pub async fn is_sealed(&self, part: &SegmentPart) -> Result<bool, BackupError> {
        let mut last = None;
        for store in self.copies.in_turn() {
            match self.header(store, part).await {
                Ok(header) => return Ok(header.wrapped_key.is_some()),
                Err(error) => last = Some(self.other(error, last)),
            }
        }
        Err(last.unwrap_or(BackupError::Store(StoreError::NoCopy)))
    }

    /// Reads header and index of a segment, from the first copy that has them whole; where none has, the blocks that are left are looked
    /// for in all of them.
    pub async fn open(&self, part: &SegmentPart) -> Result<Opened, BackupError> {
        let mut last = None;
        for store in self.copies.in_turn() {
            match self.open_in(store, part).await {
                Ok(opened) => return Ok(opened),
                Err(error) if error.is_of_this_copy() => last = Some(self.other(error, last)),
                Err(error) => return Err(error),
            }
        }
        let none = || Self::damaged(part, &SegmentError::at(0, "there is no copy to read it from"));
        self.salvage(part).await?.ok_or_else(|| last.unwrap_or_else(none))
    }

    async fn open_in(&self, store: &Store, part: &SegmentPart) -> Result<Opened, BackupError> {
        let header = self.header(store, part).await?;
        let key = self.key(&part.object, &header)?;
        let index = self.index(store, part, &header, key.as_ref()).await?;
        Ok(Opened { part: part.clone(), header, key, index })
    }

    /// Blocks stand at the same place in every copy: whichever has one whole, it counts.
    async fn salvage(&self, part: &SegmentPart) -> Result<Option<Opened>, BackupError> {
        let (mut found, mut blocks) = (None, BTreeMap::new());
        for store in self.copies.in_turn() {
            let Ok(bytes) = store.get(&part.object).await else { continue };
            let Ok(header) = header_of(&bytes) else { continue };
            if header.of.segment_id == part.segment_id && header.of.base_offset == part.from {
                blocks.extend(places(&header, &bytes));
                found = Some(header);
            }
        }
        let Some(header) = found else { return Ok(None) };
        let key = self.key(&part.object, &header)?;
        let index = index_from(blocks, (part.from, part.to));
        Ok(Some(Opened { part: part.clone(), header, key, index }))
    }

    /// From the front, or from the end where the front is damaged.
    async fn header(&self, store: &Store, part: &SegmentPart) -> Result<SegmentHeader, BackupError> {
        let front = store.get_range(&part.object, 0..HEADER_BYTES_MAX.min(part.bytes)).await?;
        let error = match SegmentHeader::parse(&front) {
            Ok(header) => return Self::its_own(part, header),
            Err(error) => Self::damaged(part, &error),
        };
        let begins = part.bytes.saturating_sub(HEADER_BYTES_MAX + TRAILER_BYTES as u64);
        let tail = store.get_range(&part.object, begins..part.bytes).await;
        let header = tail.ok().and_then(|tail| header_at_end(&tail, part.bytes)).ok_or(error)?;
        Self::its_own(part, header)
    }

    fn its_own(part: &SegmentPart, header: SegmentHeader) -> Result<SegmentHeader, BackupError> {
        if header.of.segment_id == part.segment_id {
            return Ok(header);
        }
        Err(Self::damaged(part, &SegmentError::at(16, "another segment stands here")))
    }

    /// Every copy failed: the first error is the one to tell, the others are in the log.
    fn other(&self, error: BackupError, first: Option<BackupError>) -> BackupError {
        // That a place is away is said once, by the store.
        if !matches!(&error, BackupError::Store(error) if error.is_of_the_place()) {
            tracing::warn!(%error, copies = self.copies.stores().len(), "trying another copy, if there is one");
        }
        first.unwrap_or(error)
    }

    async fn index(
        &self,
        store: &Store,
        part: &SegmentPart,
        header: &SegmentHeader,
        key: Option<&SegmentKey>,
    ) -> Result<Index, BackupError> {
        let damaged = |error: SegmentError| Self::damaged(part, &error);
        let end = part.bytes.saturating_sub(TRAILER_BYTES as u64);
        let trailer = store.get_range(&part.object, end..part.bytes).await?;
        let trailer = Trailer::parse(&trailer, end).map_err(damaged)?;
        let begins = trailer.index_position;
        let index_end = begins + u64::from(trailer.index_bytes);
        if index_end > end
            || trailer.index_bytes as usize > BLOCK_HEADER_BYTES + INDEX_BYTES_MAX + SegmentKey::TAG_BYTES
        {
            return Err(damaged(SegmentError::at(end, "the trailer points elsewhere than to the index")));
        }
        let block = store.get_range(&part.object, begins..index_end).await?;
        let room = header.to_bytes().len() as u64..begins;
        let (header, payload) = open_block(header, key, &block, begins).map_err(damaged)?;
        if header.kind != BlockKind::Index {
            return Err(damaged(SegmentError::at(begins, "no index where it should be")));
        }
        Index::parse(&payload, (part.from, part.to), room)
            .map_err(|error| damaged(SegmentError::at(begins, format!("the index: {error}"))))
    }

    /// The batches of a block, from the first copy that has it whole.
    pub async fn batches(&self, segment: &Opened, number: usize) -> Result<Vec<RawBatch>, BackupError> {
        let Some(place) = segment.index.blocks.get(number) else { return Ok(Vec::new()) };
        let range = place.position..place.position + u64::from(place.bytes);
        let mut last = None;
        for store in self.copies.in_turn() {
            let read = match place.bytes {
                0 => Ok(Bytes::new()),
                _ => store.get_range(&segment.part.object, range.clone()).await.map_err(BackupError::from),
            };
            match read.and_then(|bytes| segment.open_block(&bytes, place)) {
                Ok(batches) => return Ok(batches),
                Err(error) if error.is_of_this_copy() => last = Some(self.other(error, last)),
                Err(error) => return Err(error),
            }
        }
        last.map_or(Ok(Vec::new()), Err)
    }
}

impl Opened {
    /// Its object.
    pub fn object(&self) -> &str {
        &self.part.object
    }

    /// The batches of a block that was read.
    fn open_block(&self, bytes: &Bytes, place: &BlockPlace) -> Result<Vec<RawBatch>, BackupError> {
        if place.bytes == 0 {
            return Err(self.damaged(place, "no whole block holds them".to_owned()));
        }
        let opened =
            open_block(&self.header, self.key.as_ref(), bytes, place.position).and_then(|(header, payload)| {
                if !is_its_block(&header, place) {
                    return Err(SegmentError::at(place.position, "this is not the block that should be here"));
                }
                batches_of(&header, payload, place.position)
            });
        opened.map_err(|error| self.damaged(place, error.to_string()))
    }

    fn damaged(&self, place: &BlockPlace, detail: String) -> BackupError {
        let object = self.part.object.clone();
        BackupError::DamagedSegment { object, from: place.first_offset, to: place.next_offset, detail }
    }
}

/// The records of a batch; `place` says where it stands if they cannot be read.
pub(super) fn records_of(place: &str, batch: &RawBatch) -> Result<Vec<Record>, BackupError> {
    decode(batch, DECODE_LIMIT_BYTES).map_err(|error| BackupError::DamagedSegment {
        object: place.to_owned(),
        from: batch.header.base_offset,
        to: batch.header.next_offset(),
        detail: error.to_string(),
    })
}

/// Whether a block is the one that an index says.
pub(super) fn is_its_block(header: &BlockHeader, place: &BlockPlace) -> bool {
    header.kind == BlockKind::Batches
        && (header.first_offset, header.next_offset) == (place.first_offset, place.next_offset)
}
