//! DescribeConfigs v1–v4 for topics (type 2) and brokers (type 4). Omitted: documentation, broker loggers, groups.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::configs::{self, Known, SOURCE_DEFAULT, SOURCE_STATIC_BROKER, SOURCE_TOPIC};
use super::dispatch::Call;
use super::state::State;

/// `ConfigResource.Type`.
pub(super) const TOPIC: i8 = 2;
/// `ConfigResource.Type`.
pub(super) const BROKER: i8 = 4;

pub(super) fn handle(call: &Call, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let state = call.shared.lock();
    let results = request.resources.iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(&state, resource, request.include_synonyms) {
            Ok(configs) => answer.with_configs(configs),
            Err(error) => answer.with_error_code(error.code()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    state: &State,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, ResponseError> {
    let empty = BTreeMap::new();
    let (table, set) = match resource.resource_type {
        TOPIC => {
            let topic = state.topics.get(resource.resource_name.as_str());
            (configs::TOPIC, &topic.ok_or(ResponseError::UnknownTopicOrPartition)?.configs)
        }
        BROKER => (configs::BROKER, &empty),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let keys = resource.configuration_keys.as_ref();
    let wanted = table.iter().filter(|known| keys.is_none_or(|keys| keys.iter().any(|key| &**key == known.name)));
    let is_broker = resource.resource_type == BROKER;
    let known = wanted.map(|known| describe_one(state, known, set, is_broker, synonyms));
    // Only a backed topic can have such, from a cluster that knows more names.
    let others = set.iter().filter(|(name, _)| configs::topic_config(name).is_none());
    let others = others.filter(|(name, _)| keys.is_none_or(|keys| keys.iter().any(|key| **key == **name)));
    Ok(known.chain(others.map(|(name, value)| describe_other(name, value))).collect())
}

fn describe_other(name: &str, value: &str) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(name.to_owned()))
        .with_value(Some(StrBytes::from_string(value.to_owned())))
        .with_config_source(SOURCE_TOPIC)
}

fn describe_one(
    state: &State,
    known: &Known,
    set: &BTreeMap<String, String>,
    is_broker: bool,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let broker_name = if is_broker { known.name } else { known.synonym };
    let broker_value = state.broker_configs.get(broker_name).filter(|_| !broker_name.is_empty());
    let mut values: Vec<(&str, &str, i8)> = Vec::new();
    if let Some(value) = set.get(known.name) {
        values.push((known.name, value, SOURCE_TOPIC));
    }
    if let Some(value) = broker_value {
        values.push((broker_name, value, SOURCE_STATIC_BROKER));
    }
    values.push((if broker_name.is_empty() { known.name } else { broker_name }, known.default, SOURCE_DEFAULT));
    let (value, source) = values.first().map_or((known.default, SOURCE_DEFAULT), |&(_, value, source)| (value, source));
    let result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(known.name))
        .with_value(Some(StrBytes::from_string(value.to_owned())))
        .with_read_only(is_broker)
        .with_config_source(source)
        .with_config_type(known.kind);
    if !synonyms {
        return result;
    }
    let synonym = |&(name, value, source): &(&str, &str, i8)| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_value(Some(StrBytes::from_string(value.to_owned())))
            .with_source(source)
    };
    result.with_synonyms(values.iter().map(synonym).collect())
}
