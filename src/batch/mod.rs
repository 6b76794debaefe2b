//! Record batches, magic 2 (KIP-98): the header as a view, the rewrite that lets a batch pass unopened, checksums by
//! arithmetic, decoding and lossless re-encoding for the few batches that cannot pass, and the codecs.
//!
//! Pure: knows no socket, file, clock or random source. Format: Kafka's `DefaultRecordBatch`, `DefaultRecord`.

mod assemble;
mod codec;
mod crc;
#[cfg(test)]
pub(crate) mod goldens;
mod header;
mod record;
mod rewrite;
pub(crate) mod varint;

pub use assemble::{Coalesced, Reencoded, coalesce, reencode};
pub use codec::{CodecError, compress, decompress};
pub use crc::{append_batch as append_batch_crc, check as check_crc, check_parts as check_crc_of, payload_crc};
pub use header::{
    ATTR_CODEC_MASK, ATTR_CONTROL, ATTR_DELETE_HORIZON, ATTR_LOG_APPEND_TIME, ATTR_TRANSACTIONAL, BatchError,
    BatchHeader, Batches, Codec, HEADER_LEN, LOG_OVERHEAD, RawBatch,
};
pub use record::{ControlType, Record, control_type, decode, encode, encode_values};
pub use rewrite::{
    Passage, ReencodeReason, Stamp, passage, rewrite, rewritten, sequence_add, sequence_difference, stated_crc, under,
};
