//! Metadata v0–v13 (topic ids v10, by id v12). Authorised operations are those of a broker without an authorizer: all. Omitted: racks.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::create_topics::valid_name;
use super::dispatch::Call;
use super::state::{Partition, State};

pub(super) fn handle(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let mut state = call.shared.lock();
    let mut response = cluster(call, &state);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    // Version 0 has no null: there an empty list asks for all.
    let asked = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    response.topics = match asked {
        None => state.topics.keys().map(|name| by_name(&state, name)).collect(),
        Some(topics) => {
            let create =
                call.shared.options.auto_create_topics && (call.version < 4 || request.allow_auto_topic_creation);
            topics.iter().map(|topic| asked_for(call, &mut state, topic, create)).collect()
        }
    };
    if request.include_topic_authorized_operations {
        response.topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    response
}

/// All that `AclEntry.supportedOperations` has of a topic: READ to DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Of the cluster: CREATE, ALTER to ALTER_CONFIGS, IDEMPOTENT_WRITE.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The answer of a hook: all topics asked for have this error.
pub(super) fn refuse(call: &Call, request: &MetadataRequest, error: ResponseError) -> MetadataResponse {
    let state = call.shared.lock();
    let refused = |name: Option<TopicName>, id| {
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
    };
    let topics = match &request.topics {
        Some(topics) => topics.iter().map(|topic| refused(topic.name.clone(), topic.topic_id)).collect(),
        None => {
            let known = state.topics.iter();
            known.map(|(name, topic)| refused(Some(TopicName(StrBytes::from_string(name.clone()))), topic.id)).collect()
        }
    };
    cluster(call, &state).with_topics(topics)
}

/// What every answer says: brokers, cluster id, controller.
fn cluster(call: &Call, state: &State) -> MetadataResponse {
    let brokers = state.nodes.iter().filter(|(_, node)| node.up).map(|(id, node)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(*id))
            .with_host(StrBytes::from_string(node.addr.ip().to_string()))
            .with_port(i32::from(node.addr.port()))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(StrBytes::from_string(call.shared.options.cluster_id.clone())))
        .with_controller_id(BrokerId(state.controller().unwrap_or(-1)))
}

fn asked_for(call: &Call, state: &mut State, topic: &MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
    let Some(name) = &topic.name else {
        let name = state.names.get(&topic.topic_id).cloned();
        return match name {
            Some(name) => by_name(state, &name),
            None => MetadataResponseTopic::default()
                .with_error_code(ResponseError::UnknownTopicId.code())
                .with_topic_id(topic.topic_id),
        };
    };
    let answer = by_name(state, name);
    if answer.error_code != 0 && create && valid_name(name) {
        let options = &call.shared.options;
        let partitions = usize::try_from(options.default_partitions).unwrap_or(1);
        let replicas = usize::try_from(options.default_replication_factor).unwrap_or(1);
        // As in Kafka the answer still says UNKNOWN_TOPIC_OR_PARTITION; the next one will not.
        state.create_topic(name, partitions, replicas, BTreeMap::new());
    }
    answer
}

fn by_name(state: &State, name: &str) -> MetadataResponseTopic {
    let answer = MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    if !valid_name(name) {
        return answer.with_error_code(ResponseError::InvalidTopicException.code());
    }
    let Some(topic) = state.topics.get(name) else {
        return answer.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| describe(state, index, partition));
    answer
        .with_topic_id(topic.id)
        .with_is_internal(name.starts_with("__consumer_offsets"))
        .with_partitions(partitions.collect())
}

fn describe(state: &State, index: usize, partition: &Partition) -> MetadataResponsePartition {
    let up = |id: &i32| state.nodes.get(id).is_some_and(|node| node.up);
    let ids = |wanted: bool| partition.replicas.iter().filter(|id| up(id) == wanted).map(|id| BrokerId(*id)).collect();
    let error = partition.leader.map_or(ResponseError::LeaderNotAvailable.code(), |_| 0);
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index as i32)
        .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(partition.replicas.iter().map(|id| BrokerId(*id)).collect())
        .with_isr_nodes(ids(true))
        .with_offline_replicas(ids(false))
}
