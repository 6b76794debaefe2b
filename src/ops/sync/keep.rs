//! Beside a running mirror: the same again and again, with connections of its own. What fails is told and tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, MirrorConfig};
use crate::engine::{Board, EngineError, SyncCounts, connect_mirror, now_ms};
use crate::plan::{SyncAction, SyncPlan};

use super::{Applied, Obstacle, Syncing};

/// The first look comes soon after the start, when the mirror has made its topics.
const FIRST: Duration = Duration::from_secs(5);
/// What is told of one round, at most: a line each.
const LINES_MAX: usize = 20;

/// Keeps what follows the source beside records in step until told to stop, or the mirror is promoted.
pub async fn keep_in_sync(
    config: Arc<Config>,
    mirror: Arc<MirrorConfig>,
    board: Board,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        () = rounds(config, mirror, board) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn rounds(config: Arc<Config>, mirror: Arc<MirrorConfig>, board: Board) {
    let mut said = Said::default();
    let interval = mirror.sync.interval;
    tokio::time::sleep(interval.min(FIRST)).await;
    board.synced(SyncCounts::default());
    let mut syncing = None;
    loop {
        let began = Instant::now();
        let outcome = match syncing.take() {
            Some(syncing) => Ok(syncing),
            None => connected(Arc::clone(&config), Arc::clone(&mirror)).await,
        };
        let outcome = match outcome {
            Ok(fresh) => round(syncing.insert(fresh)).await,
            Err(error) => Err(error),
        };
        if matches!(outcome, Ok(Round::Waiting(Obstacle::Promoted))) || board.is_promoted() {
            return;
        }
        if outcome.is_err() {
            syncing = None;
        }
        said.tell(&mirror.name, &board, outcome);
        tokio::time::sleep(interval.saturating_sub(began.elapsed()).max(interval / 4)).await;
    }
}

/// How a round went.
enum Round {
    Waiting(Obstacle),
    Done(Box<(SyncPlan, Applied)>),
}

async fn connected(config: Arc<Config>, mirror: Arc<MirrorConfig>) -> Result<Syncing, EngineError> {
    let ends = connect_mirror(&config, &mirror).await?;
    Ok(Syncing::new(&config, &mirror, ends, false))
}

async fn round(syncing: &mut Syncing) -> Result<Round, EngineError> {
    if let Some(obstacle) = syncing.obstacle().await? {
        return Ok(Round::Waiting(obstacle));
    }
    let plan = syncing.plan().await?;
    // A promotion may have been announced since.
    if let Some(obstacle) = syncing.obstacle().await? {
        return Ok(Round::Waiting(obstacle));
    }
    let applied = syncing.apply(&plan).await?;
    Ok(Round::Done(Box::new((plan, applied))))
}

/// What was told: once when it changes.
#[derive(Default)]
struct Said {
    trouble: Option<String>,
    lines: BTreeMap<String, String>,
}

impl Said {
    fn tell(&mut self, mirror: &str, board: &Board, outcome: Result<Round, EngineError>) {
        let trouble = match outcome {
            Ok(Round::Waiting(obstacle)) => Some(obstacle.to_string()),
            Err(error) => Some(error.to_string()),
            Ok(Round::Done(done)) => {
                let (plan, applied) = *done;
                board.synced(counts(&plan, &applied));
                self.lines(mirror, &plan, &applied);
                None
            }
        };
        match &trouble {
            Some(why) if self.trouble != trouble => {
                tracing::warn!(mirror, why, "configs, ACLs and quotas do not follow the source for now");
            }
            None if self.trouble.is_some() => {
                tracing::info!(mirror, "configs, ACLs and quotas follow the source again");
            }
            _ => {}
        }
        self.trouble = trouble;
    }

    fn lines(&mut self, mirror: &str, plan: &SyncPlan, applied: &Applied) {
        let mut lines = BTreeMap::new();
        for row in &plan.rows {
            if !matches!(row.action, SyncAction::Set | SyncAction::Remove | SyncAction::HeldBack) {
                let why = row.reason.clone().unwrap_or_default();
                lines.insert(format!("{} ({})", row.object, row.action), why);
            }
        }
        let others = plan.unavailable.iter().chain(&plan.warnings).chain(&applied.failed);
        lines.extend(others.map(|line| (line.clone(), String::new())));
        let news: Vec<_> = lines.iter().filter(|(line, why)| self.lines.get(*line) != Some(*why)).collect();
        for (what, why) in news.iter().take(LINES_MAX) {
            tracing::warn!(mirror, what, why, "not as on the source");
        }
        if news.len() > LINES_MAX {
            let more = news.len() - LINES_MAX;
            tracing::warn!(mirror, more, "not as on the source; kmirror sync --dry-run shows all of it");
        }
        self.lines = lines;
    }
}

fn counts(plan: &SyncPlan, applied: &Applied) -> SyncCounts {
    let failed = applied.failed.len() + plan.unavailable.len();
    SyncCounts {
        at_ms: now_ms(),
        held_back: plan.count(SyncAction::HeldBack),
        left_alone: plan.count(SyncAction::LeftAlone),
        left_out: plan.count(SyncAction::LeftOut) + plan.count(SyncAction::ByHand),
        pending: plan.count(SyncAction::Pending),
        failed,
    }
}
