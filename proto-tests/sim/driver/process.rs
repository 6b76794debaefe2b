//! The runner's loop: `engine::runner`, one turn at a time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use kmirror::client::{Verdict as Class, classify};
use kmirror::mirror::{
    Answer, Bounds, Break, Clock, ControlState, Divergence, FetchedRecords, GapReason, Halt, OutOfRange, ReleaseEntry,
    Verdict,
};

use super::flow::{Leave, Part, Stage};
use super::io::{End, Io, Lane, Lost, Request, Response};
use super::shard::worker;
use super::{Attached, Event, Job, Policy, Settings, Ticket, topic};
use crate::sim::broker::LogId;
use crate::sim::broker::log::{OFFSET_OUT_OF_RANGE, Slice};
use crate::sim::mutation::{self, Mutation};

mod halting;

/// Produce requests of a partition under way at once.
const LANE_DEPTH: usize = 5;
const RETRY_MS: u64 = 100;
const SCANS_NOTED_EVERY_MS: u64 = 500;

#[derive(Debug, Clone, Copy)]
enum Pending {
    Fetch(usize),
    Produce(usize, i64),
    Bounds(usize),
}

pub(crate) struct Process {
    pub(crate) number: usize,
    pub(crate) io: Io,
    worker: Pin<Box<dyn Future<Output = End>>>,
    pub(crate) parts: Vec<Part>,
    pending: BTreeMap<u64, Pending>,
    breaks: Vec<(Ticket, u32, Vec<Break>)>,
    writing: bool,
    waiting: Vec<usize>,
    retake: Vec<usize>,
    attaching: bool,
    baselined: bool,
    taken: bool,
    /// Source topic ids that were mirrored, by part.
    identities: BTreeMap<usize, Vec<u128>>,
    /// Halts on record, each with the number of resumes that it followed.
    halts: BTreeMap<usize, (Halt, u64)>,
    pub(crate) control: ControlState,
    clock: Clock,
    next_scan_ms: u64,
    pub(crate) stopping: bool,
    /// How many changes of the control partition were heeded.
    pub(crate) seen_control: usize,
    /// Halts since the world last looked.
    pub(crate) told: Vec<(usize, Halt)>,
    releasing: bool,
    released: bool,
}

impl Process {
    pub(crate) fn new(number: usize, settings: Settings, control: ControlState) -> Self {
        let io = Io::new(settings, number as u64 * 1_000_000);
        Self {
            number,
            worker: Box::pin(worker(io.clone())),
            io,
            parts: Vec::new(),
            pending: BTreeMap::new(),
            breaks: Vec::new(),
            writing: false,
            waiting: Vec::new(),
            retake: Vec::new(),
            attaching: false,
            baselined: false,
            taken: false,
            identities: BTreeMap::new(),
            halts: BTreeMap::new(),
            control,
            clock: Clock::default(),
            next_scan_ms: 0,
            stopping: false,
            seen_control: 0,
            told: Vec::new(),
            releasing: false,
            released: false,
        }
    }

    /// Does what can be done at this time of day, and this monotonic time; says why when it ends.
    pub(crate) fn turn(&mut self, day_ms: u64, monotonic_ms: u64) -> Result<(), End> {
        self.io.0.now_ms.set(self.clock.read(day_ms, monotonic_ms));
        if !self.releasing {
            self.take_answers()?;
        }
        if let Poll::Ready(end) = self.worker.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Err(end);
        }
        let events: Vec<Event> = self.io.0.events.borrow_mut().drain(..).collect();
        for event in events {
            self.handle(event);
        }
        if self.releasing {
            return if self.released { Err(End::Stopped) } else { Ok(()) };
        }
        self.periodic();
        for part in 0..self.parts.len() {
            self.collect_breaks(part);
            self.maybe_leave(part);
        }
        self.flush_breaks();
        if self.stopping {
            self.release();
            return Ok(());
        }
        for part in 0..self.parts.len() {
            self.send(part);
            self.fetch(part);
        }
        self.attach_waiting();
        Ok(())
    }

    fn give(&self, job: Job) {
        self.io.0.jobs.borrow_mut().push_back(job);
    }

    fn take_answers(&mut self) -> Result<(), End> {
        let calls: Vec<u64> = self.pending.keys().copied().collect();
        for call in calls {
            let Some(outcome) = self.io.0.inbox.borrow_mut().remove(&call) else { continue };
            match self.pending.remove(&call) {
                Some(Pending::Fetch(part)) => self.on_fetched(part, outcome),
                Some(Pending::Produce(part, target)) => self.on_produced(part, target, outcome)?,
                Some(Pending::Bounds(part)) => self.on_bounds(part, &outcome),
                None => {}
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Taken(state) => {
                self.taken = true;
                for state in state.partitions.values() {
                    let declared = &state.declared;
                    let part = declared.source_topic[1..].parse().unwrap();
                    self.identities.entry(part).or_default().push(declared.source_topic_id.as_u128());
                }
                for ((name, _), (halt, resumes)) in &state.halts {
                    self.halts.insert(name[1..].parse().unwrap(), (halt.clone(), *resumes));
                }
            }
            Event::Written(tickets) => {
                self.writing = false;
                for (part, attachment, ticket) in tickets {
                    if let Some(flow) = self.parts[part].flow().filter(|flow| flow.attachment == attachment) {
                        flow.appender.breaks_acked(ticket);
                    }
                }
            }
            Event::Attached(outcome) => {
                self.attaching = false;
                self.on_attached(outcome);
            }
            Event::Displaced(outcome) => self.on_attached(outcome),
            Event::Fenced(part) => {
                self.parts[part].successor = true;
                self.waiting.push(part);
            }
            Event::Released => self.released = true,
        }
    }

    fn attach_waiting(&mut self) {
        if self.parts.is_empty() || !self.taken || self.attaching {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let fresh: Vec<usize> = waiting.into_iter().filter(|part| self.admit(*part)).collect();
        let first = !std::mem::replace(&mut self.baselined, true);
        let retake = if fresh.is_empty() && !first { std::mem::take(&mut self.retake) } else { Vec::new() };
        if fresh.is_empty() && retake.is_empty() && !first {
            return;
        }
        self.attaching = true;
        let job_retakes = !retake.is_empty();
        let wanted = fresh.into_iter().chain(retake).map(|part| self.parts[part].wanted()).collect();
        self.give(Job::Attach { wanted, retake: job_retakes });
    }

    fn on_attached(&mut self, outcome: Vec<(usize, Attached)>) {
        for (number, attached) in outcome {
            match attached {
                Attached::Flowing(footing) => {
                    let part = &mut self.parts[number];
                    part.start(&self.io, &footing);
                    (part.freed, part.successor) = (None, false);
                    let known = self.identities.entry(number).or_default();
                    if !known.contains(&part.source_id) {
                        known.push(part.source_id);
                    }
                    if self.halts.remove(&number).is_some() {
                        self.give(Job::Halt { part: number, halt: None, resumes: 0 });
                    }
                }
                Attached::Halted(halt) => self.halt(number, halt),
            }
        }
    }

    fn leave(&mut self, number: usize, why: Leave) {
        let part = &mut self.parts[number];
        part.stage = match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Flowing(flow) => Stage::Leaving { flow, why },
            other => other,
        };
        self.drop_breaks(number);
    }

    fn drop_breaks(&mut self, number: usize) {
        if !self.io.broken(Mutation::KeepBreaksOfEndedFlow) {
            self.breaks.retain(|((part, ..), ..)| *part != number);
        }
    }

    fn maybe_leave(&mut self, number: usize) {
        let part = &mut self.parts[number];
        match std::mem::replace(&mut part.stage, Stage::Starting) {
            Stage::Leaving { flow, why } if flow.appender.in_flight() == 0 => match why {
                Leave::Recreated => self.adopt(number),
                Leave::TakeOver if flow.appender.displacements().is_empty() => self.retake.push(number),
                Leave::TakeOver | Leave::Displaced => {
                    let displacements = flow.appender.displacements().to_vec();
                    let wanted = part.wanted();
                    self.give(Job::Displaced { wanted, displacements, take_over: why != Leave::Displaced });
                }
            },
            Stage::Halted { halt, flow: Some(flow) } if flow.appender.in_flight() == 0 => {
                part.stage = Stage::Halted { halt, flow: None };
            }
            other => part.stage = other,
        }
    }

    fn periodic(&mut self) {
        let now_ms = self.io.now_ms();
        for number in 0..self.parts.len() {
            if self.parts[number].flow().is_some_and(|flow| flow.appender.overdue(now_ms).is_some()) {
                self.leave(number, Leave::TakeOver);
            }
        }
        if now_ms >= self.next_scan_ms && !self.stopping {
            self.next_scan_ms = now_ms + SCANS_NOTED_EVERY_MS;
            self.note_scans();
        }
    }

    fn note_scans(&mut self) {
        if self.io.broken(Mutation::ForgetScans) {
            return;
        }
        let mut entries = Vec::new();
        for flow in self.parts.iter_mut().filter_map(Part::flow) {
            if let Some(scan) = flow.unnoted_scan() {
                flow.scanned = scan.source;
                entries.push((flow.index, scan));
            }
        }
        if !entries.is_empty() {
            self.give(Job::Scanned { entries });
        }
    }

    pub(crate) fn keep_alive(&mut self) {
        if self.taken {
            self.give(Job::KeepAlive);
        }
    }

    fn collect_breaks(&mut self, number: usize) {
        let breaks_ahead = !self.io.broken(Mutation::SkipWriteAhead);
        let mutation = self.io.settings().mutation;
        let Some(flow) = self.parts[number].flow() else { return };
        let Some((ticket, mut breaks)) = flow.appender.take_breaks() else { return };
        mutation::alter_breaks(mutation, &mut breaks);
        if !breaks_ahead {
            flow.appender.breaks_acked(ticket);
        }
        self.breaks.push(((number, flow.attachment, ticket), flow.index, breaks));
    }

    fn flush_breaks(&mut self) {
        if self.writing || self.breaks.is_empty() {
            return;
        }
        self.writing = true;
        let pending = std::mem::take(&mut self.breaks);
        let (tickets, entries) = pending.into_iter().map(|(ticket, index, breaks)| (ticket, (index, breaks))).unzip();
        self.give(Job::Segments { tickets, entries });
    }

    fn send(&mut self, number: usize) {
        let now_ms = self.io.now_ms();
        let mutation = self.io.settings().mutation;
        let Some(flow) = self.parts[number].flow() else { return };
        while flow.appender.in_flight() < LANE_DEPTH {
            let Some(out) = flow.appender.take_outgoing(now_ms) else { break };
            let bytes = mutation::alter_outgoing(mutation, &out, flow.appender.writer());
            let request = Request::Produce { log: LogId::Data(number), bytes };
            let call = self.io.send(Lane::Produce(number), request);
            self.pending.insert(call, Pending::Produce(number, out.target));
        }
    }

    fn on_produced(&mut self, number: usize, target: i64, outcome: Result<Response, Lost>) -> Result<(), End> {
        let (now_ms, mutation) = (self.io.now_ms(), self.io.settings().mutation);
        let answer = match outcome {
            Ok(Response::Offset(base_offset)) => Answer::Appended { base_offset },
            Ok(Response::Error(code)) => {
                Answer::Refused { code, message: code.to_string(), retriable: classify(code) != Class::Fatal }
            }
            Ok(other) => return Err(super::io::unexpected(&other)),
            Err(Lost) => Answer::Lost,
        };
        let Some(flow) = self.parts[number].answering() else { return Ok(()) };
        match flow.appender.answer(target, mutation::alter_answer(mutation, answer, target), now_ms) {
            Verdict::Go | Verdict::Refresh => {}
            Verdict::TakeOver(_) => self.leave(number, Leave::TakeOver),
            Verdict::Displaced { .. } => self.leave(number, Leave::Displaced),
            Verdict::Fenced(detail) => return Err(End::Fenced(detail)),
            Verdict::Halt(halt) => self.halt(number, halt),
        }
        Ok(())
    }

    fn fetch(&mut self, number: usize) {
        let now_ms = self.io.now_ms();
        let part = &mut self.parts[number];
        let Some((offset, last_epoch)) = part.want(now_ms) else { return };
        part.asked = Some(offset);
        part.fetching = true;
        let last_epoch = if self.io.broken(Mutation::IgnoreDivergence) { -1 } else { last_epoch };
        let request = Request::SourceFetch { part: number, topic: part.source_id, offset, last_epoch };
        let call = self.io.send(Lane::Fetch(number), request);
        self.pending.insert(call, Pending::Fetch(number));
    }

    fn on_fetched(&mut self, number: usize, outcome: Result<Response, Lost>) {
        let now_ms = self.io.now_ms();
        let stale_too = self.io.broken(Mutation::TakeStaleFetch);
        let part = &mut self.parts[number];
        part.fetching = false;
        let Ok(Response::Slice(slice)) = outcome else {
            part.fetch_not_before_ms = now_ms + RETRY_MS;
            return;
        };
        let asked = part.asked;
        let Some(flow) = part.flow() else { return };
        if asked != Some(flow.intake.next()) && !stale_too {
            return;
        }
        self.on_slice(number, slice);
    }

    fn on_slice(&mut self, number: usize, slice: Slice) {
        let (now_ms, mutation) = (self.io.now_ms(), self.io.settings().mutation);
        let part = &mut self.parts[number];
        if slice.error == OFFSET_OUT_OF_RANGE {
            part.fetch_not_before_ms = u64::MAX;
            let request = Request::SourceBounds { part: number, topic: part.source_id, committed: false };
            let call = self.io.send(Lane::Fetch(number), request);
            self.pending.insert(call, Pending::Bounds(number));
            return;
        }
        if slice.error != 0 {
            part.fetch_not_before_ms = now_ms + RETRY_MS;
            return;
        }
        if let Some((epoch, end)) = slice.diverging {
            return self.on_divergence(number, Divergence { epoch, end, start: slice.start });
        }
        if slice.bytes.is_empty() {
            part.fetch_not_before_ms = now_ms + 5;
            return;
        }
        let Some(flow) = part.flow() else { return };
        let data = mutation::alter_fetched(mutation, FetchedRecords { aborted: slice.aborted, records: slice.bytes });
        let (ready, halt) = flow.intake.take(&data);
        for batch in ready {
            flow.appender.push(batch);
        }
        if let Some(halt) = halt {
            self.halt(number, halt);
        }
    }

    fn on_bounds(&mut self, number: usize, outcome: &Result<Response, Lost>) {
        let now_ms = self.io.now_ms();
        let part = &mut self.parts[number];
        part.fetch_not_before_ms = now_ms + RETRY_MS;
        let Ok(Response::Bounds(Bounds { start, end })) = *outcome else { return };
        let Some(flow) = part.flow() else { return };
        match flow.intake.out_of_range(flow.scanned, Bounds { start, end }) {
            OutOfRange::No => {}
            OutOfRange::Lost(lost) => match self.io.settings().retention_loss {
                Policy::Continue => self.accept(number, &lost, GapReason::Retention),
                Policy::Halt => self.halt(number, lost),
            },
            OutOfRange::Truncated => self.on_divergence(number, Divergence { epoch: i32::MAX, end, start }),
        }
    }

    fn on_divergence(&mut self, number: usize, at: Divergence) {
        let accepted = self.control.accepted_ranges(&topic(number), 0).to_vec();
        let part = &mut self.parts[number];
        part.given_up.retain(|(_, to, _)| *to <= at.end);
        (part.divergence, part.accepted) = (Some(at), accepted);
        self.leave(number, Leave::TakeOver);
    }

    /// A clean stop: what is in flight is answered, then every partition whose end is known is released.
    fn release(&mut self) {
        let quiet = self.parts.iter_mut().all(|p| p.answering().is_none_or(|f| f.appender.in_flight() == 0));
        if !quiet || self.attaching || self.writing || !self.taken {
            return;
        }
        self.releasing = true;
        self.note_scans();
        let any = self.io.broken(Mutation::ReleaseUnclean);
        let mut entries = Vec::new();
        for flow in self.parts.iter_mut().filter_map(Part::flow).filter(|f| any || f.appender.is_clean()) {
            let last_crc = flow.appender.last_crc().unwrap_or(0);
            entries.push(ReleaseEntry { index: flow.index, end: flow.appender.settled(), last_crc });
        }
        self.give(Job::Release { entries });
    }

    /// Why a part stands still, and whether it has taken in all of a source that ends at `source_end`.
    pub(crate) fn standing(&self, number: usize, source_end: i64) -> (Option<&Halt>, bool) {
        match self.parts.get(number).map(|part| &part.stage) {
            Some(Stage::Halted { halt, .. }) => (Some(halt), false),
            Some(Stage::Flowing(flow)) => (None, flow.appender.is_idle() && flow.intake.next() >= source_end),
            _ => (None, false),
        }
    }

    /// What a part that does not get on is about.
    pub(crate) fn evidence(&self, number: usize) -> String {
        match self.parts.get(number).map(|part| &part.stage) {
            Some(Stage::Halted { halt, .. }) => format!("halted: {halt}"),
            Some(Stage::Flowing(flow)) => format!("next {}, {:?}", flow.intake.next(), flow.appender),
            Some(Stage::Leaving { why, flow }) => format!("leaving ({why:?}), {:?}", flow.appender),
            Some(Stage::Starting) => format!("starting, retake {:?}, waiting {:?}", self.retake, self.waiting),
            None => "not discovered".to_owned(),
        }
    }

    /// Whether its hands have nothing to do, as far as it knows.
    pub(crate) fn is_idle(&self) -> bool {
        self.io.0.jobs.borrow().is_empty() && !self.attaching && !self.writing && self.breaks.is_empty()
    }
}
