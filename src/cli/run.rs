//! `kmirror run`: mirrors until stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::context::Context;
use super::drill_schedule::keep_drilling;
use super::exit::Exit;
use super::logging;
use super::membership::{Elected, Fleet};
use super::one_thread;
use crate::config::{Config, MirrorConfig};
use crate::engine::{Board, Budget, EngineError};
use crate::observe::clusters::{self, ClusterBoard};
use crate::observe::lookout::Lookout;
use crate::observe::{self, BackupBoard, Shown};
use crate::ops::groups::keep_in_step;
use crate::ops::{keep_beating, keep_in_sync};

/// Options of `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Runs every mirror of the file, or the one of --mirror, until SIGINT or SIGTERM, and stops cleanly. However it stops, the \
next start goes on with nothing lost and nothing twice. A cluster that cannot be reached is tried again until it can. \
A partition in doubt halts, with its reason and the command that frees it; the others go on. Drills and backups of the file are \
done on the side, each at its interval.

Examples:
  kmirror run -c standby.yaml
  kmirror run -c standby.yaml --mirror dr --log-level debug")]
pub struct RunArgs {}

/// Mirrors until stopped.
///
/// # Errors
/// What ended the run; see [`super::exit::classify`].
pub async fn run(_args: RunArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.no_dry_run("kmirror check says what a run would do")?;
    let mut signals = Signals::new()?;
    let config = Arc::new(ctx.load()?);
    let (stop, stopped) = watch::channel(false);
    let boards: Vec<Board> = ctx.mirrors(&config)?.iter().map(|m| Board::new(&m.name)).collect();
    let budget = Budget::new(usize::try_from(config.limits.memory_bytes).unwrap_or(usize::MAX));
    let kept: Vec<BackupBoard> = config.backups.iter().map(|backup| BackupBoard::new(&backup.name)).collect();
    let clusters = ClusterBoard::default();
    let shown = Shown {
        boards: boards.clone(),
        backups: kept.clone(),
        budget: Some(budget.clone()),
        clusters: clusters.clone(),
        ..Shown::default()
    };
    serve(&config, shown, ctx.mirrors(&config)?, &stopped).await?;
    let fleet = Fleet::of(&ctx.config_path);
    let (mut mirrors, elected) = start(&config, &fleet, &boards, &budget, &stopped)?;
    let mut groups = keep_groups(&config, &boards, &elected, &stopped);
    let health = match &config.http {
        Some(_) => clusters::keep(&config, &ctx.mirrors(&config)?, &clusters, &stopped),
        None => JoinSet::new(),
    };
    let mut heartbeats = keep_beating_all(&config, &boards, &elected, &stopped);
    let mut syncs = keep_in_sync_all(&config, &boards, &elected, &stopped);
    let drills = keep_drilling_all(&config, &boards, &elected, &stopped);
    let backups = keep_backups(&config, &kept, &elected, &stopped);
    let mut failure = None;
    loop {
        tokio::select! {
            () = signals.recv() => { stop.send_replace(true); }
            done = mirrors.join_next() => match done {
                None => break,
                Some(outcome) => {
                    // One mirror that cannot go on does not stop the others; the exit code tells in the end.
                    let (name, outcome) = outcome.context("a mirror's task ended")?;
                    // Nothing goes on beside it either: a promoted target gets no offsets and no configs, and its old source no heartbeats.
                    let beside = [&mut groups, &mut heartbeats, &mut syncs].map(|tasks| tasks.remove(&name));
                    beside.into_iter().flatten().for_each(|task| task.abort());
                    if let Err(error) = outcome {
                        tracing::error!(%error, "mirror stopped");
                        failure.get_or_insert(error);
                    }
                }
            },
        }
    }
    drop((health, drills, backups));
    match failure {
        None => Ok(Exit::Done),
        Some(error) => Err(error.into()),
    }
}

/// Probes and metrics, where the file asks for them.
pub(super) async fn serve(
    config: &Config,
    shown: Shown,
    mirrors: Vec<&MirrorConfig>,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Some(http) = &config.http else { return Ok(()) };
    let shown = Shown { max_series: http.max_series, ..shown };
    let lookout = Lookout::new(Arc::new(config.clone()), mirrors.into_iter().cloned().collect());
    observe::serve(http, shown, lookout, logging::control(), stop.clone()).await?;
    Ok(())
}

/// Mirrors that run, by name.
type Runs = JoinSet<(String, Result<(), EngineError>)>;
/// Who does a mirror's jobs.
type ByMirror = BTreeMap<String, Elected>;

/// Each mirror stays on one thread. There are no more of them than cores: with more, each would be woken for every answer by
/// itself, and work on it with a cold cache.
fn start(
    config: &Arc<Config>,
    fleet: &Fleet,
    boards: &[Board],
    budget: &Budget,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<(Runs, ByMirror)> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (0..cores.min(boards.len())).map(|_| thread()).collect::<anyhow::Result<Vec<_>>>()?;
    let mut mirrors = JoinSet::new();
    let mut elected = ByMirror::new();
    for (board, thread) in boards.iter().zip(threads.iter().cycle()) {
        let Some(mirror) = config.mirrors.iter().find(|m| m.name == board.mirror()) else { continue };
        let mirror = Arc::new(mirror.clone());
        let name = mirror.name.clone();
        let (run, is_elected) = fleet.run(Arc::clone(config), mirror, budget.clone(), board.clone(), stop.clone());
        elected.insert(name.clone(), is_elected);
        mirrors.spawn_on(async { (name, run.await) }, thread);
    }
    Ok((mirrors, elected))
}

/// Consumer groups are kept in step on this thread, by mirror: what they cost is not taken from the data.
fn keep_groups(
    config: &Arc<Config>,
    boards: &[Board],
    elected: &ByMirror,
    stop: &watch::Receiver<bool>,
) -> BTreeMap<String, JoinHandle<()>> {
    let with_groups = boards.iter().filter_map(|board| {
        let mirror = config.mirrors.iter().find(|m| m.name == board.mirror() && m.groups.is_some())?;
        let (config, mirror, board) = (Arc::clone(config), Arc::new(mirror.clone()), board.clone());
        let name = mirror.name.clone();
        let is_elected = elected.get(&name).cloned().unwrap_or_default();
        let work = is_elected.keep(stop.clone(), move |stop| {
            keep_in_step(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop)
        });
        Some((name, tokio::spawn(work)))
    });
    with_groups.collect()
}

/// Heartbeats are written and read on this thread, by mirror.
fn keep_beating_all(
    config: &Arc<Config>,
    boards: &[Board],
    elected: &ByMirror,
    stop: &watch::Receiver<bool>,
) -> BTreeMap<String, JoinHandle<()>> {
    let with_heartbeats = boards.iter().filter_map(|board| {
        let mirror = config.mirrors.iter().find(|m| m.name == board.mirror() && m.heartbeats.is_some())?;
        let (config, mirror, board) = (Arc::clone(config), Arc::new(mirror.clone()), board.clone());
        let name = mirror.name.clone();
        let is_elected = elected.get(&name).cloned().unwrap_or_default();
        let work = is_elected.keep(stop.clone(), move |stop| {
            keep_beating(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop)
        });
        Some((name, tokio::spawn(work)))
    });
    with_heartbeats.collect()
}

/// Configs, ACLs and the like follow on this thread, by mirror.
fn keep_in_sync_all(
    config: &Arc<Config>,
    boards: &[Board],
    elected: &ByMirror,
    stop: &watch::Receiver<bool>,
) -> BTreeMap<String, JoinHandle<()>> {
    let wanted = boards.iter().filter_map(|board| {
        let mirror = config.mirrors.iter().find(|m| m.name == board.mirror() && m.sync.is_wanted())?;
        let (config, mirror, board) = (Arc::clone(config), Arc::new(mirror.clone()), board.clone());
        let name = mirror.name.clone();
        let is_elected = elected.get(&name).cloned().unwrap_or_default();
        let work = is_elected.keep(stop.clone(), move |stop| {
            keep_in_sync(Arc::clone(&config), Arc::clone(&mirror), board.clone(), stop)
        });
        Some((name, tokio::spawn(work)))
    });
    wanted.collect()
}

/// Backups are made on this thread. One that is cut short goes on from its last manifest. In a fleet the instance makes them that is
/// elected for the first mirror of the file.
fn keep_backups(
    config: &Arc<Config>,
    boards: &[BackupBoard],
    elected: &ByMirror,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut backups = JoinSet::new();
    let first = config.mirrors.first().and_then(|mirror| elected.get(&mirror.name));
    for (backup, board) in config.backups.iter().zip(boards) {
        let (config, backup, board) = (Config::clone(config), backup.clone(), board.clone());
        backups.spawn(
            first.cloned().unwrap_or_default().keep(stop.clone(), move |stop| {
                crate::backup::keep(config.clone(), backup.clone(), board.clone(), stop)
            }),
        );
    }
    backups
}

/// Drills are done on this thread, too.
fn keep_drilling_all(
    config: &Arc<Config>,
    boards: &[Board],
    elected: &ByMirror,
    stop: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut drills = JoinSet::new();
    for terms in &config.drills {
        // One of a mirror that this process does not run is another one's.
        if let Some(board) = boards.iter().find(|board| board.mirror() == terms.mirror) {
            let (config, terms, board) = (Arc::clone(config), terms.clone(), board.clone());
            let is_elected = elected.get(board.mirror()).cloned().unwrap_or_default();
            drills.spawn(is_elected.keep(stop.clone(), move |stop| {
                keep_drilling(Arc::clone(&config), terms.clone(), board.clone(), stop)
            }));
        }
    }
    drills
}

/// A thread that runs what is spawned on it, until the process ends.
fn thread() -> anyhow::Result<Handle> {
    let runtime = one_thread().context("cannot start a runtime")?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("mirrors".to_owned()).spawn(run).context("cannot start a thread")?;
    Ok(handle)
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
