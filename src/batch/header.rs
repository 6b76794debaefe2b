//! The fixed 61 bytes in front of every record batch, and the walk over a run of batches.

use bytes::Bytes;

/// Bytes of the batch header, base offset included; the records section starts here.
pub const HEADER_LEN: usize = 61;
/// Bytes in front of what `batch_length` counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Attribute bits that hold the codec.
pub const ATTR_CODEC_MASK: i16 = 0x07;
/// Attribute bit: timestamps were set by the broker at append (`message.timestamp.type=LogAppendTime`).
pub const ATTR_LOG_APPEND_TIME: i16 = 0x08;
/// Attribute bit: part of a transaction (KIP-98).
pub const ATTR_TRANSACTIONAL: i16 = 0x10;
/// Attribute bit: a control batch, i.e. a transaction marker.
pub const ATTR_CONTROL: i16 = 0x20;
/// Attribute bit: base timestamp holds the delete horizon (KIP-534).
pub const ATTR_DELETE_HORIZON: i16 = 0x40;

const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// Where the attributes stand: the checksum covers everything from here to the end of the batch.
pub(super) const ATTRIBUTES_AT: usize = 21;

/// What can be wrong with the bytes of a batch. Every variant says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside the batch. At the end of a fetch this is normal: the broker cuts at the byte limit.
    #[error("batch truncated: {have} bytes of {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes the header asks for (or the header itself).
        need: usize,
    },
    /// Not magic 2: message formats v0 and v1 come from topics written before Kafka 0.11.
    #[error("batch at offset {offset} has message format v{magic}; only v2 (Kafka 0.11 and later) is supported")]
    UnsupportedMagic {
        /// Base offset read from the batch.
        offset: i64,
        /// The magic byte.
        magic: i8,
    },
    /// A length that no batch can have.
    #[error("batch at offset {offset} says it is {length} bytes long")]
    BadLength {
        /// Base offset read from the batch.
        offset: i64,
        /// `batch_length` as on the wire.
        length: i32,
    },
    /// The checksum does not match the bytes.
    #[error("batch at offset {offset}: checksum {stored:#010x} stored, {computed:#010x} computed")]
    BadChecksum {
        /// Base offset of the batch.
        offset: i64,
        /// CRC32C as stored.
        stored: u32,
        /// CRC32C of the bytes.
        computed: u32,
    },
    /// A codec number that Kafka does not define.
    #[error("batch at offset {offset} uses unknown codec {codec}")]
    UnknownCodec {
        /// Base offset of the batch.
        offset: i64,
        /// The codec bits.
        codec: i16,
    },
    /// The records section cannot be decompressed.
    #[error("batch at offset {offset}: {codec:?} records section: {what}")]
    Codec {
        /// Base offset of the batch.
        offset: i64,
        /// The codec of the batch.
        codec: Codec,
        /// What the codec says.
        what: String,
    },
    /// Decompressed, the records would pass the caller's limit: a decompression bomb, or a limit set too low.
    #[error("batch at offset {offset}: records decompress to more than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// Base offset of the batch.
        offset: i64,
        /// The limit that was passed.
        limit_bytes: usize,
    },
    /// Header or records contradict themselves.
    #[error("batch at offset {offset}: {what}")]
    Malformed {
        /// Base offset of the batch.
        offset: i64,
        /// What contradicts what.
        what: String,
    },
}

/// Compression of the records section (attribute bits 0–2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// No compression.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy in xerial framing.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard (KIP-110; Produce v7 and later).
    Zstd,
}

impl Codec {
    /// The codec of these attributes; `None` for numbers that Kafka does not define.
    pub fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & ATTR_CODEC_MASK {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The attribute bits of this codec.
    pub fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// The header of a record batch, as on the wire (all integers big-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 in a produce request.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Leader epoch under which the batch was appended; −1 in a produce request. Not inside the CRC.
    pub partition_leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    /// CRC32C from `attributes` to the end of the batch.
    pub crc: u32,
    /// Codec and flags, see the `ATTR_*` constants.
    pub attributes: i16,
    /// Offset of the last record less the base offset; compaction keeps it when records vanish.
    pub last_offset_delta: i32,
    /// Timestamp that record deltas count from, ms; the delete horizon where `ATTR_DELETE_HORIZON` is set.
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, ms; the append time of all records where `ATTR_LOG_APPEND_TIME` is set.
    pub max_timestamp: i64,
    /// Producer id; −1 when the producer is not idempotent.
    pub producer_id: i64,
    /// Producer epoch; −1 when the producer is not idempotent.
    pub producer_epoch: i16,
    /// Sequence of the first record; −1 when the producer is not idempotent.
    pub base_sequence: i32,
    /// Records in the batch; less than `last_offset_delta + 1` after compaction, 0 for an emptied batch.
    pub records_count: i32,
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(super) fn put<const N: usize>(out: &mut [u8; HEADER_LEN], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

impl BatchHeader {
    /// Reads the header and checks what it says against itself; the CRC is not checked here.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Message formats v0 and v1 share offset, length and the place of the magic byte; say which one it is
        // before complaining about a header that they do not have.
        if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] as i8 != 2 {
            let offset = i64::from_be_bytes(array(bytes, 0));
            return Err(BatchError::UnsupportedMagic { offset, magic: bytes[MAGIC_AT] as i8 });
        }
        if bytes.len() < HEADER_LEN {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_LEN });
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            magic: bytes[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(array(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            records_count: i32::from_be_bytes(array(bytes, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        let offset = self.base_offset;
        if self.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
            return Err(BatchError::BadLength { offset, length: self.batch_length });
        }
        let malformed = |what: String| Err(BatchError::Malformed { offset, what });
        if self.base_offset < 0 || self.last_offset_delta < 0 {
            return malformed(format!("last offset delta {} at base offset {}", self.last_offset_delta, offset));
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta) + 1).is_none() {
            return malformed("offsets overflow".to_owned());
        }
        if self.records_count < 0 || i64::from(self.records_count) > i64::from(self.last_offset_delta) + 1 {
            return malformed(format!("{} records in {} offsets", self.records_count, self.last_offset_delta));
        }
        Ok(())
    }

    /// The header as on the wire: the inverse of [`BatchHeader::parse`], every byte of it.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        put(&mut out, 0, self.base_offset.to_be_bytes());
        put(&mut out, 8, self.batch_length.to_be_bytes());
        put(&mut out, 12, self.partition_leader_epoch.to_be_bytes());
        put(&mut out, MAGIC_AT, self.magic.to_be_bytes());
        put(&mut out, CRC_AT, self.crc.to_be_bytes());
        put(&mut out, ATTRIBUTES_AT, self.attributes.to_be_bytes());
        put(&mut out, 23, self.last_offset_delta.to_be_bytes());
        put(&mut out, 27, self.base_timestamp.to_be_bytes());
        put(&mut out, 35, self.max_timestamp.to_be_bytes());
        put(&mut out, 43, self.producer_id.to_be_bytes());
        put(&mut out, 51, self.producer_epoch.to_be_bytes());
        put(&mut out, 53, self.base_sequence.to_be_bytes());
        put(&mut out, 57, self.records_count.to_be_bytes());
        out
    }

    /// Bytes of the records section.
    pub fn payload_len(&self) -> usize {
        self.total_len().saturating_sub(HEADER_LEN)
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        LOG_OVERHEAD + self.batch_length as usize
    }

    /// Offset of the last record that the batch had when it was written.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// The codec; an error for numbers that Kafka does not define.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_attributes(self.attributes)
            .ok_or(BatchError::UnknownCodec { offset: self.base_offset, codec: self.attributes & ATTR_CODEC_MASK })
    }

    /// A transaction marker.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTR_CONTROL != 0
    }

    /// Written inside a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTR_TRANSACTIONAL != 0
    }

    /// Timestamps set by the broker.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & ATTR_LOG_APPEND_TIME != 0
    }

    /// Compaction took records out: the broker refuses such a batch as it is (INVALID_RECORD).
    pub fn has_holes(&self) -> bool {
        i64::from(self.records_count) != i64::from(self.last_offset_delta) + 1
    }
}

/// One batch as fetched: its header and all its bytes, header included.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The parsed header.
    pub header: BatchHeader,
    /// The whole batch; a slice of the fetch response it came in.
    pub bytes: Bytes,
}

impl RawBatch {
    /// Takes bytes that must be exactly one batch, as a produce request carries it: a batch cut short is
    /// [`BatchError::Truncated`], bytes after its end are [`BatchError::BadLength`]. The CRC is not checked here.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let (have, need) = (bytes.len(), header.total_len());
        if have < need {
            return Err(BatchError::Truncated { have, need });
        }
        if have > need {
            return Err(BatchError::BadLength { offset: header.base_offset, length: header.batch_length });
        }
        Ok(Self { header, bytes })
    }

    /// The records section: what follows the header, compressed as the codec says.
    pub fn payload(&self) -> Bytes {
        // A batch put together by hand may be shorter than its header says; that is an empty section, not a panic.
        self.bytes.slice(HEADER_LEN.min(self.bytes.len())..)
    }
}

/// Walks the batches in a fetch response's `records`. A truncated last batch ends the walk without an error
/// (`FetchResponse` may cut there); [`Batches::truncated`] tells.
#[derive(Debug)]
pub struct Batches {
    rest: Bytes,
    truncated: bool,
}

impl Batches {
    /// A walk over these bytes.
    pub fn new(records: Bytes) -> Self {
        Self { rest: records, truncated: false }
    }

    /// Whether the walk ended at a batch cut short.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchHeader::parse(&self.rest) {
            Ok(header) if header.total_len() <= self.rest.len() => {
                let bytes = self.rest.split_to(header.total_len());
                Some(Ok(RawBatch { header, bytes }))
            }
            Ok(_) | Err(BatchError::Truncated { .. }) => {
                self.truncated = true;
                self.rest.clear();
                None
            }
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}
