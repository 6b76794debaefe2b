//! The embedded Kafka broker: an in-memory cluster that speaks the real protocol over loopback TCP.
//!
//! It serves `kmirror demo` and the tests as an independent oracle: it may use [`crate::batch`] and the message types of
//! `kafka-protocol` only, never the engine's own rules. Each file answers one API or a small family and says in its head
//! which versions it speaks and what it omits. Faults are injected by intercepting requests ([`Cluster::intercept`])
//! and by control functions on [`Cluster`].
//!
//! It also serves logs that lie elsewhere, an archive's for one, to a mirror that reads them as any source: see [`Backing`].
//! Such a cluster answers those alone who know its [`ClusterOptions::client_id_required`].
//!
//! Everything else lives in memory behind one lock; all nodes share it, so a follower never lags unless a test holds the high
//! watermark. Requests of one connection are handled one after another and answered in order, as Kafka does.
//!
//! Omitted as a whole: members of groups but classic ones (see `members`), most ACLs (see `acls`), quotas and SCRAM users but for telling of them, SASL, TLS, record batches older than magic 2, tiered storage.

mod acls;
mod alter_client_quotas;
mod alter_configs;
mod api_versions;
mod backed;
mod cleaner;
mod cluster;
mod configs;
mod control;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_user_scram;
mod dispatch;
mod end_txn;
mod epochs;
mod errors;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod groups;
mod heartbeat;
mod init_producer_id;
mod intercept;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod log;
mod marker;
mod members;
mod messages;
mod metadata;
mod node;
mod null_ends;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod options;
mod produce;
mod producers;
mod records;
mod stamp;
mod state;
mod sync_group;
mod txn;
mod validate;
mod write_txn_markers;

pub use backed::{BackedLog, BackedRead, Backing, Waker};
pub use cluster::Cluster;
pub use control::{LogView, ProducerView, TopicView, TransactionView};
pub use groups::{GroupKind, GroupOffset};
pub use intercept::{Action, EditResponse, Forge, Intercept, RequestContext};
pub use messages::{RequestKind, ResponseKind};
pub use null_ends::Template;
pub use options::ClusterOptions;

/// Whatever a control function was asked for that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A socket could not be opened.
    #[error("embedded broker: listening on {addr}: {source}")]
    Listen {
        /// Address asked for.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such node.
    #[error("embedded broker: there is no node {0}; ids are 1..=nodes")]
    UnknownNode(i32),
    /// There is no such topic or partition.
    #[error("embedded broker: there is no {topic}-{partition}; create the topic first")]
    UnknownPartition {
        /// Topic.
        topic: String,
        /// Partition index.
        partition: i32,
    },
    /// Records could not be encoded, decoded or placed.
    #[error("embedded broker: {0}")]
    Batch(#[from] crate::batch::BatchError),
    /// Kafka would have refused it.
    #[error("embedded broker: {operation} of {object}: {error}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        object: String,
        /// With which error.
        error: kafka_protocol::ResponseError,
    },
}
