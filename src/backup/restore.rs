//! Topics brought back from an archive: a mirror whose source is the archive, and the promotion of its target in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::BackupError;
use super::acls::{AclsRestore, plan_acls, restore_acls};
use super::archive::{Archive, Chain};
use super::capture::{Captured, CapturedTopic, Part};
use super::chain::{Log, logs};
use super::fetch::Segments;
use super::identical::{self, Identical};
use super::manifest::Manifest;
use super::moment::{end_at, settled_end};
use super::obstacles::obstacles;
use super::principals::{QuotasRestore, UsersRestore, plan_quotas, plan_users, restore_quotas};
use super::seal::PublicKey;
use super::serve::{Served, Stock};
use super::verify::lost_of;
use crate::client::{Cluster, Topics};
use crate::config::{ClusterConfig, Config, HostPort, MirrorConfig, SourceGap, TopicFilter};
use crate::engine::{Board, Budget, EngineError, PartView, connect_target, run_mirror};
use crate::groups::Overwrite;
use crate::mirror::{GapReason, Isolation};
use crate::ops::{Failover, FailoverOptions, FailoverReport, MirrorState};
use crate::plan::{AclScope, Wish};

/// Name of the archive among the clusters of a restore's configuration.
const SOURCE: &str = "archive";
const WAY_OUT: &str = "kmirror archive verify says what else is damaged; kmirror archive repair replaces it where another copy is whole, \
                       and restore --skip-damaged leaves it out";
const LOOK_EVERY: Duration = Duration::from_millis(100);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// What is to be restored.
#[derive(Debug, Clone, Default)]
pub struct What {
    /// Chain; the newest that restores by itself where it is not named.
    pub chain: Option<u32>,
    /// Nothing that is younger than this, ms.
    pub at_ms: Option<i64>,
    /// Topics; all where it is not given.
    pub topics: Option<TopicFilter>,
    /// Only these partitions, and of each only these offsets (first, and behind the last).
    pub partitions: BTreeMap<(String, i32), (Option<i64>, Option<i64>)>,
    /// What no copy has whole is left out; everything is read once before, so that it is known.
    pub skip_damaged: bool,
}

impl What {
    /// Whether it is all that the backup has.
    fn is_whole(&self) -> bool {
        self.topics.is_none() && self.partitions.is_empty()
    }
}

/// How.
#[derive(Debug, Clone)]
pub struct How {
    /// The mirror that restores: its name, target, topic names, policies. Its source and topic filter are replaced.
    pub mirror: MirrorConfig,
    /// The mirror's own, which goes on from the live source afterwards: its target is not promoted.
    pub is_seed: bool,
    /// Whether committed offsets come along.
    pub with_groups: bool,
    /// Whether ACLs do.
    pub with_acls: bool,
    /// Whether client quotas do, where all is restored.
    pub with_quotas: bool,
    /// Every record is to stand at the offset that it had, in new topics.
    pub preserve_offsets: bool,
    /// Manifests must be signed by this key.
    pub trusted: Option<PublicKey>,
}

/// What a restore would do.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    /// Version of this shape.
    pub schema_version: u32,
    /// Backup.
    pub backup: String,
    /// Cluster id of the source.
    pub cluster_id: String,
    /// Chain that is read.
    pub chain: u32,
    /// Its last unit that counts.
    pub unit: u32,
    /// When what is known of topics and groups was read, RFC 3339.
    pub captured_at: Option<String>,
    /// Name of the cluster that is written to.
    pub target: String,
    /// Name of the mirror that restores: `translate --mirror` knows it afterwards.
    pub mirror: String,
    /// Whether every record is to stand at the offset that it had; no mirror is left behind then.
    pub preserves_offsets: bool,
    /// What comes back, by topic and partition.
    pub partitions: Vec<RestoreRow>,
    /// Topics that had no record.
    pub empty_topics: Vec<String>,
    /// Consumer groups whose offsets come along.
    pub groups: usize,
    /// ACLs of the topics and groups that come back, as they are to be added to the target; `null` where they are left out.
    pub acls: Option<AclsRestore>,
    /// Client quotas that are to be added; `null` where they are left out, or a part is restored.
    pub quotas: Option<QuotasRestore>,
    /// SCRAM users that the target lacks; `null` where a part is restored.
    pub users: Option<UsersRestore>,
    /// What stands against it.
    pub obstacles: Vec<String>,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// A partition that comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreRow {
    /// Topic on the source.
    pub topic: String,
    /// Topic that is written to.
    pub target_topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset, as the source had it.
    pub from: i64,
    /// Offset behind the last.
    pub to: i64,
    /// Bytes of the segments that are read for it.
    pub bytes: u64,
    /// Offsets that were gone before they were backed up.
    pub lost_offsets: i64,
    /// Offsets that no copy of the archive has any more, and that are left out.
    pub damaged: Vec<(i64, i64)>,
}

/// A restore that was looked into.
pub struct Restore {
    config: Arc<Config>,
    mirror: MirrorConfig,
    is_seed: bool,
    stock: Stock,
    segments: Segments,
    /// What it would do.
    pub plan: RestorePlan,
}

/// What a restore did.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// What was asked for.
    pub plan: RestorePlan,
    /// Source offsets that were accounted for.
    pub offsets: i64,
    /// How long it took.
    pub seconds: f64,
    /// The promotion in the end; `null` for a seed, and where offsets are preserved.
    pub promotion: Option<FailoverReport>,
    /// What was written and read back where offsets are preserved.
    pub identical: Option<Identical>,
}

/// Called with the source offsets that are through, and all of them.
pub type OnProgress<'a> = &'a (dyn Fn(i64, i64) + Send + Sync);

impl Restore {
    /// Looks into archive and target, and makes the plan.
    pub async fn prepare(
        config: &Config,
        archive: &Archive,
        segments: Segments,
        what: &What,
        how: How,
    ) -> Result<Self, BackupError> {
        let (chain, passed_over) = choose(archive, what.chain, how.trusted.as_ref()).await?;
        let chosen = select(&chain, what, &how.mirror);
        let isolation = chain.manifests().next().map_or(Isolation::ReadCommitted, |manifest| manifest.isolation);
        let mut served = Vec::new();
        for mut log in chosen {
            let end = if what.skip_damaged { leave_out(&segments, &mut log).await? } else { log.to };
            let (from, to) = bounds(&segments, &log, what, (end, isolation)).await?;
            served.push((log, from, to));
        }
        let (captured, captured_at) = captured(&chain, what.at_ms);
        let captured = if how.with_groups { captured } else { Captured { groups: Part::default(), ..captured } };
        let mut mirror = how.mirror;
        SOURCE.clone_into(&mut mirror.source);
        let own_isolation = std::mem::replace(&mut mirror.isolation, isolation);
        let empty = empty_topics(&captured, &served, what, &mirror);
        if how.is_seed && own_isolation != isolation {
            return Err(BackupError::Refused(format!(
                "mirror {} reads {:?}, and the archive was read {:?}: the same records are not to be had from it",
                mirror.name, own_isolation, isolation
            )));
        }
        mirror.topics = only(&served, &empty)?;
        mirror.source_gaps = served.iter().map(|(log, _, _)| known_gaps(log)).collect();
        let cluster_id = archive.cluster_id().await?;
        let mut plan = RestorePlan {
            schema_version: 1,
            backup: archive.name().to_owned(),
            cluster_id: cluster_id.clone(),
            chain: chain.number,
            unit: chain.units.last().map_or(0, |unit| unit.manifest.unit),
            captured_at,
            target: mirror.target.clone(),
            mirror: mirror.name.clone(),
            preserves_offsets: how.preserve_offsets,
            partitions: served.iter().map(|(log, from, to)| row(&mirror, log, *from, *to)).collect(),
            empty_topics: empty.iter().map(|topic| topic.name.clone()).collect(),
            groups: captured.groups.entries.len(),
            acls: None,
            quotas: None,
            users: None,
            obstacles: Vec::new(),
            warnings: passed_over
                .into_iter()
                .chain(chain.broken.iter().map(|broken| format!("the chain is broken: {broken}")))
                .collect(),
        };
        plan.warnings.extend(warnings(&served, how.preserve_offsets));
        let target = connect_target(config, &mirror).await?;
        plan.obstacles = match how.preserve_offsets {
            true => identical::obstacles(&target, &mirror, &plan).await?,
            false => obstacles(&target, &mirror, how.is_seed, &plan).await?,
        };
        if how.with_acls && !how.is_seed {
            plan.acls = Some(planned_acls(&target, &captured, &plan.partitions, what).await?);
        }
        // Whoever takes one topic back does not mean everybody's quotas.
        if !how.is_seed && what.is_whole() {
            plan.users = Some(planned_users(&target, config, &captured).await?);
            if how.with_quotas {
                plan.quotas = Some(plan_quotas(&target, &captured.quotas).await?);
            }
        }
        let stock = Stock { cluster_id, captured, logs: served, empty };
        Ok(Self { config: Arc::new(config.clone()), mirror, is_seed: how.is_seed, stock, segments, plan })
    }

    /// Does it, or goes on where an earlier call was cut short.
    pub async fn run(self, progress: OnProgress<'_>) -> Result<Restored, BackupError> {
        if !self.plan.obstacles.is_empty() {
            return Err(BackupError::Refused(self.plan.obstacles.join("; ")));
        }
        let began = std::time::Instant::now();
        let memory_bytes = usize::try_from(self.config.limits.memory_bytes).unwrap_or(usize::MAX);
        let served = Served::start(&self.segments, &self.stock, memory_bytes).await?;
        let outcome = match self.plan.preserves_offsets {
            true => self.fill_identically(&served, progress).await.map(|identical| (None, Some(identical))),
            false => self.fill(&served, progress).await.map(|promotion| (promotion, None)),
        };
        served.stop().await;
        let (promotion, identical) = outcome?;
        let mut plan = self.plan;
        if let Some(acls) = plan.acls.as_mut().filter(|acls| !acls.plan.create.is_empty()) {
            restore_acls(&connect_target(&self.config, &self.mirror).await?, acls).await?;
        }
        if let Some(quotas) = plan.quotas.as_mut().filter(|quotas| !quotas.plan.create.is_empty()) {
            restore_quotas(&connect_target(&self.config, &self.mirror).await?, quotas).await?;
        }
        let offsets = self.stock.logs.iter().fold(0i64, |sum, (_, from, to)| sum.saturating_add(to - from));
        Ok(Restored { plan, offsets, seconds: began.elapsed().as_secs_f64(), promotion, identical })
    }

    async fn fill_identically(&self, served: &Served, progress: OnProgress<'_>) -> Result<Identical, BackupError> {
        let target = connect_target(&self.config, &self.mirror).await?;
        let isolation = self.mirror.isolation;
        let (backup, rows) = (&self.plan.backup, &self.plan.partitions);
        identical::Task { backup, mirror: &self.mirror, stock: &self.stock, rows, isolation }
            .run(served, target, progress)
            .await
    }

    async fn fill(&self, served: &Served, progress: OnProgress<'_>) -> Result<Option<FailoverReport>, BackupError> {
        let config = Arc::new(self.with_archive(served)?);
        // A call that was cut short in its promotion had everything on the target by then.
        if !self.is_being_promoted().await? {
            let running = Running::start(&config, &self.mirror);
            let outcome = self.follow(&running, served, progress).await;
            running.stop().await;
            outcome?;
        }
        if self.is_seed {
            return Ok(None);
        }
        let options = FailoverOptions {
            wish: Wish::Planned,
            fence_source: false,
            quiet: Duration::ZERO,
            drain_timeout: Duration::from_secs(300),
            source_timeout: Duration::from_secs(30),
            allow_halted: false,
            apply_settings: true,
            overwrite_groups: Some(Overwrite::Unused),
            groups_snapshot: None,
            is_alone: true,
            pause_after: None,
        };
        let failover = Failover::prepare(&config, &self.mirror, options).await?;
        Ok(Some(failover.run().await?))
    }

    async fn is_being_promoted(&self) -> Result<bool, BackupError> {
        let target = connect_target(&self.config, &self.mirror).await?;
        let state = MirrorState::read(&self.mirror.name, &target).await?;
        Ok(state.is_some_and(|state| state.control.standing_promotion().is_some()))
    }

    /// The configuration with the archive as one of its clusters.
    fn with_archive(&self, served: &Served) -> Result<Config, BackupError> {
        let mut config = Config::clone(&self.config);
        let address = served.bootstrap().into_iter().next().unwrap_or_default();
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        let port = port.parse().map_err(|_| BackupError::Unexpected {
            backup: self.plan.backup.clone(),
            detail: format!("the archive is served at {address:?}"),
        })?;
        let archive = ClusterConfig {
            name: SOURCE.to_owned(),
            bootstrap: vec![HostPort { host: host.to_owned(), port }],
            client_id: Some(served.client_id().to_owned()),
            tls: None,
            sasl: None,
        };
        config.clusters.insert(SOURCE.to_owned(), archive);
        config.mirrors = vec![self.mirror.clone()];
        config.drills.clear();
        Ok(config)
    }

    /// Until everything is on the target, or cannot be brought there.
    async fn follow(&self, running: &Running, served: &Served, progress: OnProgress<'_>) -> Result<(), BackupError> {
        let due: BTreeMap<(&str, i32), (i64, i64)> = self
            .stock
            .logs
            .iter()
            .filter(|(_, from, to)| to > from)
            .map(|(log, from, to)| ((log.id.topic.as_str(), log.id.partition), (*from, *to)))
            .collect();
        let all = due.values().fold(0i64, |sum, (from, to)| sum.saturating_add(to - from));
        loop {
            if let Some(failure) = served.failure() {
                let detail = format!("{failure}. {WAY_OUT}");
                return Err(BackupError::NotThere { backup: self.plan.backup.clone(), detail });
            }
            let (published_ms, parts) = running.board.read();
            let mut through = 0i64;
            let mut open = due.len();
            for part in parts.iter() {
                let Some((from, to)) = due.get(&(part.topic.as_str(), part.partition)) else { continue };
                self.not_halted(part)?;
                let at = part.mirrored_to.unwrap_or(*from).clamp(*from, *to);
                through = through.saturating_add(at - from);
                open -= usize::from(at == *to);
            }
            progress(through, all);
            // Nothing may be due at all, and a mirror that is stopped before it has begun leaves no generation to promote.
            if open == 0 && published_ms > 0 && self.topics_are_there().await? {
                return Ok(());
            }
            if running.task.is_finished() {
                let detail = "the mirror that restores has ended; its log says why".to_owned();
                return Err(BackupError::Unexpected { backup: self.plan.backup.clone(), detail });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Topics without a record are there once they are created.
    async fn topics_are_there(&self) -> Result<bool, BackupError> {
        if self.stock.empty.is_empty() {
            return Ok(true);
        }
        let target = connect_target(&self.config, &self.mirror).await?;
        let metadata = target.refresh(Topics::All).await?;
        let is_there = |topic: &CapturedTopic| metadata.topic(&self.mirror.target_topic(&topic.name)).is_some();
        Ok(self.stock.empty.iter().all(is_there))
    }

    fn not_halted(&self, part: &PartView) -> Result<(), BackupError> {
        let Some(halt) = &part.halt else { return Ok(()) };
        let detail = format!("{}:{} is halted: {halt}", part.target_topic, part.partition);
        Err(BackupError::NotThere { backup: self.plan.backup.clone(), detail })
    }
}

/// The mirror that restores.
struct Running {
    board: Board,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), EngineError>>,
}

impl Running {
    fn start(config: &Arc<Config>, mirror: &MirrorConfig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let budget = Budget::new(usize::try_from(config.limits.memory_bytes).unwrap_or(usize::MAX));
        let board = Board::new(&mirror.name);
        let run = run_mirror(Arc::clone(config), Arc::new(mirror.clone()), budget, board.clone(), stopped);
        Self { board, stop, task: tokio::spawn(run) }
    }

    async fn stop(self) {
        // Nobody listens where it has ended already.
        let _ = self.stop.send(true);
        match tokio::time::timeout(STOP_LIMIT, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the mirror that restores has ended"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the mirror that restores has not stopped cleanly"),
        }
    }
}

/// The chain that was asked for, or the newest that restores by itself.
pub(super) async fn choose(
    archive: &Archive,
    wanted: Option<u32>,
    trusted: Option<&PublicKey>,
) -> Result<(Chain, Option<String>), BackupError> {
    let numbers = archive.chains().await?;
    let not_there = |detail: String| BackupError::NotThere { backup: archive.name().to_owned(), detail };
    if let Some(number) = wanted {
        if !numbers.contains(&number) {
            return Err(not_there(format!("there is no chain {number}; there are {numbers:?}")));
        }
        return Ok((archive.chain(number, trusted).await?, None));
    }
    let mut newest: Option<Chain> = None;
    let mut broken = None;
    for number in numbers.into_iter().rev() {
        let chain = archive.chain(number, trusted).await?;
        if chain.head().is_good {
            let passed_over = newest.map(|newer| {
                format!(
                    "chain {} is newer, and not complete: some of its partitions could not be read (--chain takes it)",
                    newer.number
                )
            });
            return Ok((chain, passed_over));
        }
        broken = broken.or_else(|| chain.broken.clone());
        newest = newest.or(Some(chain).filter(|chain| !chain.units.is_empty()));
    }
    let nothing = || broken.unwrap_or_else(|| "the archive has no units yet".to_owned());
    newest.map(|chain| (chain, None)).ok_or_else(|| not_there(nothing()))
}

/// The logs that are asked for; of topics that were made again under their name, the last.
fn select(chain: &Chain, what: &What, mirror: &MirrorConfig) -> Vec<Log> {
    // A topic that was deleted and made again behind the moment is the one that it was then.
    let is_then = |manifest: &&Manifest| what.at_ms.is_none_or(|at_ms| manifest.begun_at_ms <= at_ms);
    let mut latest = BTreeMap::new();
    for part in chain.manifests().filter(is_then).flat_map(|manifest| &manifest.partitions) {
        latest.insert(part.topic.as_str(), part.topic_id);
    }
    for part in chain.manifests().flat_map(|manifest| &manifest.partitions) {
        latest.entry(part.topic.as_str()).or_insert(part.topic_id);
    }
    let is_wanted = |log: &Log| {
        let id = &log.id;
        let named =
            what.topics.as_ref().is_none_or(|topics| topics.matches(&id.topic)) && mirror.topics.matches(&id.topic);
        let asked = what.partitions.is_empty() || what.partitions.contains_key(&(id.topic.clone(), id.partition));
        latest.get(id.topic.as_str()) == Some(&id.topic_id) && named && asked
    };
    logs(chain.manifests()).into_values().filter(is_wanted).collect()
}

/// Reads a log once, and notes what of it is damaged. Gives its end, or where the damage at its end begins.
async fn leave_out(segments: &Segments, log: &mut Log) -> Result<i64, BackupError> {
    log.lost = lost_of(segments, log).await?;
    let mut end = log.to;
    for part in log.segments.iter().rev() {
        let Some(lost) = log.lost.iter().find(|lost| lost.0 < part.to && part.to <= lost.1) else { break };
        end = lost.0;
        if lost.0 > part.from {
            break;
        }
    }
    Ok(end)
}

fn left_out(log: &Log) -> Vec<String> {
    let words =
        |(from, to): &(i64, i64)| format!("{}: offsets [{from}, {to}) are damaged in every copy and left out", log.id);
    log.lost.iter().map(words).collect()
}

/// What of a log is asked for.
async fn bounds(
    segments: &Segments,
    log: &Log,
    what: &What,
    (end, isolation): (i64, Isolation),
) -> Result<(i64, i64), BackupError> {
    let asked = what.partitions.get(&(log.id.topic.clone(), log.id.partition)).copied().unwrap_or_default();
    let start = log.segments.first().map_or(log.to, |part| part.from.max(log.from));
    let from = asked.0.unwrap_or(start).clamp(start, log.to.max(start));
    let mut to = asked.1.unwrap_or(end).min(end);
    if let Some(at_ms) = what.at_ms {
        to = to.min(end_at(segments, log, at_ms).await?);
    }
    // Where a log ends in a gap, nobody would ever reach its end.
    let to = settled_end(segments, log, isolation, to).await?;
    Ok((from, to.max(from)))
}

/// What was known of topics and groups at that moment, or last.
fn captured(chain: &Chain, at_ms: Option<i64>) -> (Captured, Option<String>) {
    let complete: Vec<_> = chain.manifests().filter_map(|m| Some((m.ended_at_ms, m.captured.as_ref()?))).collect();
    let until = complete.iter().rfind(|(ended_at_ms, _)| at_ms.is_none_or(|at| *ended_at_ms <= at));
    match until.or(complete.first()) {
        Some((at, captured)) => ((*captured).clone(), Some(crate::ops::time::rfc3339(*at))),
        None => (Captured::default(), None),
    }
}

/// Topics that are asked for and of which there is no log: they never had a record.
fn empty_topics(
    captured: &Captured,
    served: &[(Log, i64, i64)],
    what: &What,
    mirror: &MirrorConfig,
) -> Vec<CapturedTopic> {
    let is_empty = |topic: &&CapturedTopic| {
        let is_named = what.topics.as_ref().is_none_or(|topics| topics.matches(&topic.name));
        let is_known = !topic.topic_id.is_nil() && topic.partitions > 0;
        let is_served = served.iter().any(|(log, _, _)| log.id.topic == topic.name);
        is_named && is_known && !is_served && what.partitions.is_empty() && mirror.topics.matches(&topic.name)
    };
    captured.topics.entries.iter().filter(is_empty).cloned().collect()
}

/// What is to be known of these logs before they come back.
fn warnings(served: &[(Log, i64, i64)], preserves_offsets: bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    out.extend(served.iter().filter_map(|(log, _, _)| log.problem.as_ref().map(|why| format!("{}: {why}", log.id))));
    out.extend(served.iter().flat_map(|(log, _, _)| left_out(log)));
    if preserves_offsets {
        out.extend(served.iter().filter_map(|(log, from, to)| identical::many_markers(log, (*from, *to))));
    }
    out
}

/// What is not in a log, and why: without it, it would pass for what compaction has removed.
fn known_gaps(log: &Log) -> ((String, i32), Vec<SourceGap>) {
    let gone = log.gaps.iter().map(|gap| (gap.from, gap.to, gap.reason));
    let damaged = log.lost.iter().map(|(from, to)| (*from, *to, GapReason::Corrupt));
    ((log.id.topic.clone(), log.id.partition), gone.chain(damaged).collect())
}

/// A filter that lets these topics through, and no other.
fn only(served: &[(Log, i64, i64)], empty: &[CapturedTopic]) -> Result<TopicFilter, BackupError> {
    let names = served.iter().map(|(log, _, _)| &log.id.topic).chain(empty.iter().map(|topic| &topic.name));
    let names: BTreeSet<String> = names.map(|name| regex::escape(name)).collect();
    let names: Vec<String> = names.into_iter().collect();
    TopicFilter::new(&names, &[]).map_err(|error| BackupError::Refused(error.to_string()))
}

fn row(mirror: &MirrorConfig, log: &Log, from: i64, to: i64) -> RestoreRow {
    let overlap = |a: i64, b: i64| (b.min(to) - a.max(from)).max(0);
    let read = log.segments.iter().filter(|part| part.to > from && part.from < to);
    RestoreRow {
        topic: log.id.topic.clone(),
        target_topic: mirror.target_topic(&log.id.topic),
        partition: log.id.partition,
        from,
        to,
        bytes: read.map(|part| part.bytes).sum(),
        lost_offsets: log.gaps.iter().map(|gap| overlap(gap.from, gap.to)).sum(),
        damaged: log.lost.clone(),
    }
}

/// The ACLs of what comes back, under the names that it gets.
async fn planned_acls(
    target: &Cluster,
    captured: &Captured,
    rows: &[RestoreRow],
    what: &What,
) -> Result<AclsRestore, BackupError> {
    let topics = rows.iter().map(|row| (row.topic.clone(), row.target_topic.clone())).collect();
    let groups = captured.groups.entries.iter().map(|group| group.group.clone()).collect();
    let scope = AclScope { topics: &topics, groups: &groups, is_whole: what.is_whole() };
    Ok(plan_acls(target, &captured.acls, scope).await?)
}

async fn planned_users(target: &Cluster, config: &Config, captured: &Captured) -> Result<UsersRestore, BackupError> {
    let bootstrap = config.clusters.get(target.name()).and_then(|cluster| cluster.bootstrap.first());
    let bootstrap = bootstrap.map(ToString::to_string).unwrap_or_default();
    Ok(plan_users(target, &captured.scram_users, &bootstrap).await?)
}
