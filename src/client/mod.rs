//! Talking to clusters: frames, connections, metadata, and the calls that kmirror needs.
//!
//! One connection handles its requests in order ([`Connection`]); a [`Cluster`] keeps connections by broker and *lane*,
//! so that a request that waits at the broker holds up only its own lane. Produce and Fetch, the data path, are
//! encoded and read by hand ([`encode_produce`], [`FetchSession`]); everything else through `kafka-protocol`, behind a check of
//! the counts in it (`shape`). Whether an error is worth another try is decided in one place ([`classify`]).
//!
//! Knows nothing of mirrors: offsets, maps and states are the callers' business.

mod acls;
mod api_name;
mod buffer;
mod changes;
mod cluster;
mod command;
mod configs;
mod connection;
mod coordinators;
mod dial;
mod error;
mod fetch_session;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod goldens;
mod groups;
mod log_reader;
mod metadata;
mod offsets;
mod principals;
mod produce;
mod refusals;
mod removal;
mod renewal;
mod retry;
mod rights;
mod shape;
mod topics;
mod transactions;
mod transport;

pub use buffer::Buffer;
pub use cluster::{Cluster, ClusterSpec, Node};
pub(crate) use command::{BYTES_MAX as COMMAND_BYTES_MAX, run as run_command};
pub use configs::ConfigEntry;
pub(crate) use connection::Arrived;
pub use connection::{Connection, Hold, Pending, Pieces};
pub use error::{ClientError, Verdict, classify, code_name};
pub use fetch_session::{Asked, FetchChange, FetchLimits, FetchSession, FetchWant, Fetched};
pub use frame::OutFrame;
pub use groups::{
    DescribedFleet, EachGroup, FetchedOffsets, FleetMember, GroupOffsets, GroupPartition, GroupSeat, GroupState,
    GroupView, ListedGroup, OffsetAnswers, OffsetErrors,
};
pub use kafka_protocol::messages::ApiKey;
pub(crate) use log_reader::nothing_below_end;
pub use log_reader::{LogSlice, ReadError, ReadOptions, TopicPartition, read_log};
pub use metadata::{Metadata, PartitionMeta, TopicMeta, Topics};
pub use offsets::{Each, LogPoint};
pub use principals::{ClientQuota, QuotaChange, ScramUser};
pub use produce::{AppendOutcome, ProduceEntry, ProduceResult, append_batch, encode_produce, parse_produce};
pub use rights::Allowed;
pub use topics::{CreatedTopics, NewTopic};
pub use transactions::{Producer, ProducerView};
