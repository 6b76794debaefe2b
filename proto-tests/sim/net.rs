//! The network between processes and clusters: requests and answers in flight, in order on each connection, and what
//! becomes of them when a connection breaks.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::driver::io::{Lane, Request, Response, Sent};

#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Travelling,
    /// Appended; acks=all waits for this high watermark.
    Waiting {
        needs: i64,
        base: i64,
    },
    Answered(Response),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) process: usize,
    pub(crate) number: u64,
    /// The same for requests that travel on one connection.
    pub(crate) connection: (usize, Lane, u64),
    pub(crate) request: Request,
    pub(crate) stage: Stage,
    /// Nobody waits for the answer: the connection is gone, the request may still arrive.
    pub(crate) orphan: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) calls: Vec<Call>,
    broken: u64,
    generations: BTreeMap<(usize, Lane), u64>,
    /// Connections on which nothing moves until a time, ms.
    stalled: BTreeMap<(usize, Lane, u64), u64>,
}

impl Net {
    pub(crate) fn send(&mut self, process: usize, sent: Sent) {
        let generation = self.generations.get(&(process, sent.lane)).copied().unwrap_or(0);
        self.calls.push(Call {
            process,
            number: sent.call,
            connection: (process, sent.lane, generation),
            request: sent.request,
            stage: Stage::Travelling,
            orphan: false,
        });
    }

    fn pick(&self, rng: &mut Rng, fits: impl Fn(usize, &Call) -> bool) -> Option<usize> {
        let fitting: Vec<usize> = (0..self.calls.len()).filter(|at| fits(*at, &self.calls[*at])).collect();
        if fitting.is_empty() { None } else { Some(fitting[rng.usize(..fitting.len())]) }
    }

    fn is_first(&self, at: usize, blocks: impl Fn(&Call) -> bool) -> bool {
        let connection = self.calls[at].connection;
        !self.calls[..at].iter().any(|c| c.connection == connection && blocks(c))
    }

    /// Nothing moves between a process and a broker until this time.
    pub(crate) fn stall(&mut self, process: usize, lane: Lane, until_ms: u64) {
        let generation = self.generations.get(&(process, lane)).copied().unwrap_or(0);
        self.stalled.insert((process, lane, generation), until_ms);
    }

    fn moves(&self, call: &Call, now_ms: u64) -> bool {
        self.stalled.get(&call.connection).is_none_or(|until| *until <= now_ms)
    }

    /// A request that may reach its broker now: brokers handle a connection's requests one after another. What nobody
    /// waits for any more tends to come late.
    pub(crate) fn arriving(&self, rng: &mut Rng, now_ms: u64) -> Option<usize> {
        let late = rng.u8(..24) == 0;
        self.pick(rng, |at, call| {
            if !self.moves(call, now_ms) || (call.orphan && !late) {
                return false;
            }
            let behind = |c: &Call| !matches!(c.stage, Stage::Answered(_));
            matches!(call.stage, Stage::Travelling) && self.is_first(at, behind)
        })
    }

    /// An answer that may reach its process now.
    pub(crate) fn returning(&self, rng: &mut Rng, now_ms: u64) -> Option<usize> {
        self.pick(rng, |at, call| {
            matches!(call.stage, Stage::Answered(_)) && self.moves(call, now_ms) && self.is_first(at, |_| true)
        })
    }

    /// The connection breaks. Of the requests on their way the first few still arrive, sometime. Gives the numbers of
    /// those that somebody waits for.
    pub(crate) fn lose(&mut self, process: usize, lane: Lane, rng: &mut Rng) -> Vec<u64> {
        self.broken += 1;
        let generation = self.generations.get(&(process, lane)).copied().unwrap_or(0);
        self.generations.insert((process, lane), self.broken);
        let connection = (process, lane, generation);
        let mine = |call: &Call| call.connection == connection && !call.orphan;
        let lost = self.calls.iter().filter(|c| mine(c)).map(|c| c.number).collect();
        let mut arriving = rng.usize(..4);
        self.calls.retain_mut(|call| {
            if !mine(call) {
                return true;
            }
            call.orphan = true;
            let travels = matches!(call.stage, Stage::Travelling);
            let arrives = travels && arriving > 0;
            arriving = arriving.saturating_sub(usize::from(travels));
            arrives
        });
        lost
    }

    pub(crate) fn lanes_of(&self, process: usize) -> Vec<Lane> {
        let mut lanes: Vec<Lane> =
            self.calls.iter().filter(|c| c.process == process && !c.orphan).map(|c| c.connection.1).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    pub(crate) fn end_stalls(&mut self) {
        self.stalled.clear();
    }

    /// What still wanders about is dropped.
    pub(crate) fn forget_orphans(&mut self) {
        self.calls.retain(|call| !call.orphan);
    }
}
