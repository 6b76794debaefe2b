//! Everything that can happen to a mirror. The runner's loop takes these one by one; nothing else changes its state.

use std::time::Instant;

use uuid::Uuid;

use crate::client::{ClientError, Fetched};

use super::fetcher::Pace;
use crate::mirror::{Divergence, Halt, ShardState};

use super::attach::{Attached, Pair};
use super::control::Control;
use super::error::EngineError;
use super::lane::{Answers, LaneKey, Unanswered};
use super::topology::Topology;
use super::watched::Looked;

/// Names a mirrored partition within a run.
pub(crate) type PartId = usize;

/// Acknowledges breaks of one flow of a partition: part, attachment (tickets of an earlier flow mean nothing to a later
/// one), number.
pub(crate) type Ticket = (PartId, u64, u64);

/// What the runner needs to know of a shard's state.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Source topic, partition and topic id of every partition on record.
    pub(crate) declared: Vec<(String, i32, Uuid)>,
    /// Halts on record, each with the number of resumes that it followed.
    pub(crate) halts: Vec<((String, i32), (Halt, u64))>,
    /// `start:` was applied to what there was.
    pub(crate) baseline: bool,
}

impl Holdings {
    pub(crate) fn of(state: &ShardState) -> Self {
        let declared = state.partitions.values().map(|p| &p.declared);
        Self {
            declared: declared.map(|d| (d.source_topic.clone(), d.partition, d.source_topic_id)).collect(),
            halts: state.halts.iter().map(|(key, halt)| (key.clone(), halt.clone())).collect(),
            baseline: state.baseline,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A fetch from a source broker came back.
    Fetched { broker: i32, pace: Pace, outcome: Result<Vec<Fetched>, ClientError> },
    /// A produce request to a target broker was answered, lost, or not even sent.
    Produced { lane: LaneKey, whose: Vec<(PartId, i64)>, written_ms: Option<i64>, outcome: Result<Answers, Unanswered> },
    /// Breaks are acknowledged in the state topic (or the shard cannot be written any more).
    StateWritten { shard: u32, tickets: Vec<Ticket>, outcome: Result<(), EngineError> },
    /// A shard was taken over; it was ours at `owned`.
    ShardTaken { shard: u32, owned: Instant, outcome: Result<Holdings, EngineError> },
    /// Nobody writes to this partition's target under the shard it had before any more.
    Fenced { part: PartId, shard: u32, outcome: Result<(), EngineError> },
    /// The coordinator has confirmed that a shard was ours at this time.
    KeptAlive { shard: u32, owned: Instant },
    /// It could not be asked this time.
    NotKeptAlive { shard: u32 },
    /// A shard cannot be written any more.
    ShardFailed(EngineError),
    /// Its worker has ended: nothing of it is under way any more.
    ShardEnded { shard: u32 },
    /// What a shard's worker reports. It means nothing where the shard was given up since, or taken again.
    OfShard { shard: u32, tenure: u64, event: Box<Event> },
    /// What the shards of others say of partitions that none of ours knows.
    LookedAround { parts: Vec<PartId>, outcome: Result<Vec<(u32, Holdings)>, EngineError> },
    /// Partitions of a shard were attached, or taken over again (`retake`).
    Attached { shard: u32, retake: bool, outcome: Result<Vec<(Pair, Attached)>, EngineError> },
    /// A displaced partition was corrected.
    Displaced { outcome: Result<Vec<(Pair, Attached)>, EngineError> },
    /// Source topics were looked up and the target prepared.
    Discovered(Result<Topology, EngineError>),
    /// Metadata was refreshed: leaders may have moved.
    Refreshed,
    /// The log bounds of a source partition whose fetch was out of range; none where its name is another topic's by now.
    Bounds { part: PartId, outcome: Result<Option<(i64, i64)>, ClientError> },
    /// A flow's source log was said to be truncated, and whether its topic is the same still.
    Diverged { part: PartId, attachment: u64, at: Divergence, outcome: Result<bool, ClientError> },
    /// Source topics that may be read, asked about because they might not.
    Readable(Vec<String>),
    /// What waits on the source was looked at.
    Looked(Box<Looked>),
    /// The control partition was read after these shards had been taken, each in its tenure: whether a promotion stands.
    Cleared { shards: Vec<(u32, u64)>, outcome: Result<bool, EngineError> },
    /// The source's topic configs were looked up.
    ConfigsNoted,
    /// A partition that is not selected any more was released in its shard.
    Released { part: PartId, outcome: Result<(), EngineError> },
    /// The control partition has news.
    Control(Result<Box<Control>, EngineError>),
}
