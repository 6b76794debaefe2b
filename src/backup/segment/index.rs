//! The index of a segment: where which offsets stand.

use serde::{Deserialize, Serialize};

/// A block, as the index names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockPlace {
    /// Where its header begins.
    pub position: u64,
    /// Bytes, header included.
    pub bytes: u32,
    /// First offset of its first batch.
    pub first_offset: i64,
    /// Offset behind its last batch.
    pub next_offset: i64,
    /// Greatest timestamp of its batches, ms.
    pub max_timestamp_ms: i64,
}

/// All blocks of batches, in order; stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The blocks.
    pub blocks: Vec<BlockPlace>,
}

impl Index {
    /// Number of the block with this offset, or of the first behind it.
    pub fn block_at(&self, offset: i64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.next_offset <= offset);
        (at < self.blocks.len()).then_some(at)
    }
}
