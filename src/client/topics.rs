//! Creating topics and partitions. Never through a broker's auto-creation.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node, Topics};

/// A topic to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Topic name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of each; −1 for the broker's default.
    pub replication_factor: i16,
    /// Topic configs.
    pub configs: BTreeMap<String, String>,
}

const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const TIMEOUT_MS: i32 = 30_000;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Cluster {
    /// Makes a topic; one that is there already is left as it is.
    pub async fn create_topic_if_absent(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.create_topic_once(topic).await {
                Ok(()) => break,
                Err(ClientError::Api { code: TOPIC_ALREADY_EXISTS, .. }) => break,
                Err(error) => tries.again(self, error, &[]).await?,
            }
        }
        self.await_topics(&[topic.name.as_str()]).await
    }

    async fn create_topic_once(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let configs = topic
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))))
            .collect();
        let wanted = CreatableTopic::default()
            .with_name(TopicName(text(&topic.name)))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_configs(configs);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(TIMEOUT_MS);
        let response = self.call_waiting(Node::Controller, request, TIMEOUT_MS.unsigned_abs().into()).await?;
        match response.topics.first() {
            Some(made) if made.error_code == 0 => Ok(()),
            Some(made) => {
                Err(self.api_error_with("CreateTopics", made.error_code, &topic.name, made.error_message.as_deref()))
            }
            None => Err(self.api_error("CreateTopics", -1, &topic.name)),
        }
    }

    /// Grows a topic to `to` partitions; one that has as many or more is left as it is.
    pub async fn create_partitions(&self, topic: &str, to: i32) -> Result<(), ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.create_partitions_once(topic, to).await {
                Ok(()) => return Ok(()),
                // The number it has is the number asked for, or higher: a try before this one got through.
                Err(ClientError::Api { code: INVALID_PARTITIONS, .. }) if self.has_partitions(topic, to).await? => {
                    return Ok(());
                }
                Err(error) => tries.again(self, error, &[topic]).await?,
            }
        }
    }

    async fn has_partitions(&self, topic: &str, count: i32) -> Result<bool, ClientError> {
        let metadata = self.refresh(Topics::Named(&[topic])).await?;
        Ok(metadata.topic(topic).is_some_and(|t| i32::try_from(t.partitions.len()).is_ok_and(|n| n >= count)))
    }

    async fn create_partitions_once(&self, topic: &str, to: i32) -> Result<(), ClientError> {
        let wanted = CreatePartitionsTopic::default().with_name(TopicName(text(topic))).with_count(to);
        let wanted = wanted.with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(TIMEOUT_MS);
        let response = self.call_waiting(Node::Controller, request, TIMEOUT_MS.unsigned_abs().into()).await?;
        match response.results.first() {
            Some(made) if made.error_code == 0 => Ok(()),
            Some(made) => {
                Err(self.api_error_with("CreatePartitions", made.error_code, topic, made.error_message.as_deref()))
            }
            None => Err(self.api_error("CreatePartitions", -1, topic)),
        }
    }

    /// Waits until the cluster's metadata knows the topics with a leader for every partition.
    pub async fn await_topics(&self, topics: &[&str]) -> Result<(), ClientError> {
        const LEADER_NOT_AVAILABLE: i16 = 5;
        if topics.is_empty() {
            return Ok(());
        }
        let mut tries = Tries::new();
        loop {
            let metadata = self.refresh(Topics::Named(topics)).await;
            let error = match metadata {
                Err(error) => error,
                Ok(metadata) => {
                    let missing = topics.iter().find(|name| {
                        metadata
                            .topic(name)
                            .is_none_or(|t| t.partitions.is_empty() || t.partitions.iter().any(|p| p.leader.is_none()))
                    });
                    match missing {
                        None => return Ok(()),
                        Some(name) => self.api_error("Metadata", LEADER_NOT_AVAILABLE, name),
                    }
                }
            };
            tries.again(self, error, topics).await?;
        }
    }
}
