//! What a broker does, as kmirror relies on it: the same tests on real Kafka and on the embedded broker. A rule that is
//! not tested here is a rule that the embedded broker may get wrong.

pub(crate) mod batch;
pub(crate) mod subject;
pub(crate) mod wire;

mod acceptance;
mod groups;
mod idempotence;
mod markers;
mod members;
mod transactions;

/// Kafka's error codes, as `org.apache.kafka.common.protocol.Errors` numbers them.
pub(crate) mod code {
    /// OFFSET_OUT_OF_RANGE.
    pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
    /// CORRUPT_MESSAGE.
    pub(crate) const CORRUPT_MESSAGE: i16 = 2;
    /// UNKNOWN_TOPIC_OR_PARTITION.
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    /// OFFSET_METADATA_TOO_LARGE.
    pub(crate) const OFFSET_METADATA_TOO_LARGE: i16 = 12;
    /// ILLEGAL_GENERATION.
    pub(crate) const ILLEGAL_GENERATION: i16 = 22;
    /// UNKNOWN_MEMBER_ID.
    pub(crate) const UNKNOWN_MEMBER_ID: i16 = 25;
    /// INCONSISTENT_GROUP_PROTOCOL.
    pub(crate) const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
    /// REBALANCE_IN_PROGRESS.
    pub(crate) const REBALANCE_IN_PROGRESS: i16 = 27;
    /// MEMBER_ID_REQUIRED.
    pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;
    /// FENCED_INSTANCE_ID.
    pub(crate) const FENCED_INSTANCE_ID: i16 = 82;
    /// GROUP_ID_NOT_FOUND.
    pub(crate) const GROUP_ID_NOT_FOUND: i16 = 69;
    /// GROUP_SUBSCRIBED_TO_TOPIC.
    pub(crate) const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
    /// UNSUPPORTED_VERSION.
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    pub(crate) const OUT_OF_ORDER_SEQUENCE: i16 = 45;
    /// DUPLICATE_SEQUENCE_NUMBER.
    pub(crate) const DUPLICATE_SEQUENCE: i16 = 46;
    /// INVALID_PRODUCER_EPOCH.
    pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
    /// PRODUCER_FENCED.
    pub(crate) const PRODUCER_FENCED: i16 = 90;
    /// CONCURRENT_TRANSACTIONS.
    pub(crate) const CONCURRENT_TRANSACTIONS: i16 = 51;
    /// OPERATION_NOT_ATTEMPTED.
    pub(crate) const OPERATION_NOT_ATTEMPTED: i16 = 55;
    /// UNSUPPORTED_COMPRESSION_TYPE.
    pub(crate) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    /// INVALID_RECORD.
    pub(crate) const INVALID_RECORD: i16 = 87;
}
