//! Topics that are gone, and those that are to be.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::error::{ClientError, code_name};
use super::metadata::UNKNOWN_TOPIC_OR_PARTITION;
use super::retry::Tries;
use super::{Cluster, Node};

const TIMEOUT_MS: i32 = 30_000;
/// DeleteTopics takes ids from this version on (KIP-516).
const BY_ID: i16 = 6;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Cluster {
    /// Why a topic may be there all the same, though the cluster does not list it; `None`: every broker says that there is no such
    /// topic, which none says of a topic that is only hidden (KafkaApis.handleTopicMetadataRequest: TOPIC_AUTHORIZATION_FAILED).
    pub async fn doubt_of_absence(&self, topic: &str) -> Result<Option<String>, ClientError> {
        let brokers: Vec<i32> = self.metadata().brokers.keys().copied().collect();
        if brokers.is_empty() {
            return Ok(Some("the cluster names no broker".to_owned()));
        }
        for broker in brokers {
            let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
            let request =
                MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
            let response = match self.call(Node::Id(broker), request).await {
                Ok(response) => response,
                Err(error) => return Ok(Some(format!("broker {broker} does not answer: {error}"))),
            };
            let is_it = |told: &&kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
                told.name.as_ref().is_some_and(|found| found.as_str() == topic)
            };
            match response.topics.iter().find(is_it).map(|told| told.error_code) {
                Some(UNKNOWN_TOPIC_OR_PARTITION) => {}
                Some(0) => return Ok(Some(format!("broker {broker} has it"))),
                Some(code) => return Ok(Some(format!("broker {broker} answers {}", code_name(code)))),
                None => return Ok(Some(format!("broker {broker} says nothing of it"))),
            }
        }
        Ok(None)
    }

    /// Deletes a topic, if it is the one with this id; one that is not there any more is no error. Needs DELETE on it.
    pub async fn delete_topic(&self, topic: &str, id: Uuid) -> Result<(), ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.delete_topic_once(topic, id).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(self, error, &[topic]).await?,
            }
        }
    }

    async fn delete_topic_once(&self, topic: &str, id: Uuid) -> Result<(), ClientError> {
        const API: &str = "DeleteTopics";
        let connection = self.connection_to(Node::Controller).await?;
        let version = connection.version_of::<DeleteTopicsRequest>()?;
        let request = DeleteTopicsRequest::default().with_timeout_ms(TIMEOUT_MS);
        let request = if version >= BY_ID && !id.is_nil() {
            request.with_topics(vec![DeleteTopicState::default().with_name(None).with_topic_id(id)])
        } else {
            request.with_topic_names(vec![name(topic)])
        };
        let response = connection.call(request, TIMEOUT_MS.unsigned_abs().into()).await?;
        match response.responses.first() {
            Some(result) if [0, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID].contains(&result.error_code) => Ok(()),
            Some(result) => Err(self.api_error_with(API, result.error_code, topic, result.error_message.as_deref())),
            None => Err(self.api_error(API, -1, topic)),
        }
    }
}
