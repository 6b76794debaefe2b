//! Creating topics and partitions. Never through a broker's auto-creation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::{DEADLINE, Tries};
use super::{Cluster, Metadata, Node, TopicMeta, TopicPartition, Topics};

/// A topic to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

/// What came of making topics.
#[derive(Debug, Default)]
pub struct CreatedTopics {
    /// Names of those that the cluster refuses, and why.
    pub refused: Vec<(String, ClientError)>,
    /// Names of those that somebody else has made.
    pub existing: BTreeSet<String>,
}

const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const TIMEOUT_MS: i32 = 30_000;
/// A KRaft controller refuses more than 10,000 in one request.
const PARTITIONS_AT_ONCE: i64 = 1_000;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let configs = topic
        .configs
        .iter()
        .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))))
        .collect();
    CreatableTopic::default()
        .with_name(TopicName(text(&topic.name)))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(configs)
}

/// What goes into one request each: a controller takes a request as a whole, and refuses one of too many partitions.
fn portions(topics: &[NewTopic]) -> Vec<Vec<&NewTopic>> {
    let mut portions: Vec<Vec<&NewTopic>> = Vec::new();
    let mut partitions = 0;
    for topic in topics {
        partitions += i64::from(topic.partitions);
        match portions.last_mut().filter(|_| partitions <= PARTITIONS_AT_ONCE) {
            Some(portion) => portion.push(topic),
            None => {
                portions.push(vec![topic]);
                partitions = i64::from(topic.partitions);
            }
        }
    }
    portions
}

impl Cluster {
    /// Makes a topic and waits for it; one that is there already is left as it is.
    pub async fn create_topic_if_absent(&self, topic: &NewTopic) -> Result<(), ClientError> {
        match self.create_topics_if_absent(std::slice::from_ref(topic)).await?.refused.pop() {
            Some((_, error)) => Err(error),
            None => self.await_topics(&[topic.name.as_str()], DEADLINE).await,
        }
    }

    /// Makes topics without waiting for them; those that are there already are left as they are.
    pub async fn create_topics_if_absent(&self, topics: &[NewTopic]) -> Result<CreatedTopics, ClientError> {
        let mut created = CreatedTopics::default();
        for mut missing in portions(topics) {
            let mut tries = Tries::new();
            let mut is_first = true;
            while !missing.is_empty() {
                let outcome = self.create_topics_once(&missing).await;
                let is_first = std::mem::take(&mut is_first);
                let error = match outcome {
                    Ok((mut errors, existing)) => {
                        // At a later try it may be one of the try before.
                        created.existing.extend(existing.into_iter().filter(|_| is_first));
                        missing.retain(|topic| errors.get(&topic.name).is_some_and(ClientError::is_retriable));
                        let retriable = missing.first().and_then(|topic| errors.remove(&topic.name));
                        created.refused.extend(errors.into_iter().filter(|(_, error)| !error.is_retriable()));
                        let Some(error) = retriable else { break };
                        error
                    }
                    Err(error) => error,
                };
                tries.again(self, error, &[]).await?;
            }
        }
        Ok(created)
    }

    /// Topics that were not made, and why; and those that had been there.
    async fn create_topics_once(
        &self,
        topics: &[&NewTopic],
    ) -> Result<(BTreeMap<String, ClientError>, BTreeSet<String>), ClientError> {
        let mut existing = BTreeSet::new();
        let wanted = topics.iter().map(|topic| creatable(topic)).collect();
        let request = CreateTopicsRequest::default().with_topics(wanted).with_timeout_ms(TIMEOUT_MS);
        let response = self.call_waiting(Node::Controller, request, TIMEOUT_MS.unsigned_abs().into()).await?;
        let mut errors: BTreeMap<String, ClientError> =
            topics.iter().map(|t| (t.name.clone(), self.api_error("CreateTopics", -1, &t.name))).collect();
        for made in response.topics {
            let name = made.name.to_string();
            if [0, TOPIC_ALREADY_EXISTS].contains(&made.error_code) {
                errors.remove(&name);
                existing.extend(Some(name).filter(|_| made.error_code != 0));
            } else {
                let words = made.error_message.as_deref();
                let error = self.api_error_with("CreateTopics", made.error_code, &name, words);
                errors.insert(name, error);
            }
        }
        Ok((errors, existing))
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

    /// Waits until topics that were made or grown can be used: once, for all that would each wait for a part of them. One
    /// that cannot be had keeps nobody from waiting for the others, and while none turns up they are waited for so long.
    pub async fn await_usable(&self, topics: &[&str], no_news: Duration) -> Result<(), ClientError> {
        let outcome = self.await_topics(topics, no_news).await;
        let metadata = self.metadata();
        let made: Vec<TopicPartition> =
            topics.iter().filter_map(|name| metadata.topic(name)).flat_map(TopicMeta::partitions).collect();
        outcome.and(self.await_served_at(&made, Tries::at_short_pauses(no_news)).await)
    }

    /// Waits until the cluster's metadata knows the topics with a leader for every partition, as long as there are ever more
    /// of them.
    async fn await_topics(&self, topics: &[&str], no_news: Duration) -> Result<(), ClientError> {
        let mut awaited = topics.to_vec();
        let mut outcome = Ok(());
        let mut tries = Tries::within(no_news);
        while !awaited.is_empty() {
            let error = match self.refresh(Topics::Named(&awaited)).await {
                Err(error) => error,
                Ok(metadata) => {
                    let mut missing = None;
                    let before = awaited.len();
                    awaited.retain(|name| match self.shortcoming(&metadata, name) {
                        Some(error) if error.is_retriable() => {
                            missing = missing.take().or(Some(error));
                            true
                        }
                        Some(error) => {
                            outcome = Err(error);
                            false
                        }
                        None => false,
                    });
                    if awaited.len() < before {
                        tries = Tries::within(no_news);
                    }
                    let Some(missing) = missing else { break };
                    missing
                }
            };
            tries.again(self, error, &awaited).await?;
        }
        outcome
    }

    /// What a topic lacks to be used.
    fn shortcoming(&self, metadata: &Metadata, name: &str) -> Option<ClientError> {
        const LEADER_NOT_AVAILABLE: i16 = 5;
        let code = match metadata.topic(name) {
            Some(topic) if topic.partitions.is_empty() && topic.error != 0 => topic.error,
            Some(topic) if !topic.partitions.is_empty() => {
                let leaderless = (0..).zip(&topic.partitions).find(|(_, partition)| partition.leader.is_none())?.0;
                metadata.obstacle(name, leaderless)
            }
            _ => LEADER_NOT_AVAILABLE,
        };
        Some(self.api_error("Metadata", code, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_portion_has_too_many_partitions_and_no_topic_is_left_out() {
        let topic = |partitions| NewTopic { name: "t".to_owned(), partitions, ..NewTopic::default() };
        let sizes = |counts: &[i32]| -> Vec<usize> {
            let topics: Vec<NewTopic> = counts.iter().map(|count| topic(*count)).collect();
            portions(&topics).iter().map(Vec::len).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1_000, 1, 999]), [1, 2]);
        assert_eq!(sizes(&[5_000, 600, 400, 1]), [1, 2, 1]);
    }
}
