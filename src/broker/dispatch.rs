//! Who handles which API.

use std::sync::Arc;

use super::messages::{RequestKind, ResponseKind};
use super::state::Shared;
use super::{
    acls, alter_client_quotas, alter_configs, api_versions, create_partitions, create_topics, delete_records,
    delete_topics, describe_client_quotas, describe_cluster, describe_configs, describe_groups, describe_producers,
    describe_user_scram, end_txn, fetch, find_coordinator, heartbeat, init_producer_id, join_group, leave_group,
    list_groups, list_offsets, list_transactions, metadata, offset_commit, offset_delete, offset_fetch,
    offset_for_leader_epoch, produce, sync_group, write_txn_markers,
};

/// One request under way: where it came in and in which version.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// The cluster.
    pub(super) shared: Arc<Shared>,
    /// The node that received it.
    pub(super) node: i32,
    /// API version of the request.
    pub(super) version: i16,
    /// Client id of the request.
    pub(super) client_id: Arc<str>,
}

/// Handles a request. `None` where Kafka sends no answer (acks=0).
pub(super) async fn handle(call: &Call, request: RequestKind) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::Produce(r) => ResponseKind::Produce(produce::handle(call, r).await?),
        RequestKind::Fetch(r) => ResponseKind::Fetch(fetch::handle(call, &r).await),
        RequestKind::ListOffsets(r) => ResponseKind::ListOffsets(list_offsets::handle(call, r)),
        RequestKind::Metadata(r) => ResponseKind::Metadata(metadata::handle(call, r)),
        RequestKind::OffsetCommit(r) => ResponseKind::OffsetCommit(offset_commit::handle(call, r)),
        RequestKind::OffsetFetch(r) => ResponseKind::OffsetFetch(offset_fetch::handle(call, r)),
        RequestKind::OffsetDelete(r) => ResponseKind::OffsetDelete(offset_delete::handle(call, r)),
        RequestKind::JoinGroup(r) => ResponseKind::JoinGroup(join_group::handle(call, r).await),
        RequestKind::SyncGroup(r) => ResponseKind::SyncGroup(sync_group::handle(call, r).await),
        RequestKind::Heartbeat(r) => ResponseKind::Heartbeat(heartbeat::handle(call, &r)),
        RequestKind::LeaveGroup(r) => ResponseKind::LeaveGroup(leave_group::handle(call, &r)),
        RequestKind::DescribeGroups(r) => ResponseKind::DescribeGroups(describe_groups::handle(call, r)),
        RequestKind::ListGroups(r) => ResponseKind::ListGroups(list_groups::handle(call, &r)),
        RequestKind::ConsumerGroupDescribe(r) => {
            ResponseKind::ConsumerGroupDescribe(describe_groups::consumers(call, r))
        }
        RequestKind::FindCoordinator(r) => ResponseKind::FindCoordinator(find_coordinator::handle(call, r)),
        RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(api_versions::handle()),
        RequestKind::CreateTopics(r) => ResponseKind::CreateTopics(create_topics::handle(call, &r)),
        RequestKind::DeleteTopics(r) => ResponseKind::DeleteTopics(delete_topics::handle(call, r)),
        RequestKind::DeleteRecords(r) => ResponseKind::DeleteRecords(delete_records::handle(call, r)),
        RequestKind::InitProducerId(r) => ResponseKind::InitProducerId(init_producer_id::handle(call, &r)),
        RequestKind::OffsetForLeaderEpoch(r) => {
            ResponseKind::OffsetForLeaderEpoch(offset_for_leader_epoch::handle(call, r))
        }
        RequestKind::AddPartitionsToTxn(r) => ResponseKind::AddPartitionsToTxn(end_txn::add_partitions(call, &r)),
        RequestKind::EndTxn(r) => ResponseKind::EndTxn(end_txn::end(call, &r)),
        RequestKind::WriteTxnMarkers(r) => ResponseKind::WriteTxnMarkers(write_txn_markers::handle(call, r)),
        RequestKind::DescribeConfigs(r) => ResponseKind::DescribeConfigs(describe_configs::handle(call, &r)),
        RequestKind::CreatePartitions(r) => ResponseKind::CreatePartitions(create_partitions::handle(call, r)),
        RequestKind::IncrementalAlterConfigs(r) => {
            ResponseKind::IncrementalAlterConfigs(alter_configs::handle(call, r))
        }
        RequestKind::CreateAcls(r) => ResponseKind::CreateAcls(acls::create(call, &r)),
        RequestKind::DeleteAcls(r) => ResponseKind::DeleteAcls(acls::delete(call, &r)),
        RequestKind::DescribeAcls(r) => ResponseKind::DescribeAcls(acls::describe(call, &r)),
        RequestKind::AlterClientQuotas(r) => ResponseKind::AlterClientQuotas(alter_client_quotas::handle(call, &r)),
        RequestKind::DescribeClientQuotas(r) => {
            ResponseKind::DescribeClientQuotas(describe_client_quotas::handle(call, &r))
        }
        RequestKind::DescribeUserScramCredentials(r) => {
            ResponseKind::DescribeUserScramCredentials(describe_user_scram::handle(call, &r))
        }
        RequestKind::DescribeCluster(r) => ResponseKind::DescribeCluster(describe_cluster::handle(call, &r)),
        RequestKind::DescribeProducers(r) => ResponseKind::DescribeProducers(describe_producers::handle(call, r)),
        RequestKind::DescribeTransactions(r) => {
            ResponseKind::DescribeTransactions(list_transactions::describe(call, r))
        }
        RequestKind::ListTransactions(r) => ResponseKind::ListTransactions(list_transactions::list(call, &r)),
    })
}
