//! State records as bytes.
//!
//! ```text
//! magic "KM" · version u8 (1) · type u8 · body · CRC32C u32, big-endian, over everything before it
//! ```
//!
//! In bodies, numbers are unsigned LEB128 (`u`) or zigzag (`i`) varints, texts and byte strings a `u` length and as
//! many bytes, ids of topics 16 bytes, optional values a byte 0 or 1 in front.
//!
//! | type | record | body |
//! |---|---|---|
//! | 1 | id | producer id `i`, epoch `i` |
//! | 2 | declare | index `u`, source topic, source id, partition `u`, target topic, target id |
//! | 3 | baseline | – |
//! | 4 | segments | entries `u`, each: index `u`, breaks `u`, each a break |
//! | 5 | origin | index `u`, epoch `i`, settled end `u`, marker `u` |
//! | 6 | resume | index `u`, epoch `i`, end `u` |
//! | 7 | displaced | index `u`, at `u`, by `u`, end `u`, reason `u` |
//! | 8 | release | entries `u`, each: index `u`, end `u`, last CRC `u` |
//! | 9 | scanned | entries `u`, each: index `u`, source offset `u`, end `u` |
//! | 10 | halt | topic, partition `u`, optional halt as JSON text, resumes `u` |
//! | 11 | snapshot begin | id `u`, optional owner (producer id `i`, epoch `i`), producer ids `u` and as many `i`, baseline |
//! | 12 | snapshot partition | index `u`, optional origin (epoch `i`, start `u`, settled end `u`), optional end `u`, optional release (end `u`, last CRC `u`), scanned (source offset `u`, end `u`) |
//! | 13 | snapshot map | index `u`, target `u` and source `u` where the first of its steps begins, steps `u`, each as a break |
//! | 14 | snapshot end | id `u` |
//! | 15 | diverged | index `u`, source offset `u`, end `u` |
//! | 16 | pending | index `u`, optional source offset `u` |
//! | 17 | seen | time `u`, entries `u`, each: index `u`, source offset `u`, time `u` |
//!
//! A *break* is what an exactly-once stream writes several times a second for every partition, so it is small: flags
//! `u` (1 target gap follows, 2 leader epoch follows, 4 writer epoch follows, 8 fixed, the rest: number of gaps), the
//! run `u`, per gap one `u` of (length << 4 | reason), then what the flags announce: target gap `u`, epochs `i`. Epochs
//! that are not given are those of the break before in the same list. A marker between two runs takes three bytes, four
//! where the run in front of it has 128 records or more. The flag *fixed* stands in snapshots only.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use uuid::Uuid;

use crate::batch::varint::{get_signed, get_unsigned, put_signed, put_unsigned};

use super::super::map::{Break, Segment};
use super::super::{Gap, GapReason, Halt};
use super::{Origin, ReleaseEntry, Scan, Seen, StateError, StateRecord};

const MAGIC: [u8; 2] = *b"KM";
/// The newest format version that is written and understood.
pub const VERSION: u8 = 1;
const HEAD_LEN: usize = 4;
const CRC_LEN: usize = 4;

const BREAK_TARGET_GAP: u64 = 1;
const BREAK_LEADER_EPOCH: u64 = 2;
const BREAK_WRITER_EPOCH: u64 = 4;
const BREAK_FIXED: u64 = 8;
const BREAK_GAPS_SHIFT: u32 = 4;
const GAP_SHIFT: u32 = 4;

/// Longest envelope and head of a record of breaks or of a snapshot's map, bytes: index, two offsets, a count.
pub(super) const HEAD_BYTES_MAX: usize = HEAD_LEN + CRC_LEN + 5 + 3 * VARINT_MAX;
/// Longest head of an entry in a record of breaks, bytes: index and count.
pub(super) const ENTRY_BYTES_MAX: usize = 5 + VARINT_MAX;
/// Longest entry in a record of what was seen, bytes: index, offset, time.
pub(super) const SEEN_BYTES_MAX: usize = 5 + 2 * VARINT_MAX;
const VARINT_MAX: usize = 10;

/// The most bytes that a break with this many gaps can take: flags, run, target gap, two epochs, and the gaps.
pub(super) fn step_bytes_max(gaps: usize) -> usize {
    3 * VARINT_MAX + 5 + 3 + VARINT_MAX * gaps
}

/// Wraps a body.
pub(super) fn seal(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_LEN + body.len() + CRC_LEN);
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_slice(body);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out.freeze()
}

/// Checks the wrapping; type and body.
pub(super) fn unseal(bytes: &[u8]) -> Result<(u8, &[u8]), StateError> {
    let (whole, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or_else(|| corrupt("too short"))?;
    let (head, body) = whole.split_first_chunk::<HEAD_LEN>().ok_or_else(|| corrupt("too short"))?;
    let [m0, m1, version, kind] = *head;
    if [m0, m1] != MAGIC {
        return Err(corrupt("it does not begin with KM: not written by kmirror"));
    }
    // Before the checksum: a later version may place it differently.
    if version != VERSION {
        return Err(StateError::Version { version, known: VERSION });
    }
    if crc32c::crc32c(whole) != u32::from_be_bytes(*crc) {
        return Err(corrupt("its checksum does not fit"));
    }
    Ok((kind, body))
}

/// What JSON says in a record whose checksum fits: where it is whole and fits nothing known, a newer kmirror has said it. Taken for
/// damage it would be rebuilt, and a promotion that it tells of forgotten.
pub(super) fn words<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T, StateError> {
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Data => StateError::Unknown { detail: format!("{what}: {error}") },
        Category::Io | Category::Syntax | Category::Eof => corrupt(format!("{what}: {error}")),
    })
}

pub(super) fn corrupt(detail: impl Into<String>) -> StateError {
    StateError::Corrupt { detail: detail.into() }
}

/// A state record as the value of a Kafka record.
pub fn encode_state(record: &StateRecord) -> Bytes {
    let mut out = BytesMut::new();
    let kind = put_body(&mut out, record);
    seal(kind, &out)
}

fn put_body(out: &mut BytesMut, record: &StateRecord) -> u8 {
    match record {
        StateRecord::Id { producer_id, producer_epoch } => {
            put_owner(out, (*producer_id, *producer_epoch));
            1
        }
        StateRecord::Declare { index, source_topic, source_topic_id, partition, target_topic, target_topic_id } => {
            put_unsigned(out, u64::from(*index));
            put_topic(out, source_topic, *source_topic_id);
            put_unsigned(out, u64::from(partition.unsigned_abs()));
            put_topic(out, target_topic, *target_topic_id);
            2
        }
        StateRecord::Baseline => 3,
        StateRecord::Segments { entries } => {
            put_list(out, entries, |out, (index, breaks)| {
                put_unsigned(out, u64::from(*index));
                put_breaks(out, breaks);
            });
            4
        }
        StateRecord::Origin { index, epoch, settled_end, marker } => {
            put_unsigned(out, u64::from(*index));
            put_signed(out, i64::from(*epoch));
            put_offsets(out, &[*settled_end, *marker]);
            5
        }
        StateRecord::Resume { index, epoch, end } => {
            put_unsigned(out, u64::from(*index));
            put_signed(out, i64::from(*epoch));
            put_offsets(out, &[*end]);
            6
        }
        StateRecord::Displaced { index, at, by, end, reason } => {
            put_unsigned(out, u64::from(*index));
            put_offsets(out, &[*at, *by, *end]);
            put_unsigned(out, u64::from(reason.code()));
            7
        }
        StateRecord::Release { entries } => {
            put_list(out, entries, |out, entry| {
                put_unsigned(out, u64::from(entry.index));
                put_release(out, entry);
            });
            8
        }
        StateRecord::Scanned { entries } => {
            put_list(out, entries, |out, (index, scan)| put_offsets(out, &[i64::from(*index), scan.source, scan.end]));
            9
        }
        StateRecord::Halt { topic, partition, halt, resumes } => {
            put_text(out, topic);
            put_unsigned(out, u64::from(partition.unsigned_abs()));
            put_option(out, halt.as_ref(), put_halt);
            put_unsigned(out, *resumes);
            10
        }
        other => put_other(out, other),
    }
}

fn put_other(out: &mut BytesMut, record: &StateRecord) -> u8 {
    match record {
        StateRecord::Diverged { index, source, end } => {
            put_unsigned(out, u64::from(*index));
            put_offsets(out, &[*source, *end]);
            15
        }
        StateRecord::Pending { index, begin } => {
            put_unsigned(out, u64::from(*index));
            put_option(out, begin.as_ref(), |out, begin| put_offsets(out, &[*begin]));
            16
        }
        StateRecord::Seen { at_ms, entries } => {
            put_offsets(out, &[*at_ms]);
            put_list(out, entries, |out, (index, seen)| put_offsets(out, &[i64::from(*index), seen.end, seen.at_ms]));
            17
        }
        snapshot => put_snapshot(out, snapshot),
    }
}

fn put_snapshot(out: &mut BytesMut, record: &StateRecord) -> u8 {
    match record {
        StateRecord::SnapshotBegin { id, owner, producer_ids, baseline } => {
            put_unsigned(out, *id);
            put_option(out, owner.as_ref(), |out, owner| put_owner(out, *owner));
            put_list(out, producer_ids, |out, id| put_signed(out, *id));
            out.put_u8(u8::from(*baseline));
            11
        }
        StateRecord::SnapshotPartition { index, origin, end, release, scanned } => {
            put_unsigned(out, u64::from(*index));
            put_option(out, origin.as_ref(), |out, origin| {
                put_signed(out, i64::from(origin.epoch));
                put_offsets(out, &[origin.start, origin.settled_end]);
            });
            put_option(out, end.as_ref(), |out, end| put_offsets(out, &[*end]));
            put_option(out, release.as_ref(), put_release);
            put_offsets(out, &[scanned.source, scanned.end]);
            12
        }
        StateRecord::SnapshotMap { index, segments } => {
            put_unsigned(out, u64::from(*index));
            put_segments(out, segments);
            13
        }
        StateRecord::SnapshotEnd { id } => {
            put_unsigned(out, *id);
            14
        }
        // Every other type was handled before.
        _ => 0,
    }
}

fn put_topic(out: &mut BytesMut, name: &str, id: Uuid) {
    put_text(out, name);
    out.put_slice(id.as_bytes());
}

fn put_halt(out: &mut BytesMut, halt: &Halt) {
    // Names, numbers and texts: writing them as JSON cannot fail.
    put_text(out, &serde_json::to_string(halt).unwrap_or_default());
}

fn put_owner(out: &mut BytesMut, (producer_id, epoch): (i64, i16)) {
    put_signed(out, producer_id);
    put_signed(out, i64::from(epoch));
}

fn put_release(out: &mut BytesMut, entry: &ReleaseEntry) {
    put_offsets(out, &[entry.end]);
    put_unsigned(out, u64::from(entry.last_crc));
}

/// Segments as steps from one to the next, beginning where the gaps in front of the first one do.
fn put_segments(out: &mut BytesMut, segments: &[(Segment, Vec<Gap>)]) {
    let gaps_from = |segment: &Segment, gaps: &[Gap]| gaps.first().map_or(segment.source, |gap| gap.from);
    let (mut target, mut source) = segments.first().map_or((0, 0), |(s, gaps)| (s.target, gaps_from(s, gaps)));
    put_offsets(out, &[target, source]);
    let mut steps = Steps::default();
    put_list(out, segments, |out, (segment, gaps)| {
        // A map's segments never go back, on neither side (`OffsetMap::add`).
        let run = gaps_from(segment, gaps) - source;
        let step = Break {
            run: run.unsigned_abs(),
            gaps: gaps.iter().map(|gap| (gap.reason, gap.from.abs_diff(gap.to))).collect(),
            target_gap: (segment.target - target - run).unsigned_abs(),
            leader_epoch: segment.leader_epoch,
            writer_epoch: segment.writer_epoch,
        };
        steps.put(out, &step, segment.fixed);
        (target, source) = (segment.target, segment.source);
    });
}

/// A list of breaks: what each inherits from the one before.
#[derive(Default)]
struct Steps {
    epochs: Option<(i32, i16)>,
}

impl Steps {
    fn put(&mut self, out: &mut BytesMut, step: &Break, fixed: bool) {
        let (leader, writer) = (step.leader_epoch, step.writer_epoch);
        let new_leader = self.epochs.is_none_or(|(before, _)| before != leader);
        let new_writer = self.epochs.is_none_or(|(_, before)| before != writer);
        self.epochs = Some((leader, writer));
        let mut flags = (step.gaps.len() as u64) << BREAK_GAPS_SHIFT;
        flags |= if step.target_gap > 0 { BREAK_TARGET_GAP } else { 0 };
        flags |= if new_leader { BREAK_LEADER_EPOCH } else { 0 };
        flags |= if new_writer { BREAK_WRITER_EPOCH } else { 0 };
        flags |= if fixed { BREAK_FIXED } else { 0 };
        put_unsigned(out, flags);
        put_unsigned(out, step.run);
        for (reason, len) in &step.gaps {
            put_unsigned(out, (len << GAP_SHIFT) | u64::from(reason.code()));
        }
        if step.target_gap > 0 {
            put_unsigned(out, step.target_gap);
        }
        if new_leader {
            put_signed(out, i64::from(leader));
        }
        if new_writer {
            put_signed(out, i64::from(writer));
        }
    }

    fn get(&mut self, from: &mut Body<'_>) -> Result<(Break, bool), StateError> {
        let flags: u64 = from.number()?;
        let run = from.number()?;
        let gaps = from.items(flags >> BREAK_GAPS_SHIFT, 1, |from| {
            let packed: u64 = from.number()?;
            let code = u8::try_from(packed & ((1 << GAP_SHIFT) - 1)).unwrap_or(0);
            Ok((reason(code)?, packed >> GAP_SHIFT))
        })?;
        let target_gap = if flags & BREAK_TARGET_GAP != 0 { from.number()? } else { 0 };
        let inherited = self.epochs.ok_or_else(|| corrupt("a first break without epochs"));
        let leader_epoch = if flags & BREAK_LEADER_EPOCH != 0 { from.signed()? } else { inherited.clone()?.0 };
        let writer_epoch = if flags & BREAK_WRITER_EPOCH != 0 { from.signed()? } else { inherited?.1 };
        self.epochs = Some((leader_epoch, writer_epoch));
        Ok((Break { run, gaps, target_gap, leader_epoch, writer_epoch }, flags & BREAK_FIXED != 0))
    }
}

fn put_breaks(out: &mut BytesMut, breaks: &[Break]) {
    let mut steps = Steps::default();
    put_list(out, breaks, |out, step| steps.put(out, step, false));
}

fn put_list<T>(out: &mut BytesMut, list: &[T], mut put: impl FnMut(&mut BytesMut, &T)) {
    put_unsigned(out, list.len() as u64);
    for item in list {
        put(out, item);
    }
}

fn put_option<T>(out: &mut BytesMut, value: Option<&T>, put: impl FnOnce(&mut BytesMut, &T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_unsigned(out, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// Offsets are never negative in state records.
fn put_offsets(out: &mut BytesMut, offsets: &[i64]) {
    for offset in offsets {
        put_unsigned(out, offset.unsigned_abs());
    }
}

/// Reads the value of a Kafka record in a shard's partition.
pub fn decode_state(bytes: &[u8]) -> Result<StateRecord, StateError> {
    let (kind, body) = unseal(bytes)?;
    let mut from = Body(body);
    let record = get_body(kind, &mut from)?;
    if from.0.is_empty() { Ok(record) } else { Err(corrupt(format!("{} bytes too many", from.0.len()))) }
}

fn get_body(kind: u8, from: &mut Body<'_>) -> Result<StateRecord, StateError> {
    Ok(match kind {
        1 => {
            let (producer_id, producer_epoch) = from.owner()?;
            StateRecord::Id { producer_id, producer_epoch }
        }
        2 => StateRecord::Declare {
            index: from.number()?,
            source_topic: from.text()?,
            source_topic_id: from.uuid()?,
            partition: from.number()?,
            target_topic: from.text()?,
            target_topic_id: from.uuid()?,
        },
        3 => StateRecord::Baseline,
        4 => StateRecord::Segments { entries: from.list(3, |from| Ok((from.number()?, get_breaks(from)?)))? },
        5 => StateRecord::Origin {
            index: from.number()?,
            epoch: from.signed()?,
            settled_end: from.number()?,
            marker: from.number()?,
        },
        6 => StateRecord::Resume { index: from.number()?, epoch: from.signed()?, end: from.number()? },
        7 => StateRecord::Displaced {
            index: from.number()?,
            at: from.number()?,
            by: from.number()?,
            end: from.number()?,
            reason: from.reason()?,
        },
        8 => StateRecord::Release {
            entries: from.list(3, |from| {
                let index = from.number()?;
                from.release(index)
            })?,
        },
        9 => StateRecord::Scanned { entries: from.list(3, |from| Ok((from.number()?, from.scan()?)))? },
        10 => StateRecord::Halt {
            topic: from.text()?,
            partition: from.number()?,
            halt: from.option(|from| {
                let text = from.text()?;
                words::<Halt>(text.as_bytes(), "a halt")
            })?,
            resumes: from.number()?,
        },
        15 => StateRecord::Diverged { index: from.number()?, source: from.number()?, end: from.number()? },
        16 => StateRecord::Pending { index: from.number()?, begin: from.option(Body::number)? },
        17 => StateRecord::Seen {
            at_ms: from.number()?,
            entries: from.list(3, |from| Ok((from.number()?, Seen { end: from.number()?, at_ms: from.number()? })))?,
        },
        _ => return get_snapshot(kind, from),
    })
}

fn get_snapshot(kind: u8, from: &mut Body<'_>) -> Result<StateRecord, StateError> {
    Ok(match kind {
        11 => StateRecord::SnapshotBegin {
            id: from.number()?,
            owner: from.option(Body::owner)?,
            producer_ids: from.list(1, Body::signed)?,
            baseline: from.flag()?,
        },
        12 => {
            let index = from.number()?;
            StateRecord::SnapshotPartition {
                index,
                origin: from.option(|from| {
                    Ok(Origin { epoch: from.signed()?, start: from.number()?, settled_end: from.number()? })
                })?,
                end: from.option(Body::number)?,
                release: from.option(|from| from.release(index))?,
                scanned: from.scan()?,
            }
        }
        13 => StateRecord::SnapshotMap { index: from.number()?, segments: get_segments(from)? },
        14 => StateRecord::SnapshotEnd { id: from.number()? },
        kind => return Err(StateError::Type { kind }),
    })
}

fn get_segments(from: &mut Body<'_>) -> Result<Vec<(Segment, Vec<Gap>)>, StateError> {
    let (mut target, mut source): (i64, i64) = (from.number()?, from.number()?);
    let mut steps = Steps::default();
    let add = |a: i64, b: u64| a.checked_add_unsigned(b).ok_or_else(|| corrupt("a segment beyond the largest offset"));
    from.list(STEP_MIN_LEN, |from| {
        let (step, fixed) = steps.get(from)?;
        source = add(source, step.run)?;
        target = add(add(target, step.run)?, step.target_gap)?;
        let mut gaps = Vec::with_capacity(step.gaps.len());
        for (reason, len) in step.gaps {
            let to = add(source, len)?;
            gaps.push(Gap { reason, from: source, to });
            source = to;
        }
        let (leader_epoch, writer_epoch) = (step.leader_epoch, step.writer_epoch);
        Ok((Segment { target, source, leader_epoch, writer_epoch, fixed }, gaps))
    })
}

fn get_breaks(from: &mut Body<'_>) -> Result<Vec<Break>, StateError> {
    let mut steps = Steps::default();
    from.list(STEP_MIN_LEN, |from| match steps.get(from)? {
        (step, false) => Ok(step),
        (_, true) => Err(corrupt("a fixed break outside of a snapshot")),
    })
}

/// Flags and run.
const STEP_MIN_LEN: usize = 2;

fn reason(code: u8) -> Result<GapReason, StateError> {
    GapReason::from_code(code).ok_or_else(|| StateError::Unknown { detail: format!("gap reason {code}") })
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn number<T: TryFrom<u64>>(&mut self) -> Result<T, StateError> {
        let value = get_unsigned(&mut self.0).ok_or_else(|| corrupt("it ends inside a number"))?;
        T::try_from(value).map_err(|_| corrupt(format!("the number {value} is out of range")))
    }

    fn signed<T: TryFrom<i64>>(&mut self) -> Result<T, StateError> {
        let value = get_signed(&mut self.0).ok_or_else(|| corrupt("it ends inside a number"))?;
        T::try_from(value).map_err(|_| corrupt(format!("the number {value} is out of range")))
    }

    fn scan(&mut self) -> Result<Scan, StateError> {
        Ok(Scan { source: self.number()?, end: self.number()? })
    }

    fn flag(&mut self) -> Result<bool, StateError> {
        match self.number::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(corrupt(format!("{other} where 0 or 1 belongs"))),
        }
    }

    fn reason(&mut self) -> Result<GapReason, StateError> {
        let code = self.number()?;
        reason(code)
    }

    fn owner(&mut self) -> Result<(i64, i16), StateError> {
        Ok((self.signed()?, self.signed()?))
    }

    fn release(&mut self, index: u32) -> Result<ReleaseEntry, StateError> {
        Ok(ReleaseEntry { index, end: self.number()?, last_crc: self.number()? })
    }

    fn text(&mut self) -> Result<String, StateError> {
        let len: usize = self.number()?;
        let (text, rest) = self.0.split_at_checked(len).ok_or_else(|| corrupt("it ends inside a text"))?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| corrupt("a text is not UTF-8"))
    }

    fn uuid(&mut self) -> Result<Uuid, StateError> {
        let (id, rest) = self.0.split_first_chunk::<16>().ok_or_else(|| corrupt("it ends inside a topic id"))?;
        self.0 = rest;
        Ok(Uuid::from_bytes(*id))
    }

    fn option<T>(&mut self, get: impl FnOnce(&mut Self) -> Result<T, StateError>) -> Result<Option<T>, StateError> {
        if self.flag()? { get(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(
        &mut self,
        item_min_len: usize,
        get: impl FnMut(&mut Self) -> Result<T, StateError>,
    ) -> Result<Vec<T>, StateError> {
        let count = self.number()?;
        self.items(count, item_min_len, get)
    }

    /// As many items as announced, if the bytes left can hold them at all.
    fn items<T>(
        &mut self,
        count: u64,
        item_min_len: usize,
        mut get: impl FnMut(&mut Self) -> Result<T, StateError>,
    ) -> Result<Vec<T>, StateError> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.0.remaining() / item_min_len);
        let count = count.ok_or_else(|| corrupt("it announces more items than it holds"))?;
        (0..count).map(|_| get(self)).collect()
    }
}

#[cfg(test)]
mod tests;
