//! Whether one segment in one copy is what the manifest says, block by block: no more than a block of it is held. Only where something
//! is wrong the whole of it is looked at, for what is left.

use bytes::{Buf as _, Bytes, BytesMut};

use super::digest::ObjectHasher;
use super::fetch::{Segments, is_its_block};
use super::manifest::SegmentPart;
use super::seal::SegmentKey;
use super::segment::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHeader, BlockKind, BlockPlace, Index, SegmentHeader, TRAILER_BYTES,
    Trailer, batches_of, header_of, index_of, is_whole, open_block, walk,
};
use super::store::{Store, StoreError, StoreReader};

/// What is wrong with a segment, and which offsets cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) detail: String,
    pub(super) ranges: Vec<(i64, i64)>,
}

impl Bad {
    fn all(part: &SegmentPart, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ranges: vec![(part.from, part.to)] }
    }
}

/// Looks at a segment in one place.
///
/// # Errors
/// The place does not serve.
pub(super) async fn examine(segments: &Segments, store: &Store, part: &SegmentPart) -> Result<Option<Bad>, StoreError> {
    let outcome = match Walk::begin(store, part).await {
        Ok(walk) => walk.goes_as_written(segments, part).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => return Ok(None),
        Ok(false) => {}
        Err(error) => return of_object(part, error).map(Some),
    }
    match store.get(&part.object).await {
        Ok(bytes) => Ok(examine_whole(segments, part, &bytes)),
        Err(error) => of_object(part, error).map(Some),
    }
}

/// What an error says about the object, where it is not one of the place.
fn of_object(part: &SegmentPart, error: StoreError) -> Result<Bad, StoreError> {
    if error.is_missing() {
        return Ok(Bad::all(part, "it is missing"));
    }
    if error.is_of_the_place() { Err(error) } else { Ok(Bad::all(part, error.to_string())) }
}

/// A segment that is read from its front.
struct Walk {
    reader: StoreReader,
    held: BytesMut,
    digest: ObjectHasher,
    position: u64,
}

impl Walk {
    async fn begin(store: &Store, part: &SegmentPart) -> Result<Self, StoreError> {
        let reader = store.read(&part.object).await?;
        Ok(Self { reader, held: BytesMut::new(), digest: part.digest.hasher(), position: 0 })
    }

    /// The next bytes, which are gone through with that; `None` where it ends before.
    async fn take(&mut self, bytes: usize) -> Result<Option<Bytes>, StoreError> {
        if !self.see(bytes).await? {
            return Ok(None);
        }
        let taken = self.held.split_to(bytes).freeze();
        self.digest.update(&taken);
        self.position += bytes as u64;
        Ok(Some(taken))
    }

    /// Whether so many more bytes follow; they are held then.
    async fn see(&mut self, bytes: usize) -> Result<bool, StoreError> {
        while self.held.len() < bytes {
            let Some(piece) = self.reader.next().await? else { return Ok(false) };
            self.held.extend_from_slice(&piece);
        }
        Ok(true)
    }

    /// Whether all of it is as it was written, and says what the manifest says.
    async fn goes_as_written(mut self, segments: &Segments, part: &SegmentPart) -> Result<bool, StoreError> {
        if self.reader.bytes() != part.bytes {
            return Ok(false);
        }
        let Some(header) = self.header().await? else { return Ok(false) };
        if header.of.segment_id != part.segment_id {
            return Ok(false);
        }
        // Without its key what is sealed is not read, but whether it is what was written shows all the same.
        let key = match segments.key(&part.object, &header) {
            Ok(key) => key,
            Err(_) if header.wrapped_key.is_some() => None,
            Err(_) => return Ok(false),
        };
        let Some(places) = self.blocks(&header, key.as_ref()).await? else { return Ok(false) };
        let Some((position, index)) = self.next_block().await? else { return Ok(false) };
        let room = header.to_bytes().len() as u64..position;
        if !is_index(&header, key.as_ref(), &index, &places, (part, room)) {
            return Ok(false);
        }
        let header = Bytes::from(header.to_bytes());
        let trailer = Trailer { index_position: position, index_bytes: index.len() as u32 }.to_bytes();
        let is_end = self.take(header.len()).await?.is_some_and(|again| again == header)
            && self.take(TRAILER_BYTES).await?.is_some_and(|end| end[..] == trailer);
        let is_over = is_end && !self.see(1).await?;
        Ok(is_over && self.digest.finish() == part.digest)
    }

    async fn header(&mut self) -> Result<Option<SegmentHeader>, StoreError> {
        if !self.see(16).await? {
            return Ok(None);
        }
        let Ok(len) = SegmentHeader::len_of(&self.held) else { return Ok(None) };
        Ok(self.take(len).await?.and_then(|bytes| SegmentHeader::parse(&bytes).ok()))
    }

    /// Goes through all blocks of batches; `None` where one is not good.
    async fn blocks(
        &mut self,
        header: &SegmentHeader,
        key: Option<&SegmentKey>,
    ) -> Result<Option<Vec<BlockPlace>>, StoreError> {
        let mut places = Vec::new();
        loop {
            let Some((block, _)) = self.block_header().await? else { return Ok(None) };
            if block.kind == BlockKind::Index {
                return Ok(Some(places));
            }
            let Some((position, bytes)) = self.next_block().await? else { return Ok(None) };
            let place = BlockPlace {
                position,
                bytes: bytes.len() as u32,
                first_offset: block.first_offset,
                next_offset: block.next_offset,
                max_timestamp_ms: block.max_timestamp,
            };
            if block.number as usize != places.len() || !is_block_good(header, key, &bytes, (0, &place)) {
                return Ok(None);
            }
            places.push(place);
        }
    }

    async fn block_header(&mut self) -> Result<Option<(BlockHeader, usize)>, StoreError> {
        if !self.see(BLOCK_HEADER_BYTES).await? {
            return Ok(None);
        }
        let Ok((header, _)) = BlockHeader::parse(self.held.chunk(), self.position) else { return Ok(None) };
        let len = BLOCK_HEADER_BYTES + header.stored_bytes as usize;
        let is_sane = len <= BLOCK_HEADER_BYTES + BLOCK_BYTES_MAX + SegmentKey::TAG_BYTES;
        Ok(is_sane.then_some((header, len)))
    }

    /// The next block and where it begins.
    async fn next_block(&mut self) -> Result<Option<(u64, Bytes)>, StoreError> {
        let Some((_, len)) = self.block_header().await? else { return Ok(None) };
        let position = self.position;
        Ok(self.take(len).await?.map(|bytes| (position, bytes)))
    }
}

/// Whether a block is the index of these places; as far as it can be opened.
fn is_index(
    header: &SegmentHeader,
    key: Option<&SegmentKey>,
    bytes: &Bytes,
    places: &[BlockPlace],
    (part, room): (&SegmentPart, std::ops::Range<u64>),
) -> bool {
    if header.wrapped_key.is_some() && key.is_none() {
        return is_whole(bytes, 0);
    }
    let opened = open_block(header, key, bytes, room.end);
    opened.is_ok_and(|(block, payload)| {
        let index = Index::parse(&payload, (part.from, part.to), room);
        block.kind == BlockKind::Index && index.is_ok_and(|index| index.blocks == places)
    })
}

/// Whether a segment is what the manifest says; where it is not, what is wrong and which offsets cannot be read.
fn examine_whole(segments: &Segments, part: &SegmentPart, bytes: &Bytes) -> Option<Bad> {
    let is_right = bytes.len() as u64 == part.bytes && part.digest.is_of(bytes);
    let header = match header_of(bytes) {
        Ok(header) => header,
        Err(error) => return Some(Bad::all(part, error.to_string())),
    };
    if header.of.segment_id != part.segment_id {
        return Some(Bad::all(part, "another segment stands in its place"));
    }
    let key = match segments.key(&part.object, &header) {
        Ok(key) => key,
        Err(_) if header.wrapped_key.is_some() => None,
        Err(error) => return Some(Bad::all(part, error.to_string())),
    };
    let index = index_of(&header, key.as_ref(), bytes, (part.from, part.to));
    let index = index.unwrap_or_else(|| walk(&header, bytes, (part.from, part.to)));
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for place in &index.blocks {
        let from = usize::try_from(place.position).unwrap_or(usize::MAX).min(bytes.len());
        if is_block_good(&header, key.as_ref(), &bytes.slice(from..), (place.position, place)) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.1 == place.first_offset => last.1 = place.next_offset,
            _ => ranges.push((place.first_offset, place.next_offset)),
        }
    }
    if is_right && ranges.is_empty() {
        return None;
    }
    let detail = if bytes.len() as u64 != part.bytes {
        format!("it has {} bytes, and {} are expected", bytes.len(), part.bytes)
    } else if is_right {
        "it is as it was written, and cannot be read".to_owned()
    } else {
        "its digest is not the manifest's".to_owned()
    };
    Some(Bad { detail, ranges })
}

/// `bytes` begin with the block.
fn is_block_good(
    header: &SegmentHeader,
    key: Option<&SegmentKey>,
    bytes: &Bytes,
    (position, place): (u64, &BlockPlace),
) -> bool {
    if place.bytes == 0 {
        return false;
    }
    if header.wrapped_key.is_some() && key.is_none() {
        return is_whole(bytes, 0);
    }
    let opened = open_block(header, key, bytes, position);
    opened.is_ok_and(|(block, payload)| is_its_block(&block, place) && batches_of(&block, payload, position).is_ok())
}
