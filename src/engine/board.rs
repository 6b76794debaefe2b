//! What a running mirror shows of itself: one table of partitions, replaced about once a second, read by metrics and
//! the HTTP API.

use std::sync::{Arc, Mutex, PoisonError};

use crate::mirror::{Halt, Headroom, Hold};

const PUBLISH_EVERY_MS: u64 = 1_000;

/// A partition, as last published.
#[derive(Debug, Clone)]
pub struct PartView {
    /// Source topic.
    pub topic: String,
    /// Target topic.
    pub target_topic: String,
    /// Partition number.
    pub partition: i32,
    /// `starting`, `mirroring`, `paused`, `halted` or `promoted`.
    pub state: &'static str,
    /// Why it is halted.
    pub halt: Option<Halt>,
    /// End of what can be mirrored on the source; −1 before the first fetch.
    pub source_end: i64,
    /// First offset of the source log; −1 before the first fetch.
    pub source_start: i64,
    /// Source offset up to which everything is mirrored, where nothing is under way.
    pub mirrored_to: Option<i64>,
    /// Settled end of the target log; −1 where unknown.
    pub target_end: i64,
    /// How long the source keeps what is not mirrored yet.
    pub headroom: Headroom,
    /// The transaction that holds back the source's end, once it is long.
    pub hold: Option<Hold>,
    /// Bytes waiting for the target.
    pub queued_bytes: usize,
}

impl PartView {
    /// Source offsets between what is settled and the end: what was last seen of it. `None` before the first answer.
    pub fn lag_records(&self) -> Option<i64> {
        let mirrored_to = self.mirrored_to?;
        (self.source_end >= 0).then(|| (self.source_end - mirrored_to).max(0))
    }
}

/// The table of one mirror.
#[derive(Debug, Clone)]
pub struct Board {
    mirror: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    at_ms: u64,
    parts: Arc<Vec<PartView>>,
    promoted: bool,
    groups_ms: Option<i64>,
    drilled: Option<Drilled>,
}

/// The last drill of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drilled {
    /// When it began, ms since the epoch; `None` where none could be done so far.
    pub at_ms: Option<i64>,
    /// Whether it passed. One that could not be done has not.
    pub passed: bool,
}

impl Board {
    /// An empty table.
    pub fn new(mirror: &str) -> Self {
        Self { mirror: mirror.to_owned(), inner: Arc::default() }
    }

    /// Name of the mirror.
    pub fn mirror(&self) -> &str {
        &self.mirror
    }

    /// When it was last published (ms since the epoch), and the partitions.
    pub fn read(&self) -> (u64, Arc<Vec<PartView>>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.at_ms, Arc::clone(&inner.parts))
    }

    /// Whether the mirror was promoted: it has stopped for good.
    pub fn is_promoted(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).promoted
    }

    pub(crate) fn promote(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).promoted = true;
    }

    /// Notes when the consumer groups were last in step, ms since the epoch.
    pub fn groups_in_step(&self, at_ms: i64) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).groups_ms = Some(at_ms);
    }

    /// When the consumer groups were last in step; `None` where none are kept.
    pub fn groups_ms(&self) -> Option<i64> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).groups_ms
    }

    /// Notes how a drill went.
    pub fn drilled(&self, drilled: Drilled) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).drilled = Some(drilled);
    }

    /// How the last drill went; `None` where none was tried.
    pub fn last_drill(&self) -> Option<Drilled> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).drilled
    }

    /// Whether it is time to publish again.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.read().0 + PUBLISH_EVERY_MS
    }

    pub(crate) fn publish(&self, now_ms: u64, parts: impl Iterator<Item = PartView>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.at_ms = now_ms;
        let state = inner.promoted.then_some("promoted");
        inner.parts = Arc::new(parts.map(|part| PartView { state: state.unwrap_or(part.state), ..part }).collect());
    }
}
