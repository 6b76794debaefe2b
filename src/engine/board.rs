//! What a running mirror shows of itself: one table of partitions, replaced about once a second, read by metrics and
//! the HTTP API.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::EngineError;
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
    /// Source offset up to which everything is on the target, also while more is under way; `None` where that is not known.
    pub position: Option<i64>,
    /// Since when the record there waits, ms since the epoch: its own timestamp or, before that is known, when it was first
    /// seen to wait. `None` where none does.
    pub waits_since_ms: Option<i64>,
    /// When the source was last heard of the partition, ms since the epoch, where it is silent now; 0: never.
    pub silent_since_ms: Option<i64>,
    /// What has passed since the process began.
    pub totals: Totals,
}

/// What has passed in a partition since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records appended to the target.
    pub records: u64,
    /// Bytes of records that answers of the source held.
    pub in_bytes: u64,
    /// Bytes of the batches that the target took.
    pub out_bytes: u64,
}

impl PartView {
    /// Source offsets between what is settled and the end: what was last seen of it. `None` before the first answer.
    pub fn lag_records(&self) -> Option<i64> {
        let position = self.position?;
        (self.source_end >= 0).then(|| (self.source_end - position).max(0))
    }

    /// For how long the first record that is not mirrored has waited, 0 where none does. `None` where the position is not known.
    pub fn lag_ms(&self, now_ms: i64) -> Option<i64> {
        self.lag_records()?;
        Some(self.waits_since_ms.map_or(0, |since| (now_ms - since).max(0)))
    }

    /// A failover now would lose no more than what was written in this time. A source that is silent may have been written to
    /// since it was last heard. `None` where that is not known.
    pub fn rpo_ms(&self, now_ms: i64) -> Option<i64> {
        let unseen_ms = match self.silent_since_ms {
            Some(0) => return None,
            Some(since) => (now_ms - since).max(0),
            None => 0,
        };
        Some(self.lag_ms(now_ms)?.max(unseen_ms))
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
    groups: Option<u64>,
    drilled: Option<Drilled>,
    connections: (usize, usize),
    heartbeat_ms: Option<i64>,
    cluster_ids: Option<(String, String)>,
    synced: Option<SyncCounts>,
    lacks: BTreeMap<Lacks, Want>,
}

/// What of a mirror stands still for want of a right; halted partitions say so themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lacks {
    /// All of it: it cannot begin.
    Mirror,
    /// Topics that may not be seen on the source, or not be made on the target.
    Topics,
    /// Consumer groups.
    Groups,
    /// Heartbeats.
    Heartbeats,
}

impl Lacks {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mirror, Self::Topics, Self::Groups, Self::Heartbeats];

    /// Value of the label `what`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Topics => "topics",
            Self::Groups => "groups",
            Self::Heartbeats => "heartbeats",
        }
    }
}

/// How many of them, and the first one's error, which names the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// How many.
    pub count: usize,
    /// Why.
    pub why: String,
}

/// What the last look at what follows the source beside records has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncCounts {
    /// When it was, ms since the epoch.
    pub at_ms: i64,
    /// ACLs that wait for a promotion.
    pub held_back: usize,
    /// Things that were set or taken away on the target by hand.
    pub left_alone: usize,
    /// Things that do not follow, or that somebody has to do.
    pub left_out: usize,
    /// Topics that are to be deleted.
    pub pending: usize,
    /// Things that could not be looked at or done.
    pub failed: usize,
}

impl SyncCounts {
    /// Each by its name in metrics.
    pub fn by_state(&self) -> [(&'static str, usize); 5] {
        [
            ("held_back", self.held_back),
            ("left_alone", self.left_alone),
            ("left_out", self.left_out),
            ("pending", self.pending),
            ("failed", self.failed),
        ]
    }
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

    /// No groups are kept any more.
    pub fn without_groups(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.groups_ms, inner.groups) = (None, None);
    }

    /// There are no heartbeats any more.
    pub fn without_heartbeats(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).heartbeat_ms = None;
    }

    /// Notes how many consumer groups are in step.
    pub fn groups_synced(&self, groups: u64) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).groups = Some(groups);
    }

    /// How many consumer groups are in step; `None` where that was not found out yet.
    pub fn synced_groups(&self) -> Option<u64> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).groups
    }

    /// Notes the time that the newest heartbeat on the target bears, ms since the epoch.
    pub fn heartbeat(&self, written_ms: i64) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).heartbeat_ms = Some(written_ms);
    }

    /// The time that the newest heartbeat on the target bears; `None` where there are none.
    pub fn heartbeat_ms(&self) -> Option<i64> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).heartbeat_ms
    }

    /// Ids of the source and of the target, once they were connected to.
    pub fn cluster_ids(&self) -> Option<(String, String)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cluster_ids.clone()
    }

    pub(crate) fn found(&self, cluster_ids: (String, String)) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cluster_ids = Some(cluster_ids);
    }

    /// Notes what follows the source beside records.
    pub fn synced(&self, counts: SyncCounts) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).synced = Some(counts);
    }

    /// What was last found of it; `None` where nothing was yet.
    pub fn last_sync(&self) -> Option<SyncCounts> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).synced
    }

    /// Open connections of the data path: to the source, and to the target.
    pub fn connections(&self) -> (usize, usize) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// What stands still for want of a right; `None`: nothing of the kind does.
    #[must_use]
    pub fn want(&self, lacks: Lacks) -> Option<Want> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).lacks.get(&lacks).cloned()
    }

    /// Notes that. None of them: it goes on, or something else is the matter.
    pub(crate) fn note_want<'a>(&self, lacks: Lacks, whys: impl IntoIterator<Item = &'a str>) {
        let mut whys = whys.into_iter();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match whys.next() {
            Some(why) => drop(inner.lacks.insert(lacks, Want { count: 1 + whys.count(), why: why.to_owned() })),
            None => drop(inner.lacks.remove(&lacks)),
        }
    }

    /// The same of what came of something as a whole.
    pub(crate) fn note_outcome<T>(&self, lacks: Lacks, outcome: &Result<T, EngineError>) {
        let refused = outcome.as_ref().err().filter(|error| error.is_unauthorised()).map(ToString::to_string);
        self.note_want(lacks, refused.as_deref());
    }

    pub(crate) fn connected(&self, connections: (usize, usize)) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).connections = connections;
    }

    /// What has passed so far, by source topic and partition: a mirror that starts anew counts on.
    pub(crate) fn totals(&self) -> HashMap<(String, i32), Totals> {
        let (_, parts) = self.read();
        parts.iter().map(|part| ((part.topic.clone(), part.partition), part.totals)).collect()
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
