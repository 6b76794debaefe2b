//! A segment: batches of one topic-partition in one object. The format is specified in `docs/archive-format.md`.
//!
//! Batches are stored byte for byte as the source's broker had them, in *blocks* of whole batches. A block is the unit of
//! checksum, compression and sealing, and so the least that is lost when bytes are damaged. The index and the trailer only save
//! reading: whoever has neither walks from block to block. The header stands at both ends.

mod build;
mod frame;
mod index;
mod read;
#[cfg(test)]
mod tests;

pub use build::{BuildError, Built, SegmentBuilder};
pub use frame::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, SegmentHeader, TRAILER_BYTES, Trailer};
pub use index::{BlockPlace, INDEX_BYTES_MAX, Index};
pub use read::{
    BLOCK_BYTES_MAX, batches_of, header_at_end, header_of, index_from, index_of, is_whole, open_block, places, walk,
};

use uuid::Uuid;

/// What begins a segment.
pub const MAGIC: [u8; 8] = *b"KMIRSEG1";
/// What ends it.
pub const END_MAGIC: [u8; 8] = *b"KMIREND1";
/// Version of the format.
pub const VERSION: u16 = 1;
/// A block is closed when it holds this much.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Which log a segment is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOf {
    /// Id of the segment; sealed blocks are bound to it.
    pub segment_id: Uuid,
    /// Topic id on the source.
    pub topic_id: Uuid,
    /// Partition.
    pub partition: i32,
    /// First offset that it was to hold.
    pub base_offset: i64,
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {what}")]
pub struct SegmentError {
    /// Where, from the segment's first byte.
    pub position: u64,
    /// What.
    pub what: String,
}

impl SegmentError {
    pub(crate) fn at(position: u64, what: impl Into<String>) -> Self {
        Self { position, what: what.into() }
    }
}
