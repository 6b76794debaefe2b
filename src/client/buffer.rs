//! Where a response is read into.
//!
//! Large ones go to memory of their own, mapped for them alone. From the allocator they would come off the heap of the thread
//! that reads and go back to it from another: with sixteen mirrors, each on its thread, such heaps held 240 MB for a budget of
//! 32 MiB (90 MB with maps), and none of that could be seen from here.

use memmap2::MmapMut;

/// Smaller ones are the allocator's: a map costs a call, and a fault a page.
const MAPPED_BYTES_MIN: usize = 64 << 10;
/// Maps are multiples of this, so that one that was made for an answer fits the next.
const STEP_BYTES: usize = 64 << 10;
/// Taken from the allocator at once on a broker's word; a longer response grows as its bytes really arrive.
const TRUSTED_BYTES: usize = 16 << 20;

/// Memory for one response.
#[derive(Debug)]
pub enum Buffer {
    /// Of the allocator; grows to what is read.
    Heap(Vec<u8>),
    /// Mapped. Pages that nothing was read into yet take no memory.
    Mapped(MmapMut),
}

impl Buffer {
    /// Of the allocator, for so many bytes.
    pub fn heap(bytes: usize) -> Self {
        Self::Heap(Vec::with_capacity(bytes.min(TRUSTED_BYTES)))
    }

    /// For so many bytes: mapped where that pays, and where the system lets us.
    pub fn new(bytes: usize) -> Self {
        if bytes < MAPPED_BYTES_MIN {
            return Self::heap(bytes);
        }
        MmapMut::map_anon(bytes.next_multiple_of(STEP_BYTES)).map_or_else(|_| Self::heap(bytes), Self::Mapped)
    }

    /// Bytes of memory that it may come to take.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Mapped(map) => map.len(),
        }
    }

    /// Whether it is worth keeping for a response of so many bytes, and large enough.
    pub fn fits(&self, bytes: usize) -> bool {
        let Self::Mapped(map) = self else { return false };
        (bytes..=bytes.saturating_add(bytes / 4).saturating_add(STEP_BYTES)).contains(&map.len())
    }
}
