//! The heart, free of sockets and clocks: what a fetched batch becomes ([`Intake`]), where it must land ([`Appender`]),
//! how source and target offsets belong together ([`OffsetMap`]), what of it is written down ([`state`]), and how a
//! partition is taken over ([`plan`], [`data_end`]); and what threatens it on the source ([`Headroom`], [`Hold`]).

mod align;
mod append;
mod bucket;
mod clock;
mod gap;
mod halt;
mod headroom;
mod hold;
mod inner;
mod intake;
mod map;
mod realign;
pub mod state;
mod takeover;
pub mod verify;

pub use align::{Aligner, Alignment, Misaligned, Need, SourceRecord, TargetRecord};
pub use append::{Answer, Appender, Displacement, Outgoing, Paths, Segment as AppendSegment, Verdict, WINDOW, Writer};
pub use bucket::{BURST_BYTES_MIN, Bucket};
pub use clock::Clock;
pub use gap::{Gap, GapReason};
pub use halt::{Halt, HaltKind};
pub use headroom::{Alarm, Headroom, LogStart, Retention, Turn};
pub use hold::{Hold, Holder, OpenTransaction, oldest_open};
pub(crate) use intake::Aborts;
pub use intake::{FetchedRecords, Intake, Isolation, OutOfRange, Path, Ready, Run, Why};
pub use map::{Break, MapError, OffsetMap, Segment, Translation};
pub use realign::Realignment;
pub use state::codec::{VERSION as STATE_VERSION, decode_state, encode_state};
pub use state::{
    Bandwidth, ControlRecord, ControlState, Declared, Generation, Origin, Owned, PartitionState, Promotion,
    PromotionMode, PromotionPhase, PromotionStep, RECORD_BYTES, ReleaseEntry, Scan, Scope, Seen, ShardState,
    StateError, StateRecord, SyncEntry, SyncKey, SyncKind, Synced, Unfenced, UnfencedReason, decode_control,
    encode_control, seen_records, segments_records, shard_of, state_topic, transactional_id,
};

pub use takeover::{
    Bounds, DataEnd, Divergence, Footing, GoBack, Plan, data_end, displaced_record, displacements_fit, first_records,
    footing, go_back, in_turn, is_ours, origin_record, plan, target_recreated,
};

/// Kafka's error code for a right on a topic that is missing.
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
