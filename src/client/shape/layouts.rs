//! The layouts, field by field in the order and with the versions of Kafka's message definitions
//! (`clients/src/main/resources/common/message/*Response.json`). Versions before the first one that is asked for are left
//! out, and so are fields that came later than the last one, but for tags: a decoder knows those whatever the version.

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AlterClientQuotasRequest, ApiVersionsRequest, ConsumerGroupDescribeRequest,
    CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeProducersRequest, DescribeUserScramCredentialsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest,
    WriteTxnMarkersRequest,
};

use super::{Field, Kind, Layout, Shaped};

mod changes;
mod members;
mod sasl;

use members::{HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP};
use sasl::{SASL_AUTHENTICATE, SASL_HANDSHAKE};

use changes::{
    ALTER_CLIENT_QUOTAS, CREATE_ACLS, DELETE_ACLS, DELETE_TOPICS, DESCRIBE_ACLS, DESCRIBE_CLIENT_QUOTAS,
    DESCRIBE_USER_SCRAM_CREDENTIALS, INCREMENTAL_ALTER_CONFIGS,
};

/// Does something with every request that has a layout.
pub(in crate::client) trait Visitor {
    fn visit<R: Shaped>(&mut self)
    where
        R::Response: Default;
}

macro_rules! shaped {
    ($($request:ident: $layout:ident,)*) => {
        $(impl Shaped for $request {
            const LAYOUT: Layout = $layout;
        })*

        pub(in crate::client) fn each(visitor: &mut impl Visitor) {
            $(visitor.visit::<$request>();)*
        }
    };
}

shaped! {
    FetchRequest: FETCH,
    ListOffsetsRequest: LIST_OFFSETS,
    MetadataRequest: METADATA,
    OffsetCommitRequest: OFFSET_COMMIT,
    OffsetFetchRequest: OFFSET_FETCH,
    FindCoordinatorRequest: FIND_COORDINATOR,
    JoinGroupRequest: JOIN_GROUP,
    HeartbeatRequest: HEARTBEAT,
    LeaveGroupRequest: LEAVE_GROUP,
    SyncGroupRequest: SYNC_GROUP,
    DescribeGroupsRequest: DESCRIBE_GROUPS,
    ListGroupsRequest: LIST_GROUPS,
    ApiVersionsRequest: API_VERSIONS,
    CreateTopicsRequest: CREATE_TOPICS,
    DeleteRecordsRequest: DELETE_RECORDS,
    DeleteTopicsRequest: DELETE_TOPICS,
    InitProducerIdRequest: INIT_PRODUCER_ID,
    AddPartitionsToTxnRequest: ADD_PARTITIONS_TO_TXN,
    EndTxnRequest: END_TXN,
    WriteTxnMarkersRequest: WRITE_TXN_MARKERS,
    DescribeConfigsRequest: DESCRIBE_CONFIGS,
    CreatePartitionsRequest: CREATE_PARTITIONS,
    IncrementalAlterConfigsRequest: INCREMENTAL_ALTER_CONFIGS,
    CreateAclsRequest: CREATE_ACLS,
    DeleteAclsRequest: DELETE_ACLS,
    DescribeAclsRequest: DESCRIBE_ACLS,
    AlterClientQuotasRequest: ALTER_CLIENT_QUOTAS,
    DescribeClientQuotasRequest: DESCRIBE_CLIENT_QUOTAS,
    DescribeUserScramCredentialsRequest: DESCRIBE_USER_SCRAM_CREDENTIALS,
    OffsetDeleteRequest: OFFSET_DELETE,
    DescribeProducersRequest: DESCRIBE_PRODUCERS,
    ConsumerGroupDescribeRequest: CONSUMER_GROUP_DESCRIBE,
    SaslHandshakeRequest: SASL_HANDSHAKE,
    SaslAuthenticateRequest: SASL_AUTHENTICATE,
}

const fn boolean(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

const fn int8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

const fn int16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}

const fn int32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}

const fn int64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}

const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}

const fn string(name: &'static str) -> Field {
    Field::new(name, Kind::Text)
}

const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

const fn strings(name: &'static str) -> Field {
    Field::new(name, Kind::Texts)
}

const fn int32s(name: &'static str) -> Field {
    Field::new(name, Kind::Numbers(4))
}

const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Struct(fields))
}

const fn array(name: &'static str, fields: &'static [Field]) -> Field {
    Field::new(name, Kind::Array(fields))
}

/// Those of `read_log` alone, which asks by name; v13 and up name topics by id only.
const FETCH: Layout = Layout {
    versions: (4, 12),
    flexible: 12,
    fields: &[
        int32("throttle_time_ms"),
        int16("error_code").since(7),
        int32("session_id").since(7),
        array(
            "responses",
            &[
                string("topic"),
                array(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int16("error_code"),
                        int64("high_watermark"),
                        int64("last_stable_offset"),
                        int64("log_start_offset").since(5),
                        structure("diverging_epoch", &[int32("epoch"), int64("end_offset")]).tagged(0),
                        structure("current_leader", &[int32("leader_id"), int32("leader_epoch")]).tagged(1),
                        structure("snapshot_id", &[int64("end_offset"), int32("epoch")]).tagged(2),
                        array("aborted_transactions", &[int64("producer_id"), int64("first_offset")]).nullable(4),
                        int32("preferred_read_replica").since(11),
                        bytes("records").nullable(0),
                    ],
                ),
            ],
        ),
        array("node_endpoints", &[int32("node_id"), string("host"), int32("port"), string("rack").nullable(16)])
            .tagged(0)
            .since(16),
    ],
};

const LIST_OFFSETS: Layout = Layout {
    versions: (1, 10),
    flexible: 6,
    fields: &[
        int32("throttle_time_ms").since(2),
        array(
            "topics",
            &[
                string("name"),
                array(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int16("error_code"),
                        int64("timestamp"),
                        int64("offset"),
                        int32("leader_epoch").since(4),
                    ],
                ),
            ],
        ),
    ],
};

const METADATA: Layout = Layout {
    versions: (0, 13),
    flexible: 9,
    fields: &[
        int32("throttle_time_ms").since(3),
        array("brokers", &[int32("node_id"), string("host"), int32("port"), string("rack").since(1).nullable(1)]),
        string("cluster_id").since(2).nullable(2),
        int32("controller_id").since(1),
        array(
            "topics",
            &[
                int16("error_code"),
                string("name").nullable(12),
                uuid("topic_id").since(10),
                boolean("is_internal").since(1),
                array(
                    "partitions",
                    &[
                        int16("error_code"),
                        int32("partition_index"),
                        int32("leader_id"),
                        int32("leader_epoch").since(7),
                        int32s("replica_nodes"),
                        int32s("isr_nodes"),
                        int32s("offline_replicas").since(5),
                    ],
                ),
                int32("topic_authorized_operations").since(8),
            ],
        ),
        int32("cluster_authorized_operations").since(8).until(10),
        int16("error_code").since(13),
    ],
};

/// v10 names topics by id; kafka-protocol encodes no request in it.
const OFFSET_COMMIT: Layout = Layout {
    versions: (2, 9),
    flexible: 8,
    fields: &[
        int32("throttle_time_ms").since(3),
        array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int16("error_code")])]),
    ],
};

/// v8 answers for several groups at once, in other fields; v10 as for OffsetCommit.
const OFFSET_FETCH: Layout = Layout {
    versions: (1, 9),
    flexible: 6,
    fields: &[
        int32("throttle_time_ms").since(3),
        array(
            "topics",
            &[
                string("name"),
                array(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int64("committed_offset"),
                        int32("committed_leader_epoch").since(5),
                        string("metadata").nullable(0),
                        int16("error_code"),
                    ],
                ),
            ],
        )
        .until(7),
        int16("error_code").since(2).until(7),
        array(
            "groups",
            &[
                string("group_id"),
                array(
                    "topics",
                    &[
                        string("name"),
                        array(
                            "partitions",
                            &[
                                int32("partition_index"),
                                int64("committed_offset"),
                                int32("committed_leader_epoch"),
                                string("metadata").nullable(0),
                                int16("error_code"),
                            ],
                        ),
                    ],
                ),
                int16("error_code"),
            ],
        )
        .since(8),
    ],
};

/// v4 answers for several keys at once, in other fields.
const FIND_COORDINATOR: Layout = Layout {
    versions: (0, 6),
    flexible: 3,
    fields: &[
        int32("throttle_time_ms").since(1),
        int16("error_code").until(3),
        string("error_message").since(1).until(3).nullable(1),
        int32("node_id").until(3),
        string("host").until(3),
        int32("port").until(3),
        array(
            "coordinators",
            &[
                string("key"),
                int32("node_id"),
                string("host"),
                int32("port"),
                int16("error_code"),
                string("error_message").nullable(4),
            ],
        )
        .since(4),
    ],
};

const DESCRIBE_GROUPS: Layout = Layout {
    versions: (0, 6),
    flexible: 5,
    fields: &[
        int32("throttle_time_ms").since(1),
        array(
            "groups",
            &[
                int16("error_code"),
                string("error_message").since(6).nullable(6),
                string("group_id"),
                string("group_state"),
                string("protocol_type"),
                string("protocol_data"),
                array(
                    "members",
                    &[
                        string("member_id"),
                        string("group_instance_id").since(4).nullable(4),
                        string("client_id"),
                        string("client_host"),
                        bytes("member_metadata"),
                        bytes("member_assignment"),
                    ],
                ),
                int32("authorized_operations").since(3),
            ],
        ),
    ],
};

const LIST_GROUPS: Layout = Layout {
    versions: (0, 5),
    flexible: 3,
    fields: &[
        int32("throttle_time_ms").since(1),
        int16("error_code"),
        array(
            "groups",
            &[
                string("group_id"),
                string("protocol_type"),
                string("group_state").since(4),
                string("group_type").since(5),
            ],
        ),
    ],
};

/// v3 is what a connection begins with, v0 what an older broker answers (KIP-511).
const API_VERSIONS: Layout = Layout {
    versions: (0, 3),
    flexible: 3,
    fields: &[
        int16("error_code"),
        array("api_keys", &[int16("api_key"), int16("min_version"), int16("max_version")]),
        int32("throttle_time_ms").since(1),
        array("supported_features", &[string("name"), int16("min_version"), int16("max_version")]).tagged(0).since(3),
        int64("finalized_features_epoch").tagged(1).since(3),
        array("finalized_features", &[string("name"), int16("max_version_level"), int16("min_version_level")])
            .tagged(2)
            .since(3),
        boolean("zk_migration_ready").tagged(3).since(3),
    ],
};

const CREATE_TOPICS: Layout = Layout {
    versions: (2, 7),
    flexible: 5,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "topics",
            &[
                string("name"),
                uuid("topic_id").since(7),
                int16("error_code"),
                string("error_message").nullable(0),
                int16("topic_config_error_code").tagged(0).since(5),
                int32("num_partitions").since(5),
                int16("replication_factor").since(5),
                array(
                    "configs",
                    &[
                        string("name"),
                        string("value").nullable(5),
                        boolean("read_only"),
                        int8("config_source"),
                        boolean("is_sensitive"),
                    ],
                )
                .since(5)
                .nullable(5),
            ],
        ),
    ],
};

const DELETE_RECORDS: Layout = Layout {
    versions: (0, 2),
    flexible: 2,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "topics",
            &[
                string("name"),
                array("partitions", &[int32("partition_index"), int64("low_watermark"), int16("error_code")]),
            ],
        ),
    ],
};

const INIT_PRODUCER_ID: Layout = Layout {
    versions: (0, 5),
    flexible: 2,
    fields: &[int32("throttle_time_ms"), int16("error_code"), int64("producer_id"), int16("producer_epoch")],
};

/// v4 is for brokers among themselves (KIP-890).
const ADD_PARTITIONS_TO_TXN: Layout = Layout {
    versions: (0, 3),
    flexible: 3,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "results_by_topic_v3_and_below",
            &[
                string("name"),
                array("results_by_partition", &[int32("partition_index"), int16("partition_error_code")]),
            ],
        ),
    ],
};

/// v5 bumps the epoch with every transaction (KIP-890): ours must stay what Init returned.
const END_TXN: Layout =
    Layout { versions: (0, 4), flexible: 3, fields: &[int32("throttle_time_ms"), int16("error_code")] };

const WRITE_TXN_MARKERS: Layout = Layout {
    versions: (1, 1),
    flexible: 1,
    fields: &[array(
        "markers",
        &[
            int64("producer_id"),
            array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int16("error_code")])]),
        ],
    )],
};

const DESCRIBE_CONFIGS: Layout = Layout {
    versions: (1, 4),
    flexible: 4,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "results",
            &[
                int16("error_code"),
                string("error_message").nullable(0),
                int8("resource_type"),
                string("resource_name"),
                array(
                    "configs",
                    &[
                        string("name"),
                        string("value").nullable(0),
                        boolean("read_only"),
                        int8("config_source"),
                        boolean("is_sensitive"),
                        array("synonyms", &[string("name"), string("value").nullable(0), int8("source")]),
                        int8("config_type").since(3),
                        string("documentation").since(3).nullable(0),
                    ],
                ),
            ],
        ),
    ],
};

const CREATE_PARTITIONS: Layout = Layout {
    versions: (0, 3),
    flexible: 2,
    fields: &[
        int32("throttle_time_ms"),
        array("results", &[string("name"), int16("error_code"), string("error_message").nullable(0)]),
    ],
};

const DESCRIBE_PRODUCERS: Layout = Layout {
    versions: (0, 0),
    flexible: 0,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "topics",
            &[
                string("name"),
                array(
                    "partitions",
                    &[
                        int32("partition_index"),
                        int16("error_code"),
                        string("error_message").nullable(0),
                        array(
                            "active_producers",
                            &[
                                int64("producer_id"),
                                int32("producer_epoch"),
                                int32("last_sequence"),
                                int64("last_timestamp"),
                                int32("coordinator_epoch"),
                                int64("current_txn_start_offset"),
                            ],
                        ),
                    ],
                ),
            ],
        ),
    ],
};

/// There is no flexible version.
const OFFSET_DELETE: Layout = Layout {
    versions: (0, 0),
    flexible: 1,
    fields: &[
        int16("error_code"),
        int32("throttle_time_ms"),
        array("topics", &[string("name"), array("partitions", &[int32("partition_index"), int16("error_code")])]),
    ],
};

const CONSUMER_GROUP_DESCRIBE: Layout = Layout {
    versions: (0, 1),
    flexible: 0,
    fields: &[
        int32("throttle_time_ms"),
        array(
            "groups",
            &[
                int16("error_code"),
                string("error_message").nullable(0),
                string("group_id"),
                string("group_state"),
                int32("group_epoch"),
                int32("assignment_epoch"),
                string("assignor_name"),
                array(
                    "members",
                    &[
                        string("member_id"),
                        string("instance_id").nullable(0),
                        string("rack_id").nullable(0),
                        int32("member_epoch"),
                        string("client_id"),
                        string("client_host"),
                        strings("subscribed_topic_names"),
                        string("subscribed_topic_regex").nullable(0),
                        structure("assignment", ASSIGNMENT),
                        structure("target_assignment", ASSIGNMENT),
                        int8("member_type").since(1),
                    ],
                ),
                int32("authorized_operations"),
            ],
        ),
    ],
};

const ASSIGNMENT: &[Field] =
    &[array("topic_partitions", &[uuid("topic_id"), string("topic_name"), int32s("partitions")])];
