//! CreateTopics v2–v7. Omitted: manual replica assignments beyond their counts, controller forwarding (any node
//! creates).

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use super::configs;
use super::dispatch::Call;
use super::options::ClusterOptions;
use super::state::State;

/// Kafka's `Topic.validate`: up to 249 of letters, digits, `.`, `_`, `-`; not `.` or `..`.
pub(super) fn valid_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal)
}

/// What a topic is to be.
pub(super) struct Plan {
    pub(super) partitions: usize,
    pub(super) replicas: usize,
    pub(super) configs: BTreeMap<String, String>,
}

/// Why a topic cannot be.
pub(super) type Refusal = (ResponseError, String);

/// Checks counts and configs; −1 stands for the cluster's defaults.
pub(super) fn plan(
    state: &State,
    options: &ClusterOptions,
    name: &str,
    (partitions, replicas): (i32, i16),
    configs: BTreeMap<String, String>,
) -> Result<Plan, Refusal> {
    if !valid_name(name) {
        return Err((ResponseError::InvalidTopicException, format!("Topic name is invalid: {name}")));
    }
    if state.topics.contains_key(name) {
        return Err((ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let partitions = if partitions == -1 { options.default_partitions } else { partitions };
    let replicas = if replicas == -1 { options.default_replication_factor } else { replicas };
    let count = usize::try_from(partitions)
        .ok()
        .filter(|count| (1..=100_000).contains(count))
        .ok_or_else(|| (ResponseError::InvalidPartitions, "Number of partitions must be larger than 0.".to_owned()))?;
    let up = state.nodes.values().filter(|node| node.up).count();
    let replicas = usize::try_from(replicas).ok().filter(|count| (1..=up).contains(count)).ok_or_else(|| {
        let message =
            format!("Unable to replicate the partition {replicas} time(s): only {up} broker(s) are registered.");
        (ResponseError::InvalidReplicationFactor, message)
    })?;
    for (key, value) in &configs {
        configs::validate(key, value).map_err(|message| (ResponseError::InvalidConfig, message))?;
    }
    Ok(Plan { partitions: count, replicas, configs })
}

pub(super) fn handle(call: &Call, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let mut state = call.shared.lock();
    let twice = |name: &str| request.topics.iter().filter(|topic| &*topic.name.0 == name).count() > 1;
    let topics = request.topics.iter().map(|topic| {
        if twice(&topic.name) {
            let refusal = (ResponseError::InvalidRequest, "Found multiple entries for this topic.".to_owned());
            return refused(topic, refusal);
        }
        create(call, &mut state, topic, request.validate_only)
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn refused(topic: &CreatableTopic, (error, message): Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}

fn create(call: &Call, state: &mut State, topic: &CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let counts = if topic.assignments.is_empty() {
        (topic.num_partitions, topic.replication_factor)
    } else {
        let replicas = topic.assignments.first().map_or(1, |assignment| assignment.broker_ids.len());
        (topic.assignments.len() as i32, replicas as i16)
    };
    let configs = topic
        .configs
        .iter()
        .filter_map(|config| config.value.as_ref().map(|value| (config.name.to_string(), value.to_string())));
    let plan = match plan(state, &call.shared.options, &topic.name, counts, configs.collect()) {
        Ok(plan) => plan,
        Err(refusal) => return refused(topic, refusal),
    };
    let mut result = CreatableTopicResult::default().with_name(topic.name.clone());
    if call.version >= 5 {
        result.num_partitions = plan.partitions as i32;
        result.replication_factor = plan.replicas as i16;
        result.configs = Some(described(state, &plan.configs));
    }
    if !validate_only {
        result.topic_id = state.create_topic(&topic.name, plan.partitions, plan.replicas, plan.configs);
    }
    result
}

fn described(state: &State, set: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let describe = |known: &configs::Known| {
        let (value, source) = configs::resolve(known, set, &state.broker_configs);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(known.name))
            .with_value(Some(StrBytes::from_string(value.into_owned())))
            .with_config_source(source)
    };
    configs::TOPIC.iter().map(describe).collect()
}
