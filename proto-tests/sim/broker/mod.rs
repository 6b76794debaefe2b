//! The model clusters. They follow the measured rules and know nothing of kmirror but the bytes of its batches.

pub(crate) mod coordinator;
pub(crate) mod log;
pub(crate) mod producers;
pub(crate) mod wire;

/// A partition of the target: the shard's state, or data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum LogId {
    State,
    Data(usize),
}
