//! Whether an archive is whole: every manifest, every segment, every block, in every copy; and what is lost where it is not.

use serde::Serialize;

use super::BackupError;
use super::archive::{Archive, Chain};
use super::chain::{Log, logs};
use super::copies::{AwayCopy, copy};
use super::examine::{Bad, examine};
use super::fetch::Segments;
use super::inventory::{unnamed, verify_texts};
use super::manifest::SegmentPart;
use super::names;
use super::seal::PublicKey;
use super::store::{Store, StoreError};

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ArchiveReport {
    /// Version of this shape.
    pub schema_version: u32,
    /// Backup.
    pub backup: String,
    /// Copies that do not answer: nothing is known of what they hold.
    pub away: Vec<AwayCopy>,
    /// Chains, by number.
    pub chains: Vec<ChainReport>,
    /// Segments that were read, in all copies.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects that are not what they should be.
    pub damages: Vec<Damage>,
    /// Offsets that no copy has any more, of those that answer.
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
            || !self.away.is_empty()
            || self.chains.iter().any(|chain| chain.broken.is_some())
    }
}

impl ArchiveReport {
    /// The copies that have answered so far.
    pub(super) fn there<'a>(&self, archive: &'a [Store]) -> Vec<&'a Store> {
        let is_there = |store: &&Store| !self.away.iter().any(|away| away.copy == store.to_string());
        archive.iter().filter(is_there).collect()
    }

    /// Takes note of a copy that does not answer; any other error is given back.
    pub(super) fn note_away(&mut self, store: &Store, error: StoreError) -> Result<(), StoreError> {
        if !error.is_of_the_place() {
            return Err(error);
        }
        self.away.push(AwayCopy { copy: store.to_string(), detail: error.to_string() });
        Ok(())
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
    ask_each(archive, &mut report).await?;
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
    let all = chains.iter().flat_map(parts_of).fold(0u64, |sum, (_, part)| sum.saturating_add(part.bytes));
    let all = all.saturating_mul(report.there(archive.copies().stores()).len() as u64);
    for (log, part) in chains.iter().flat_map(parts_of) {
        verify_part(segments, &log, &part, look.repair, &mut report).await?;
        progress(report.bytes, all);
    }
    report.lost.sort();
    Ok(report)
}

/// Which copies answer; an error where none does.
async fn ask_each(archive: &Archive, report: &mut ArchiveReport) -> Result<(), BackupError> {
    let mut last = None;
    for store in archive.copies().stores() {
        if let Err(error) = store.is_begun(names::ARCHIVE).await {
            report.away.push(AwayCopy { copy: store.to_string(), detail: error.to_string() });
            last = Some(error);
        }
    }
    match last {
        Some(error) if report.away.len() == archive.copies().stores().len() => Err(error.into()),
        _ => Ok(()),
    }
}

/// What no copy has any more of this log.
pub async fn lost_of(segments: &Segments, log: &Log) -> Result<Vec<(i64, i64)>, BackupError> {
    let mut report = ArchiveReport::default();
    for part in &log.segments {
        verify_part(segments, log, part, false, &mut report).await?;
    }
    if let (Some(away), Some(lost)) = (report.away.first(), report.lost.first()) {
        return Err(BackupError::Refused(format!(
            "{}: offsets [{}, {}) are damaged in every copy that answers, and this one may have them whole: {}",
            log.id, lost.from, lost.to, away.detail
        )));
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
    let stores = report.there(segments.copies().stores());
    let (mut whole, mut bad): (Option<&Store>, Vec<(&Store, Bad)>) = (None, Vec::new());
    for store in stores {
        match examine(segments, store, part).await {
            Ok(None) => whole = whole.or(Some(store)),
            Ok(Some(found)) => bad.push((store, found)),
            Err(error) => {
                report.note_away(store, error)?;
                continue;
            }
        }
        report.segments += 1;
        report.bytes = report.bytes.saturating_add(part.bytes);
    }
    let mut lost: Option<Vec<(i64, i64)>> = None;
    for (store, found) in bad {
        if whole.is_none() {
            lost = Some(lost.map_or_else(|| found.ranges.clone(), |before| both(&before, &found.ranges)));
        }
        let mut damage = damage(store, log, part, found);
        if let Some(from) = whole.filter(|_| repair) {
            copy(from, store, &part.object).await?;
            damage.is_repaired = true;
        }
        report.damages.push(damage);
    }
    let of = |(from, to)| LostRange { topic: log.id.topic.clone(), partition: log.id.partition, from, to };
    report.lost.extend(lost.into_iter().flatten().map(of));
    Ok(())
}

fn damage(store: &Store, log: &Log, part: &SegmentPart, Bad { detail, ranges }: Bad) -> Damage {
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

/// What is in both.
fn both(one: &[(i64, i64)], other: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let overlap = |a: &(i64, i64), b: &(i64, i64)| (a.0.max(b.0), a.1.min(b.1));
    one.iter().flat_map(|a| other.iter().map(move |b| overlap(a, b))).filter(|(from, to)| from < to).collect()
}
