//! Keeps a backup: which chain the next pass belongs to, passes, and what is let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::BackupError;
use super::archive::{Archive, Chain};
use super::chain::Head;
use super::copies::Copies;
use super::fetch::Segments;
use super::names;
use super::pass::{COMMIT_EVERY, Meter, Outlook, Pass, PassReport};
use super::seal::{Keyring, Signer};
use crate::client::Cluster;
use crate::config::BackupConfig;
use crate::engine::now_ms;

/// Objects that no manifest names may be of a pass that somebody else is at; after that long nobody is.
const LEFTOVER_AGE_MS: i64 = 24 * 3600 * 1000;

/// Keeps one backup.
#[derive(Debug)]
pub struct Keeper {
    config: BackupConfig,
    cluster: Cluster,
    archive: Archive,
    keyring: Option<Keyring>,
    signer: Option<Arc<Signer>>,
    /// Where the last pass ended: a chain has a manifest a pass, and is not read again for each.
    known: Mutex<Option<Head>>,
    /// Whether the archive was there before: it is not begun once more.
    is_known: AtomicBool,
}

/// What was let go, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Chains.
    pub chains: Vec<u32>,
    /// Objects that no manifest names.
    pub leftovers: u64,
    /// Files that killed writers have left in local folders, in all copies.
    pub unfinished: u64,
    /// Bytes, in each copy.
    pub bytes: u64,
}

impl Keeper {
    /// Keeps the backup of this cluster in this archive.
    pub fn new(
        config: BackupConfig,
        cluster: Cluster,
        archive: Archive,
        (keyring, signer): (Option<Keyring>, Option<Arc<Signer>>),
    ) -> Self {
        Self { config, cluster, archive, keyring, signer, known: Mutex::new(None), is_known: AtomicBool::new(false) }
    }

    /// What it is told to do.
    pub fn config(&self) -> &BackupConfig {
        &self.config
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The archive was there before: where it is not any more, something is not mounted, and no other is begun.
    pub fn expect_archive(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// One pass; `full` begins a new chain.
    pub async fn pass(&self, full: bool, commit_every: Duration, meter: Meter) -> Result<PassReport, BackupError> {
        let mut known = self.known.lock().await;
        let (archive, away) = self.archive.reachable().await?;
        let mut is_new_archive = false;
        let mut head = match known.take() {
            Some(head) if !full && !self.is_due(&head) && self.is_newest(&head).await? => head,
            _ => {
                let is_known = self.is_known.load(Ordering::Relaxed);
                is_new_archive = archive.begin(&self.cluster.cluster_id(), is_known).await?;
                self.expect_archive();
                self.head(full).await?
            }
        };
        let last = match &head.last_sha256 {
            Some(sha256) => {
                let last = names::manifest(head.chain, head.units);
                tracing::debug!(backup = %self.config.name, last, sha256, "going on behind this manifest");
                Some(last)
            }
            None => self.last_of_the_chain_before(&head).await?,
        };
        if let Some(last) = last {
            // A pass that died between two copies, or that went without one, has left it behind.
            let given = archive.copies().catch_up(&last).await?;
            if given > 0 {
                tracing::info!(backup = %self.config.name, objects = given, "copies that were behind were caught up");
            }
        }
        let pass = self.pass_behind(archive.copies(), &head, commit_every, meter).without(away.clone());
        let report = pass.run(&mut head).await?;
        *known = Some(head);
        Ok(PassReport { is_new_archive, away, ..report })
    }

    /// The last manifest in front of a chain that is new.
    async fn last_of_the_chain_before(&self, head: &Head) -> Result<Option<String>, BackupError> {
        let before = self.archive.chains().await?.into_iter().rfind(|number| *number < head.chain);
        let Some(number) = before else { return Ok(None) };
        Ok(self.archive.chain(number, None).await?.units.last().map(|unit| unit.object.clone()))
    }

    /// What a pass would read.
    pub async fn outlook(&self, full: bool) -> Result<Outlook, BackupError> {
        let head = match self.head(full).await {
            // A first pass makes it.
            Err(BackupError::Store(error)) if error.is_without_place() => Head::new(1),
            head => head?,
        };
        self.pass_behind(self.archive.copies(), &head, COMMIT_EVERY, Meter::default()).outlook(&head).await
    }

    /// Offsets of the source that the archive lacks now; `None` where that is not known, or not for every partition.
    pub async fn lag_records(&self) -> Option<i64> {
        let known = self.known.lock().await;
        let head = known.as_ref()?;
        let pass = self.pass_behind(self.archive.copies(), head, COMMIT_EVERY, Meter::default());
        let lag = pass.lag_records(head).await;
        lag.inspect_err(|error| tracing::warn!(backup = %self.config.name, %error, "how far it is behind is not known"))
            .ok()
            .flatten()
    }

    fn pass_behind(&self, copies: &Copies, head: &Head, commit_every: Duration, meter: Meter) -> Pass {
        let guards = (self.keyring.clone(), self.signer.clone());
        Pass::new(self.cluster.clone(), self.config.clone(), copies.clone(), guards, head, (commit_every, meter))
    }

    /// The chain to go on with.
    async fn head(&self, full: bool) -> Result<Head, BackupError> {
        let Some(last) = self.archive.chains().await?.last().copied() else { return Ok(Head::new(1)) };
        let trusted = self.signer.as_ref().map(|signer| signer.public_key());
        let chain = self.archive.chain(last, trusted.as_ref()).await?;
        if let Some(broken) = &chain.broken {
            tracing::error!(backup = %self.config.name, chain = last, broken,
                "the chain cannot be gone on with: a new one is begun. kmirror archive verify says what is left of it");
            return Ok(Head::new(last + 1));
        }
        let head = chain.head();
        if self.is_to_be_sealed_from_here(&chain).await? {
            tracing::info!(backup = %self.config.name, chain = last, "the chain is not sealed, and encryption was turned on: a new one is begun");
            return Ok(Head::new(last + 1));
        }
        // Aborted transactions are known under read_committed alone: a chain is read in one way.
        let is_other = head.isolation.is_some_and(|isolation| isolation != self.config.isolation);
        Ok(if (full && head.units > 0) || is_other || self.is_due(&head) { Head::new(last + 1) } else { head })
    }

    /// Whether encryption is new to this chain: what is in it will not be read where what is not sealed is refused.
    async fn is_to_be_sealed_from_here(&self, chain: &Chain) -> Result<bool, BackupError> {
        let newest = chain.manifests().flat_map(|m| &m.partitions).flat_map(|part| &part.segments).last();
        let (Some(_), Some(part)) = (self.keyring.as_ref().filter(|ring| !ring.takes_unsealed()), newest) else {
            return Ok(false);
        };
        let segments = Segments::new(self.archive.copies().clone(), None);
        // Whatever else is wrong with it, verify says.
        Ok(segments.is_sealed(part).await.is_ok_and(|is_sealed| !is_sealed))
    }

    /// Whether nobody has begun another chain meanwhile.
    async fn is_newest(&self, head: &Head) -> Result<bool, BackupError> {
        Ok(self.archive.chains().await?.last() == Some(&head.chain))
    }

    /// Whether a new chain is due behind this one.
    fn is_due(&self, head: &Head) -> bool {
        let age_ms = now_ms() - head.begun_at_ms;
        head.is_good && age_ms >= i64::try_from(self.config.full_every.as_millis()).unwrap_or(i64::MAX)
    }

    /// Lets go of chains in front of the newest `keep` that restore by themselves; with `sweep` also of what passes that died have left.
    pub async fn prune(&self, sweep: bool, dry_run: bool) -> Result<Pruned, BackupError> {
        let numbers = self.archive.chains().await?;
        let mut pruned = Pruned::default();
        if let Some(away) = self.archive.copies().away().first().filter(|_| !sweep) {
            tracing::warn!(backup = %self.config.name, place = %away.copy, "nothing is pruned while this copy is away");
            return Ok(pruned);
        }
        // What an earlier call began.
        for number in self.archive.half_pruned().await?.into_iter().filter(|_| !dry_run) {
            self.let_go(number).await?;
        }
        if !sweep && numbers.len() <= self.config.keep {
            return Ok(pruned);
        }
        let mut chains = Vec::new();
        for number in numbers {
            chains.push(self.archive.chain(number, None).await?);
        }
        for number in to_prune(&chains, self.config.keep) {
            pruned.bytes += self.bytes_of(&names::chain(number)).await?;
            pruned.chains.push(number);
            if !dry_run {
                self.let_go(number).await?;
            }
        }
        if !sweep {
            return Ok(pruned);
        }
        chains.retain(|chain| !pruned.chains.contains(&chain.number) && chain.broken.is_none());
        for chain in &chains {
            self.sweep(chain, dry_run, &mut pruned).await?;
        }
        for store in self.archive.copies().stores().iter().filter(|_| !dry_run) {
            pruned.unfinished += store.sweep_unfinished(Duration::from_millis(LEFTOVER_AGE_MS.unsigned_abs())).await?;
        }
        Ok(pruned)
    }

    async fn bytes_of(&self, folder: &str) -> Result<u64, BackupError> {
        Ok(self.archive.copies().objects(folder).await?.iter().map(|object| object.bytes).sum())
    }

    /// From the mark on the chain counts no more, so that one that is half gone is not taken for a damaged one.
    async fn let_go(&self, number: u32) -> Result<(), BackupError> {
        let copies = self.archive.copies();
        let mark = names::pruned(number);
        copies.put(&mark, bytes::Bytes::from_static(b"pruned\n")).await?;
        copies.delete_all(&names::chain(number), &mark).await?;
        copies.delete(&mark).await?;
        tracing::info!(backup = %self.config.name, chain = number, "the chain was pruned");
        Ok(())
    }

    async fn sweep(&self, chain: &Chain, dry_run: bool, pruned: &mut Pruned) -> Result<(), BackupError> {
        let named = chain.named();
        let copies = self.archive.copies();
        let before_ms = now_ms() - LEFTOVER_AGE_MS;
        for object in copies.objects(&format!("{}/data", names::chain(chain.number))).await? {
            if named.contains(object.path.as_str()) || object.modified_ms > before_ms {
                continue;
            }
            pruned.leftovers += 1;
            pruned.bytes += object.bytes;
            if !dry_run {
                copies.delete(&object.path).await?;
            }
        }
        Ok(())
    }
}

/// Chains in front of the newest `keep` good ones; none while there are fewer.
pub(super) fn to_prune(chains: &[Chain], keep: usize) -> Vec<u32> {
    let good: Vec<u32> = chains.iter().filter(|c| c.broken.is_none() && c.head().is_good).map(|c| c.number).collect();
    let Some(oldest_kept) = good.len().checked_sub(keep.max(1)).and_then(|at| good.get(at)) else { return Vec::new() };
    chains.iter().map(|chain| chain.number).filter(|number| number < oldest_kept).collect()
}
