//! What a principal may do, as the cluster itself tells (KIP-430), or as a request shows that would change nothing.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, EndTxnRequest, MetadataRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node};
use crate::plan::rights::Operation;

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
/// The last version of Metadata that tells the operations on the cluster; later it is DescribeCluster's.
const TELLS_OF_THE_CLUSTER: i16 = 10;
/// Where a broker tells no operations.
const NOT_TOLD: i32 = i32::MIN;
const TOPICS_AT_ONCE: usize = 500;
const TIMEOUT_MS: i32 = 10_000;

/// What a principal may do with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// A bit for each operation (`AclOperation.code`).
    Told(i32),
    /// It may not even see it: no DESCRIBE, nor anything that implies it.
    Hidden,
    /// The broker does not tell.
    NotTold,
}

impl Allowed {
    /// By the field of a response.
    pub(super) fn of(operations: i32) -> Self {
        if operations == NOT_TOLD { Self::NotTold } else { Self::Told(operations) }
    }

    /// Whether the operation is allowed; `None` where that is not told.
    #[must_use]
    pub fn allows(self, operation: Operation) -> Option<bool> {
        match self {
            Self::Told(bits) => Some(bits >> operation.code() & 1 == 1),
            Self::Hidden if operation.implies(Operation::Describe) => Some(false),
            Self::Hidden | Self::NotTold => None,
        }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Cluster {
    /// What may be done with topics of these names, whether there are such topics or not.
    pub async fn allowed_on_topics(&self, names: &[&str]) -> Result<BTreeMap<String, Allowed>, ClientError> {
        let mut found = BTreeMap::new();
        for names in names.chunks(TOPICS_AT_ONCE) {
            let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
            let request = MetadataRequest::default()
                .with_topics(Some(names.iter().map(named).collect()))
                .with_allow_auto_topic_creation(false)
                .with_include_topic_authorized_operations(true);
            let mut tries = Tries::new();
            let response = loop {
                match self.call(Node::Any, request.clone()).await {
                    Ok(response) => break response,
                    Err(error) => tries.again(self, error, &[]).await?,
                }
            };
            for topic in response.topics {
                let Some(name) = topic.name else { continue };
                let allowed = match topic.error_code {
                    TOPIC_AUTHORIZATION_FAILED => Allowed::Hidden,
                    _ => Allowed::of(topic.topic_authorized_operations),
                };
                found.insert(name.to_string(), allowed);
            }
        }
        Ok(found)
    }

    /// What may be done with the cluster itself; hidden without DESCRIBE on it.
    pub async fn allowed_on_cluster(&self) -> Result<Allowed, ClientError> {
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(false)
            .with_include_cluster_authorized_operations(true);
        let connection = self.connection_to(Node::Any).await?;
        let response = connection.call_in(request, TELLS_OF_THE_CLUSTER).await?;
        Ok(match response.cluster_authorized_operations {
            0 => Allowed::Hidden,
            operations => Allowed::of(operations),
        })
    }

    /// Of topics of these names those that might not be made, be it by their own names or by a right on the cluster, and why.
    /// None is made.
    pub async fn refused_creations(&self, topics: &[&str]) -> Result<BTreeMap<String, ClientError>, ClientError> {
        let creatable = |topic: &&str| {
            let topic = CreatableTopic::default().with_name(TopicName(text(topic)));
            topic.with_num_partitions(1).with_replication_factor(1)
        };
        let mut refused = BTreeMap::new();
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let request = CreateTopicsRequest::default()
                .with_topics(topics.iter().map(creatable).collect())
                .with_validate_only(true)
                .with_timeout_ms(TIMEOUT_MS);
            let response = self.call(Node::Controller, request).await?;
            // Whatever else is wrong with one was found behind the authorizer.
            for topic in response.topics {
                let name = topic.name.to_string();
                let error = self.api_error("CreateTopics", topic.error_code, &name);
                if error.is_unauthorised() {
                    refused.insert(name, error);
                }
            }
        }
        Ok(refused)
    }

    /// Whether this transactional id might be written under. Nobody may ever have used it: the end of a transaction that there
    /// is not changes nothing, and who lacks WRITE is told so before anything is looked up (`KafkaApis.handleEndTxnRequest`).
    pub async fn may_write_under(&self, transactional_id: &str) -> Result<bool, ClientError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(transactional_id)))
            .with_producer_id(ProducerId(0))
            .with_producer_epoch(0)
            .with_committed(false);
        let response = self.call(Node::Any, request).await?;
        Ok(response.error_code != TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_operations_and_what_is_hidden_tells_only_of_what_would_show_it() {
        let told = Allowed::of(1 << 3 | 1 << 8);
        assert_eq!(told.allows(Operation::Read), Some(true));
        assert_eq!(told.allows(Operation::Write), Some(false));
        assert_eq!(Allowed::Hidden.allows(Operation::Write), Some(false));
        assert_eq!(Allowed::Hidden.allows(Operation::Create), None);
        assert_eq!(Allowed::of(i32::MIN).allows(Operation::Read), None);
    }
}
