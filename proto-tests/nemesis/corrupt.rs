//! Damage that a source serves: each kind is quarantined by the range that it spoils, never copied, and never a crash.
//!
//! On embedded brokers: a real one would not serve most of it twice in the same way.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, ResponseKind};

use crate::embedded::{Pair, numbered};

type Damage = fn(&mut [u8]);

/// What is done to a batch on its way, and the reason of the halt that follows.
const DAMAGES: [(&str, Damage, &str); 9] = [
    ("damaged-payload", |batch| *batch.last_mut().unwrap() ^= 0x10, "corrupt_batch"),
    ("damaged-checksum", |batch| batch[17] ^= 0x80, "corrupt_batch"),
    ("damaged-magic", |batch| batch[16] = 9, "invalid_record"),
    ("damaged-length-long", |batch| batch[8..12].copy_from_slice(&100_000_i32.to_be_bytes()), "corrupt_batch"),
    ("damaged-length-huge", |batch| batch[8..12].copy_from_slice(&i32::MAX.to_be_bytes()), "corrupt_batch"),
    ("damaged-length-short", |batch| batch[8..12].copy_from_slice(&20_i32.to_be_bytes()), "corrupt_batch"),
    ("damaged-length-negative", |batch| batch[8..12].copy_from_slice(&(-1_i32).to_be_bytes()), "corrupt_batch"),
    ("damaged-count", |batch| batch[57..61].copy_from_slice(&1_000_000_i32.to_be_bytes()), "corrupt_batch"),
    ("damaged-codec", |batch| batch[22] |= 0x07, "corrupt_batch"),
];

/// The records of a fetch response with the batch at this base offset damaged; what cannot be walked stays as it is.
fn damaged(records: &Bytes, base: i64, damage: Damage) -> Bytes {
    let mut bytes = BytesMut::from(&records[..]);
    let mut at = 0;
    while at + 61 <= bytes.len() {
        let len = 12 + i32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let end = (at + len).min(bytes.len());
        if bytes[at..at + 8] == base.to_be_bytes() {
            damage(&mut bytes[at..end]);
            break;
        }
        at = end;
    }
    bytes.freeze()
}

fn serve_damage(pair: &Pair, base: i64, damage: Damage) {
    pair.source.intercept(ApiKey::Fetch, None, move |_| {
        Action::Edit(Box::new(move |response| {
            let ResponseKind::Fetch(response) = response else { return };
            for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.partition_index == 0 {
                    partition.records = partition.records.take().map(|records| damaged(&records, base, damage));
                }
            }
        }))
    });
}

/// From now on the source serves the batch at this offset as one of a format that nobody knows.
pub(crate) fn serve_another_format(pair: &Pair, base: i64) {
    serve_damage(pair, base, |batch| batch[16] = 9);
}

#[test]
fn damage_is_quarantined_by_its_range() {
    for (name, damage, reason) in DAMAGES {
        let mut pair = Pair::new(name, 1, 2, "");
        for partition in 0..2 {
            (0..3).for_each(|batch| pair.write(partition, batch * 10, batch * 10 + 10));
        }
        serve_damage(&pair, 10, damage);
        pair.mirror.start();
        let (found, command) = pair.await_halt();
        assert!(found.starts_with(&format!("{reason} at source offsets [10, 20): ")), "{name}: {found}");
        pair.await_values(1, &numbered("", 0, 30));
        // What was read in front of it may have been sent already or not.
        assert!(numbered("", 0, 10).starts_with(&pair.values(&pair.target, 0)), "{name}");
        pair.obey(&command);
        let expected = [numbered("", 0, 10), numbered("", 20, 30)].concat();
        pair.await_values(0, &expected);
        pair.mirror.await_caught_up(2);
        pair.mirror.stop();
        assert_eq!(pair.values(&pair.target, 0), expected, "{name}");
    }
}
