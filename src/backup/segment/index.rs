//! The index of a segment: where which offsets stand.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::frame::BLOCK_HEADER_BYTES;

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

/// The most that an index takes; that of a segment of 64 MiB has some kilobytes.
pub const INDEX_BYTES_MAX: usize = 64 << 20;

impl Index {
    /// From its JSON, held against the segment that it is of: which offsets it has, and where its blocks stand, one behind the other
    /// in `room`. Whoever reads on counts on it, and a block that is left out would pass for what compaction has removed.
    ///
    /// # Errors
    /// No index, or one of another segment.
    pub fn parse(text: &[u8], (from, to): (i64, i64), room: Range<u64>) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let (mut at, mut position) = (from, room.start);
        for (number, block) in index.blocks.iter().enumerate() {
            if block.position != position || (block.bytes as usize) < BLOCK_HEADER_BYTES {
                let (found, bytes) = (block.position, block.bytes);
                return Err(format!(
                    "blocks[{number}]: {bytes} bytes from {found} on, and it should begin at {position}"
                ));
            }
            let is_behind = if number == 0 { block.first_offset == at } else { block.first_offset >= at };
            if !is_behind || block.next_offset <= block.first_offset || block.next_offset > to {
                let (first, next) = (block.first_offset, block.next_offset);
                return Err(format!(
                    "blocks[{number}]: offsets [{first}, {next}) do not follow {at} within [{from}, {to})"
                ));
            }
            (at, position) = (block.next_offset, position.saturating_add(u64::from(block.bytes)));
        }
        if (at, position) != (to, room.end) {
            return Err(format!("it ends with offset {at} at byte {position}, and should with {to} at {}", room.end));
        }
        Ok(index)
    }

    /// Number of the block with this offset, or of the first behind it.
    pub fn block_at(&self, offset: i64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.next_offset <= offset);
        (at < self.blocks.len()).then_some(at)
    }
}
