//! What of an archive is no segment: its label and its manifests, in every copy; and the segments that no manifest names.

use bytes::Bytes;

use super::BackupError;
use super::archive::{Archive, Chain, Label};
use super::copies::Copies;
use super::digest::sha256_hex;
use super::names;
use super::segment::{BLOCK_HEADER_BYTES, BlockHeader, BlockKind, TRAILER_BYTES, Trailer, header_of, walk};
use super::store::{Object, Store};
use super::verify::{ArchiveReport, Damage, Unnamed};

/// Looks at the label and at the manifests of these chains in every copy; replaces what is not as it should be where that is wanted and
/// can be done.
pub(super) async fn verify_texts(
    archive: &Archive,
    chains: &[Chain],
    repair: bool,
    report: &mut ArchiveReport,
) -> Result<(), BackupError> {
    let label = label(archive, chains).await?;
    let expected = label.as_ref().map(|label| Bytes::from(label.to_file()));
    let is_label = |bytes: &[u8]| expected.as_ref().is_some_and(|expected| *expected == bytes);
    verify_text(archive, names::ARCHIVE, is_label, expected.as_ref().filter(|_| repair), report).await?;
    for unit in chains.iter().flat_map(|chain| &chain.units) {
        let is_unit = |bytes: &[u8]| sha256_hex(bytes) == unit.sha256;
        let whole = archive.copies().first_good(&unit.object, is_unit).await.ok().filter(|bytes| is_unit(bytes));
        verify_text(archive, &unit.object, is_unit, whole.as_ref().filter(|_| repair), report).await?;
    }
    Ok(())
}

/// What the label should be: that of the first copy that has a whole one of the cluster that the manifests are of; without one it can
/// be made from a manifest.
async fn label(archive: &Archive, chains: &[Chain]) -> Result<Option<Label>, BackupError> {
    let first = chains.iter().flat_map(Chain::manifests).next();
    let is_its = |label: &Label| {
        label.backup == archive.name() && first.is_none_or(|manifest| manifest.cluster_id == label.cluster_id)
    };
    for store in archive.copies().in_turn() {
        // Whether a copy without it is damaged shows where each is looked at.
        if let Ok(bytes) = store.get(names::ARCHIVE).await
            && let Some(label) = Label::parse(&bytes).ok().filter(is_its)
        {
            return Ok(Some(label));
        }
    }
    Ok(first.map(|manifest| Label {
        backup: archive.name().to_owned(),
        cluster_id: manifest.cluster_id.clone(),
        created_at_ms: manifest.begun_at_ms,
    }))
}

async fn verify_text(
    archive: &Archive,
    object: &str,
    is_right: impl Fn(&[u8]) -> bool,
    replacement: Option<&Bytes>,
    report: &mut ArchiveReport,
) -> Result<(), BackupError> {
    for store in report.there(archive.copies().stores()) {
        let detail = match store.get(object).await {
            Ok(bytes) if is_right(&bytes) => continue,
            Ok(_) => "it is not as it was written".to_owned(),
            Err(error) if error.is_missing() => "it is missing".to_owned(),
            Err(error) if error.is_of_the_place() => {
                report.note_away(store, error)?;
                continue;
            }
            Err(error) => error.to_string(),
        };
        if let Some(bytes) = replacement {
            store.put(object, bytes.clone()).await?;
        }
        report.damages.push(damage(store, object, &detail, replacement.is_some()));
    }
    Ok(())
}

fn damage(store: &Store, object: &str, detail: &str, is_repaired: bool) -> Damage {
    Damage {
        copy: store.to_string(),
        object: object.to_owned(),
        topic: None,
        partition: None,
        detail: detail.to_owned(),
        ranges: Vec::new(),
        is_repaired,
    }
}

/// The segments of a chain's folder that none of its units names.
pub(super) async fn unnamed(archive: &Archive, chain: &Chain) -> Result<Vec<Unnamed>, BackupError> {
    let named = chain.named();
    let mut out = Vec::new();
    for object in archive.copies().objects(&format!("{}/data", names::chain(chain.number))).await? {
        let Some((topic, partition)) = names::parse_segment(&object.path) else { continue };
        if named.contains(object.path.as_str()) {
            continue;
        }
        let Some((begins, ends)) = offsets_of(archive.copies(), &object).await else { continue };
        let topic = topic.to_owned();
        out.push(Unnamed { object: object.path, topic, partition, from: begins, to: ends });
    }
    Ok(out)
}

/// The offsets of a segment of which no manifest tells them; `None` where it is none, or cannot be read.
async fn offsets_of(copies: &Copies, object: &Object) -> Option<(i64, i64)> {
    for store in copies.in_turn() {
        if let Some(range) = offsets_at_end(store, object).await {
            return Some(range);
        }
    }
    // It was cut off, or its end is damaged.
    let bytes = copies.get(&object.path).await.ok()?;
    let header = header_of(&bytes).ok()?;
    let begins = header.of.base_offset;
    let ends = walk(&header, &bytes, (begins, begins)).blocks.last().map_or(begins, |place| place.next_offset);
    Some((begins, ends))
}

/// The header of the index has the offsets of the whole segment.
async fn offsets_at_end(store: &Store, object: &Object) -> Option<(i64, i64)> {
    let end = object.bytes.checked_sub(TRAILER_BYTES as u64)?;
    let trailer = store.get_range(&object.path, end..object.bytes).await.ok()?;
    let begins = Trailer::parse(&trailer, end).ok()?.index_position;
    let index = store.get_range(&object.path, begins..begins.checked_add(BLOCK_HEADER_BYTES as u64)?).await.ok()?;
    let (header, _) = BlockHeader::parse(&index, begins).ok()?;
    (header.kind == BlockKind::Index).then_some((header.first_offset, header.next_offset))
}
