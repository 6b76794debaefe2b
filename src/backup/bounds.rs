//! What a manifest may say. It may come from somebody who means harm: whoever reads on counts on these bounds, and computes with the
//! numbers as they are.

use std::collections::HashSet;

use super::capture::Captured;
use super::manifest::{Manifest, PartitionPart, SegmentPart};
use super::names;

/// Offsets are below this: sums and differences of a few stay within 64 bits, and JSON's numbers have them exactly.
pub const OFFSET_MAX: i64 = 1 << 53;
/// Partitions of one topic.
pub const PARTITIONS_MAX: i32 = 100_000;
/// Partitions that one restore serves.
pub(super) const PARTITIONS_SERVED_MAX: usize = 1_000_000;
/// Bytes, batches and records of one segment.
const AMOUNT_MAX: u64 = 1 << 40;
/// The year 9999, ms.
const TIME_MAX_MS: i64 = 253_402_300_799_999;
const TOPIC_CHARS_MAX: usize = 249;
const PATH_BYTES_MAX: usize = 1024;

/// Something that a manifest may not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Where, as a path into its JSON.
    pub(super) at: String,
    /// What.
    pub(super) what: String,
}

type Checked = Result<(), Wrong>;

fn wrong<T>(at: impl Into<String>, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at: at.into(), what: what.into() })
}

/// Whether a manifest says nothing that cannot be.
pub(super) fn check(manifest: &Manifest) -> Checked {
    for (name, number) in [("chain", manifest.chain), ("unit", manifest.unit)] {
        if number == 0 || number > 99_999_999 {
            return wrong(name, format!("{number}, and such numbers go from 1 to 99999999"));
        }
    }
    for (name, ms) in [("begun_at_ms", manifest.begun_at_ms), ("ended_at_ms", manifest.ended_at_ms)] {
        if !(0..=TIME_MAX_MS).contains(&ms) {
            return wrong(name, format!("{ms} is no time"));
        }
    }
    if let Some(previous) = &manifest.previous {
        hex64("previous", previous)?;
    }
    let mut seen = HashSet::new();
    for (number, part) in manifest.partitions.iter().enumerate() {
        let at = format!("partitions[{number}]");
        partition_part(&at, part, manifest.chain)?;
        if !seen.insert((&part.topic, part.topic_id, part.partition)) {
            return wrong(at, format!("{}:{} stands there twice", part.topic, part.partition));
        }
    }
    manifest.captured.as_ref().map_or(Ok(()), captured)
}

fn partition_part(at: &str, part: &PartitionPart, chain: u32) -> Checked {
    topic(&format!("{at}.topic"), &part.topic)?;
    partition(&format!("{at}.partition"), part.partition)?;
    range(at, part.from, part.to, true)?;
    offset(&format!("{at}.log_start"), part.log_start)?;
    let mut reached = part.from;
    for (number, gap) in part.gaps.iter().enumerate() {
        let at = format!("{at}.gaps[{number}]");
        range(&at, gap.from, gap.to, false)?;
        if gap.from < reached || gap.to > part.to {
            return wrong(
                at,
                format!("[{}, {}) is not behind {reached} and within the partition's offsets", gap.from, gap.to),
            );
        }
        reached = gap.to;
    }
    for (number, aborted) in part.aborted.iter().enumerate() {
        let at = format!("{at}.aborted[{number}]");
        transaction(&at, aborted.producer_id, aborted.first_offset, part.to)?;
        if aborted.last_offset < aborted.first_offset || !(part.from..part.to).contains(&aborted.last_offset) {
            return wrong(format!("{at}.last_offset"), format!("{} is not where it can end", aborted.last_offset));
        }
    }
    for (number, open) in part.open.iter().enumerate() {
        transaction(&format!("{at}.open[{number}]"), open.producer_id, open.first_offset, part.to)?;
    }
    let mut reached = 0;
    for (number, segment) in part.segments.iter().enumerate() {
        let at = format!("{at}.segments[{number}]");
        self::segment(&at, segment, chain)?;
        if segment.from < reached || segment.to <= part.from || segment.to > part.to {
            let what = format!(
                "[{}, {}) is not behind {reached} and within the partition's offsets",
                segment.from, segment.to
            );
            return wrong(at, what);
        }
        reached = segment.to;
    }
    Ok(())
}

fn segment(at: &str, part: &SegmentPart, chain: u32) -> Checked {
    object(&format!("{at}.object"), &part.object, chain)?;
    range(at, part.from, part.to, false)?;
    let (name, digest) = part.digest.named();
    hex64(&format!("{at}.{name}"), digest)?;
    let amounts =
        [("bytes", part.bytes), ("raw_bytes", part.raw_bytes), ("batches", part.batches), ("records", part.records)];
    for (name, amount) in amounts {
        if amount > AMOUNT_MAX {
            return wrong(format!("{at}.{name}"), format!("{amount}, and {AMOUNT_MAX} is the most"));
        }
    }
    if part.first_leader_epoch < -1 {
        return wrong(format!("{at}.first_leader_epoch"), format!("{} is no epoch", part.first_leader_epoch));
    }
    let mut last = (part.first_leader_epoch, part.from);
    for (number, &(epoch, begins)) in part.leader_epochs.iter().enumerate() {
        if epoch <= last.0 || begins < last.1 || begins >= part.to {
            let what = format!("epoch {epoch} from offset {begins} on does not follow {} from {} on", last.0, last.1);
            return wrong(format!("{at}.leader_epochs[{number}]"), what);
        }
        last = (epoch, begins);
    }
    for (number, open) in part.open.iter().enumerate() {
        transaction(&format!("{at}.open[{number}]"), open.producer_id, open.first_offset, part.to)?;
    }
    Ok(())
}

fn captured(captured: &Captured) -> Checked {
    for (number, entry) in captured.topics.entries.iter().enumerate() {
        let at = format!("captured.topics.entries[{number}]");
        topic(&format!("{at}.name"), &entry.name)?;
        if entry.partitions > PARTITIONS_MAX as usize {
            return wrong(
                format!("{at}.partitions"),
                format!("{}, and {PARTITIONS_MAX} is the most", entry.partitions),
            );
        }
        if entry.replication_factor > i16::MAX as usize {
            return wrong(format!("{at}.replication_factor"), format!("{}", entry.replication_factor));
        }
    }
    for (number, group) in captured.groups.entries.iter().enumerate() {
        for (place, committed) in group.offsets.iter().enumerate() {
            let at = format!("captured.groups.entries[{number}].offsets[{place}]");
            topic(&format!("{at}.topic"), &committed.topic)?;
            partition(&format!("{at}.partition"), committed.partition)?;
            offset(&format!("{at}.offset"), committed.offset)?;
        }
    }
    Ok(())
}

fn topic(at: &str, name: &str) -> Checked {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_folder = matches!(name, "." | "..");
    if name.is_empty() || name.len() > TOPIC_CHARS_MAX || is_folder || !name.bytes().all(is_legal) {
        return wrong(at, "no topic can be called so");
    }
    Ok(())
}

fn partition(at: &str, number: i32) -> Checked {
    if (0..PARTITIONS_MAX).contains(&number) { Ok(()) } else { wrong(at, format!("{number} is no partition")) }
}

fn offset(at: &str, offset: i64) -> Checked {
    if (0..OFFSET_MAX).contains(&offset) { Ok(()) } else { wrong(at, format!("{offset} is no offset")) }
}

fn range(at: &str, from: i64, to: i64, may_be_empty: bool) -> Checked {
    offset(&format!("{at}.from"), from)?;
    offset(&format!("{at}.to"), to)?;
    if from < to || (may_be_empty && from == to) {
        return Ok(());
    }
    wrong(at, format!("[{from}, {to}) is no range of offsets"))
}

fn transaction(at: &str, producer_id: i64, first_offset: i64, end: i64) -> Checked {
    if producer_id < 0 {
        return wrong(format!("{at}.producer_id"), format!("{producer_id} is no producer"));
    }
    if !(0..end).contains(&first_offset) {
        return wrong(format!("{at}.first_offset"), format!("{first_offset} is not in front of {end}"));
    }
    Ok(())
}

fn hex64(at: &str, text: &str) -> Checked {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(is_hex) { Ok(()) } else { wrong(at, "these are not 64 hex digits") }
}

/// Below the archive's folder, and below that of its chain, which goes as a whole.
fn object(at: &str, path: &str, chain: u32) -> Checked {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    let folder = format!("{}/data/", names::chain(chain));
    if path.len() > PATH_BYTES_MAX || !path.starts_with(&folder) || !path.split('/').all(is_plain) {
        return wrong(at, format!("this is no path below {folder}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
