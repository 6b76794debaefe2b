//! The target cluster: the shard's state partition, data partitions, the coordinator; and how it answers.

use fastrand::Rng;
use kmirror::mirror::Bounds;

use super::broker::LogId;
use super::broker::coordinator::{Coordinator, Marker};
use super::broker::log::{Appended, Log};
use super::driver::io::{Request, Response};
use super::net::Stage;

#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) state: Log,
    pub(crate) data: Vec<Log>,
    pub(crate) coordinator: Coordinator,
    /// Markers that were appended and wait to be replicated, with their offsets.
    unreplicated: Vec<(Marker, i64)>,
}

impl Target {
    pub(crate) fn new(parts: usize) -> Self {
        Self { data: vec![Log::default(); parts], ..Self::default() }
    }

    pub(crate) fn log(&self, id: LogId) -> &Log {
        match id {
            LogId::State => &self.state,
            LogId::Data(part) => &self.data[part],
        }
    }

    pub(crate) fn log_mut(&mut self, id: LogId) -> &mut Log {
        match id {
            LogId::State => &mut self.state,
            LogId::Data(part) => &mut self.data[part],
        }
    }

    pub(crate) fn logs(&self) -> Vec<LogId> {
        (0..self.data.len()).map(LogId::Data).chain([LogId::State]).collect()
    }

    /// What becomes of a request that arrives.
    pub(crate) fn handle(&mut self, request: &Request, rng: &mut Rng) -> Stage {
        let done = |outcome: Result<(), i16>| outcome.map_or_else(Response::Error, |()| Response::Done);
        Stage::Answered(match request {
            Request::Init(expected) => {
                self.coordinator.init(*expected).map_or_else(Response::Error, Response::Producer)
            }
            Request::AddPartitions(producer, logs) => done(self.coordinator.add_partitions(*producer, logs)),
            Request::EndTxn(producer) => done(self.coordinator.end(*producer)),
            Request::Bounds(log) => {
                let log = self.log(*log);
                Response::Bounds(Bounds { start: log.start, end: log.high_watermark })
            }
            Request::Read { log, offset } => Response::Slice(self.log(*log).fetch(*offset, -1, false, rng.usize(1..6))),
            Request::Produce { log, bytes } => match self.log_mut(*log).produce(bytes) {
                Appended::Refused(code) => Response::Error(code),
                Appended::At { base, needs } => return Stage::Waiting { needs, base },
            },
            Request::DeleteRecords { log, before } => {
                self.log_mut(*log).delete_below(*before);
                Response::Done
            }
            source => unreachable!("{source:?}"),
        })
    }

    /// One more step of writing the coordinator's markers; says which was appended.
    pub(crate) fn write_marker(&mut self, rng: &mut Rng, now_ms: i64) -> Option<Marker> {
        let waiting = |marker: &Marker| self.unreplicated.iter().any(|(other, _)| other == marker);
        let due: Vec<Marker> = self.coordinator.due().into_iter().filter(|m| !waiting(m)).collect();
        let marker = if due.is_empty() { return None } else { due[rng.usize(..due.len())] };
        match self.log_mut(marker.log).mark(marker.producer, false, now_ms) {
            Some(offset) => self.unreplicated.push((marker, offset)),
            None => self.coordinator.done(marker),
        }
        Some(marker)
    }

    /// A coordinator may write a marker twice.
    pub(crate) fn repeat_marker(&mut self, rng: &mut Rng, now_ms: i64) -> Option<Marker> {
        let written = &self.coordinator.written;
        let newest = written.len().saturating_sub(3);
        let marker = if written.is_empty() { return None } else { written[rng.usize(newest..written.len())] };
        self.log_mut(marker.log).mark(marker.producer, false, now_ms).map(|_| marker)
    }

    /// Markers below the high watermark are done; those that a new leader lacks are written again.
    pub(crate) fn settle_markers(&mut self) {
        let (mut done, mut waiting) = (Vec::new(), Vec::new());
        for (marker, offset) in std::mem::take(&mut self.unreplicated) {
            let log = self.log(marker.log);
            if offset < log.high_watermark {
                done.push(marker);
            } else if offset < log.end {
                waiting.push((marker, offset));
            }
        }
        self.unreplicated = waiting;
        done.into_iter().for_each(|marker| self.coordinator.done(marker));
    }

    /// Another broker leads: what was not replicated is gone, or a part of it.
    pub(crate) fn elect(&mut self, id: LogId, rng: &mut Rng) {
        let log = self.log_mut(id);
        let ends: Vec<i64> = log.batches.iter().map(|b| b.header.next_offset()).collect();
        let ends: Vec<i64> = ends.into_iter().filter(|end| *end > log.high_watermark).collect();
        let end = if ends.is_empty() || rng.bool() { log.high_watermark } else { ends[rng.usize(..ends.len())] };
        log.elect(end);
        self.unreplicated.retain(|(marker, offset)| marker.log != id || *offset < end);
    }
}
