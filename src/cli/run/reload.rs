//! Reads the configuration again: because the file has changed, by SIGHUP, or because somebody asked over HTTP. What is wrong with it
//! is found out before anything changes, and then nothing does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::context::Context;
use super::super::reload_plan::never;
use super::watch::Watched;
use crate::client::{Cluster, ClusterSpec};
use crate::config::options::Takes;
use crate::config::{Config, ConfigErrors, Diff, Loaded, MirrorConfig, Written};
use crate::observe::config_board::{ConfigBoard, ReloadAnswer, ReloadAsk};

/// Between two looks at the file.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file that is refused may be right without being touched: what it names may turn up.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// How long a cluster whose section differs is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why it is read again.
#[derive(Debug)]
pub(super) enum Why {
    File,
    Signal,
    Again,
    Asked(ReloadAsk),
}

impl Why {
    fn word(&self) -> &'static str {
        match self {
            Self::File => "the file has changed",
            Self::Signal => "SIGHUP",
            Self::Again => "tried again",
            Self::Asked(_) => "asked over HTTP",
        }
    }

    fn is_dry_run(&self) -> bool {
        matches!(self, Self::Asked(ask) if ask.dry_run)
    }
}

/// A configuration that can be taken up.
pub(super) struct Ready {
    pub(super) loaded: Loaded,
    pub(super) mirrors: Vec<MirrorConfig>,
    pub(super) diff: Diff,
}

/// One that was read.
pub(super) struct Read {
    why: Why,
    outcome: Result<Ready, String>,
    files: BTreeSet<std::path::PathBuf>,
}

pub(super) struct Reloader {
    ctx: Context,
    board: ConfigBoard,
    watched: Watched,
    in_force: Written,
    started: Written,
    work: Option<JoinHandle<Read>>,
    again_at: Option<Instant>,
}

impl Reloader {
    pub(super) fn new(ctx: &Context, written: Written, files: BTreeSet<std::path::PathBuf>, watched: Watched) -> Self {
        let mut watched = watched;
        watched.reads(files);
        Self {
            ctx: ctx.clone(),
            board: ConfigBoard::new(written.fingerprint()),
            watched,
            started: written.clone(),
            in_force: written,
            work: None,
            again_at: None,
        }
    }

    pub(super) fn board(&self) -> ConfigBoard {
        self.board.clone()
    }

    /// Whether nothing is being read.
    pub(super) fn is_idle(&self) -> bool {
        self.work.is_none()
    }

    /// Why it should be read now by itself.
    pub(super) fn look(&mut self) -> Option<Why> {
        if !self.is_idle() {
            return None;
        }
        if self.watched.has_changed() {
            return Some(Why::File);
        }
        let is_due = self.again_at.is_some_and(|at| at <= Instant::now());
        is_due.then_some(Why::Again)
    }

    /// Begins to read; `known` are ids of clusters by name.
    pub(super) fn begin(&mut self, why: Why, known: Vec<(String, String)>) {
        // What is only looked at is still to be taken up.
        if !why.is_dry_run() {
            self.watched.about_to_read();
            self.again_at = None;
        }
        let (ctx, in_force) = (self.ctx.clone(), self.in_force.clone());
        self.work = Some(tokio::spawn(async move {
            let (loaded, files) = ctx.read();
            let outcome = ready(&ctx, loaded, &in_force, &known).await;
            Read { why, outcome, files }
        }));
    }

    /// What was read; never while nothing is.
    pub(super) async fn done(&mut self) -> Option<Read> {
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let done = work.await;
        self.work = None;
        done.inspect_err(|error| tracing::error!(%error, "the configuration could not be read")).ok()
    }

    /// Tells what came of it. Gives what is to be taken up.
    pub(super) fn judge(&mut self, read: Read) -> Option<Ready> {
        let Read { why, outcome, files } = read;
        if why.is_dry_run() {
            let told = outcome.map(|ready| self.told(&ready, true));
            answer(why, told);
            return None;
        }
        self.watched.reads(files);
        let by = why.word();
        match outcome {
            Err(refused) => {
                self.again_at = Some(Instant::now() + AGAIN_AFTER);
                if self.board.refused(&refused) {
                    tracing::error!(by, why = %refused, "the configuration was refused as a whole; the one before goes on");
                }
                answer(why, Err(refused));
                None
            }
            Ok(ready) => {
                let told = self.told(&ready, false);
                tell(by, &told);
                self.board.agreed(told.fingerprint.clone(), told.pending_restart.clone(), !ready.diff.is_empty());
                self.in_force = ready.loaded.written.clone();
                answer(why, Ok(told));
                (!ready.diff.is_empty()).then_some(ready)
            }
        }
    }

    /// What is said of a configuration that can be taken up. Keys that wait for the next start are those that differ from what the
    /// process was started with, whenever that came about.
    fn told(&self, ready: &Ready, dry_run: bool) -> ReloadAnswer {
        let written = &ready.loaded.written;
        let pending = Diff::between(&self.started, written);
        ReloadAnswer {
            schema_version: 1,
            dry_run,
            fingerprint: written.fingerprint(),
            changes: ready.diff.0.clone(),
            pending_restart: pending.taking(Takes::Process).map(|change| change.key.clone()).collect(),
        }
    }
}

fn tell(by: &str, told: &ReloadAnswer) {
    for change in &told.changes {
        let (key, what, takes) = (&change.key, change.what.word(), change.takes);
        tracing::info!(key, what, takes, from = change.from, to = change.to, "the configuration has changed");
    }
    let (fingerprint, changes) = (&told.fingerprint, told.changes.len());
    tracing::info!(by, fingerprint, changes, "the configuration was read again and is in force");
    if !told.pending_restart.is_empty() && changes > 0 {
        let keys = told.pending_restart.join(", ");
        tracing::warn!(keys, "these take effect with the next start of the process; everything else is in force");
    }
}

fn answer(why: Why, outcome: Result<ReloadAnswer, String>) {
    if let Why::Asked(ask) = why {
        // Who asked may have gone.
        let _ = ask.answer.send(outcome);
    }
}

/// Whether it can be taken up. What it says of clusters that are in use is tried out.
async fn ready(
    ctx: &Context,
    loaded: Result<Loaded, ConfigErrors>,
    in_force: &Written,
    known: &[(String, String)],
) -> Result<Ready, String> {
    let loaded = loaded.map_err(|errors| errors.to_string())?;
    let mirrors = ctx.mirrors(&loaded.config).map_err(|error| format!("{error:#}"))?;
    let mirrors: Vec<MirrorConfig> = mirrors.into_iter().cloned().collect();
    let diff = Diff::between(in_force, &loaded.written);
    if let Some(why) = never(&diff) {
        return Err(why);
    }
    for (cluster, mirror) in tried_out(&loaded.config, &mirrors, &diff) {
        try_out(&loaded.config, &cluster, mirror, known).await?;
    }
    Ok(Ready { loaded, mirrors, diff })
}

/// Clusters that mirrors run on already and that are to be spoken to in another way, each with one of its mirrors.
fn tried_out<'a>(config: &Config, mirrors: &'a [MirrorConfig], diff: &Diff) -> BTreeMap<String, &'a MirrorConfig> {
    let ends = mirrors.iter().flat_map(|mirror| [(&mirror.source, mirror), (&mirror.target, mirror)]);
    let changed = ends.filter(|(cluster, _)| diff.has_cluster(cluster) && config.clusters.contains_key(*cluster));
    changed.map(|(cluster, mirror)| (cluster.clone(), mirror)).collect()
}

async fn try_out(
    config: &Config,
    cluster: &str,
    mirror: &MirrorConfig,
    known: &[(String, String)],
) -> Result<(), String> {
    let Some(found) = config.clusters.get(cluster) else { return Ok(()) };
    let spec = ClusterSpec::of(found, found.client_id_for(&mirror.name));
    let connected = match tokio::time::timeout(PATIENCE, Cluster::connect(spec)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let there = connected.map_err(|error| {
        format!("clusters.{cluster}: what the file says of it now was tried out, and does not work: {error}")
    })?;
    let other = known.iter().find(|(name, id)| name == cluster && *id != there.cluster_id());
    match other {
        Some((_, id)) => Err(format!(
            "clusters.{cluster}: this is another cluster (id {}) than the one that mirrors of it run on (id {id}); for another \
             cluster write another name under clusters, and another mirror",
            there.cluster_id()
        )),
        None => Ok(()),
    }
}
