//! Variable-length integers: zigzag, seven bits a byte, as records carry them (Kafka's `ByteUtils`, Protocol Buffers).

use bytes::{Buf, BufMut};

/// Bytes of the longest varint of 64 bits.
const MAX_LEN: u32 = 10;

/// Writes an unsigned LEB128 integer.
pub(crate) fn put_unsigned(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a signed integer, zigzag.
pub(crate) fn put_signed(out: &mut impl BufMut, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads an unsigned LEB128 integer; `None` where the bytes end or run past 64 bits.
pub(crate) fn get_unsigned(from: &mut impl Buf) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..MAX_LEN {
        if !from.has_remaining() {
            return None;
        }
        let byte = from.get_u8();
        let part = u64::from(byte & 0x7f);
        if at == MAX_LEN - 1 && part > 1 {
            return None;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads a signed zigzag integer.
pub(crate) fn get_signed(from: &mut impl Buf) -> Option<i64> {
    get_unsigned(from).map(|value| ((value >> 1) as i64) ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runs_past_64_bits() {
        assert_eq!(get_unsigned(&mut &[0xff; 10][..]), None);
        assert_eq!(get_unsigned(&mut &[0x80; 3][..]), None);
    }

    proptest! {
        #[test]
        fn there_and_back(signed: i64, unsigned: u64) {
            let mut out = Vec::new();
            put_signed(&mut out, signed);
            put_unsigned(&mut out, unsigned);
            let mut read = out.as_slice();
            prop_assert_eq!(get_signed(&mut read), Some(signed));
            prop_assert_eq!(get_unsigned(&mut read), Some(unsigned));
            prop_assert!(read.is_empty());
        }
    }
}
