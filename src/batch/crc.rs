//! The checksum of a batch: verified over the bytes, or carried over a changed header by arithmetic.
//!
//! A batch's CRC32C covers the header from `attributes` on (40 bytes) and the records section. CRCs are linear: changing
//! the 40 bytes changes the checksum by the difference of their two CRCs, moved along by as many zero bytes as the
//! records section is long. That needs the length of the section and none of its bytes, so the broker that takes the
//! batch still checks the records against what the first producer computed.

use super::header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_LEN, RawBatch};

/// CRC-32C (Castagnoli, RFC 3720), bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1 in the reflected order that CRCs use.
const ONE: u32 = 1 << 31;
/// `x^8`: what one more byte does.
const ONE_BYTE: u32 = ONE >> 8;
/// Hexadecimal digits in a length: `batch_length` is an `i32`.
const DIGITS: usize = 8;

/// `SHIFT[k][d]` is `x^(8 · d · 16^k)`: one multiplication per hexadecimal digit of a length.
static SHIFT: [[u32; 16]; DIGITS] = shift_table();

/// The product of two polynomials modulo the CRC's own.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // No branch on data: which bits are set is random, and a branch would be mispredicted half the time.
        product ^= b & 0u32.wrapping_sub((a >> (31 - bit)) & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
        bit += 1;
    }
    product
}

const fn shift_table() -> [[u32; 16]; DIGITS] {
    let mut table = [[ONE; 16]; DIGITS];
    let mut step = ONE_BYTE;
    let mut k = 0;
    while k < DIGITS {
        let mut d = 1;
        while d < 16 {
            table[k][d] = multiply(table[k][d - 1], step);
            d += 1;
        }
        step = multiply(table[k][15], step);
        k += 1;
    }
    table
}

/// Moves a CRC difference over `len_bytes` bytes that stay as they are.
fn shift(mut crc: u32, len_bytes: u32) -> u32 {
    for (k, row) in SHIFT.iter().enumerate() {
        let digit = (len_bytes >> (4 * k)) & 15;
        if digit != 0 {
            crc = multiply(row[digit as usize], crc);
        }
    }
    crc
}

/// The CRC32C of a batch, computed over its bytes.
///
/// `bytes` is the whole batch, header included; shorter than a header gives the CRC of nothing.
pub(super) fn compute(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// The CRC32C of a batch whose header and records section lie apart.
pub(super) fn over(header: &BatchHeader, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header.to_bytes()[ATTRIBUTES_AT..]), payload)
}

/// Verifies the stored checksum over all bytes of the batch.
///
/// Errors with [`BatchError::BadChecksum`], or [`BatchError::Truncated`] where the bytes are not as long as the header
/// says. Kafka: `DefaultRecordBatch.ensureValid`.
pub fn check(batch: &RawBatch) -> Result<(), BatchError> {
    compare(&batch.header, batch.bytes.len(), || compute(&batch.bytes))
}

/// [`check`], of a batch whose header and records section lie apart.
pub fn check_parts(header: &BatchHeader, payload: &[u8]) -> Result<(), BatchError> {
    compare(header, HEADER_LEN + payload.len(), || over(header, payload))
}

fn compare(header: &BatchHeader, have: usize, compute: impl FnOnce() -> u32) -> Result<(), BatchError> {
    let need = header.total_len();
    if have != need {
        return Err(BatchError::Truncated { have, need });
    }
    let (stored, computed) = (header.crc, compute());
    if stored != computed {
        return Err(BatchError::BadChecksum { offset: header.base_offset, stored, computed });
    }
    Ok(())
}

/// The checksum that a batch has after its header became `new`, from the old header and the length of the records
/// section alone. If the stored checksum was wrong, so is the result, by the same difference.
pub(super) fn carry(old: &BatchHeader, new: &[u8; HEADER_LEN]) -> u32 {
    let before = old.to_bytes();
    let difference = crc32c::crc32c(&before[ATTRIBUTES_AT..]) ^ crc32c::crc32c(&new[ATTRIBUTES_AT..]);
    // `batch_length` is an i32, so the section's length fits.
    old.crc ^ shift(difference, u32::try_from(old.payload_len()).unwrap_or(u32::MAX))
}

/// The CRC32C of a batch's records section alone, from its header: the stored checksum less what the header put into it. No byte
/// of the section is read; if the stored checksum is wrong, so is the result, by the same difference.
pub fn payload_crc(header: &BatchHeader) -> u32 {
    let head = crc32c::crc32c(&header.to_bytes()[ATTRIBUTES_AT..]);
    header.crc ^ shift(head, u32::try_from(header.payload_len()).unwrap_or(u32::MAX))
}

/// The CRC32C `crc` goes on to when the whole of a batch follows, whose own checksum [`check`] has found right: what that covers is not
/// read again.
pub fn append_batch(crc: u32, batch: &RawBatch) -> u32 {
    let Some((front, covered)) = batch.bytes.split_at_checked(ATTRIBUTES_AT) else {
        return crc32c::crc32c_append(crc, &batch.bytes);
    };
    let crc = crc32c::crc32c_append(crc, front);
    shift(crc, u32::try_from(covered.len()).unwrap_or(u32::MAX)) ^ batch.header.crc
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn standard_check_value() {
        // RFC 3720, B.4: the CRC32C of 32 zero bytes.
        let mut bytes = vec![0xaa; ATTRIBUTES_AT];
        bytes.extend_from_slice(&[0; 32]);
        assert_eq!(compute(&bytes), 0x8a91_36aa);
    }

    proptest! {
        #[test]
        fn shift_is_combine(crc: u32, len in prop_oneof![0u32..5000, any::<u32>()]) {
            prop_assert_eq!(shift(crc, len), crc32c::crc32c_combine(crc, 0, len as usize));
        }

        #[test]
        fn the_payloads_part_is_what_its_bytes_give(values in proptest::collection::vec(".{0,80}", 1..20), time: i64) {
            let stamp = super::super::Stamp { producer_id: 7, producer_epoch: 1, base_sequence: 3 };
            let values = values.into_iter().map(Bytes::from).collect();
            let batch = RawBatch::parse(super::super::encode_values(values, time, stamp).unwrap()).unwrap();
            prop_assert_eq!(payload_crc(&batch.header), crc32c::crc32c(&batch.payload()));
        }

        #[test]
        fn a_batch_behind_other_bytes_need_not_be_read_again(
            before in proptest::collection::vec(any::<u8>(), 0..60),
            values in proptest::collection::vec(".{0,80}", 1..20),
        ) {
            let stamp = super::super::Stamp { producer_id: 7, producer_epoch: 1, base_sequence: 3 };
            let values = values.into_iter().map(Bytes::from).collect();
            let batch = RawBatch::parse(super::super::encode_values(values, 5, stamp).unwrap()).unwrap();
            let whole = [&before[..], &batch.bytes[..]].concat();
            prop_assert_eq!(append_batch(crc32c::crc32c(&before), &batch), crc32c::crc32c(&whole));
        }
    }
}
