//! A process of the mirror. It does around the pure core what the engine does around it: the runner's loop here, the
//! shard's hands in [`shard`] and [`attach`], in the same order and with the same waits. What it decides is decided by
//! `kmirror::mirror`.

pub(crate) mod attach;
pub(crate) mod flow;
pub(crate) mod io;
pub(crate) mod process;
pub(crate) mod shard;

use kmirror::mirror::{
    Break, Displacement, Divergence, Footing, Halt, HaltKind, Isolation, ReleaseEntry, Scan, ShardState,
};

use crate::sim::mutation::Mutation;

/// What a mirror is told to do about the unexpected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Halt,
    Continue,
}

/// The configuration of a run, as far as the core sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) parts: usize,
    pub(crate) isolation: Isolation,
    pub(crate) starts_latest: bool,
    pub(crate) retention_loss: Policy,
    pub(crate) truncation: Policy,
    pub(crate) foreign_records: Policy,
    pub(crate) source_recreated: Policy,
    /// The target's `producer.id.expiration.ms`.
    pub(crate) expiration_ms: u64,
    /// 0: every batch travels as it is.
    pub(crate) coalesced_batch_bytes: usize,
    pub(crate) mutation: Option<Mutation>,
}

/// Name of the source and the target topic of a part; each has one partition.
pub(crate) fn topic(part: usize) -> String {
    format!("t{part}")
}

/// A partition to attach: `engine::attach::Wanted`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) part: usize,
    pub(crate) source_id: u128,
    pub(crate) freed: Option<HaltKind>,
    pub(crate) successor: bool,
    pub(crate) divergence: Option<Divergence>,
    pub(crate) accepted: Vec<(i64, i64)>,
}

/// Names breaks that were handed over: part, attachment, ticket.
pub(crate) type Ticket = (usize, u64, u64);

/// Something for the shard's hands to do: `engine::shard_worker::Job`.
#[derive(Debug)]
pub(crate) enum Job {
    Segments { tickets: Vec<Ticket>, entries: Vec<(u32, Vec<Break>)> },
    Attach { wanted: Vec<Wanted>, retake: bool },
    Fence { part: usize },
    Displaced { wanted: Wanted, displacements: Vec<Displacement>, take_over: bool },
    Halt { part: usize, halt: Option<Halt>, resumes: u64 },
    Scanned { entries: Vec<(u32, Scan)> },
    KeepAlive,
    Release { entries: Vec<ReleaseEntry> },
}

#[derive(Debug)]
pub(crate) enum Attached {
    Flowing(Box<Footing>),
    Halted(Halt),
}

/// What the hands report.
#[derive(Debug)]
pub(crate) enum Event {
    Taken(Box<ShardState>),
    Written(Vec<Ticket>),
    Attached(Vec<(usize, Attached)>),
    Displaced(Vec<(usize, Attached)>),
    Fenced(usize),
    Released,
}
