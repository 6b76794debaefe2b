//! The drain of a planned failover: until nobody writes to the source any more, and all of it is mirrored. The mirror that runs does
//! the work; where none does, it is run here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Cluster, LogPoint, TopicPartition};
use crate::config::{Config, MirrorConfig};
use crate::engine::{Board, Budget, EngineError, run_mirror};
use crate::mirror::{Isolation, state_topic};

use super::super::MirrorState;
use super::super::status::{PartitionStatus, status};
use super::FailoverError;

/// A mirror that runs gives a sign of life every five seconds.
const SIGN_OF_LIFE: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A mirror of ours takes that long to stop at most.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// What is drained.
pub(super) struct Drain<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) mirror: &'a MirrorConfig,
    pub(super) source: &'a Cluster,
    pub(super) target: &'a Cluster,
    /// Partitions that are not waited for.
    pub(super) left_out: BTreeSet<(String, i32)>,
}

/// A mirror that was started here.
struct Own {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), EngineError>>,
}

/// One look at both sides.
struct Look {
    /// High watermarks of the source.
    high: BTreeMap<(String, i32), i64>,
    /// What is not through yet, in words.
    open: Option<String>,
    /// Changes with every move of the mirror.
    moves: (i64, i64),
}

impl Drain<'_> {
    pub(super) async fn run(&self, quiet: Duration, limit: Duration) -> Result<(), FailoverError> {
        let mut own = None;
        let outcome = self.wait(quiet, limit, &mut own).await;
        if let Some(own) = own {
            stop(own).await;
        }
        outcome
    }

    async fn wait(&self, quiet: Duration, limit: Duration, own: &mut Option<Own>) -> Result<(), FailoverError> {
        let began = Instant::now();
        let nobody_runs = self.was_released().await?;
        let (mut high, mut still_since) = (None, Instant::now());
        let (mut moves, mut alive_since) = (None, Instant::now());
        let mut told = Instant::now() - LOOK_EVERY;
        loop {
            let look = match self.look().await {
                Ok(look) => look,
                // The source, or a leader, may be back in a moment.
                Err(error) if is_passing(&error) && began.elapsed() <= limit => {
                    tracing::warn!(mirror = %self.mirror.name, %error, "draining: trying again");
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if high.as_ref() != Some(&look.high) {
                (high, still_since) = (Some(look.high), Instant::now());
            }
            if moves != Some(look.moves) {
                (moves, alive_since) = (Some(look.moves), Instant::now());
            }
            let is_still = still_since.elapsed() >= quiet;
            if is_still && look.open.is_none() {
                return Ok(());
            }
            let waits_for = look.open.unwrap_or_else(|| "the source's writers to stop".to_owned());
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                tracing::info!(mirror = %self.mirror.name, waits_for, "draining");
            }
            if began.elapsed() > limit {
                let detail = if is_still {
                    format!("the source was not drained within {} s: {waits_for}", limit.as_secs())
                } else {
                    format!(
                        "the source was still written to after {} s: stop its writers (--fence-source acl denies them), or \
                         use --unplanned",
                        limit.as_secs()
                    )
                };
                return Err(FailoverError::NotDrained { mirror: self.mirror.name.clone(), detail });
            }
            if own.is_none() && (nobody_runs || alive_since.elapsed() > SIGN_OF_LIFE) {
                tracing::info!(mirror = %self.mirror.name, "no running kmirror shows up: the mirror is run here until the source is drained");
                *own = Some(self.start());
            }
            if own.as_ref().is_some_and(|own| own.task.is_finished()) {
                let detail = "the mirror that was run to drain the source has ended; its log says why".to_owned();
                return Err(FailoverError::NotDrained { mirror: self.mirror.name.clone(), detail });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the mirror was stopped cleanly: then nobody runs it.
    async fn was_released(&self) -> Result<bool, FailoverError> {
        let state = MirrorState::read(&self.mirror.name, self.target).await?.unwrap_or_default();
        let mut flowed = state.partitions().filter(|p| !p.map.is_empty()).peekable();
        Ok(flowed.peek().is_some() && flowed.all(|p| p.release.is_some()))
    }

    fn start(&self) -> Own {
        let (stop, stopped) = watch::channel(false);
        let budget = Budget::new(usize::try_from(self.config.limits.memory_bytes).unwrap_or(usize::MAX));
        let board = Board::new(&self.mirror.name);
        let task =
            tokio::spawn(run_mirror(Arc::clone(self.config), Arc::new(self.mirror.clone()), budget, board, stopped));
        Own { stop, task }
    }

    async fn look(&self) -> Result<Look, FailoverError> {
        let rows = status(self.mirror, false, (self.source, self.target)).await?.partitions;
        // Heartbeats go on until the promotion is announced.
        let beats = |topic: &str| self.mirror.heartbeats.as_ref().is_some_and(|heartbeats| heartbeats.topic == topic);
        let waited_for =
            |row: &&PartitionStatus| !self.left_out.contains(&(row.topic.clone(), row.partition)) && !beats(&row.topic);
        let rows: Vec<&PartitionStatus> = rows.iter().filter(waited_for).collect();
        let metadata = self.source.metadata();
        let id = |topic: &str| metadata.topic(topic).map(|t| t.id).unwrap_or_default();
        let tps: Vec<TopicPartition> = rows
            .iter()
            .filter(|row| row.partition >= 0)
            .map(|row| TopicPartition { topic: row.topic.clone(), topic_id: id(&row.topic), partition: row.partition })
            .collect();
        let ends = self.source.offsets_each(&tps, LogPoint::End { committed: false }).await;
        let mut high = BTreeMap::new();
        for (tp, end) in ends {
            high.insert((tp.topic, tp.partition), end?);
        }
        let open = rows.iter().find_map(|row| self.what_is_open(row, &high));
        let state = TopicPartition { topic: state_topic(&self.mirror.name), topic_id: uuid::Uuid::nil(), partition: 0 };
        self.target.refresh(crate::client::Topics::Named(&[state.topic.as_str()])).await?;
        let moves = (rows.iter().map(|row| row.target_end).sum(), self.target.log_end(&state).await?);
        Ok(Look { high, open, moves })
    }

    fn what_is_open(&self, row: &PartitionStatus, high: &BTreeMap<(String, i32), i64>) -> Option<String> {
        let name = format!("{}:{}", row.topic, row.partition);
        if row.lag_records != 0 {
            return Some(format!("{name} lags by {} records", row.lag_records));
        }
        let high = high.get(&(row.topic.clone(), row.partition)).copied().unwrap_or(-1);
        let held = self.mirror.isolation == Isolation::ReadCommitted && row.source_end < high;
        held.then(|| format!("an open transaction on {name}, from offset {} on", row.source_end))
    }
}

fn is_passing(error: &FailoverError) -> bool {
    matches!(error, FailoverError::Engine(error) if error.is_retriable())
}

async fn stop(own: Own) {
    // Nobody listens where it has ended already.
    let _ = own.stop.send(true);
    match tokio::time::timeout(STOP_LIMIT, own.task).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the mirror that drained the source has ended"),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!("the mirror that drained the source has not stopped cleanly; it will be fenced");
        }
    }
}
