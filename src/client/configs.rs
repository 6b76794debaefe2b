//! Configs of topics and brokers.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node};

/// `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Topics that one request asks for.
const TOPICS_AT_ONCE: usize = 200;
/// `DescribeConfigsResponse.ConfigSource.TOPIC_CONFIG`: set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

/// A config as the cluster tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Key.
    pub name: String,
    /// Value; `None` where it is unset, or secret.
    pub value: Option<String>,
    /// Set on the topic itself, not inherited.
    pub own: bool,
}

impl Cluster {
    /// All configs of a topic, defaults included.
    pub async fn topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, ClientError> {
        self.configs(TOPIC, topic, None).await
    }

    /// Some configs of many topics, by topic; one that the cluster does not tell is left out.
    pub async fn configs_of_topics(
        &self,
        topics: &[&str],
        keys: &[&str],
    ) -> Result<HashMap<String, BTreeMap<String, String>>, ClientError> {
        let mut found = HashMap::with_capacity(topics.len());
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let resource = |topic: &&str| {
                DescribeConfigsResource::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(text(topic))
                    .with_configuration_keys(Some(keys.iter().map(|key| text(key)).collect()))
            };
            let request = DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
            let response = self.call(Node::Any, request).await?;
            for result in response.results.into_iter().filter(|result| result.error_code == 0) {
                let configs =
                    result.configs.into_iter().filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
                found.insert(result.resource_name.to_string(), configs.collect());
            }
        }
        Ok(found)
    }

    /// Configs set on the topics themselves, by topic; one that the cluster does not tell is left out.
    pub async fn overrides_of_topics(
        &self,
        topics: &[&str],
    ) -> Result<HashMap<String, BTreeMap<String, String>>, ClientError> {
        let mut found = HashMap::with_capacity(topics.len());
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let response = self.call(Node::Any, all_configs_of(topics)).await?;
            for result in response.results.into_iter().filter(|result| result.error_code == 0) {
                let own = result.configs.into_iter().filter(|c| c.config_source == SOURCE_TOPIC && !c.is_sensitive);
                let own = own.filter_map(|c| Some((c.name.to_string(), c.value?.to_string()))).collect();
                found.insert(result.resource_name.to_string(), own);
            }
        }
        Ok(found)
    }

    /// Configs set on the topics themselves, by topic, or why a topic's are not told. Those that are secret have no value.
    pub async fn own_configs_of_topics(
        &self,
        topics: &[&str],
    ) -> Result<HashMap<String, Result<Vec<ConfigEntry>, ClientError>>, ClientError> {
        let mut found = HashMap::with_capacity(topics.len());
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let mut tries = Tries::new();
            let response = loop {
                let request = all_configs_of(topics);
                match self.call(Node::Any, request).await {
                    Ok(response) => break response,
                    Err(error) => tries.again(self, error, &[]).await?,
                }
            };
            for result in response.results {
                let name = result.resource_name.to_string();
                let entries = match result.error_code {
                    0 => Ok(result.configs.into_iter().map(entry).filter(|entry| entry.own).collect()),
                    code => {
                        let words = result.error_message.as_deref();
                        Err(self.api_error_with("DescribeConfigs", code, &name, words))
                    }
                };
                found.insert(name, entries);
            }
        }
        Ok(found)
    }

    /// Configs set on the topic itself.
    pub async fn topic_overrides(&self, topic: &str) -> Result<BTreeMap<String, String>, ClientError> {
        let entries = self.topic_configs(topic).await?;
        Ok(entries.into_iter().filter(|e| e.own).filter_map(|e| e.value.map(|v| (e.name, v))).collect())
    }

    /// Configs of one broker (any that answers: those that matter here are the same on all).
    pub async fn broker_configs(&self) -> Result<Vec<ConfigEntry>, ClientError> {
        let Some(broker) = self.metadata().brokers.keys().next().copied() else {
            return Ok(Vec::new());
        };
        self.configs(BROKER, &broker.to_string(), Some(broker)).await
    }

    async fn configs(&self, kind: i8, name: &str, broker: Option<i32>) -> Result<Vec<ConfigEntry>, ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.configs_once(kind, name, broker).await {
                Ok(entries) => return Ok(entries),
                Err(error) => tries.again(self, error, &[]).await?,
            }
        }
    }

    async fn configs_once(&self, kind: i8, name: &str, broker: Option<i32>) -> Result<Vec<ConfigEntry>, ClientError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response = self.call(broker.map_or(Node::Any, Node::Id), request).await?;
        let Some(result) = response.results.into_iter().next() else {
            return Err(self.api_error("DescribeConfigs", -1, name));
        };
        if result.error_code != 0 {
            let words = result.error_message.as_deref();
            return Err(self.api_error_with("DescribeConfigs", result.error_code, name, words));
        }
        Ok(result.configs.into_iter().map(entry).collect())
    }
}

fn all_configs_of(topics: &[&str]) -> DescribeConfigsRequest {
    let resource = |topic: &&str| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string((*topic).to_owned()))
            .with_configuration_keys(None)
    };
    DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect())
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.filter(|_| !config.is_sensitive).map(|v| v.to_string()),
        own: config.config_source == SOURCE_TOPIC,
    }
}
