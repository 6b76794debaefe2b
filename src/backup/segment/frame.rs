//! The fixed parts: segment header, block header, trailer. All integers are big-endian.

use uuid::Uuid;

use super::{END_MAGIC, MAGIC, SegmentError, SegmentOf, VERSION};

/// Bytes of a segment header without a wrapped key, its checksum included.
const HEADER_BYTES: usize = 64;
/// Key id, nonce, and the data key sealed under the key of that id.
const WRAPPED_BYTES: usize = 8 + 12 + 48;
/// Bytes in front of a block's payload.
pub const BLOCK_HEADER_BYTES: usize = 44;
/// Bytes at the end of a segment.
pub const TRAILER_BYTES: usize = 24;

const FLAG_SEALED: u16 = 1;
const BLOCK_ZSTD: u8 = 1;
const BLOCK_SEALED: u8 = 2;

/// What begins a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which log it is of.
    pub of: SegmentOf,
    /// The data key, sealed; `None` where blocks are not sealed.
    pub wrapped_key: Option<[u8; WRAPPED_BYTES]>,
}

impl SegmentHeader {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let len = HEADER_BYTES + self.wrapped_key.map_or(0, |key| key.len());
        let mut out = Vec::with_capacity(len);
        out.extend(MAGIC);
        out.extend(VERSION.to_be_bytes());
        out.extend(if self.wrapped_key.is_some() { FLAG_SEALED } else { 0 }.to_be_bytes());
        out.extend((len as u32).to_be_bytes());
        out.extend(self.of.segment_id.as_bytes());
        out.extend(self.of.topic_id.as_bytes());
        out.extend(self.of.partition.to_be_bytes());
        out.extend(self.of.base_offset.to_be_bytes());
        out.extend(self.wrapped_key.iter().flatten());
        out.extend(crc32c::crc32c(&out).to_be_bytes());
        out
    }

    /// Bytes that the header takes, told by its first sixteen.
    ///
    /// # Errors
    /// They do not begin a segment of this version.
    pub fn len_of(bytes: &[u8]) -> Result<usize, SegmentError> {
        let at = Fields::new(bytes);
        if bytes.get(..8) != Some(&MAGIC[..]) {
            return Err(SegmentError::at(0, "this is no segment: it does not begin with KMIRSEG1"));
        }
        match at.u16(8) {
            Some(VERSION) => {}
            other => {
                let what = format!("format version {other:?}, and this kmirror reads {VERSION}: use a newer one");
                return Err(SegmentError::at(8, what));
            }
        }
        let expected = match at.u16(10) {
            Some(0) => HEADER_BYTES,
            Some(FLAG_SEALED) => HEADER_BYTES + WRAPPED_BYTES,
            other => return Err(SegmentError::at(10, format!("unknown flags {other:?}"))),
        };
        if at.u32(12) == Some(expected as u32) {
            Ok(expected)
        } else {
            Err(SegmentError::at(12, format!("a header of {:?} bytes where it is {expected}", at.u32(12))))
        }
    }

    /// Reads it from the front of a segment.
    ///
    /// # Errors
    /// Too short, damaged, or of a newer version.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let len = Self::len_of(bytes)?;
        let Some(bytes) = bytes.get(..len) else { return Err(SegmentError::at(0, "cut off within its header")) };
        let at = Fields::new(bytes);
        if at.u32(len - 4) != Some(crc32c::crc32c(&bytes[..len - 4])) {
            return Err(SegmentError::at(0, "the header's checksum is wrong"));
        }
        let cut = || SegmentError::at(0, "cut off within its header");
        let of = SegmentOf {
            segment_id: at.uuid(16).ok_or_else(cut)?,
            topic_id: at.uuid(32).ok_or_else(cut)?,
            partition: at.i32(48).ok_or_else(cut)?,
            base_offset: at.i64(52).ok_or_else(cut)?,
        };
        let wrapped_key = (len > HEADER_BYTES).then(|| at.array::<WRAPPED_BYTES>(60)).flatten();
        Ok(Self { of, wrapped_key })
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Record batches, whole.
    Batches,
    /// The index.
    Index,
}

/// What stands in front of a block's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Bytes of the payload as stored.
    pub stored_bytes: u32,
    /// What it holds.
    pub kind: BlockKind,
    /// Whether the payload was compressed with zstd (before it was sealed).
    pub is_zstd: bool,
    /// Whether it is sealed.
    pub is_sealed: bool,
    /// Bytes of the payload once opened.
    pub raw_bytes: u32,
    /// Its place among the blocks of the segment, from 0.
    pub number: u32,
    /// First offset of its first batch.
    pub first_offset: i64,
    /// Offset behind its last batch.
    pub next_offset: i64,
    /// Greatest timestamp of its batches, ms.
    pub max_timestamp: i64,
}

impl BlockHeader {
    /// The bytes that the checksum begins with, and that a seal is bound to.
    pub fn front(&self) -> [u8; BLOCK_HEADER_BYTES - 4] {
        let mut out = [0; BLOCK_HEADER_BYTES - 4];
        out[..4].copy_from_slice(&self.stored_bytes.to_be_bytes());
        out[4] = match self.kind {
            BlockKind::Batches => 1,
            BlockKind::Index => 2,
        };
        out[5] = if self.is_zstd { BLOCK_ZSTD } else { 0 } | if self.is_sealed { BLOCK_SEALED } else { 0 };
        out[8..12].copy_from_slice(&self.raw_bytes.to_be_bytes());
        out[12..16].copy_from_slice(&self.number.to_be_bytes());
        out[16..24].copy_from_slice(&self.first_offset.to_be_bytes());
        out[24..32].copy_from_slice(&self.next_offset.to_be_bytes());
        out[32..40].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out
    }

    /// Reads a header, and the checksum that it comes with.
    ///
    /// # Errors
    /// Too short, or fields that this version does not have. `position` is where it stands in the segment.
    pub fn parse(bytes: &[u8], position: u64) -> Result<(Self, u32), SegmentError> {
        let bad = |at: u64, what: &str| SegmentError::at(position + at, what);
        let cut = || bad(0, "cut off within a block's header");
        let at = Fields::new(bytes);
        let kind = match bytes.get(4).ok_or_else(cut)? {
            1 => BlockKind::Batches,
            2 => BlockKind::Index,
            _ => return Err(bad(4, "a block of a kind that this version does not know")),
        };
        let flags = *bytes.get(5).ok_or_else(cut)?;
        if flags & !(BLOCK_ZSTD | BLOCK_SEALED) != 0 || at.u16(6).ok_or_else(cut)? != 0 {
            return Err(bad(5, "flags that this version does not know"));
        }
        let header = Self {
            stored_bytes: at.u32(0).ok_or_else(cut)?,
            kind,
            is_zstd: flags & BLOCK_ZSTD != 0,
            is_sealed: flags & BLOCK_SEALED != 0,
            raw_bytes: at.u32(8).ok_or_else(cut)?,
            number: at.u32(12).ok_or_else(cut)?,
            first_offset: at.i64(16).ok_or_else(cut)?,
            next_offset: at.i64(24).ok_or_else(cut)?,
            max_timestamp: at.i64(32).ok_or_else(cut)?,
        };
        Ok((header, at.u32(40).ok_or_else(cut)?))
    }
}

/// What ends a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index block begins.
    pub index_position: u64,
    /// Bytes of the index block, its header included.
    pub index_bytes: u32,
}

impl Trailer {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[..8].copy_from_slice(&self.index_position.to_be_bytes());
        out[8..12].copy_from_slice(&self.index_bytes.to_be_bytes());
        let crc = crc32c::crc32c(&out[..12]);
        out[12..16].copy_from_slice(&crc.to_be_bytes());
        out[16..].copy_from_slice(&END_MAGIC);
        out
    }

    /// Reads the last bytes of a segment, of which `position` is the first.
    ///
    /// # Errors
    /// Cut off or damaged.
    pub fn parse(bytes: &[u8], position: u64) -> Result<Self, SegmentError> {
        let at = Fields::new(bytes);
        if bytes.len() != TRAILER_BYTES || bytes.get(16..) != Some(&END_MAGIC[..]) {
            return Err(SegmentError::at(
                position,
                "it does not end with KMIREND1: it was cut off or its end is damaged",
            ));
        }
        if at.u32(12) != Some(crc32c::crc32c(&bytes[..12])) {
            return Err(SegmentError::at(position, "the trailer's checksum is wrong"));
        }
        let cut = || SegmentError::at(position, "cut off within its trailer");
        Ok(Self { index_position: at.u64(0).ok_or_else(cut)?, index_bytes: at.u32(8).ok_or_else(cut)? })
    }
}

/// Integers at places of a slice; `None` behind its end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    fn i32(&self, at: usize) -> Option<i32> {
        self.array(at).map(i32::from_be_bytes)
    }

    fn i64(&self, at: usize) -> Option<i64> {
        self.array(at).map(i64::from_be_bytes)
    }

    fn uuid(&self, at: usize) -> Option<Uuid> {
        self.array(at).map(Uuid::from_bytes)
    }
}
