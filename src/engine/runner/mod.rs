//! The runner: one loop that takes every event of a mirror, one by one, and decides what happens next. The walks of
//! data (`fetching`, `producing`) and of ownership (`ownership`) are its parts; sockets live in the tasks it starts.

mod around;
mod counting;
mod due;
mod fetching;
mod fleet;
mod halting;
mod identity;
mod limiting;
mod noting;
mod ownership;
mod parts;
mod producing;
mod reloading;
mod rights;
pub(in crate::engine) mod stopping;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use uuid::Uuid;

use crate::client::{Cluster, FetchChange, FetchWant};
use crate::config::{Config, MirrorConfig};
use crate::mirror::{Break, Clock, Halt};
use crate::plan::ShardStage;

use super::budget::Budget;
use super::control::Control;
use super::events::{Event, PartId, Ticket};
use super::fetcher::{FetchPlan, Pace};
use super::lane::{Flight, LaneKey};
use super::part::Again;
use super::seat::Seat;
use super::shard_worker::Job;
use super::throttle::Throttle;
use super::topology::MirroredTopic;
use super::turns::Turns;
use super::{EngineError, Settings, changed};

/// How often topics are looked up: a new topic is mirrored within this time.
const DISCOVERY_EVERY: Duration = Duration::from_secs(3);
/// How often it is noted how far the source was read, ms.
const SCANS_NOTED_EVERY_MS: u64 = 30_000;
/// What every part of a mirror shares.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// The whole configuration: where topics go across mirrors.
    pub(crate) all: Arc<Config>,
    pub(crate) config: Arc<MirrorConfig>,
    pub(crate) source: Cluster,
    pub(crate) target: Cluster,
    pub(crate) budget: Budget,
    /// The target's `producer.id.expiration.ms`.
    pub(crate) expiration_ms: u64,
}

/// The longest lease, however long the target remembers producers: the memory of a fence ends earlier where its new owner
/// writes old records.
const LEASE_MAX_MS: u64 = 120_000;
const LEASE_MIN_MS: u64 = 1_000;

impl Shared {
    /// How long after the coordinator's word a shard may be written to without asking again.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis((self.expiration_ms / 4).clamp(LEASE_MIN_MS, LEASE_MAX_MS))
    }
}

/// A source broker's fetcher as the runner sees it.
struct Fetcher {
    plans: mpsc::Sender<FetchPlan>,
    busy: bool,
    /// Parts whose wish may have changed since the last plan.
    changed: BTreeSet<PartId>,
    /// What the session holds.
    wants: HashMap<PartId, FetchWant>,
    /// Partitions that are not ours any more, or were of topics that were made again: out of the session under the id that they had.
    forgets: Vec<FetchChange>,
    pace: Pace,
    not_before_ms: u64,
    failures: u32,
    /// When it last answered.
    heard_ms: u64,
    /// When it last had a plan: turns of `Runner::turn`.
    planned_in: u64,
    asked_bytes: u64,
    /// Bytes under a bandwidth limit that the others must not count on.
    reserved_bytes: u64,
    /// Parts of which more is known to wait on the source.
    behind: BTreeSet<PartId>,
    turns: Turns,
}

/// A target lane as the runner sees it.
struct Lane {
    flights: mpsc::UnboundedSender<Flight>,
    in_flight: usize,
    /// When it last had a flight: turns of `Runner::turn`.
    sent_in: u64,
    ready: VecDeque<PartId>,
    queued: BTreeSet<PartId>,
}

/// A shard as the runner sees it.
struct Shard {
    stage: ShardStage,
    /// Tells this time that it is held from others.
    tenure: u64,
    /// To its worker; none where it is not held, or not for much longer.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    worker: Option<AbortHandle>,
    /// Breaks that wait to be written ahead: whose, index, breaks.
    breaks: Vec<(Ticket, u32, Vec<Break>)>,
    writing: bool,
    /// Parts that wait to be attached.
    waiting: Vec<PartId>,
    /// Parts to be taken over one by one: epoch bumped first.
    retake: Vec<PartId>,
    attaching: bool,
    /// It is ours: the state was read.
    taken: bool,
    /// No promotion stood when it was ours already.
    cleared: bool,
    /// Its state cannot be read: its partitions stand still.
    damaged: Option<Halt>,
    /// `start:` was applied (by this run or an earlier one), also where the shard held no partition.
    baselined: bool,
    last_keep_alive_ms: u64,
    /// When the coordinator last said that the shard was ours.
    owned: Instant,
    /// It is being asked.
    confirming: bool,
}

/// Shard, halt, number of resumes that it followed.
type HaltOnRecord = (u32, Halt, u64);

/// A mirror at work.
pub(crate) struct Runner {
    shared: Shared,
    control: Control,
    generation: u32,
    fleet: fleet::Fleet,
    /// What there is to mirror, by source topic, whoever holds it.
    topics: BTreeMap<String, MirroredTopic>,
    parts: parts::Parts,
    by_source: HashMap<(String, i32), PartId>,
    shards: Vec<Shard>,
    shard_count: u32,
    /// Shards that are held, or cannot be read. Alone, nothing new is attached before that is all: only then it is known what was mirrored
    /// under which topic id.
    shards_taken: u32,
    taking_since_ms: u64,
    /// Source topic ids that were mirrored under a name, with their shards.
    identities: HashMap<(String, i32), Vec<(Uuid, u32)>>,
    /// Halts on record, by source topic and partition.
    halts: HashMap<(String, i32), Vec<HaltOnRecord>>,
    fetchers: HashMap<i32, Fetcher>,
    lanes: HashMap<LaneKey, Lane>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    tasks: JoinSet<()>,
    /// What the mirror goes by from now on.
    settings: watch::Receiver<Settings>,
    stop: watch::Receiver<bool>,
    stopping: bool,
    /// A promotion has been announced.
    promoted: bool,
    asking_control: bool,
    stop_deadline_ms: u64,
    discovering: bool,
    /// The first discovery is through.
    discovered: bool,
    next_discovery_ms: u64,
    next_scan_note_ms: u64,
    due: due::Due,
    started: Instant,
    clock: Clock,
    /// See [`Runner::now_ms`].
    now_ms: u64,
    refreshing: bool,
    refresh_not_before_ms: u64,
    problems: Vec<super::topology::TopicProblem>,
    looking_for_rights: bool,
    next_look_for_rights_ms: u64,
    /// Parts whose breaks or batches may be ready to move on.
    touched: BTreeSet<PartId>,
    board: super::board::Board,
    watching: watching::Watching,
    noting: noting::Noting,
    counting: counting::Counting,
    throttle: Throttle,
    /// Counts what fetchers and lanes were given: under a bandwidth limit who waited longest is next.
    turn: u64,
}

impl Runner {
    /// Opens the control partition and stands ready.
    pub(crate) async fn new(
        shared: Shared,
        settings: watch::Receiver<Settings>,
        seat: Seat,
        stop: watch::Receiver<bool>,
        board: super::board::Board,
    ) -> Result<Self, EngineError> {
        let control = Control::open_or_create(&shared.config, &shared.source, &shared.target).await?;
        let generation = control.generation()?;
        if control.state.standing_promotion().is_some() {
            return Err(EngineError::Promoted {
                mirror: shared.config.name.clone(),
                generation: generation.generation,
            });
        }
        let (sender, events) = mpsc::unbounded_channel();
        Ok(Self {
            control,
            generation: generation.generation,
            fleet: fleet::Fleet::new(seat, generation.shards),
            topics: BTreeMap::new(),
            parts: parts::Parts::default(),
            by_source: HashMap::new(),
            shards: (0..generation.shards).map(|_| Shard::idle()).collect(),
            shard_count: generation.shards,
            shards_taken: 0,
            taking_since_ms: 0,
            identities: HashMap::new(),
            halts: HashMap::new(),
            fetchers: HashMap::new(),
            lanes: HashMap::new(),
            sender,
            events,
            tasks: JoinSet::new(),
            settings,
            stop,
            stopping: false,
            promoted: false,
            asking_control: false,
            stop_deadline_ms: u64::MAX,
            discovering: false,
            discovered: false,
            next_discovery_ms: 0,
            next_scan_note_ms: 0,
            due: due::Due::default(),
            started: Instant::now(),
            clock: Clock::default(),
            now_ms: 0,
            refreshing: false,
            refresh_not_before_ms: 0,
            problems: Vec::new(),
            looking_for_rights: false,
            next_look_for_rights_ms: 0,
            touched: BTreeSet::new(),
            counting: counting::Counting::new(&shared.config.name, &board),
            shared,
            board,
            watching: watching::Watching::default(),
            noting: noting::Noting::default(),
            throttle: Throttle::default(),
            turn: 0,
        })
    }

    /// Mirrors until told to stop; then drains, releases and returns.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        self.look_at_clock();
        self.heed_bandwidth();
        self.watch_control();
        self.remember_losses();
        self.taking_since_ms = self.now_ms();
        loop {
            self.hold_what_is_assigned();
            self.periodic();
            // What is due moves on in this turn.
            let pause = if self.touched.is_empty() { self.sleep_for() } else { Duration::ZERO };
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = told_to_stop(&mut self.stop), if !self.stopping => {
                    self.stopping = true;
                    None
                }
                () = changed(&mut self.settings), if !self.stopping => {
                    self.heed_settings();
                    None
                }
                () = self.fleet.seat.changed() => {
                    self.fleet.look_again();
                    None
                }
                () = tokio::time::sleep(pause) => None,
            };
            self.look_at_clock();
            if self.stopping && self.stop_deadline_ms == u64::MAX {
                tracing::info!(mirror = %self.shared.config.name, "stopping: draining what is under way");
                self.stop_deadline_ms = self.now_ms() + stopping::DRAIN_DEADLINE_MS;
            }
            if let Some(event) = event {
                self.handle(event)?;
            }
            // Whatever else is there already: decisions made once for many events make larger requests.
            while let Ok(event) = self.events.try_recv() {
                self.handle(event)?;
            }
            self.advance();
            if self.stopping && (self.is_drained() || self.stop_is_overdue()) {
                return self.release().await;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), EngineError> {
        self.due.stir();
        match event {
            Event::Fetched { broker, pace, outcome } => self.on_fetched(broker, pace, outcome),
            Event::Produced { lane, whose, written_ms, outcome } => {
                self.counting.produced(&outcome, written_ms, self.now_ms);
                self.on_produced(lane, whose, outcome)?;
            }
            Event::StateWritten { shard, tickets, outcome } => self.on_state_written(shard, tickets, outcome)?,
            Event::ShardTaken { shard, owned, outcome } => self.on_shard_taken(shard, owned, outcome)?,
            Event::Attached { shard, retake, outcome } => {
                if let Some(shard) = self.shards.get_mut(shard as usize) {
                    shard.attaching = false;
                }
                self.on_attached(outcome, if retake { Again::Retake } else { Again::Attach })?;
            }
            Event::Displaced { outcome } => self.on_attached(outcome, Again::Retake)?,
            Event::Fenced { part, shard, outcome } => self.on_fenced(part, shard, outcome)?,
            Event::KeptAlive { shard, owned } => self.on_kept_alive(shard, Some(owned)),
            Event::NotKeptAlive { shard } => self.on_kept_alive(shard, None),
            Event::ShardFailed(error) => return Err(error),
            Event::ShardEnded { shard } => self.on_shard_ended(shard),
            Event::OfShard { shard, tenure, event } => self.on_report(shard, tenure, *event)?,
            Event::LookedAround { parts, outcome } => self.on_looked_around(parts, outcome)?,
            Event::Discovered(outcome) => self.on_discovered(outcome)?,
            Event::Refreshed => {
                self.refreshing = false;
                self.follow_leaders();
            }
            Event::Bounds { part, outcome } => self.on_bounds(part, outcome),
            Event::Looked(looked) => self.on_looked(*looked),
            Event::Diverged { part, attachment, at, outcome } => self.on_diverged(part, attachment, at, outcome),
            Event::Readable(topics) => self.on_readable(&topics),
            Event::Control(outcome) => self.on_control(outcome)?,
            Event::Cleared { shards, outcome } => self.on_cleared(shards, outcome)?,
            Event::ConfigsNoted => self.on_configs_noted(),
            Event::Released { part, outcome } => self.on_released(part, outcome)?,
        }
        Ok(())
    }

    /// Moves everything on that the events made possible.
    fn advance(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        for part in touched {
            self.collect_breaks(part);
            self.queue_outgoing(part);
            self.note_fetch_change(part);
            self.maybe_leave(part);
        }
        self.flush_breaks();
        self.throttle.begin_turn();
        self.send_flights();
        self.ask_control();
        self.give_back();
        self.attach_waiting();
        if !self.stopping {
            self.plan_fetches();
        }
    }

    fn periodic(&mut self) {
        let now_ms = self.now_ms();
        if now_ms >= self.next_discovery_ms && !self.discovering && !self.stopping {
            self.discovering = true;
            self.next_discovery_ms = now_ms + DISCOVERY_EVERY.as_millis() as u64;
            self.spawn_discovery();
        }
        self.look_at_parts(now_ms);
        self.keep_shards_alive(now_ms);
        self.look_for_rights(now_ms);
        if now_ms >= self.next_scan_note_ms && !self.stopping {
            self.next_scan_note_ms = now_ms + SCANS_NOTED_EVERY_MS;
            self.note_scans();
        }
        self.watch_source(now_ms);
        self.note_source(now_ms);
        self.publish(now_ms);
    }

    /// Milliseconds since the epoch, as the pure parts count time: when this turn of the loop began. Asked for with every batch,
    /// the system's clocks would be a tenth of what user space does.
    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn look_at_clock(&mut self) {
        let day_ms = u64::try_from(super::shard::now_ms()).unwrap_or(0);
        let monotonic_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms = self.clock.read(day_ms, monotonic_ms);
    }

    fn spawn<F>(&mut self, task: F)
    where
        F: Future<Output = Option<Event>> + Send + 'static,
    {
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            if let Some(event) = task.await {
                // The runner is gone when it has stopped: nobody waits for the event any more.
                let _ = sender.send(event);
            }
        });
        // Finished tasks must not pile up.
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same: nobody is left to wait for this mirror.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Shard {
    /// Taking a shard is a sign of life.
    fn taking(tenure: u64, (jobs, worker): (mpsc::UnboundedSender<Job>, AbortHandle), now_ms: u64) -> Self {
        let (stage, jobs, worker) = (ShardStage::Taking, Some(jobs), Some(worker));
        Self { stage, tenure, jobs, worker, last_keep_alive_ms: now_ms, ..Self::idle() }
    }

    fn idle() -> Self {
        Self {
            stage: ShardStage::Idle,
            tenure: 0,
            jobs: None,
            worker: None,
            breaks: Vec::new(),
            writing: false,
            waiting: Vec::new(),
            retake: Vec::new(),
            attaching: false,
            taken: false,
            cleared: false,
            damaged: None,
            baselined: false,
            last_keep_alive_ms: 0,
            owned: Instant::now(),
            confirming: false,
        }
    }
}
