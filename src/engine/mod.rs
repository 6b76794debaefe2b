//! The only imperative shell: it owns the sockets, the clock and the tasks, and drives the pure parts.
//!
//! `runner` is the loop; `fetcher` and `lane` are its hands on the source and the target; `topology` finds what to
//! mirror; `throttle` and `turns` share out what bandwidth there is; `control`, `shard`, `markers`, `settle` and `attach` are the take-over of `lib.rs`, step by step.

pub(crate) mod ahead;
pub(crate) mod attach;
mod board;
mod budget;
pub(crate) mod control;
mod error;
mod events;
mod fetcher;
mod handover;
mod lane;
pub(crate) mod markers;
mod membership;
mod part;
pub(crate) mod replay;
mod runner;
mod seat;
pub(crate) mod settle;
pub(crate) mod shard;
mod shard_worker;
mod throttle;
pub(crate) mod topology;
mod turns;
pub(crate) mod unfenced;
mod vigil;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::client::{Cluster, ClusterSpec};
use crate::config::{ClusterConfig, Config, MirrorConfig};
use crate::mirror::HaltKind;

pub use board::{Board, Drilled, Lacks, PartView, SyncCounts, Totals, Want};
pub use budget::Budget;
pub use error::EngineError;
pub use membership::{Membership, Workload};
pub use seat::{Desk, Seat};

pub(crate) use shard::now_ms;

use runner::{Runner, Shared};

/// `producer.id.expiration.ms` where the target does not tell: Kafka's default, a day.
const EXPIRATION_DEFAULT_MS: u64 = 24 * 3600 * 1000;
/// How long a clean stop takes at most: what is under way is answered, and every shard released. Whoever kills must wait longer.
pub const STOP_SECONDS_MAX: u32 =
    (runner::stopping::DRAIN_DEADLINE_MS / 1000) as u32 + runner::stopping::RELEASE_DEADLINE.as_secs() as u32;
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Connects to a cluster of the configuration, as the clients of this mirror.
async fn connect(config: &Config, cluster: &str, mirror: &MirrorConfig) -> Result<Cluster, EngineError> {
    let found: &ClusterConfig = config.clusters.get(cluster).ok_or_else(|| EngineError::Unexpected {
        mirror: mirror.name.clone(),
        detail: format!("cluster {cluster} is not in the configuration"),
    })?;
    Ok(Cluster::connect(ClusterSpec::of(found, found.client_id_for(&mirror.name))).await?)
}

/// Connects to both ends of a mirror, source first.
pub async fn connect_mirror(config: &Config, mirror: &MirrorConfig) -> Result<(Cluster, Cluster), EngineError> {
    Ok((connect_source(config, mirror).await?, connect_target(config, mirror).await?))
}

/// Connects to the source of a mirror.
pub async fn connect_source(config: &Config, mirror: &MirrorConfig) -> Result<Cluster, EngineError> {
    connect(config, &mirror.source, mirror).await
}

/// Connects to the target of a mirror.
pub async fn connect_target(config: &Config, mirror: &MirrorConfig) -> Result<Cluster, EngineError> {
    connect(config, &mirror.target, mirror).await
}

/// What a mirror goes by; it may be given another one while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The whole configuration: where the clusters are, and where topics go across mirrors.
    pub all: Arc<Config>,
    /// The mirror's own.
    pub mirror: Arc<MirrorConfig>,
}

/// Runs one mirror until `stop` says so, alone.
pub async fn run_mirror(
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    budget: Budget,
    board: Board,
    stop: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    // Kept to the end: nobody changes them.
    let (_same, settings) = watch::channel(Settings { all: config, mirror });
    run_member(settings, budget, board, Seat::alone(), stop).await
}

/// Runs what it is assigned of a mirror that others may share in, by settings that may change, until `stop` says so. What can be retried
/// is retried: the mirror starts anew, as after a crash.
pub async fn run_member(
    mut settings: watch::Receiver<Settings>,
    budget: Budget,
    board: Board,
    seat: Seat,
    stop: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let name = settings.borrow().mirror.name.clone();
    let mut pause = RESTART_PAUSE;
    for round in 0_u32.. {
        let began = tokio::time::Instant::now();
        let outcome = run_once(&mut settings, &budget, &board, seat.clone(), stop.clone()).await;
        seat.end();
        board.note_outcome(Lacks::Mirror, &outcome);
        if outcome.as_ref().is_err_and(EngineError::is_unauthorised) {
            count_error(&name, HaltKind::Unauthorised.to_string());
        }
        let error = match outcome {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retriable() => error,
            Err(error) => {
                let is_promoted = matches!(error, EngineError::Promoted { .. });
                if is_promoted {
                    board.promote();
                }
                // Promoted while it ran and was starting anew: its work is done.
                return if is_promoted && round > 0 { Ok(()) } else { Err(error) };
            }
        };
        count_error(&name, "restart");
        let contended = matches!(error, EngineError::Contended { .. });
        let wait = if contended { pause + pause.mul_f64(share_of_this_process(round)) } else { pause };
        tracing::error!(mirror = %name, %error, pause_ms = wait.as_millis() as u64, "mirror failed, starting it anew");
        let mut stop = stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(wait) => {}
            // It may be what was missing.
            () = changed(&mut settings) => {}
        }
        pause = if began.elapsed() > RESTART_PAUSE_MAX { RESTART_PAUSE } else { (pause * 2).min(RESTART_PAUSE_MAX) };
    }
    Ok(())
}

/// What went wrong, by class, beside the halts; labels of `kmirror_errors_total`.
pub const ERROR_CLASSES: [&str; 8] = [
    "fetch",
    "produce_not_sent",
    "produce_lost",
    "produce_refused",
    "discovery",
    "restart",
    "shard_lost",
    "instance_silent",
];

/// Counts what went wrong: what is tried again, or a halt.
fn count_error(mirror: &str, class: impl Into<metrics::SharedString>) {
    let class: metrics::SharedString = class.into();
    metrics::counter!("kmirror_errors_total", "mirror" => mirror.to_owned(), "class" => class).increment(1);
}

/// From 0 to 4, another for each process and round: two that got in each other's way wait differently long.
fn share_of_this_process(round: u32) -> f64 {
    let hash = (u64::from(std::process::id()) << 32 | u64::from(round)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from((hash >> 32) as u32) / f64::from(u32::MAX) * 4.0
}

/// Waits for other settings; for ever where nobody is left to give any.
async fn changed(settings: &mut watch::Receiver<Settings>) {
    if settings.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn run_once(
    settings: &mut watch::Receiver<Settings>,
    budget: &Budget,
    board: &Board,
    seat: Seat,
    stop: watch::Receiver<bool>,
) -> Result<(), EngineError> {
    let Settings { all: config, mirror } = settings.borrow_and_update().clone();
    let (config, mirror) = (&config, &mirror);
    let opening = async {
        let (source, target) = connect_mirror(config, mirror).await?;
        board.found((source.cluster_id(), target.cluster_id()));
        let expiration_ms = producer_expiration_ms(&target).await?;
        let (all, config, budget) = (Arc::clone(config), Arc::clone(mirror), budget.clone());
        let shared = Shared { all, config, source, target, budget, expiration_ms };
        let runner = Runner::new(shared.clone(), settings.clone(), seat, stop.clone(), board.clone()).await?;
        Ok::<_, EngineError>((shared, runner))
    };
    // Nothing is held yet, and a cluster may take its time, or for ever.
    let mut stopped = stop.clone();
    let (shared, runner) = tokio::select! {
        opened = opening => opened?,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    match runner.run().await {
        // A promotion's fence may strike before the news of it do.
        Err(EngineError::Fenced { .. }) if is_promoted(&shared).await => {
            board.promote();
            tracing::info!(mirror = %mirror.name, "fenced by a promotion: the mirror stops");
            Ok(())
        }
        outcome => outcome,
    }
}

async fn is_promoted(shared: &Shared) -> bool {
    let control = control::Control::open(&shared.config.name, &shared.target).await;
    control.is_ok_and(|control| control.is_some_and(|control| control.state.standing_promotion().is_some()))
}

/// How long the target remembers a producer's sequences after its last record's timestamp, ms.
pub(crate) async fn producer_expiration_ms(target: &Cluster) -> Result<u64, EngineError> {
    let configs = target.broker_configs().await?;
    let value = |name: &str| {
        configs.iter().find(|e| e.name == name).and_then(|e| e.value.as_deref()).and_then(|v| v.parse::<u64>().ok())
    };
    // Before Kafka 3.4 the transactional id's expiration governed producer ids as well (KIP-854).
    Ok(value("producer.id.expiration.ms")
        .or_else(|| value("transactional.id.expiration.ms"))
        .unwrap_or(EXPIRATION_DEFAULT_MS))
}
