//! What an intake makes of anything that a fetch may bring.

use bytes::Bytes;
use kmirror::batch::{ATTR_CONTROL, HEADER_LEN, RawBatch, check_crc, decode};
use kmirror::mirror::{FetchedRecords, Intake, Isolation, Path, Ready};

use super::{DECODE_LIMIT_BYTES, Input, batch};

/// Where it stands, what was aborted, then the batches: bytes of the input in this order.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let isolation = if input.u8() & 1 == 0 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let mut next = input.offset();
    let aborted = (0..input.u8() & 3).map(|_| (input.offset(), input.offset())).collect();
    let mut intake = Intake::new(next, None, isolation, DECODE_LIMIT_BYTES);
    let mut fetched = FetchedRecords { aborted, records: Bytes::copy_from_slice(input.0) };
    for records in [fetched.records.clone(), batch::mended(input.0)] {
        fetched.records = records;
        let (ready, halt) = intake.take(&fetched);
        for ready in &ready {
            next = acceptable(ready, next);
        }
        assert!(next <= intake.next());
        next = intake.next();
        if let Some((from, to)) = halt.and_then(|halt| halt.range) {
            assert!(from == next && (from < to || from == i64::MAX), "[{from}, {to}) at {next}");
        }
    }
}

/// The checks of a broker, and source offsets that only go up. Returns where the batch ends on the source.
fn acceptable(ready: &Ready, mut next: i64) -> i64 {
    let header = &ready.header;
    assert!(header.records_count > 0 && header.records_count == header.last_offset_delta + 1);
    assert_eq!(i64::from(ready.count()), i64::from(header.records_count));
    assert_eq!(header.attributes & ATTR_CONTROL, 0);
    for run in &ready.runs {
        let skipped: u64 = run.gaps.iter().map(|(_, len)| len).sum();
        assert!(run.source >= next && run.count > 0 && skipped <= run.source.unsigned_abs());
        next = run.source + i64::from(run.count);
    }
    let mut bytes = Vec::with_capacity(HEADER_LEN + ready.payload.len());
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(&ready.payload);
    let whole = RawBatch::parse(bytes.into()).unwrap();
    // A batch that passes unopened carries its producer's checksum, right or wrong: the target judges it.
    if matches!(ready.path, Path::Reencoded(_)) {
        check_crc(&whole).unwrap();
        // Keys, values and headers are carried over unopened, so that they may be as malformed as they were.
        let inner = decode(&whole, DECODE_LIMIT_BYTES).unwrap_or_default();
        assert!((0..).zip(&inner).all(|(at, record)| record.offset == header.base_offset + at));
    }
    next
}
