//! One partition as the simulated runner sees it: `engine::part`.

use kmirror::mirror::{Appender, Divergence, Footing, GapReason, Halt, HaltKind, Intake, Scan};

use super::io::Io;
use super::{Settings, Wanted};
use crate::sim::mutation::Mutation;

/// Bytes that may wait for the target before the partition is not fetched any more; small, so that it happens.
const QUEUE_BYTES: usize = 900;

pub(crate) struct Flow {
    pub(crate) index: u32,
    pub(crate) attachment: u64,
    pub(crate) scanned: i64,
    pub(crate) intake: Intake,
    pub(crate) appender: Appender,
}

pub(crate) enum Stage {
    Starting,
    Flowing(Box<Flow>),
    Leaving { flow: Box<Flow>, why: Leave },
    Halted { halt: Halt, flow: Option<Box<Flow>> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    TakeOver,
    Displaced,
    Recreated,
}

pub(crate) struct Part {
    pub(crate) number: usize,
    pub(crate) source_id: u128,
    pub(crate) stage: Stage,
    /// What the source was last asked for: a response to anything else is stale.
    pub(crate) asked: Option<i64>,
    pub(crate) fetching: bool,
    pub(crate) fetch_not_before_ms: u64,
    pub(crate) given_up: Vec<(i64, i64, GapReason)>,
    pub(crate) freed: Option<HaltKind>,
    pub(crate) divergence: Option<Divergence>,
    pub(crate) accepted: Vec<(i64, i64)>,
    pub(crate) next_source: Option<u128>,
    pub(crate) successor: bool,
    attachments: u64,
}

impl Flow {
    pub(crate) fn unnoted_scan(&self) -> Option<Scan> {
        let source = self.intake.scanned().filter(|next| self.appender.is_idle() && *next > self.scanned)?;
        Some(Scan { source, end: self.appender.settled() })
    }
}

impl Part {
    pub(crate) fn new(number: usize, source_id: u128) -> Self {
        Self {
            number,
            source_id,
            stage: Stage::Starting,
            asked: None,
            fetching: false,
            fetch_not_before_ms: 0,
            given_up: Vec::new(),
            freed: None,
            divergence: None,
            accepted: Vec::new(),
            next_source: None,
            successor: false,
            attachments: 0,
        }
    }

    pub(crate) fn wanted(&mut self) -> Wanted {
        Wanted {
            part: self.number,
            source_id: self.source_id,
            freed: self.freed,
            successor: self.successor,
            divergence: self.divergence.take(),
            accepted: self.accepted.clone(),
        }
    }

    pub(crate) fn flow(&mut self) -> Option<&mut Flow> {
        match &mut self.stage {
            Stage::Flowing(flow) => Some(flow),
            _ => None,
        }
    }

    pub(crate) fn answering(&mut self) -> Option<&mut Flow> {
        match &mut self.stage {
            Stage::Flowing(flow) | Stage::Leaving { flow, .. } => Some(flow),
            Stage::Halted { flow, .. } => flow.as_deref_mut(),
            Stage::Starting => None,
        }
    }

    pub(crate) fn start(&mut self, io: &Io, footing: &Footing) {
        let settings: &Settings = io.settings();
        // As `engine::part::Part::start`: what remains of the expiration after a margin.
        let margin = (15 * 60 * 1000).min(settings.expiration_ms / 4);
        let lifetime_ms =
            if io.broken(Mutation::ResendExpired) { u64::MAX / 2 } else { settings.expiration_ms - margin };
        let back = i64::from(io.broken(Mutation::PositionOneBack) && footing.position > 0);
        let mut intake = Intake::new(footing.position - back, footing.last_epoch, settings.isolation, 1 << 20);
        for (from, to, reason) in &self.given_up {
            intake.give_up(*from, *to, *reason);
        }
        let appender = Appender::new(footing.writer, footing.end, footing.segment, lifetime_ms)
            .coalescing(settings.coalesced_batch_bytes);
        self.asked = None;
        self.attachments += 1;
        let (index, scanned) = (footing.index, footing.scanned);
        let flow = Flow { index, attachment: self.attachments, scanned, intake, appender };
        self.stage = Stage::Flowing(Box::new(flow));
    }

    /// The offset to fetch from now, with the leader epoch in front of it.
    pub(crate) fn want(&self, now_ms: u64) -> Option<(i64, i32)> {
        let Stage::Flowing(flow) = &self.stage else { return None };
        let full = flow.appender.queued_bytes() >= QUEUE_BYTES;
        if self.fetching || full || flow.appender.is_failing() || now_ms < self.fetch_not_before_ms {
            return None;
        }
        Some((flow.intake.next(), flow.intake.last_epoch().unwrap_or(-1)))
    }
}
