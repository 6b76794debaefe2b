//! To the target: write-ahead of map breaks, produce requests, answers.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::client::{ProduceEntry, Verdict as Class, classify};
use crate::mirror::{Answer, GapReason, Verdict};

use super::super::EngineError;
use super::super::events::{PartId, Ticket};
use super::super::lane::{Answers, Flight, LaneKey, Unanswered, lane};
use super::super::part::{Leave, Stage};
use super::super::shard_worker::Job;
use super::{Lane, Runner};

/// Connections a target broker.
pub(super) const LANES: u16 = 2;
/// Requests of a lane under way at once: one being handled, one ready behind it.
const LANE_DEPTH: usize = 3;
/// A produce request holds at most this much, but always one batch. With [`LANES`] and [`LANE_DEPTH`] it bounds what
/// coalesced batches take beside the memory budget: 6 MiB a target broker.
const REQUEST_BYTES: usize = 1 << 20;

impl Runner {
    pub(super) fn ensure_lane(&mut self, key: LaneKey) {
        if self.lanes.contains_key(&key) {
            return;
        }
        // Bounded by LANE_DEPTH: no more flights than that are ever handed over.
        let (flights, receiver) = mpsc::unbounded_channel();
        let cluster = self.shared.target.clone();
        let sender = self.sender.clone();
        let took = self.counting.produced.clone();
        self.tasks.spawn(lane(cluster, key, took, receiver, sender));
        self.lanes
            .insert(key, Lane { flights, in_flight: 0, sent_in: 0, ready: VecDeque::new(), queued: BTreeSet::new() });
    }

    /// Breaks of a part join those of its shard, to be written ahead together.
    pub(super) fn collect_breaks(&mut self, id: PartId) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let shard = part.shard as usize;
        let Some(flow) = part.flow() else { return };
        let (index, attachment) = (flow.index, flow.attachment);
        let Some((ticket, breaks)) = flow.appender.take_breaks() else { return };
        if let Some(shard) = self.shards.get_mut(shard) {
            self.counting.noted(&breaks);
            shard.breaks.push(((id, attachment, ticket), index, breaks));
        }
    }

    /// One write per shard at a time; what comes meanwhile goes with the next one (group commit).
    pub(super) fn flush_breaks(&mut self) {
        for number in 0..self.shards.len() {
            let Some(shard) = self.shards.get_mut(number) else { continue };
            if shard.writing || shard.breaks.is_empty() {
                continue;
            }
            shard.writing = true;
            let pending = std::mem::take(&mut shard.breaks);
            let (tickets, entries) =
                pending.into_iter().map(|(ticket, index, breaks)| (ticket, (index, breaks))).unzip();
            self.give(number, Job::Segments { tickets, entries });
        }
    }

    pub(super) fn on_state_written(
        &mut self,
        shard: u32,
        tickets: Vec<Ticket>,
        outcome: Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if let Some(shard) = self.shards.get_mut(shard as usize) {
            shard.writing = false;
        }
        outcome?;
        for (id, attachment, ticket) in tickets {
            let flow = self.parts.get_mut(id).and_then(|p| p.flow());
            if let Some(flow) = flow.filter(|flow| flow.attachment == attachment) {
                flow.appender.breaks_acked(ticket);
                self.touched.insert(id);
            }
        }
        Ok(())
    }

    /// A part with something to send waits its turn in its lane.
    pub(super) fn queue_outgoing(&mut self, id: PartId) {
        let now_ms = self.now_ms();
        if self.stopping {
            return;
        }
        let Some(part) = self.parts.get_mut(id) else { return };
        let Some(key) = part.lane else { return };
        let Some(flow) = part.flow() else { return };
        if !flow.appender.has_outgoing(now_ms) {
            return;
        }
        let shard = part.shard;
        if part.ending {
            return;
        }
        if !self.may_write(shard) {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.queued.insert(id)
        {
            lane.ready.push_back(id);
        }
    }

    /// Fills every lane that has room: one batch per partition and request, partitions in turn.
    pub(super) fn send_flights(&mut self) {
        // Waiting for bandwidth would keep a stop from its end. What was not sent is fetched again.
        if self.stopping && self.throttle.is_limited() {
            return;
        }
        let now_ms = self.now_ms();
        for key in self.lanes_in_turn() {
            while self.lanes.get(&key).is_some_and(Lane::has_room) {
                let Some(room_bytes) = self.throttle.room(now_ms) else { return };
                let Some((flight, bytes)) = self.fill_flight(key, room_bytes.min(REQUEST_BYTES), now_ms) else { break };
                self.throttle.sent(bytes, now_ms);
                self.turn += 1;
                let Some(lane) = self.lanes.get_mut(&key) else { break };
                lane.sent_in = self.turn;
                lane.in_flight += 1;
                // A lane that has ended takes no flights; its task only ends with the runner.
                let _ = lane.flights.send(flight);
            }
        }
    }

    /// The next request of a lane, and its bytes: at most so many, but always one batch.
    fn fill_flight(&mut self, key: LaneKey, room_bytes: usize, now_ms: u64) -> Option<(Flight, usize)> {
        let lease = self.shared.lease();
        let lane = self.lanes.get_mut(&key)?;
        let made = Instant::now();
        let mut flight = Flight { entries: Vec::new(), whose: Vec::new(), written_ms: i64::MAX, made, lease };
        let mut bytes = 0;
        let mut again = Vec::new();
        while bytes < room_bytes {
            let Some(id) = lane.ready.pop_front() else { break };
            lane.queued.remove(&id);
            let Some(part) = self.parts.get_mut(id).filter(|p| p.lane == Some(key) && !p.ending) else { continue };
            // The process may have slept since it was queued.
            if self
                .shards
                .get(part.shard as usize)
                .is_none_or(|shard| made.saturating_duration_since(shard.owned) > lease)
            {
                self.touched.insert(id);
                continue;
            }
            let target = part.pair.target.clone();
            let Some(flow) = part.flow() else { continue };
            let Some(out) = flow.appender.take_outgoing(now_ms) else { continue };
            bytes += out.bytes();
            flight.whose.push((id, out.target));
            flight.written_ms = flight.written_ms.min(out.written_ms);
            flight.entries.push(ProduceEntry {
                topic: target.topic,
                topic_id: target.topic_id,
                partition: target.partition,
                header: out.header,
                payload: out.payload,
            });
            if flow.appender.has_outgoing(now_ms) {
                again.push(id);
            }
        }
        for id in again {
            if lane.queued.insert(id) {
                lane.ready.push_back(id);
            }
        }
        (!flight.entries.is_empty()).then_some((flight, bytes))
    }

    pub(super) fn on_produced(
        &mut self,
        key: LaneKey,
        whose: Vec<(PartId, i64)>,
        outcome: Result<Answers, Unanswered>,
    ) -> Result<(), EngineError> {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
        match outcome {
            Ok(answers) => {
                for ((id, target), answer) in whose.into_iter().zip(answers) {
                    let answer = match answer.error {
                        0 => Answer::Appended { base_offset: answer.base_offset },
                        code => Answer::Refused {
                            code,
                            message: self.shared.target.api_error("Produce", code, &answer.message).to_string(),
                            retriable: classify(code) != Class::Fatal,
                        },
                    };
                    self.on_answer_of(id, target, answer)?;
                }
            }
            Err(unanswered) => {
                let (error, answer, what) = match unanswered {
                    Unanswered::NotSent(error) => (error, Answer::NotSent, "not sent"),
                    Unanswered::Lost(error) => (error, Answer::Lost, "lost"),
                };
                tracing::warn!(mirror = %self.shared.config.name, broker = key.0, %error, "produce request {what}");
                for (id, target) in whose {
                    self.on_answer_of(id, target, answer.clone())?;
                }
            }
        }
        Ok(())
    }

    /// An answer that says that the partition is another's may say it of one shard alone.
    fn on_answer_of(&mut self, id: PartId, target: i64, answer: Answer) -> Result<(), EngineError> {
        let shard = self.parts.get(id).map(|part| part.shard);
        let outcome = self.on_answer(id, target, answer);
        shard.map_or(Ok(()), |shard| self.bear_loss(shard, outcome))
    }

    fn on_answer(&mut self, id: PartId, target: i64, answer: Answer) -> Result<(), EngineError> {
        let now_ms = self.now_ms();
        self.touched.insert(id);
        let Some(part) = self.parts.get_mut(id) else { return Ok(()) };
        let Some(flow) = part.answering() else { return Ok(()) };
        match flow.appender.answer(target, answer, now_ms) {
            Verdict::Go => {}
            Verdict::Refresh => self.refresh(),
            Verdict::TakeOver(why) => self.leave(id, Leave::TakeOver(why)),
            Verdict::Displaced { .. } => self.leave(id, Leave::Displaced),
            Verdict::Fenced(detail) => {
                let what = part.pair.target.to_string();
                return Err(EngineError::Fenced { mirror: self.shared.config.name.clone(), what, detail });
            }
            Verdict::Halt(halt) => {
                if self.passes_over(&halt) {
                    self.accept(id, &halt, GapReason::Corrupt);
                    self.leave(id, Leave::TakeOver(halt.to_string()));
                } else {
                    self.halt(id, halt);
                }
            }
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: PartId, why: Leave) {
        let Some(part) = self.parts.get_mut(id) else { return };
        let stage = std::mem::replace(&mut part.stage, Stage::Starting);
        part.stage = match stage {
            Stage::Flowing(flow) => {
                tracing::warn!(
                    topic = %part.pair.source.topic, partition = part.pair.source.partition, ?why,
                    "settling the partition's end before going on"
                );
                Stage::Leaving { flow, why }
            }
            other => other,
        };
        self.drop_breaks(id);
    }

    /// Breaks that were not handed over yet belong to batches that will not be sent by this flow.
    pub(super) fn drop_breaks(&mut self, id: PartId) {
        let Some(part) = self.parts.get(id) else { return };
        if let Some(shard) = self.shards.get_mut(part.shard as usize) {
            shard.breaks.retain(|((whose, ..), ..)| *whose != id);
        }
    }
}

impl Lane {
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < LANE_DEPTH && !self.ready.is_empty()
    }
}
