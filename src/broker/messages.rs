//! The APIs that the broker offers: one table gives the versions, the request and response enumerations, and their
//! coding. (The enumerations of `kafka-protocol` name ninety APIs; compiling the coders of all of them costs more than
//! this table.)

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AlterClientQuotasRequest, AlterClientQuotasResponse, ApiKey,
    ApiVersionsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    CreateAclsRequest, CreateAclsResponse, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest,
    CreateTopicsResponse, DeleteAclsRequest, DeleteAclsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeAclsRequest, DescribeAclsResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse, DescribeProducersRequest,
    DescribeProducersResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, EndTxnRequest, EndTxnResponse,
    FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest, InitProducerIdResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    ListOffsetsRequest, ListOffsetsResponse, ListTransactionsRequest, ListTransactionsResponse, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest,
    ProduceResponse, SyncGroupRequest, SyncGroupResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};

macro_rules! apis {
    ($($api:ident $request:ident $response:ident $min:literal $max:literal;)*) => {
        /// A decoded request.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum RequestKind {
            $(
                #[doc = concat!("[`", stringify!($request), "`].")]
                $api($request),
            )*
        }

        /// A response before it is encoded.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum ResponseKind {
            $(
                #[doc = concat!("[`", stringify!($response), "`].")]
                $api($response),
            )*
        }

        /// APIs with their lowest and highest version.
        pub(super) const APIS: &[(ApiKey, i16, i16)] = &[$((ApiKey::$api, $min, $max),)*];

        impl RequestKind {
            /// Decodes the body of a request; an error for an API that is not offered.
            pub(super) fn decode(api_key: ApiKey, bytes: &mut Bytes, version: i16) -> anyhow::Result<Self> {
                match api_key {
                    $(ApiKey::$api => Ok(Self::$api($request::decode(bytes, version)?)),)*
                    _ => Err(anyhow::anyhow!("{api_key:?} is not offered")),
                }
            }
        }

        impl ResponseKind {
            /// Encodes the body; an error where a field is set that the version does not have.
            pub(super) fn encode(&self, out: &mut BytesMut, version: i16) -> anyhow::Result<()> {
                match self {
                    $(Self::$api(response) => response.encode(out, version),)*
                }
            }
        }
    };
}

apis! {
    Produce ProduceRequest ProduceResponse 3 13;
    Fetch FetchRequest FetchResponse 4 17;
    ListOffsets ListOffsetsRequest ListOffsetsResponse 1 10;
    Metadata MetadataRequest MetadataResponse 0 13;
    OffsetCommit OffsetCommitRequest OffsetCommitResponse 2 9;
    OffsetFetch OffsetFetchRequest OffsetFetchResponse 2 9;
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse 0 6;
    JoinGroup JoinGroupRequest JoinGroupResponse 0 9;
    Heartbeat HeartbeatRequest HeartbeatResponse 0 4;
    LeaveGroup LeaveGroupRequest LeaveGroupResponse 0 5;
    SyncGroup SyncGroupRequest SyncGroupResponse 0 5;
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse 0 6;
    ListGroups ListGroupsRequest ListGroupsResponse 0 5;
    ApiVersions ApiVersionsRequest ApiVersionsResponse 0 4;
    CreateTopics CreateTopicsRequest CreateTopicsResponse 2 7;
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse 1 6;
    DeleteRecords DeleteRecordsRequest DeleteRecordsResponse 0 2;
    InitProducerId InitProducerIdRequest InitProducerIdResponse 0 5;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse 2 4;
    AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse 0 3;
    EndTxn EndTxnRequest EndTxnResponse 0 4;
    WriteTxnMarkers WriteTxnMarkersRequest WriteTxnMarkersResponse 1 1;
    DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse 1 4;
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse 0 3;
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse 0 1;
    CreateAcls CreateAclsRequest CreateAclsResponse 1 3;
    DeleteAcls DeleteAclsRequest DeleteAclsResponse 1 3;
    DescribeAcls DescribeAclsRequest DescribeAclsResponse 1 3;
    AlterClientQuotas AlterClientQuotasRequest AlterClientQuotasResponse 0 1;
    DescribeClientQuotas DescribeClientQuotasRequest DescribeClientQuotasResponse 0 1;
    DescribeUserScramCredentials DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse 0 0;
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse 0 0;
    DescribeCluster DescribeClusterRequest DescribeClusterResponse 0 2;
    DescribeProducers DescribeProducersRequest DescribeProducersResponse 0 0;
    DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse 0 0;
    ListTransactions ListTransactionsRequest ListTransactionsResponse 0 2;
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse 0 1;
}

/// Whether this version of this API is offered.
pub(super) fn offers(api_key: ApiKey, version: i16) -> bool {
    APIS.iter().any(|&(key, min, max)| key == api_key && (min..=max).contains(&version))
}
