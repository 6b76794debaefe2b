//! The four codecs of the records section, as Kafka's clients write and read them.
//!
//! Reading accepts what any Kafka client writes; writing stays inside what the Java client reads. Sizes on the wire are
//! hints only: no buffer grows past the caller's limit, nor ahead of what the input can hold.

use std::io::{Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use zstd::zstd_safe;

use super::header::Codec;

/// Xerial's framing of snappy blocks: this magic, then version and lowest compatible version as big-endian `i32`.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_VERSION: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of input per snappy block: `SnappyOutputStream`'s default.
const XERIAL_BLOCK_LEN: usize = 32 * 1024;
/// A snappy copy turns three bytes into 64 at most: no block decompresses to more than this times its length.
const SNAPPY_MAX_RATIO: usize = 22;
/// LZ4 frame magic (LZ4 Frame Format 1.6), little-endian.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Smallest output buffer tried for zstd.
const ZSTD_FIRST_LEN: usize = 64 * 1024;
/// Kafka's default level for zstd (KIP-390).
const ZSTD_LEVEL: i32 = 3;

/// Why a records section could not be decompressed or compressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The output would pass the limit.
    #[error("more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was passed.
        limit_bytes: usize,
    },
    /// The input is not what the codec writes.
    #[error("{0}")]
    Bad(String),
}

fn bad(error: impl std::fmt::Display) -> CodecError {
    CodecError::Bad(error.to_string())
}

/// Decompresses a records section to at most `limit_bytes` bytes. Uncompressed input is handed back as it is, without
/// a copy, if it is within the limit.
pub fn decompress(codec: Codec, payload: &Bytes, limit_bytes: usize) -> Result<Bytes, CodecError> {
    let out = match codec {
        Codec::None if payload.len() > limit_bytes => return Err(CodecError::TooLarge { limit_bytes }),
        Codec::None => return Ok(payload.clone()),
        Codec::Gzip => gunzip(payload, limit_bytes)?,
        Codec::Snappy => unsnappy(payload, limit_bytes)?,
        Codec::Lz4 => unlz4(payload, limit_bytes)?,
        Codec::Zstd => unzstd(payload, limit_bytes)?,
    };
    Ok(out.into())
}

/// Compresses a records section the way Java's clients and brokers read it. The same input gives the same output; without
/// a codec it is handed back as it is.
pub fn compress(codec: Codec, records: &Bytes) -> Result<Bytes, CodecError> {
    let out = match codec {
        Codec::None => return Ok(records.clone()),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records).map_err(bad)?;
            encoder.finish().map_err(bad)?
        }
        Codec::Snappy => snappy(records)?,
        Codec::Lz4 => lz4(records)?,
        Codec::Zstd => zstd::bulk::compress(records, ZSTD_LEVEL).map_err(bad)?,
    };
    Ok(out.into())
}

/// Reads to the end, appending to `out`, which may not pass the limit.
fn read_within(reader: impl Read, out: &mut Vec<u8>, limit_bytes: usize) -> Result<(), CodecError> {
    let room = limit_bytes.saturating_sub(out.len());
    // One byte more than allowed tells "too large" from "just fits".
    let ask = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    let got = reader.take(ask).read_to_end(out).map_err(bad)?;
    if got > room { Err(CodecError::TooLarge { limit_bytes }) } else { Ok(()) }
}

fn gunzip(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut rest = input;
    loop {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        read_within(&mut decoder, &mut out, limit_bytes)?;
        rest = decoder.into_inner();
        // Java's GZIPInputStream takes what follows a member and is no further member for padding.
        if !rest.starts_with(&GZIP_MAGIC) {
            return Ok(out);
        }
    }
}

fn unsnappy(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        // Some clients write one bare snappy block; Java's reader takes both.
        snappy_block(input, &mut out, limit_bytes)?;
        return Ok(out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Appended streams bring their own header, in the middle.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest.get(XERIAL_HEADER_LEN..).ok_or_else(|| bad("xerial header cut short"))?;
            continue;
        }
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(|| bad("block length cut short"))?;
        let len = usize::try_from(i32::from_be_bytes(*len)).map_err(|_| bad("negative block length"))?;
        let (block, tail) = tail.split_at_checked(len).ok_or_else(|| bad("block cut short"))?;
        snappy_block(block, &mut out, limit_bytes)?;
        rest = tail;
    }
    Ok(out)
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, limit_bytes: usize) -> Result<(), CodecError> {
    let len = snap::raw::decompress_len(block).map_err(bad)?;
    if len > limit_bytes.saturating_sub(out.len()) {
        return Err(CodecError::TooLarge { limit_bytes });
    }
    if len > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(bad(format!("{len} bytes claimed from a block of {}", block.len())));
    }
    let at = out.len();
    out.resize(at + len, 0);
    let into = out.get_mut(at..).unwrap_or_default();
    let got = snap::raw::Decoder::new().decompress(block, into).map_err(bad)?;
    out.truncate(at + got);
    Ok(())
}

fn snappy(records: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_LEN + records.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for chunk in records.chunks(XERIAL_BLOCK_LEN) {
        let block = encoder.compress_vec(chunk).map_err(bad)?;
        out.extend_from_slice(&u32::try_from(block.len()).map_err(bad)?.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

fn unlz4(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    if !input.starts_with(&LZ4_MAGIC) {
        return Err(bad("not an LZ4 frame"));
    }
    // The decoder takes an end of input between blocks for the end of the frame. The byte put behind the input is
    // left alone after a proper end mark, and eaten by the search for a block header after a cut.
    let sentinel: &[u8] = &[0];
    let mut decoder = FrameDecoder::new(input.chain(sentinel));
    let mut out = Vec::new();
    read_within(&mut decoder, &mut out, limit_bytes)?;
    let (_, untouched) = decoder.get_ref().get_ref();
    if untouched.is_empty() { Err(bad("frame without an end mark")) } else { Ok(out) }
}

fn lz4(records: &[u8]) -> Result<Vec<u8>, CodecError> {
    // Java reads independent blocks only; 64 KiB blocks and no checksums are its own producer's choice. The default
    // block size of the crate follows the first write, so it is fixed here.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(records.len() / 2));
    encoder.write_all(records).map_err(bad)?;
    encoder.finish().map_err(bad)
}

/// One-shot decompression into a buffer that grows on demand. Streaming would allocate the window that the frame asks
/// for, up to 128 MiB whatever the size of the data; one-shot needs no window.
fn unzstd(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let mut context = zstd_safe::DCtx::try_create().ok_or_else(|| bad("no memory for a context"))?;
    let mut len = input.len().saturating_mul(8).max(ZSTD_FIRST_LEN).min(limit_bytes);
    loop {
        let mut out = Vec::with_capacity(len);
        match context.decompress(&mut out, input) {
            Ok(_) => return Ok(out),
            Err(code) if !is_too_small(code) => return Err(bad(zstd_safe::get_error_name(code))),
            Err(_) if len == limit_bytes => return Err(CodecError::TooLarge { limit_bytes }),
            Err(_) => len = len.saturating_mul(4).min(limit_bytes),
        }
    }
}

fn is_too_small(code: usize) -> bool {
    // ZSTD_error_dstSize_tooSmall, stable since zstd 1.3.1; the library returns error codes negated.
    code == 0usize.wrapping_sub(70)
}
