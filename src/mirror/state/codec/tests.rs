//! The format on record: a change of it shows here, and needs a new version or a record type of its own.

use proptest::prelude::*;

use super::*;
use crate::batch::goldens::unhex;
use crate::mirror::{
    Bandwidth, ControlRecord, Generation, HaltKind, Owned, Promotion, PromotionMode, PromotionPhase, PromotionStep,
    Scope, SyncEntry, SyncKey, SyncKind, Unfenced, UnfencedReason, decode_control, encode_control,
};

const OURS: (i64, i16) = (4000, 7);

fn segment(target: i64, source: i64, fixed: bool) -> Segment {
    Segment { target, source, leader_epoch: 5, writer_epoch: 7, fixed }
}

fn step(run: u64, gap: (GapReason, u64), target_gap: u64) -> Break {
    Break { run, gaps: vec![gap], target_gap, leader_epoch: 5, writer_epoch: 7 }
}

fn halt(halt: Option<Halt>) -> StateRecord {
    StateRecord::Halt { topic: "a".to_owned(), partition: 5, halt, resumes: 1 }
}

/// Every record type, and its bytes without the checksum: magic, version and type; then field by field.
fn goldens() -> Vec<(StateRecord, String)> {
    let release = ReleaseEntry { index: 2, end: 1000, last_crc: u32::MAX };
    let breaks = vec![step(0, (GapReason::Start, 10), 0), step(130, (GapReason::Control, 1), 3)];
    let gap = Gap { reason: GapReason::Start, from: 0, to: 10 };
    let json = r#"{"kind":"retention_loss","range":[10,20],"detail":"x"}"#;
    let json_hex: String = json.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list = [
        (StateRecord::Id { producer_id: OURS.0, producer_epoch: OURS.1 }, "4b4d0101 c03e 0e"),
        (
            StateRecord::Declare {
                index: 300,
                source_topic: "a".to_owned(),
                source_topic_id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
                partition: 5,
                target_topic: "b.a".to_owned(),
                target_topic_id: Uuid::from_u128(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20),
            },
            "4b4d0102 ac02 01 61 0102030405060708090a0b0c0d0e0f10 05 03 622e61 1112131415161718191a1b1c1d1e1f20",
        ),
        (StateRecord::Baseline, "4b4d0103"),
        // One entry, partition 2, two breaks: 0x16 = one gap, leader and writer epoch; 0x11 = one gap, a target gap.
        (StateRecord::Segments { entries: vec![(2, breaks)] }, "4b4d0104 01 02 02 16 00 a101 0a 0e 11 8201 12 03"),
        (StateRecord::Origin { index: 2, epoch: 7, settled_end: 1000, marker: 1002 }, "4b4d0105 02 0e e807 ea07"),
        (StateRecord::Resume { index: 2, epoch: -1, end: 0 }, "4b4d0106 02 01 00"),
        (
            StateRecord::Displaced { index: 2, at: 10, by: 2, end: 12, reason: GapReason::Foreign },
            "4b4d0107 02 0a 02 0c 0c",
        ),
        (StateRecord::Release { entries: vec![release] }, "4b4d0108 01 02 e807 ffffffff0f"),
        (StateRecord::Scanned { entries: vec![(2, Scan { source: 1000, end: 900 })] }, "4b4d0109 01 02 e807 8407"),
        (halt(None), "4b4d010a 01 61 05 00 01"),
        (
            halt(Some(Halt::over(HaltKind::RetentionLoss, 10, 20, "x"))),
            &format!("4b4d010a 01 61 05 01 {:02x} {json_hex} 01", json.len()),
        ),
        (
            StateRecord::SnapshotBegin { id: 9, owner: Some(OURS), producer_ids: vec![OURS.0], baseline: true },
            "4b4d010b 09 01 c03e 0e 01 c03e 01",
        ),
        (
            StateRecord::SnapshotPartition {
                index: 2,
                origin: Some(Origin { epoch: 7, start: 1003, settled_end: 1000 }),
                end: Some(1000),
                release: Some(release),
                scanned: Scan { source: 20, end: 18 },
            },
            "4b4d010c 02 01 0e eb07 e807 01 e807 01 e807 ffffffff0f 14 12",
        ),
        // Beginning at target 3 and source 0; 0x1e = one gap, both epochs, fixed; 0x01 = a target gap.
        (
            StateRecord::SnapshotMap {
                index: 2,
                segments: vec![(segment(3, 10, true), vec![gap]), (segment(14, 20, false), vec![])],
            },
            "4b4d010d 02 03 00 02 1e 00 a101 0a 0e 01 0a 01",
        ),
        (StateRecord::SnapshotEnd { id: 9 }, "4b4d010e 09"),
        (StateRecord::Diverged { index: 2, source: 10, end: 12 }, "4b4d010f 02 0a 0c"),
        (StateRecord::Pending { index: 3, begin: None }, "4b4d0110 03 00"),
        (StateRecord::Pending { index: 3, begin: Some(300) }, "4b4d0110 03 01 ac02"),
        (
            StateRecord::Seen { at_ms: 1000, entries: vec![(3, Seen { end: 300, at_ms: 900 })] },
            "4b4d0111 e807 01 03 ac02 8407",
        ),
    ];
    list.into_iter().map(|(record, hex)| (record, hex.to_owned())).collect()
}

#[test]
fn every_record_type_is_written_and_read_as_documented() {
    for (record, hex) in goldens() {
        let mut expected = unhex(&hex);
        let crc = crc32c::crc32c(&expected);
        expected.extend_from_slice(&crc.to_be_bytes());
        assert_eq!(encode_state(&record), expected, "{record:?}");
        assert_eq!(decode_state(&expected).unwrap(), record);
    }
}

#[test]
fn the_checksum_is_the_one_on_record() {
    // CRC-32C, worked out bit by bit elsewhere.
    assert_eq!(encode_state(&StateRecord::Baseline), unhex("4b4d0103 b3fe1d04"));
}

#[test]
fn every_cut_and_every_flipped_bit_is_an_error() {
    for (record, _) in goldens() {
        let whole = encode_state(&record);
        for end in 0..whole.len() {
            assert!(decode_state(&whole[..end]).is_err(), "{record:?} cut at {end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_state(&bytes).is_err(), "{record:?} with bit {bit} flipped");
        }
    }
}

#[test]
fn a_body_cut_short_or_too_long_is_an_error() {
    for (record, hex) in goldens() {
        let whole = unhex(&hex);
        let (kind, body) = (whole[3], &whole[4..]);
        for end in 0..body.len() {
            assert!(decode_state(&seal(kind, &body[..end])).is_err(), "{record:?} cut at {end}");
        }
        assert!(decode_state(&seal(kind, &[body, &[0]].concat())).is_err(), "{record:?} with a byte more");
    }
}

/// Control records are JSON in the same envelope, type 64.
#[test]
fn control_records_are_written_and_read_as_on_record() {
    let text = |text: &str| text.to_owned();
    let promotion = || Promotion { generation: 1, at_ms: 9, ..Promotion::default() };
    let generation = Generation {
        generation: 1,
        shards: 8,
        source_cluster_id: text("s"),
        target_cluster_id: text("t"),
        mirror: text("m"),
        created_ms: 9,
        home_of: None,
    };
    let scope = Scope::Partition { topic: text("a"), partition: 5 };
    let list = [
        (
            ControlRecord::Generation(generation),
            r#""generation","generation":1,"shards":8,"source_cluster_id":"s","target_cluster_id":"t","mirror":"m","created_ms":9"#,
        ),
        (ControlRecord::Pause { scope: Scope::All, at_ms: 9 }, r#""pause","scope":"all","at_ms":9"#),
        (
            ControlRecord::Resume { scope, accept_loss: Some((10, 20)), at_ms: 9 },
            r#""resume","scope":{"partition":{"topic":"a","partition":5}},"accept_loss":[10,20],"at_ms":9"#,
        ),
        (ControlRecord::Bandwidth { limit: Bandwidth::File, at_ms: 9 }, r#""bandwidth","limit":"file","at_ms":9"#),
        (
            ControlRecord::Bandwidth { limit: Bandwidth::Unlimited, at_ms: 9 },
            r#""bandwidth","limit":"unlimited","at_ms":9"#,
        ),
        (
            ControlRecord::Bandwidth { limit: Bandwidth::BytesPerS(5), at_ms: 9 },
            r#""bandwidth","limit":{"bytes_per_s":5},"at_ms":9"#,
        ),
        (ControlRecord::PromotionIntent(promotion()), r#""promotion_intent","generation":1,"at_ms":9"#),
        (ControlRecord::PromotionDone(promotion()), r#""promotion_done","generation":1,"at_ms":9"#),
        (ControlRecord::PromotionCancelled(promotion()), r#""promotion_cancelled","generation":1,"at_ms":9"#),
        (ControlRecord::Heartbeat { at_ms: 9 }, r#""heartbeat","at_ms":9"#),
    ];
    list.into_iter().for_each(as_on_record);
}

fn as_on_record((record, fields): (ControlRecord, &str)) {
    let expected = seal(64, format!("{{\"type\":{fields}}}").as_bytes());
    assert_eq!(encode_control(&record), expected, "{record:?}");
    assert_eq!(decode_control(&expected).unwrap(), record);
    for end in 0..expected.len() {
        assert!(decode_control(&expected[..end]).is_err(), "{record:?} cut at {end}");
    }
}

#[test]
fn records_of_a_promotion_are_written_and_read_as_on_record() {
    let text = |text: &str| text.to_owned();
    let promotion = || Promotion { generation: 1, at_ms: 9, ..Promotion::default() };
    let step = |unfenced| PromotionStep { generation: 1, phase: PromotionPhase::Fenced, at_ms: 9, unfenced };
    let unfenced = Unfenced {
        topic: text("a"),
        target_topic: text("b"),
        partition: 5,
        reason: UnfencedReason::Leaderless,
        detail: text("x"),
    };
    let list = [
        (
            ControlRecord::PromotionIntent(Promotion {
                mode: Some(PromotionMode::Unplanned),
                started_ms: Some(8),
                ..promotion()
            }),
            r#""promotion_intent","generation":1,"at_ms":9,"mode":"unplanned","started_ms":8"#,
        ),
        (
            ControlRecord::PromotionStep(step(Vec::new())),
            r#""promotion_step","generation":1,"phase":"fenced","at_ms":9"#,
        ),
        (
            ControlRecord::PromotionStep(step(vec![unfenced])),
            r#""promotion_step","generation":1,"phase":"fenced","at_ms":9,"unfenced":[{"topic":"a","target_topic":"b","partition":5,"reason":"leaderless","detail":"x"}]"#,
        ),
        (
            ControlRecord::SourceConfigs {
                topic: text("a"),
                configs: [(text("retention.ms"), text("5"))].into(),
                at_ms: 9,
            },
            r#""source_configs","topic":"a","configs":{"retention.ms":"5"},"at_ms":9"#,
        ),
        (
            ControlRecord::Synced {
                entries: vec![
                    SyncEntry {
                        key: SyncKey::new(SyncKind::TopicConfig, "b", "retention.ms"),
                        owned: Owned { value: Some(text("5")), before: Some(text("4")) },
                    },
                    SyncEntry { key: SyncKey::new(SyncKind::Acl, "", "x"), owned: Owned::default() },
                ],
                at_ms: 9,
            },
            r#""synced","entries":[{"kind":"topic_config","of":"b","key":"retention.ms","value":"5","before":"4"},{"kind":"acl","key":"x"}],"at_ms":9"#,
        ),
        (
            ControlRecord::SourceFenced { topics: vec![text("a")], is_fenced: true, at_ms: 9 },
            r#""source_fenced","topics":["a"],"is_fenced":true,"at_ms":9"#,
        ),
        (
            ControlRecord::Divergent { topic: text("a"), partition: 5, from: 7, to: 9 },
            r#""divergent","topic":"a","partition":5,"from":7,"to":9"#,
        ),
        (
            ControlRecord::Replay { into: text("a"), topic_id: Uuid::from_u128(1), ends: vec![7], at_ms: 9 },
            r#""replay","into":"a","topic_id":"00000000-0000-0000-0000-000000000001","ends":[7],"at_ms":9"#,
        ),
    ];
    list.into_iter().for_each(as_on_record);
}

/// What a newer kmirror says of steps and reasons that this one does not know is no damage.
#[test]
fn unknown_words_of_a_promotion_are_read_as_such() {
    let body = r#"{"type":"promotion_step","generation":1,"phase":"later","at_ms":9,"unfenced":[{"topic":"a","target_topic":"b","partition":5,"reason":"later","detail":"x"}]}"#;
    let ControlRecord::PromotionStep(step) = decode_control(&seal(64, body.as_bytes())).unwrap() else { panic!() };
    assert_eq!((step.phase, step.unfenced[0].reason), (PromotionPhase::Unknown, UnfencedReason::Refused));
}

#[test]
fn a_later_version_and_an_unknown_type_say_so() {
    let mut later = encode_state(&StateRecord::Baseline).to_vec();
    later[2] = 2;
    assert_eq!(decode_state(&later), Err(StateError::Version { version: 2, known: 1 }));
    assert_eq!(decode_state(&seal(18, &[])), Err(StateError::Type { kind: 18 }));
}

proptest! {
    /// Under a checksum that fits, any body is an error, or a record that is written and read again as itself.
    #[test]
    fn no_body_panics(kind in 0u8..18, body in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(record) = decode_state(&seal(kind, &body)) {
            prop_assert_eq!(decode_state(&encode_state(&record)), Ok(record));
        }
    }

    #[test]
    fn small_numbers_reach_further(kind in 0u8..18, body in proptest::collection::vec(0u8..4, 0..60)) {
        if let Ok(record) = decode_state(&seal(kind, &body)) {
            prop_assert_eq!(decode_state(&encode_state(&record)), Ok(record));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_state(&bytes);
        let _ = decode_control(&bytes);
        let _ = decode_control(&seal(64, &bytes));
    }
}
