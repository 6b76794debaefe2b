//! The answer to a request that failed as a whole: the error in every place that has one. Hooks answer with it
//! ([`super::Action::Error`]).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::*;

use super::dispatch::Call;
use super::messages::{RequestKind, ResponseKind};
use super::{
    acls, alter_client_quotas, describe_client_quotas, describe_user_scram, fetch, join_group, metadata, sync_group,
};

/// The answer; `None` for acks=0, which has none.
pub(super) fn response(call: &Call, request: &RequestKind, error: ResponseError) -> Option<ResponseKind> {
    let code = error.code();
    Some(match request {
        RequestKind::Produce(r) if r.acks == 0 => return None,
        RequestKind::Produce(r) => ResponseKind::Produce(produce(r, code)),
        RequestKind::Fetch(r) => ResponseKind::Fetch(fetch::refuse(call, r, error)),
        RequestKind::ListOffsets(r) => ResponseKind::ListOffsets(list_offsets(r, code)),
        RequestKind::Metadata(r) => ResponseKind::Metadata(metadata::refuse(call, r, error)),
        RequestKind::FindCoordinator(r) => ResponseKind::FindCoordinator(find_coordinator(call, r, code)),
        RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(ApiVersionsResponse::default().with_error_code(code)),
        RequestKind::OffsetForLeaderEpoch(r) => ResponseKind::OffsetForLeaderEpoch(offset_for_leader_epoch(r, code)),
        RequestKind::DescribeCluster(_) => {
            ResponseKind::DescribeCluster(DescribeClusterResponse::default().with_error_code(code))
        }
        RequestKind::DescribeProducers(r) => ResponseKind::DescribeProducers(describe_producers(r, code)),
        RequestKind::CreateTopics(_)
        | RequestKind::DeleteTopics(_)
        | RequestKind::DeleteRecords(_)
        | RequestKind::DescribeConfigs(_)
        | RequestKind::CreatePartitions(_)
        | RequestKind::IncrementalAlterConfigs(_)
        | RequestKind::CreateAcls(_)
        | RequestKind::DeleteAcls(_)
        | RequestKind::DescribeAcls(_)
        | RequestKind::AlterClientQuotas(_)
        | RequestKind::DescribeClientQuotas(_)
        | RequestKind::DescribeUserScramCredentials(_) => return admin(request, code),
        RequestKind::JoinGroup(_)
        | RequestKind::SyncGroup(_)
        | RequestKind::Heartbeat(_)
        | RequestKind::LeaveGroup(_) => return members(call, request, error),
        RequestKind::OffsetCommit(_)
        | RequestKind::OffsetFetch(_)
        | RequestKind::OffsetDelete(_)
        | RequestKind::DescribeGroups(_)
        | RequestKind::ListGroups(_)
        | RequestKind::ConsumerGroupDescribe(_) => return groups(call, request, code),
        RequestKind::InitProducerId(_)
        | RequestKind::AddPartitionsToTxn(_)
        | RequestKind::EndTxn(_)
        | RequestKind::WriteTxnMarkers(_)
        | RequestKind::DescribeTransactions(_)
        | RequestKind::ListTransactions(_) => return transactional(request, code),
    })
}

fn produce(request: &ProduceRequest, code: i16) -> ProduceResponse {
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter().map(|partition| {
            PartitionProduceResponse::default()
                .with_index(partition.index)
                .with_error_code(code)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1)
        });
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(partitions.collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}

fn list_offsets(request: &ListOffsetsRequest, code: i16) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
                .with_timestamp(-1)
                .with_offset(-1)
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find_coordinator(call: &Call, request: &FindCoordinatorRequest, code: i16) -> FindCoordinatorResponse {
    if call.version < 4 {
        return FindCoordinatorResponse::default().with_error_code(code).with_node_id(BrokerId(-1)).with_port(-1);
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default().with_key(key.clone()).with_error_code(code).with_node_id(BrokerId(-1)).with_port(-1)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn offset_for_leader_epoch(request: &OffsetForLeaderEpochRequest, code: i16) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_error_code(code)
                .with_leader_epoch(-1)
                .with_end_offset(-1)
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn describe_producers(request: &DescribeProducersRequest, code: i16) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partition_indexes
            .iter()
            .map(|index| PartitionResponse::default().with_partition_index(*index).with_error_code(code));
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn admin(request: &RequestKind, code: i16) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::CreateTopics(r) => {
            let topic = |topic: &create_topics_request::CreatableTopic| {
                CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(code)
            };
            ResponseKind::CreateTopics(
                CreateTopicsResponse::default().with_topics(r.topics.iter().map(topic).collect()),
            )
        }
        RequestKind::DeleteTopics(r) => {
            let named = r.topic_names.iter().map(|name| DeletableTopicResult::default().with_name(Some(name.clone())));
            let states = r.topics.iter().map(|topic| {
                DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id)
            });
            let responses = named.chain(states).map(|result| result.with_error_code(code)).collect();
            ResponseKind::DeleteTopics(DeleteTopicsResponse::default().with_responses(responses))
        }
        RequestKind::DeleteRecords(r) => ResponseKind::DeleteRecords(delete_records(r, code)),
        RequestKind::DescribeConfigs(r) => {
            let results = r.resources.iter().map(|resource| {
                DescribeConfigsResult::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(code)
            });
            ResponseKind::DescribeConfigs(DescribeConfigsResponse::default().with_results(results.collect()))
        }
        RequestKind::CreatePartitions(r) => {
            let results = r.topics.iter().map(|topic| {
                CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_code(code)
            });
            ResponseKind::CreatePartitions(CreatePartitionsResponse::default().with_results(results.collect()))
        }
        RequestKind::CreateAcls(_) | RequestKind::DeleteAcls(_) | RequestKind::DescribeAcls(_) => {
            return acls::refuse(request, code);
        }
        RequestKind::AlterClientQuotas(r) => ResponseKind::AlterClientQuotas(alter_client_quotas::refuse(r, code)),
        RequestKind::DescribeClientQuotas(_) => {
            ResponseKind::DescribeClientQuotas(describe_client_quotas::refuse(code))
        }
        RequestKind::DescribeUserScramCredentials(_) => {
            ResponseKind::DescribeUserScramCredentials(describe_user_scram::refuse(code))
        }
        RequestKind::IncrementalAlterConfigs(r) => {
            let responses = r.resources.iter().map(|resource| {
                AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(code)
            });
            ResponseKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsResponse::default().with_responses(responses.collect()),
            )
        }
        _ => return None,
    })
}

fn delete_records(request: &DeleteRecordsRequest, code: i16) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(-1)
                .with_error_code(code)
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn groups(call: &Call, request: &RequestKind, code: i16) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::OffsetCommit(r) => ResponseKind::OffsetCommit(offset_commit(r, code)),
        RequestKind::OffsetFetch(r) if call.version >= 8 => {
            let groups = r.groups.iter().map(|group| {
                OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone()).with_error_code(code)
            });
            ResponseKind::OffsetFetch(OffsetFetchResponse::default().with_groups(groups.collect()))
        }
        RequestKind::OffsetFetch(_) => ResponseKind::OffsetFetch(OffsetFetchResponse::default().with_error_code(code)),
        RequestKind::OffsetDelete(_) => {
            ResponseKind::OffsetDelete(OffsetDeleteResponse::default().with_error_code(code))
        }
        RequestKind::DescribeGroups(r) => {
            let group = |id: &GroupId| {
                describe_groups_response::DescribedGroup::default().with_group_id(id.clone()).with_error_code(code)
            };
            let groups = r.groups.iter().map(group).collect();
            ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(groups))
        }
        RequestKind::ListGroups(_) => ResponseKind::ListGroups(ListGroupsResponse::default().with_error_code(code)),
        RequestKind::ConsumerGroupDescribe(r) => {
            let group = |id: &GroupId| {
                let group = consumer_group_describe_response::DescribedGroup::default();
                group.with_group_id(id.clone()).with_error_code(code)
            };
            let groups = r.group_ids.iter().map(group).collect();
            ResponseKind::ConsumerGroupDescribe(ConsumerGroupDescribeResponse::default().with_groups(groups))
        }
        _ => return None,
    })
}

fn members(call: &Call, request: &RequestKind, error: ResponseError) -> Option<ResponseKind> {
    let code = error.code();
    Some(match request {
        RequestKind::JoinGroup(r) => ResponseKind::JoinGroup(join_group::refuse(call, r, error)),
        RequestKind::SyncGroup(_) => ResponseKind::SyncGroup(sync_group::refuse(error)),
        RequestKind::Heartbeat(_) => ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(code)),
        RequestKind::LeaveGroup(_) => ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_error_code(code)),
        _ => return None,
    })
}

fn offset_commit(request: &OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn transactional(request: &RequestKind, code: i16) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::InitProducerId(_) => ResponseKind::InitProducerId(
            InitProducerIdResponse::default()
                .with_error_code(code)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1),
        ),
        RequestKind::AddPartitionsToTxn(r) => ResponseKind::AddPartitionsToTxn(add_partitions(r, code)),
        RequestKind::EndTxn(_) => ResponseKind::EndTxn(EndTxnResponse::default().with_error_code(code)),
        RequestKind::WriteTxnMarkers(r) => ResponseKind::WriteTxnMarkers(write_txn_markers(r, code)),
        RequestKind::DescribeTransactions(r) => {
            let states = r
                .transactional_ids
                .iter()
                .map(|id| TransactionState::default().with_transactional_id(id.clone()).with_error_code(code));
            ResponseKind::DescribeTransactions(
                DescribeTransactionsResponse::default().with_transaction_states(states.collect()),
            )
        }
        RequestKind::ListTransactions(_) => {
            ResponseKind::ListTransactions(ListTransactionsResponse::default().with_error_code(code))
        }
        _ => return None,
    })
}

fn add_partitions(request: &AddPartitionsToTxnRequest, code: i16) -> AddPartitionsToTxnResponse {
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

fn write_txn_markers(request: &WriteTxnMarkersRequest, code: i16) -> WriteTxnMarkersResponse {
    let markers = request.markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code)
            });
            WritableTxnMarkerTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics.collect())
    });
    WriteTxnMarkersResponse::default().with_markers(markers.collect())
}
