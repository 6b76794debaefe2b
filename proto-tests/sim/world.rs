//! The world of one run: clusters, network, processes, and the dice that say what happens next.

use std::collections::BTreeMap;

use fastrand::Rng;
use kmirror::batch::BatchHeader;
use kmirror::mirror::{Bounds, ControlState, Halt, Isolation};

use super::broker::LogId;
use super::driver::io::{End, Lane, Request, Response};
use super::driver::process::Process;
use super::net::{Net, Stage};
use super::profile::Profile;
use super::source::Source;
use super::target::Target;

/// A line of the trace, where one is wanted.
macro_rules! trace {
    ($world:expr, $($arg:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            trace.push(format!("{:>9} {}", $world.now_ms - $crate::sim::world::START_MS, format!($($arg)*)));
        }
    };
}

mod faults;
mod words;

use words::{brief, brief_stage, orphaned};

const START_MS: u64 = 1_700_000_000_000;
/// It has come to rest when it has stood still for so long: longer than what is noted now and then takes.
const QUIET_MS: u64 = 1_200;
const HOUR_MS: u64 = 3_600_000;
const UNKNOWN_TOPIC_ID: i16 = 100;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// Records with this bit are of somebody else.
pub(crate) const FOREIGN: u64 = 1 << 40;

/// What happened that may explain a halt, by part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Excuses {
    pub(crate) foreigners: bool,
    /// The broker, having forgotten the producer, let in a batch of an epoch that was fenced, or a late one again.
    pub(crate) unfenced: bool,
    /// Every halt there was.
    pub(crate) halts: Vec<Halt>,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    now_ms: u64,
    pub(crate) sources: Vec<Source>,
    pub(crate) target: Target,
    net: Net,
    pub(crate) processes: Vec<Process>,
    clocks: BTreeMap<usize, i64>,
    /// Paused: it comes back as a zombie.
    asleep: Vec<usize>,
    started: usize,
    pub(crate) control: ControlState,
    control_changes: usize,
    next_id: u64,
    txn_opened_ms: Option<u64>,
    pub(crate) excuses: Vec<Excuses>,
    calm: bool,
    pub(crate) trace: Option<Vec<String>>,
    /// Something that must never be.
    pub(crate) broken: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<super::mutation::Mutation>, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let profile = Profile::draw(&mut rng, mutation);
        let parts = profile.settings.parts;
        let mut world = Self {
            sources: (0..parts).map(|part| Source::new(100 * (part as u128 + 1))).collect(),
            target: Target::new(parts),
            net: Net::default(),
            processes: Vec::new(),
            clocks: BTreeMap::new(),
            asleep: Vec::new(),
            started: 0,
            control: ControlState::default(),
            control_changes: 0,
            next_id: 0,
            txn_opened_ms: None,
            excuses: vec![Excuses::default(); parts],
            calm: false,
            trace: traced.then(Vec::new),
            broken: None,
            now_ms: START_MS,
            rng,
            profile,
        };
        trace!(world, "{:?}", world.profile);
        for _ in 0..world.rng.usize(0..6) {
            world.write_source();
        }
        world
    }

    /// Faults and work, then work only, then quiet until everything stands.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.profile.steps {
            self.chance();
            self.step()?;
        }
        self.calm_down();
        let mut settled_ms = None;
        for _ in 0..30_000 {
            self.step()?;
            settled_ms = if self.is_settled() { settled_ms.or(Some(self.now_ms)) } else { None };
            if settled_ms.is_some_and(|since| self.now_ms > since + QUIET_MS) {
                return Ok(());
            }
        }
        let standing: Vec<_> = (0..self.sources.len()).map(|part| self.describe(part)).collect();
        Err(format!("it does not come to rest: {}", standing.join("; ")))
    }

    fn describe(&self, part: usize) -> String {
        let evidence = self.processes.first().map(|process| process.evidence(part)).unwrap_or_default();
        format!("part {part}: source end {}, {evidence}", self.readable(part))
    }

    pub(crate) fn readable(&self, part: usize) -> i64 {
        let log = &self.sources[part].log;
        match self.profile.settings.isolation {
            Isolation::ReadCommitted => log.last_stable(),
            Isolation::ReadUncommitted => log.high_watermark,
        }
    }

    fn is_settled(&self) -> bool {
        let [process] = &self.processes[..] else { return false };
        let stands = |part| {
            let (halt, caught_up) = process.standing(part, self.readable(part));
            halt.is_some() || caught_up
        };
        self.net.calls.iter().all(|c| matches!(c.connection.1, Lane::Fetch(_)))
            && process.is_idle()
            && (0..self.sources.len()).all(stands)
    }

    /// The faults end: what was open is decided and replicated, one process is left.
    fn calm_down(&mut self) {
        trace!(self, "--- calm");
        self.calm = true;
        self.asleep.clear();
        self.net.end_stalls();
        self.net.forget_orphans();
        while self.processes.len() > 1 {
            self.crash(0);
        }
        self.net.forget_orphans();
        for source in &mut self.sources {
            for producer in source.log.open_transactions() {
                source.end_transaction(producer, self.rng.bool(), self.now_ms as i64);
            }
            source.log.replicate(i64::MAX);
        }
    }

    /// The ordinary course of things: exactly one of what is possible happens.
    fn step(&mut self) -> Result<(), String> {
        self.now_ms += self.rng.u64(0..6);
        match self.rng.u8(..100) {
            0..25 => self.arrive(),
            25..48 => self.answer(),
            48..75 => self.turn(),
            75..85 => self.replicate(),
            85..90 => self.markers(),
            90..94 if !self.calm => self.write_source(),
            94..96 => self.discover(),
            96 => self.sign_of_life(),
            _ => self.start_if_none(),
        }
        self.release_waiting();
        self.broken.take().map_or(Ok(()), Err)
    }

    fn arrive(&mut self) {
        let Some(at) = self.net.arriving(&mut self.rng, self.now_ms) else { return };
        let request = self.net.calls[at].request.clone();
        let stage = match &request {
            Request::SourceFetch { .. } | Request::SourceBounds { .. } | Request::SourceRead { .. } => {
                Stage::Answered(self.ask_source(&request))
            }
            _ => self.ask_target(&request),
        };
        self.note_unfenced(&request, &stage, self.net.calls[at].orphan);
        let call = &mut self.net.calls[at];
        trace!(
            self,
            "arrives {}{:?} {} -> {}",
            orphaned(call.orphan),
            call.connection,
            brief(&request),
            brief_stage(&stage)
        );
        call.stage = stage;
        if call.orphan {
            self.net.calls.remove(at);
        }
    }

    /// The batch was appended last, if it was appended.
    fn note_unfenced(&mut self, request: &Request, stage: &Stage, late: bool) {
        let (Request::Produce { log: LogId::Data(part), .. }, Stage::Waiting { base, .. }) = (request, stage) else {
            return;
        };
        let log = &self.target.data[*part];
        let Some(written) = log.batches.last().map(|b| b.header).filter(|h| h.base_offset == *base) else { return };
        let mut markers = log.batches.iter().filter(|b| b.commits.is_some()).map(|b| b.header);
        let fenced = |m: BatchHeader| m.producer_id == written.producer_id && m.producer_epoch > written.producer_epoch;
        let sequence = |h: BatchHeader| (h.producer_id, h.producer_epoch, h.base_sequence);
        let mut data = log.batches.iter().filter(|b| b.commits.is_none()).map(|b| b.header);
        let again = late && data.any(|h| sequence(h) == sequence(written) && h.base_offset < *base);
        if again || markers.any(fenced) {
            trace!(self, "part {part}: a batch that is fenced, or stands there already, is let in at {base}");
            self.excuses[*part].unfenced = true;
        }
    }

    fn ask_target(&mut self, request: &Request) -> Stage {
        if matches!(request, Request::AddPartitions(..)) {
            self.txn_opened_ms = Some(self.now_ms);
        }
        if !self.calm && self.profile.leaders && self.rng.u8(..30) == 0 && matches!(request, Request::Produce { .. }) {
            return Stage::Answered(Response::Error(NOT_LEADER_OR_FOLLOWER));
        }
        self.target.handle(request, &mut self.rng)
    }

    fn ask_source(&mut self, request: &Request) -> Response {
        let (part, topic) = match request {
            Request::SourceFetch { part, topic, .. }
            | Request::SourceBounds { part, topic, .. }
            | Request::SourceRead { part, topic, .. } => (*part, *topic),
            other => unreachable!("{other:?}"),
        };
        let (source, batches) = (&self.sources[part], self.rng.usize(1..6));
        // Fetches name the topic by its id, ListOffsets by its name.
        if source.topic != topic && !matches!(request, Request::SourceBounds { .. }) {
            return Response::Error(UNKNOWN_TOPIC_ID);
        }
        let settings = self.profile.settings;
        match request {
            Request::SourceFetch { offset, last_epoch, .. } => {
                let committed = settings.isolation == Isolation::ReadCommitted;
                Response::Slice(source.log.fetch(*offset, *last_epoch, committed, batches))
            }
            Request::SourceRead { offset, .. } => Response::Slice(source.log.fetch(*offset, -1, false, batches)),
            Request::SourceBounds { committed: true, .. } => {
                Response::Bounds(Bounds { start: source.log.start, end: source.log.last_stable() })
            }
            _ => Response::Bounds(Bounds { start: source.log.start, end: source.log.high_watermark }),
        }
    }

    /// Appends that have been replicated are answered; those that a new leader lacks are not.
    fn release_waiting(&mut self) {
        for call in &mut self.net.calls {
            if let (Stage::Waiting { needs, base }, Request::Produce { log, .. }) = (&call.stage, &call.request) {
                let log = self.target.log(*log);
                if log.high_watermark >= *needs {
                    call.stage = Stage::Answered(Response::Offset(*base));
                } else if log.end < *needs {
                    call.stage = Stage::Answered(Response::Error(NOT_LEADER_OR_FOLLOWER));
                }
            }
        }
    }

    fn answer(&mut self) {
        let Some(at) = self.net.returning(&mut self.rng, self.now_ms) else { return };
        let call = self.net.calls.remove(at);
        let Stage::Answered(response) = call.stage else { return };
        if let Some(process) = self.processes.iter().find(|p| p.number == call.process) {
            process.io.0.inbox.borrow_mut().insert(call.number, Ok(response));
        }
    }

    fn turn(&mut self) {
        let awake: Vec<usize> =
            (0..self.processes.len()).filter(|at| !self.asleep.contains(&self.processes[*at].number)).collect();
        if awake.is_empty() {
            return;
        }
        let at = awake[self.rng.usize(..awake.len())];
        let process = &mut self.processes[at];
        let number = process.number;
        if process.seen_control != self.control_changes {
            process.seen_control = self.control_changes;
            process.follow(self.control.clone());
        }
        let clock = self.clocks.get(&number).copied().unwrap_or(0);
        let outcome = process.turn(self.now_ms.saturating_add_signed(clock), self.now_ms - START_MS);
        for sent in process.io.0.outbox.borrow_mut().drain(..) {
            self.net.send(number, sent);
        }
        for (part, halt) in process.told.drain(..) {
            trace!(self, "process {number} part {part} halts: {halt}");
            self.excuses[part].halts.push(halt);
        }
        if let Err(end) = outcome {
            self.on_end(at, &end);
        }
    }

    fn on_end(&mut self, at: usize, end: &End) {
        trace!(self, "process {} ends: {end:?}", self.processes[at].number);
        if let End::Broken(what) = end {
            self.broken = Some(what.clone());
        }
        self.drop_process(at);
        if self.profile.forgotten_ids && self.processes.is_empty() && !self.calm && self.rng.bool() {
            self.forget_id();
        }
    }

    /// Nobody was there for longer than `transactional.id.expiration.ms`.
    fn forget_id(&mut self) {
        self.net.forget_orphans();
        let forgotten = self.target.coordinator.forget();
        trace!(self, "transactional id forgotten: {forgotten}");
    }

    fn drop_process(&mut self, at: usize) {
        let process = self.processes.remove(at);
        self.asleep.retain(|number| *number != process.number);
        for lane in self.net.lanes_of(process.number) {
            self.net.lose(process.number, lane, &mut self.rng);
        }
    }

    fn crash(&mut self, at: usize) {
        trace!(self, "process {} crashes", self.processes[at].number);
        self.drop_process(at);
    }

    fn start(&mut self) {
        self.started += 1;
        let process = Process::new(self.started, self.profile.settings, self.control.clone());
        trace!(self, "process {} starts", self.started);
        self.processes.push(process);
    }

    fn start_if_none(&mut self) {
        if self.processes.len() == self.asleep.len() {
            self.start();
        }
    }

    fn discover(&mut self) {
        let ids: Vec<u128> = self.sources.iter().map(|source| source.topic).collect();
        let awake = |process: &&mut Process| !self.asleep.contains(&process.number);
        self.processes.iter_mut().filter(awake).for_each(|process| process.discover(&ids));
    }

    fn sign_of_life(&mut self) {
        if !self.calm && self.rng.u8(..4) == 0 {
            self.processes.iter_mut().for_each(Process::keep_alive);
        }
    }

    fn replicate(&mut self) {
        for id in self.target.logs() {
            let log = self.target.log_mut(id);
            let ends: Vec<i64> = log.batches.iter().rev().map(|b| b.header.next_offset()).collect();
            let ends: Vec<i64> = ends.into_iter().take_while(|end| *end > log.high_watermark).collect();
            if !ends.is_empty() {
                log.replicate(ends[self.rng.usize(..ends.len())]);
            }
        }
        self.target.settle_markers();
        for source in &mut self.sources {
            source.log.replicate(i64::MAX);
        }
    }

    fn markers(&mut self) {
        if let Some(marker) = self.target.write_marker(&mut self.rng, self.now_ms as i64) {
            trace!(self, "marker {marker:?}");
        }
        if self.txn_opened_ms.is_some_and(|at| self.now_ms > at + 60_000) && self.target.coordinator.time_out() {
            trace!(self, "the transaction's time is up");
        }
    }

    fn write_source(&mut self) {
        let part = self.rng.usize(..self.sources.len());
        let timestamp_ms = self.now_ms as i64 - self.profile.age_ms;
        let count = self.rng.u64(1..5);
        let ids: Vec<u64> = (self.next_id..self.next_id + count).map(|id| id + 1).collect();
        self.next_id += count;
        let source = &mut self.sources[part];
        let open = source.log.open_transactions();
        match self.rng.u8(..10) {
            0..4 if self.profile.transactions => source.write(&ids, Some(self.rng.i64(1..4)), timestamp_ms),
            4..7 if !open.is_empty() => {
                let producer = open[self.rng.usize(..open.len())];
                source.end_transaction(producer, self.rng.bool(), timestamp_ms);
            }
            7 if self.profile.compaction => source.compact(&mut self.rng),
            8 if self.profile.leaders => source.elect(source.log.high_watermark),
            _ => source.write(&ids, None, timestamp_ms),
        }
    }
}
