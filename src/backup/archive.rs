//! An archive: its chains, read and checked.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::chain::Head;
use super::copies::{AwayCopy, Copies};
use super::digest::sha256_hex;
use super::envelope::{self, EnvelopeError, FileKind};
use super::manifest::{Manifest, PartitionPart, Signature};
use super::names;
use super::seal::PublicKey;
use super::store::Put;
use crate::engine::now_ms;

const KIND: FileKind = FileKind { magic: "kmirror-archive", version: 1 };
/// Manifests that are read side by side.
const READ_AT_ONCE: usize = 16;

/// A note for whoever watches. Nothing hangs on it.
#[derive(Debug, Serialize, Deserialize)]
struct Verified {
    verified_at_ms: i64,
}

/// What the folder says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    /// Name of the backup.
    pub(super) backup: String,
    /// Cluster id of the source.
    pub(super) cluster_id: String,
    /// When it was begun, ms.
    pub(super) created_at_ms: i64,
}

impl Label {
    /// Its file.
    pub(super) fn to_file(&self) -> Vec<u8> {
        envelope::wrap(KIND, &serde_json::to_vec(self).unwrap_or_default(), None)
    }

    /// From its file.
    pub(super) fn parse(file: &[u8]) -> Result<Self, EnvelopeError> {
        let (_, body) = envelope::open(KIND, file)?;
        serde_json::from_slice(body).map_err(|error| EnvelopeError::Malformed(format!("its second line: {error}")))
    }
}

/// An archive, in one or several copies.
#[derive(Debug, Clone)]
pub struct Archive {
    name: String,
    copies: Copies,
}

/// A unit as it was found.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Path of the manifest.
    pub object: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// What it says.
    pub manifest: Manifest,
    /// Who vouches for it.
    pub signature: Option<Signature>,
}

/// A chain as it was found.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its number.
    pub number: u32,
    /// Units from the first, each bound to the one before it.
    pub units: Vec<Unit>,
    /// What is wrong behind the last of these, where something is: a unit that is missing, damaged or not what followed it.
    pub broken: Option<String>,
}

impl Chain {
    /// Where the next unit goes on.
    pub fn head(&self) -> Head {
        let mut head = Head::new(self.number);
        for unit in &self.units {
            head.advance(&unit.manifest, unit.sha256.clone());
        }
        head
    }

    /// Paths of the segments that its units name.
    pub fn named(&self) -> BTreeSet<&str> {
        let parts = self.manifests().flat_map(|manifest| &manifest.partitions);
        parts.flat_map(|part| &part.segments).map(|segment| segment.object.as_str()).collect()
    }

    /// The manifests.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.units.iter().map(|unit| &unit.manifest)
    }
}

/// How an archive stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The newest chain that has a unit.
    pub chain: u32,
    /// Its newest unit.
    pub unit: u32,
    /// When the last pass ended that read every partition to its end; `None`: none did.
    pub complete_at_ms: Option<i64>,
    /// What stood in the way of the newest pass: topic, partition, and why.
    pub problems: Vec<(String, i32, String)>,
    begun_at_ms: i64,
}

impl Standing {
    fn of(newest: &Manifest) -> Self {
        let (chain, unit, begun_at_ms) = (newest.chain, newest.unit, newest.begun_at_ms);
        Self { chain, unit, complete_at_ms: None, problems: Vec::new(), begun_at_ms }
    }

    /// Takes a manifest in, from the newest back; gives whether that is all.
    fn take(&mut self, manifest: &Manifest) -> bool {
        // A pass writes several manifests, and which of them has the problem is chance.
        if manifest.begun_at_ms == self.begun_at_ms {
            let problem = |part: &PartitionPart| Some((part.topic.clone(), part.partition, part.problem.clone()?));
            self.problems.extend(manifest.partitions.iter().filter_map(problem));
        }
        self.complete_at_ms = manifest.is_complete.then_some(manifest.ended_at_ms);
        manifest.is_complete
    }
}

impl Archive {
    /// The archive of a backup of this name in these places.
    pub fn new(name: &str, copies: Copies) -> Self {
        Self { name: name.to_owned(), copies }
    }

    /// Name of the backup.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The archive in those of its places that can be written now, and those that cannot: they are caught up later. The first must be
    /// there, for it decides between two writers and has everything.
    pub async fn reachable(&self) -> Result<(Self, Vec<AwayCopy>), BackupError> {
        let (mut there, mut away) = (Vec::new(), Vec::new());
        let mut is_begun = false;
        for (number, store) in self.copies.stores().iter().enumerate() {
            match store.is_begun(names::ARCHIVE).await {
                Ok(has) => is_begun |= number == 0 && has,
                // A first backup makes its folders.
                Err(error) if error.is_without_place() && !is_begun => {}
                Err(error) if number > 0 && error.is_of_the_place() => {
                    tracing::warn!(backup = %self.name, place = %store, %error, "this copy falls behind: it is caught up by a later pass");
                    away.push(AwayCopy { copy: store.to_string(), detail: error.to_string() });
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            there.push(store.clone());
        }
        Ok((Self { name: self.name.clone(), copies: Copies::new(there) }, away))
    }

    /// Begins the archive, or makes sure that it is of this cluster. `is_known`: it was there before, and is not begun once more.
    /// Gives whether it was begun.
    pub async fn begin(&self, cluster_id: &str, is_known: bool) -> Result<bool, BackupError> {
        let label = Label { backup: self.name.clone(), cluster_id: cluster_id.to_owned(), created_at_ms: now_ms() };
        let bytes = Bytes::from(label.to_file());
        let is_new = self.look_before_it_is_begun(is_known).await?;
        match self.copies.put_new(names::ARCHIVE, bytes).await? {
            Put::Created => Ok(is_new),
            Put::AlreadyThere => self.cluster_id().await.and_then(|found| {
                if found == cluster_id {
                    return Ok(false);
                }
                Err(BackupError::WrongCluster {
                    backup: self.name.clone(),
                    found: cluster_id.to_owned(),
                    recorded: found,
                })
            }),
        }
    }

    /// A place that lacks an archive which another one has, or which was there a moment ago, may be a disk that is not mounted: nothing
    /// is begun there. Where no place has it, which is what this gives, folders are made.
    async fn look_before_it_is_begun(&self, is_known: bool) -> Result<bool, BackupError> {
        let (mut has, mut lacks) = (Vec::new(), Vec::new());
        for store in self.copies.stores() {
            match store.is_begun(names::ARCHIVE).await {
                Ok(true) => has.push(store),
                Ok(false) => lacks.push((store, None)),
                Err(error) if error.is_without_place() => lacks.push((store, Some(error))),
                Err(error) => return Err(error.into()),
            }
        }
        if let Some((store, why)) = lacks.first().filter(|_| is_known || !has.is_empty()) {
            let before = if has.is_empty() { "it was there before" } else { "another has it" };
            let why = why.as_ref().map(|error| format!("; {error}")).unwrap_or_default();
            return Err(BackupError::Damaged {
                backup: self.name.clone(),
                object: names::ARCHIVE.to_owned(),
                detail: format!(
                    "destination {store} lacks the archive, and {before}: is it mounted? kmirror archive repair gives it a whole copy \
                     where another has one{why}"
                ),
            });
        }
        let is_new = !lacks.is_empty();
        for (store, _) in lacks {
            store.make()?;
            tracing::warn!(backup = %self.name, place = %store,
                "a new archive is begun here: if there should be one already, the place is wrong or not mounted");
        }
        Ok(is_new)
    }

    /// Cluster id of the source.
    pub async fn cluster_id(&self) -> Result<String, BackupError> {
        let file = self.copies.first_good(names::ARCHIVE, |file| Label::parse(file).is_ok()).await?;
        let label = Label::parse(&file).map_err(|error| BackupError::Damaged {
            backup: self.name.clone(),
            object: names::ARCHIVE.to_owned(),
            detail: format!("{error}; kmirror archive repair writes it anew from a copy or a manifest"),
        })?;
        Ok(label.cluster_id)
    }

    /// Numbers of the chains, ascending; those that are being pruned are left out.
    pub async fn chains(&self) -> Result<Vec<u32>, BackupError> {
        self.numbers(false).await
    }

    /// Numbers of chains that a call has begun to let go.
    pub async fn half_pruned(&self) -> Result<Vec<u32>, BackupError> {
        self.numbers(true).await
    }

    async fn numbers(&self, are_pruned: bool) -> Result<Vec<u32>, BackupError> {
        let mut numbers = Vec::new();
        for folder in self.copies.folders("chains").await? {
            let Some(number) = names::parse_chain(&folder) else { continue };
            if self.copies.is_there(&names::pruned(number)).await? == are_pruned {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// When everything in it was last found whole, ms since the epoch; `None` where nobody has noted that.
    pub async fn verified_at_ms(&self) -> Result<Option<i64>, BackupError> {
        if !self.copies.is_there(names::VERIFIED).await? {
            return Ok(None);
        }
        let note = self.copies.get(names::VERIFIED).await?;
        Ok(serde_json::from_slice::<Verified>(&note).ok().map(|note| note.verified_at_ms))
    }

    /// Notes that everything in it was found whole.
    pub async fn note_verified(&self, at_ms: i64) -> Result<(), BackupError> {
        let note = serde_json::to_vec(&Verified { verified_at_ms: at_ms }).unwrap_or_default();
        Ok(self.copies.put(names::VERIFIED, note.into()).await?)
    }

    /// How the archive stands, by its newest manifests; `None` where there are none. Whether they follow one another is left to others.
    pub async fn standing(&self) -> Result<Option<Standing>, BackupError> {
        let mut standing: Option<Standing> = None;
        for chain in self.chains().await?.into_iter().rev() {
            let objects = self.copies.objects(&names::units(chain)).await?;
            let mut names: Vec<String> = objects.into_iter().map(|object| object.path).collect();
            names.retain(|name| names::parse_manifest(name).is_some());
            let read = |name: String| async move {
                let file = self.copies.first_good(&name, |file| Manifest::parse(file).is_ok()).await?;
                Ok::<_, BackupError>((name, file))
            };
            let mut files = std::pin::pin!(stream::iter(names.into_iter().rev().map(read)).buffered(READ_AT_ONCE));
            while let Some((object, file)) = files.try_next().await? {
                let manifest = Manifest::parse(&file).map(|signed| signed.manifest).map_err(|error| {
                    BackupError::Damaged { backup: self.name.clone(), object, detail: error.to_string() }
                })?;
                let standing = standing.get_or_insert_with(|| Standing::of(&manifest));
                if standing.take(&manifest) {
                    return Ok(Some(standing.clone()));
                }
            }
        }
        Ok(standing)
    }

    /// Reads a chain's manifests in order, up to the first that is not what should stand there. `trusted`: they must be signed by it.
    pub async fn chain(&self, number: u32, trusted: Option<&PublicKey>) -> Result<Chain, BackupError> {
        let objects = self.copies.objects(&names::units(number)).await?;
        let mut wanted: Vec<u32> =
            objects.iter().filter_map(|object| names::parse_manifest(&object.path)).map(|(_, unit)| unit).collect();
        wanted.sort_unstable();
        let read = |unit: u32| async move {
            let object = names::manifest(number, unit);
            let file = self.copies.first_good(&object, |file| Manifest::parse(file).is_ok()).await?;
            Ok::<_, BackupError>((unit, object, file))
        };
        let files: Vec<(u32, String, Bytes)> =
            stream::iter(wanted.into_iter().map(read)).buffered(READ_AT_ONCE).try_collect().await?;
        let mut chain = Chain { number, units: Vec::new(), broken: None };
        let mut head = Head::new(number);
        for (unit, object, file) in files {
            let due = chain.units.len() as u32 + 1;
            if unit != due {
                chain.broken = Some(format!("unit {due} is missing ({})", names::manifest(number, due)));
                break;
            }
            match follow(&chain, &head, object, &file, trusted) {
                Ok(unit) => {
                    head.advance(&unit.manifest, unit.sha256.clone());
                    chain.units.push(unit);
                }
                Err(broken) => {
                    chain.broken = Some(broken);
                    break;
                }
            }
        }
        Ok(chain)
    }
}

/// The unit of a manifest that should follow these.
fn follow(
    chain: &Chain,
    head: &Head,
    object: String,
    file: &[u8],
    trusted: Option<&PublicKey>,
) -> Result<Unit, String> {
    let words = |error: EnvelopeError| format!("{object}: {error}");
    let signed = Manifest::parse(file).map_err(words)?;
    let unit = chain.units.len() as u32 + 1;
    if (signed.manifest.chain, signed.manifest.unit) != (chain.number, unit) {
        let (chain, unit) = (signed.manifest.chain, signed.manifest.unit);
        return Err(format!("{object}: it says that it is unit {unit} of chain {chain}: it was moved"));
    }
    let before = chain.units.last().map(|unit| unit.sha256.as_str());
    if signed.manifest.previous.as_deref() != before {
        return Err(format!("{object}: the unit before it is not the one that it was written behind"));
    }
    if let Some(wrong) = head.gainsaid_by(&signed.manifest) {
        return Err(format!("{object}: {wrong}"));
    }
    if let Some(key) = trusted {
        let signature = signed.signature.as_ref().ok_or_else(|| format!("{object}: it is not signed"))?;
        signature.check(key, signed.body).map_err(|error| format!("{object}: {error}"))?;
    }
    Ok(Unit { sha256: sha256_hex(file), object, signature: signed.signature, manifest: signed.manifest })
}
