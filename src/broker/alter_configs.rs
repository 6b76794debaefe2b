//! IncrementalAlterConfigs v0–v1 for topics (type 2). Omitted: brokers.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::configs;
use super::describe_configs::TOPIC;
use super::dispatch::Call;
use super::state::State;

type Refusal = (ResponseError, String);

pub(super) fn handle(call: &Call, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let mut state = call.shared.lock();
    let responses = request.resources.into_iter().map(|resource| {
        let outcome = alter(&mut state, &resource, request.validate_only);
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match outcome {
            Ok(()) => answer,
            Err((error, message)) => {
                answer.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message)))
            }
        }
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn alter(state: &mut State, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refusal> {
    if resource.resource_type != TOPIC {
        return Err((ResponseError::InvalidRequest, "only topic configs can be altered here".to_owned()));
    }
    if state.is_backed(&resource.resource_name) {
        return Err((ResponseError::PolicyViolation, "the topic is there to be read".to_owned()));
    }
    let broker = state.broker_configs.clone();
    let Some(topic) = state.topics.get_mut(resource.resource_name.as_str()) else {
        return Err((ResponseError::UnknownTopicOrPartition, String::new()));
    };
    let mut altered = topic.configs.clone();
    for config in &resource.configs {
        apply(&mut altered, &broker, config)?;
    }
    if !validate_only {
        topic.configs = altered;
    }
    Ok(())
}

fn apply(
    set: &mut BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
    config: &AlterableConfig,
) -> Result<(), Refusal> {
    let name = config.name.to_string();
    let value = config.value.as_ref().map(ToString::to_string).unwrap_or_default();
    let known = configs::topic_config(&name)
        .ok_or_else(|| (ResponseError::InvalidConfig, format!("Unknown topic config name: {name}")))?;
    let current = configs::resolve(known, set, broker).0.into_owned();
    let mut items: Vec<&str> = current.split(',').filter(|item| !item.is_empty()).collect();
    let value = match (config.config_operation, known.kind) {
        (0, _) => value,
        (1, _) => {
            set.remove(&name);
            return Ok(());
        }
        (2, configs::LIST) => {
            items.extend(value.split(','));
            items.join(",")
        }
        (3, configs::LIST) => {
            items.retain(|item| !value.split(',').any(|gone| gone == *item));
            items.join(",")
        }
        _ => return Err((ResponseError::InvalidRequest, format!("operation not possible on {name}"))),
    };
    configs::validate(&name, &value).map_err(|message| (ResponseError::InvalidConfig, message))?;
    set.insert(name, value);
    Ok(())
}
