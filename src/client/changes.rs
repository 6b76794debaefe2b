//! Changes of topic configs: what a promotion applies.

use std::collections::BTreeMap;

use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node};

/// `ConfigResource.Type` of a topic.
const TOPIC: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Cluster {
    /// Sets configs of a topic, or takes them away where there is no value. All of them or none.
    pub async fn alter_topic_configs(
        &self,
        topic: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.alter_topic_configs_once(topic, changes).await {
                Ok(()) => return Ok(()),
                Err(error) => tries.again(self, error, &[topic]).await?,
            }
        }
    }

    async fn alter_topic_configs_once(
        &self,
        topic: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<(), ClientError> {
        let change = |(key, value): (&String, &Option<String>)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(changes.iter().map(change).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = self.call(Node::Controller, request).await?;
        match response.responses.into_iter().next() {
            Some(altered) if altered.error_code == 0 => Ok(()),
            Some(altered) => {
                let words = altered.error_message.as_deref();
                Err(self.api_error_with("IncrementalAlterConfigs", altered.error_code, topic, words))
            }
            None => Err(self.api_error("IncrementalAlterConfigs", -1, topic)),
        }
    }
}
