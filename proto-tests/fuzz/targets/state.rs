//! Records of the state topic: whatever decodes is applied, and a snapshot of the sum is the same sum.

use kmirror::mirror::{
    ControlState, ShardState, StateRecord, decode_control, decode_state, encode_control, encode_state,
};

use super::Input;

/// Records in turn, each with its length in front: type and body; the envelope is put around them.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (mut shard, mut control) = (ShardState::default(), ControlState::default());
    while !input.is_empty() {
        let piece = input.piece();
        // The envelope with its checksum is read as it comes, too.
        let _ = (decode_state(piece), decode_control(piece));
        let sealed = seal(piece);
        if let Ok(record) = decode_state(&sealed) {
            assert_eq!(decode_state(&encode_state(&record)).as_ref(), Ok(&record));
            if shard.apply(&record).is_err() {
                // A shard whose records are not understood is read no further.
                break;
            }
            let _ = shard.next_index();
        }
        if let Ok(record) = decode_control(&sealed) {
            assert_eq!(decode_control(&encode_control(&record)).as_ref(), Ok(&record));
            control.apply(&record);
        }
    }
    assert!(control.generation().is_some() || control.standing_promotion().is_none());
    summed_up(&shard);
}

fn seal(record: &[u8]) -> Vec<u8> {
    let mut out = b"KM\x01".to_vec();
    out.extend_from_slice(record);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

fn summed_up(shard: &ShardState) {
    let snapshot = shard.snapshot(1);
    let mut again = ShardState::default();
    for record in &snapshot {
        let read = decode_state(&encode_state(record)).unwrap();
        assert_eq!(&read, record);
        again.apply(&read).unwrap_or_else(|error| panic!("{error}: {record:?}"));
    }
    assert_eq!(again.snapshot(1), snapshot);
    for state in shard.partitions.values() {
        let (id, partition) = (state.declared.source_topic_id, state.declared.partition);
        let index = |state: &ShardState| state.find(id, partition).map(|(index, _)| index);
        assert_eq!(index(shard), index(&again));
    }
    assert!(matches!(snapshot.first(), Some(StateRecord::SnapshotBegin { .. })));
}
