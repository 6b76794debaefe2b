//! Whether an archive is whole: every manifest, every segment, every block, in every copy; and what is lost where it is not.

use bytes::Bytes;
use serde::Serialize;

use super::BackupError;
use super::archive::{Archive, Chain};
use super::chain::{Log, logs};
use super::digest::sha256_hex;
use super::fetch::Segments;
use super::inventory::{unnamed, verify_texts};
use super::manifest::SegmentPart;
use super::seal::{PublicKey, SegmentKey};
use super::segment::{
    BlockKind, BlockPlace, SegmentHeader, batches_of, header_of, index_of, is_whole, open_block, walk,
};
use super::store::Store;

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ArchiveReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Backup.
    pub backup: String,
    /// Chains, by number.
    pub chains: Vec<ChainReport>,
    /// Segments that were read, in all copies.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects that are not what they should be.
    pub damages: Vec<Damage>,
    /// Offsets that no copy has any more.
    pub lost: Vec<LostRange>,
    /// Segments that no manifest names: what passes that died have left, or what a manifest that is lost has named.
    pub unnamed: Vec<Unnamed>,
}

/// A segment that no manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unnamed {
    /// Path of the object.
    pub object: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset in it.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// Its number.
    pub chain: u32,
    /// Units that follow one another.
    pub units: u32,
    /// Whether it restores by itself.
    pub is_good: bool,
    /// What is wrong behind the last of these.
    pub broken: Option<String>,
}

/// An object that is not what it should be, in one copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The copy.
    pub copy: String,
    /// Path of the object.
    pub object: String,
    /// Topic; none of what is not of a partition.
    pub topic: Option<String>,
    /// Partition.
    pub partition: Option<i32>,
    /// What is wrong.
    pub detail: String,
    /// Offsets that cannot be read there.
    pub ranges: Vec<(i64, i64)>,
    /// Whether it was replaced from another copy.
    pub is_repaired: bool,
}

/// Offsets that are gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LostRange {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
}

impl ArchiveReport {
    /// Whether somebody has to look after something.
    pub fn has_problems(&self) -> bool {
        self.damages.iter().any(|damage| !damage.is_repaired)
            || !self.lost.is_empty()
            || self.chains.iter().any(|chain| chain.broken.is_some())
    }
}

/// How to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look<'a> {
    /// Manifests must be signed by this key.
    pub trusted: Option<&'a PublicKey>,
    /// Replace what is damaged from another copy.
    pub repair: bool,
}

/// Reads everything.
pub async fn verify_archive(
    archive: &Archive,
    segments: &Segments,
    look: Look<'_>,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ArchiveReport, BackupError> {
    let mut report = ArchiveReport { schema_version: 1, backup: archive.name().to_owned(), ..ArchiveReport::default() };
    let mut chains = Vec::new();
    for number in archive.chains().await? {
        let chain = archive.chain(number, look.trusted).await?;
        report.chains.push(ChainReport {
            chain: number,
            units: chain.units.len() as u32,
            is_good: chain.head().is_good,
            broken: chain.broken.clone(),
        });
        chains.push(chain);
    }
    verify_texts(archive, &chains, look.repair, &mut report).await?;
    for chain in &chains {
        report.unnamed.extend(unnamed(archive, chain).await?);
    }
    let all: u64 = chains.iter().flat_map(parts_of).map(|(_, part)| part.bytes).sum();
    let all = all * archive.copies().stores().len() as u64;
    for (log, part) in chains.iter().flat_map(parts_of) {
        verify_part(segments, &log, &part, look.repair, &mut report).await?;
        progress(report.bytes, all);
    }
    report.lost.sort();
    Ok(report)
}

/// What no copy has any more of these logs.
pub async fn lost_of(segments: &Segments, log: &Log) -> Result<Vec<(i64, i64)>, BackupError> {
    let mut report = ArchiveReport::default();
    for part in &log.segments {
        verify_part(segments, log, part, false, &mut report).await?;
    }
    Ok(report.lost.into_iter().map(|lost| (lost.from, lost.to)).collect())
}

fn parts_of(chain: &Chain) -> Vec<(Log, SegmentPart)> {
    let logs = logs(chain.manifests()).into_values();
    logs.flat_map(|mut log| {
        let segments = std::mem::take(&mut log.segments);
        segments.into_iter().map(move |part| (log.clone(), part))
    })
    .collect()
}

/// Looks at a segment in every copy; repairs it where that is wanted and one of them is whole.
async fn verify_part(
    segments: &Segments,
    log: &Log,
    part: &SegmentPart,
    repair: bool,
    report: &mut ArchiveReport,
) -> Result<(), BackupError> {
    let stores = segments.copies().stores();
    let (mut whole, mut damages): (Option<Bytes>, Vec<(&Store, Damage)>) = (None, Vec::new());
    for store in stores {
        report.segments += 1;
        report.bytes += part.bytes;
        let found = match store.get(&part.object).await {
            Ok(bytes) => examine(segments, part, &bytes).map(|()| bytes),
            Err(error) if error.is_missing() => Err(("it is missing".to_owned(), vec![(part.from, part.to)])),
            Err(error) => return Err(error.into()),
        };
        match found {
            Ok(bytes) => whole = whole.or(Some(bytes)),
            Err((detail, ranges)) => damages.push((store, damage(store, log, part, detail, ranges))),
        }
    }
    let mut lost: Option<Vec<(i64, i64)>> = None;
    for (store, mut damage) in damages {
        if whole.is_none() {
            lost = Some(lost.map_or_else(|| damage.ranges.clone(), |before| both(&before, &damage.ranges)));
        }
        if let Some(bytes) = whole.as_ref().filter(|_| repair) {
            store.put(&part.object, bytes.clone()).await?;
            damage.is_repaired = true;
        }
        report.damages.push(damage);
    }
    let of = |(from, to)| LostRange { topic: log.id.topic.clone(), partition: log.id.partition, from, to };
    report.lost.extend(lost.into_iter().flatten().map(of));
    Ok(())
}

fn damage(store: &Store, log: &Log, part: &SegmentPart, detail: String, ranges: Vec<(i64, i64)>) -> Damage {
    Damage {
        copy: store.to_string(),
        object: part.object.clone(),
        topic: Some(log.id.topic.clone()),
        partition: Some(log.id.partition),
        detail,
        ranges,
        is_repaired: false,
    }
}

/// Whether a segment is what the manifest says; where it is not, what is wrong and which offsets cannot be read.
fn examine(segments: &Segments, part: &SegmentPart, bytes: &Bytes) -> Result<(), (String, Vec<(i64, i64)>)> {
    let all = || vec![(part.from, part.to)];
    let is_right = bytes.len() as u64 == part.bytes && sha256_hex(bytes) == part.sha256;
    let header = header_of(bytes).map_err(|error| (error.to_string(), all()))?;
    if header.of.segment_id != part.segment_id {
        return Err(("another segment stands in its place".to_owned(), all()));
    }
    // Without its key what is sealed is not read, but whether it is what was written shows all the same.
    let key = segments.key(&part.object, &header).unwrap_or_default();
    let index = index_of(&header, key.as_ref(), bytes);
    let index = index.unwrap_or_else(|| walk(&header, bytes, (part.from, part.to)));
    let mut lost: Vec<(i64, i64)> = Vec::new();
    for place in index.blocks.iter().filter(|place| !is_block_good(&header, key.as_ref(), bytes, place)) {
        match lost.last_mut() {
            Some(last) if last.1 == place.first_offset => last.1 = place.next_offset,
            _ => lost.push((place.first_offset, place.next_offset)),
        }
    }
    if is_right && lost.is_empty() {
        return Ok(());
    }
    let detail = if bytes.len() as u64 != part.bytes {
        format!("it has {} bytes, and {} are expected", bytes.len(), part.bytes)
    } else if is_right {
        "it is as it was written, and cannot be read".to_owned()
    } else {
        "its SHA-256 is not the manifest's".to_owned()
    };
    Err((detail, lost))
}

fn is_block_good(header: &SegmentHeader, key: Option<&SegmentKey>, bytes: &Bytes, place: &BlockPlace) -> bool {
    if place.bytes == 0 {
        return false;
    }
    if header.wrapped_key.is_some() && key.is_none() {
        return is_whole(bytes, place.position);
    }
    let from = usize::try_from(place.position).unwrap_or(usize::MAX).min(bytes.len());
    let opened = open_block(header, key, &bytes.slice(from..), place.position);
    opened.is_ok_and(|(block, payload)| {
        block.kind == BlockKind::Batches && batches_of(&block, payload, place.position).is_ok()
    })
}

/// What is in both.
fn both(one: &[(i64, i64)], other: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let overlap = |a: &(i64, i64), b: &(i64, i64)| (a.0.max(b.0), a.1.min(b.1));
    one.iter().flat_map(|a| other.iter().map(move |b| overlap(a, b))).filter(|(from, to)| from < to).collect()
}
