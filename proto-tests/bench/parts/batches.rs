//! Single batches: header, checksum, re-encoding.

use std::hint::black_box;

use bytes::Bytes;
use kmirror::batch::{Codec, RawBatch, Record, Stamp, check_crc, encode, reencode, rewrite};

use super::Work;

/// Any time will do, as long as it is the same in each run.
pub(super) const TIME_MS: i64 = 1_700_000_000_000;
const TURNS: u32 = 1000;
const LIMIT_BYTES: usize = 64 << 20;

/// A batch of `count` records with values of `len` bytes, every `step`th offset from 0. Half of each value compresses.
pub(super) fn batch(count: i64, len: usize, step: i64, codec: Codec) -> RawBatch {
    let mut random = fastrand::Rng::with_seed(len as u64);
    let records = (0..count).map(|number| {
        let mut value = vec![b'k'; len];
        random.fill(&mut value[len / 2..]);
        let value = Some(Bytes::from(value));
        Record {
            offset: number * step,
            timestamp: TIME_MS + number,
            attributes: 0,
            key: None,
            value,
            headers: Vec::new(),
        }
    });
    encode(&records.collect::<Vec<_>>(), codec, Stamp::NONE).expect("records in order make a batch")
}

pub(super) fn all() -> Vec<Work> {
    let mut all = vec![Work::new("header rewrite, 16k batch".to_owned(), (TURNS, "batch"), || {
        let header = batch(16, 1000, 1, Codec::None).header;
        move || move || rewrite_often(&header)
    })];
    for (size, kib) in [("1k", 1), ("16k", 16), ("1m", 1024)] {
        all.push(Work::new(format!("checksum, {size} batch"), (kib, "KiB"), move || {
            let batch = batch(1, (kib as usize) << 10, 1, Codec::None);
            move || {
                let batch = batch.clone();
                move || drop(black_box(check_crc(&batch)))
            }
        }));
    }
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        all.push(Work::new(format!("re-encode 16k with holes, {codec:?}").to_lowercase(), (1, "batch"), move || {
            let batch = batch(16, 1000, 2, codec);
            move || {
                let batch = batch.clone();
                move || drop(black_box(reencode(&batch, 0, LIMIT_BYTES).expect("it is sound")))
            }
        }));
    }
    all
}

fn rewrite_often(header: &kmirror::batch::BatchHeader) {
    for sequence in 0..TURNS.cast_signed() {
        let stamp = Stamp { producer_id: 1000, producer_epoch: 3, base_sequence: sequence };
        black_box(rewrite(black_box(header), stamp));
    }
}
