//! The hands of one shard: takes it over, then does one job after another, in the order they were given.
//!
//! The order is what makes it right: breaks of the offset map are steps from the segment before, so those of a flow
//! that was given up must be in the log before the origin or displacement that ends it, and none may come after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::client::TopicPartition;
use crate::config::MirrorConfig;
use crate::mirror::{Break, Displacement, Halt, ReleaseEntry, Scan, Seen, StateRecord, seen_records, segments_records};

use super::EngineError;
use super::attach::{self, AttachContext, Attached, Pair, Wanted};
use super::events::{Event, Holdings, PartId, Ticket};
use super::handover::await_release;
use super::runner::Shared;
use super::shard::{Presence, ShardLog, ShardSpec, take_shard};

const TAKE_PAUSE: Duration = Duration::from_millis(200);
const TAKE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Something to do for a shard.
#[derive(Debug)]
pub(crate) enum Job {
    /// Breaks of several partitions, written ahead.
    Segments { tickets: Vec<Ticket>, entries: Vec<(u32, Vec<Break>)> },
    /// Partitions to begin with; with `retake` partitions to take over, one epoch further.
    Attach { wanted: Vec<Wanted>, retake: bool },
    /// Another shard follows on this target partition.
    Fence { part: PartId, target: TopicPartition },
    /// Batches landed above their offsets; with `take_over` the outcome of another one is unknown on top.
    Displaced { wanted: Wanted, displacements: Vec<Displacement>, take_over: bool },
    /// A partition halted, or was set free.
    Halt { topic: String, partition: i32, halt: Option<Halt>, resumes: u64 },
    /// Source offsets below these hold nothing more to mirror.
    Scanned { entries: Vec<(u32, Scan)> },
    /// How far the source reached when it was last heard of.
    Seen { at_ms: i64, entries: Vec<(u32, Seen)> },
    /// The transactional id is about to be forgotten.
    KeepAlive,
    /// What the mirror goes by from now on.
    Settings { config: Arc<MirrorConfig> },
    /// A clean stop.
    Release { entries: Vec<ReleaseEntry>, done: oneshot::Sender<Result<(), EngineError>> },
}

/// How a worker reports: for its shard, as long as that is held by this worker.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) shard: u32,
    /// Tells this time that the shard is held from others.
    pub(crate) tenure: u64,
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

impl Reporter {
    /// False once nobody listens any more.
    fn tell(&self, event: Event) -> bool {
        let Self { shard, tenure, events } = self;
        events.send(Event::OfShard { shard: *shard, tenure: *tenure, event: Box::new(event) }).is_ok()
    }
}

/// Takes the shard, once whoever holds it has released it where that is what they were told, and does what it is given, until the jobs
/// end.
pub(crate) async fn shard_worker(
    shared: Shared,
    spec: ShardSpec,
    is_handed_over: bool,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    reporter: Reporter,
) {
    let shard = spec.shard;
    if is_handed_over {
        await_release(&shared.target, &spec, || jobs.is_closed()).await;
    }
    match take(&shared, &spec, &jobs).await {
        Ok(Some((log, owned))) => {
            reporter.tell(Event::ShardTaken { shard, owned, outcome: Ok(Holdings::of(&log.state)) });
            do_jobs(shared.clone(), log, owned, &mut jobs, &reporter).await;
        }
        Ok(None) => {}
        Err(error) => {
            reporter.tell(Event::ShardTaken { shard, owned: Instant::now(), outcome: Err(error) });
        }
    }
    reporter.tell(Event::ShardEnded { shard });
}

async fn do_jobs(
    mut shared: Shared,
    mut log: ShardLog,
    mut owned: Instant,
    jobs: &mut mpsc::UnboundedReceiver<Job>,
    reporter: &Reporter,
) {
    let mut confirmed = false;
    while let Some(job) = jobs.recv().await {
        let job = match job {
            Job::Settings { config } => {
                shared.config = config;
                continue;
            }
            job => job,
        };
        // The first attachment comes once all shards are taken, if they can be.
        let outcome = match job {
            Job::Attach { .. } if !confirmed => log.confirm().await,
            Job::KeepAlive | Job::Settings { .. } => Ok(()),
            _ => within_lease(&shared, &mut log, &mut owned).await,
        };
        confirmed |= matches!(job, Job::Attach { .. });
        let event = match outcome {
            Ok(()) => work(&shared, &mut log, job).await,
            Err(error) => Some(Event::ShardFailed(error)),
        };
        let event = match event {
            Some(Event::ShardFailed(error)) if !confirmed => Event::ShardFailed(error.while_taking(&log.mirror)),
            Some(event) => event,
            None => continue,
        };
        if let Event::KeptAlive { owned: confirmed, .. } = &event {
            owned = *confirmed;
        }
        if !reporter.tell(event) {
            return;
        }
    }
}

/// Takes the shard, however long its partition or its coordinator is away: the other shards do not wait for that. Nothing where it is
/// not wanted any more.
async fn take(
    shared: &Shared,
    spec: &ShardSpec,
    jobs: &mpsc::UnboundedReceiver<Job>,
) -> Result<Option<(ShardLog, Instant)>, EngineError> {
    let mut pause = TAKE_PAUSE;
    let mut presence = Presence::default();
    loop {
        // Whoever takes what was given to somebody else meanwhile takes it from them.
        if jobs.is_closed() {
            return Ok(None);
        }
        let began = Instant::now();
        match take_shard(&shared.target, spec).await {
            // Not where another one takes them as well: they would take them from each other for ever.
            Err(error) if error.is_passing() => {
                tracing::warn!(mirror = %spec.mirror, shard = spec.shard, %error, "the shard cannot be taken yet, trying again");
                presence.check(&shared.target, &spec.mirror, &spec.tp).await?;
            }
            outcome => return outcome.map(|log| Some((log, began))),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(TAKE_PAUSE_MAX);
    }
}

/// Nothing is written to the state once the lease is over, before the coordinator has said that the shard is still ours:
/// who slept that long may have been fenced, and the fence been forgotten since (`lib.rs`, "Non-obvious").
async fn within_lease(shared: &Shared, log: &mut ShardLog, owned: &mut Instant) -> Result<(), EngineError> {
    let mut pause = TAKE_PAUSE;
    while owned.elapsed() > shared.lease() {
        match keep_alive(shared, log).await {
            Ok(confirmed) => *owned = confirmed,
            Err(error) if error.is_passing() => {
                tracing::warn!(mirror = %log.mirror, shard = log.shard, %error, "the shard's lease is over, trying to renew it");
                log.check_there().await?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(TAKE_PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn work(shared: &Shared, log: &mut ShardLog, job: Job) -> Option<Event> {
    let shard = log.shard;
    let ctx = AttachContext { config: &shared.config, source: &shared.source, target: &shared.target };
    Some(match job {
        Job::Segments { tickets, entries } => {
            let mut outcome = log.append(segments_records(entries)).await;
            if outcome.is_ok() {
                outcome = log.compact().await;
            }
            Event::StateWritten { shard, tickets, outcome }
        }
        Job::Attach { wanted, retake } => {
            Event::Attached { shard, retake, outcome: attach::attach(ctx, log, wanted, retake).await }
        }
        Job::Fence { part, target } => Event::Fenced { part, shard, outcome: attach::fence(ctx, log, &target).await },
        Job::Displaced { wanted, displacements, take_over } => {
            Event::Displaced { outcome: displaced(ctx, log, wanted, &displacements, take_over).await }
        }
        Job::Halt { topic, partition, halt, resumes } => {
            match log.append(vec![StateRecord::Halt { topic, partition, halt, resumes }]).await {
                Ok(()) => return None,
                Err(error) => Event::ShardFailed(error),
            }
        }
        Job::Scanned { entries } => match log.append(vec![StateRecord::Scanned { entries }]).await {
            Ok(()) => return None,
            Err(error) => Event::ShardFailed(error),
        },
        Job::Seen { at_ms, entries } => {
            let mut outcome = log.append(seen_records(at_ms, &entries)).await;
            if outcome.is_ok() {
                outcome = log.compact().await;
            }
            return outcome.err().map(Event::ShardFailed);
        }
        Job::KeepAlive => match keep_alive(shared, log).await {
            Ok(owned) => Event::KeptAlive { shard, owned },
            Err(error) if error.is_passing() => {
                tracing::warn!(mirror = %log.mirror, shard, %error, "the shard's transactional id is not refreshed, trying again");
                match log.check_there().await {
                    Ok(()) => Event::NotKeptAlive { shard },
                    Err(error) => Event::ShardFailed(error),
                }
            }
            Err(error) => Event::ShardFailed(error),
        },
        Job::Settings { .. } => return None,
        Job::Release { entries, done } => {
            // A runner that does not wait any more has given up on a clean stop.
            let _ = done.send(log.append(vec![StateRecord::Release { entries }]).await);
            return None;
        }
    })
}

async fn keep_alive(shared: &Shared, log: &mut ShardLog) -> Result<Instant, EngineError> {
    let began = Instant::now();
    log.keep_alive(&shared.target).await?;
    Ok(began)
}

async fn displaced(
    ctx: AttachContext<'_>,
    log: &mut ShardLog,
    wanted: Wanted,
    displacements: &[Displacement],
    take_over: bool,
) -> Result<Vec<(Pair, Attached)>, EngineError> {
    let attached = attach::displaced(ctx, log, &wanted, displacements).await?;
    if take_over && matches!(attached, Attached::Flowing(_)) {
        return attach::attach(ctx, log, vec![wanted], true).await;
    }
    Ok(vec![(wanted.pair, attached)])
}
