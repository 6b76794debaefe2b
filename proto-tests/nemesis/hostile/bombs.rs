//! Compressed batches that unfold to more than there is memory for.

use std::io::Write as _;

use bytes::Bytes;
use kmirror::batch::{ATTR_LOG_APPEND_TIME, BatchHeader, Codec, HEADER_LEN, compress};

use super::{CEILING_BYTES, assert_unharmed};
use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, append, numbered};
use crate::kafka::harness::process::Process;
use crate::kafka::harness::wait_until;

const UNFOLDED_BYTES: usize = 256 << 20;
const PIECE_BYTES: usize = 1 << 20;

/// So many zeros. What can be put together of pieces is: the library is not optimised here.
fn payload(codec: Codec) -> Bytes {
    let piece = Bytes::from(vec![0; PIECE_BYTES]);
    match codec {
        Codec::Gzip | Codec::Zstd => compress(codec, &piece).unwrap().repeat(UNFOLDED_BYTES / PIECE_BYTES).into(),
        Codec::Snappy => {
            // Xerial's header and blocks.
            let one = compress(codec, &piece).unwrap();
            let mut out = one.to_vec();
            (1..UNFOLDED_BYTES / PIECE_BYTES).for_each(|_| out.extend_from_slice(&one[16..]));
            out.into()
        }
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            (0..UNFOLDED_BYTES / PIECE_BYTES).for_each(|_| encoder.write_all(&piece).unwrap());
            encoder.finish().unwrap().into()
        }
        Codec::None => piece,
    }
}

/// A batch that must be opened: its broker has set the time, or records are missing.
fn bomb(codec: Codec, base_offset: i64, attributes: i16, holes: i32) -> Bytes {
    let payload = payload(codec);
    let mut header = BatchHeader {
        base_offset,
        batch_length: (HEADER_LEN - 12 + payload.len()) as i32,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: codec.bits() | attributes,
        last_offset_delta: 9,
        base_timestamp: 1_790_000_000_000,
        max_timestamp: 1_790_000_000_000,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 10 - holes,
    };
    let covered = [&header.to_bytes()[21..], &payload].concat();
    header.crc = crc32c::crc32c(&covered);
    [&header.to_bytes()[..], &payload].concat().into()
}

/// Runs a command to its end; its exit code and the most memory that it was seen to take.
fn measured(pair: &Pair, args: &[&str]) -> (i32, u64) {
    let mut process: Process = pair.mirror.spawn(args, "measured.log");
    let mut peak = 0;
    wait_until("the end of the command", LIMIT, || {
        peak = peak.max(process.peak_rss_bytes().unwrap_or(0));
        if process.is_running() { Err("it runs".to_owned()) } else { Ok(()) }
    });
    (process.wait_exit(LIMIT), peak)
}

#[test]
fn batches_that_unfold_without_end_halt_their_partitions_and_no_other() {
    let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut pair = Pair::new("hostile-bombs", 1, 6, "");
    for partition in 0..6 {
        pair.write(partition, 0, 10);
    }
    for (partition, codec) in (0..).zip(codecs) {
        pair.source.place(&pair.topic, partition, bomb(codec, 10, ATTR_LOG_APPEND_TIME, 0)).unwrap();
    }
    pair.source.place(&pair.topic, 4, bomb(Codec::Zstd, 10, 0, 5)).unwrap();
    append(&pair.source, &pair.topic, 5, "", 10, 20);
    pair.mirror.start();
    pair.await_values(5, &numbered("", 0, 20));
    for partition in 0..5 {
        let row = pair.mirror.await_state(&pair.topic, partition, "halted");
        let reason = row["reason"].as_str().unwrap_or_default();
        assert!(reason.starts_with("message_too_large at source offsets [10, 20)"), "{partition}: {row}");
        // What was read in front of it may have been sent already or not.
        assert!(numbered("", 0, 10).starts_with(&pair.values(&pair.target, partition)));
    }
    assert_unharmed(&mut pair.mirror, "bombs");
    pair.write(5, 20, 30);
    pair.await_values(5, &numbered("", 0, 30));
    let (code, peak) = measured(&pair, &["verify"]);
    // Whether it comes to them depends on what was mirrored in front of them: it does not fall over.
    assert!(code != 101 && code < 128, "verify ended with {code}");
    assert!(peak < CEILING_BYTES, "verify took {peak} bytes");
    pair.mirror.stop();
}
