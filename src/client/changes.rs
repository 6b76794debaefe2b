//! Changes of topic configs and of ACLs: what a promotion applies, and how it keeps writers off a source.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, IncrementalAlterConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node};

/// `ConfigResource.Type` and `ResourceType` of a topic.
const TOPIC: i8 = 2;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// `PatternType.LITERAL`, `AclOperation.WRITE`, `AclPermissionType.DENY`.
const LITERAL: i8 = 3;
const WRITE: i8 = 4;
const DENY: i8 = 2;
const EVERYBODY: &str = "User:*";
const ANY_HOST: &str = "*";
/// Topics in one request.
const TOPICS_AT_ONCE: usize = 200;

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

    /// Denies everybody to write to these topics, by ACL. Needs ALTER on the cluster. Said again, it changes nothing.
    pub async fn deny_writes(&self, topics: &[&str]) -> Result<(), ClientError> {
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let deny = |topic: &&str| {
                AclCreation::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(text(topic))
                    .with_resource_pattern_type(LITERAL)
                    .with_principal(text(EVERYBODY))
                    .with_host(text(ANY_HOST))
                    .with_operation(WRITE)
                    .with_permission_type(DENY)
            };
            let mut tries = Tries::new();
            loop {
                let request = CreateAclsRequest::default().with_creations(topics.iter().map(deny).collect());
                let outcome = self.call(Node::Controller, request).await.and_then(|response| {
                    let refused = response.results.into_iter().zip(topics).find(|(result, _)| result.error_code != 0);
                    refused.map_or(Ok(()), |(result, topic)| {
                        let words = result.error_message.as_deref();
                        Err(self.api_error_with("CreateAcls", result.error_code, topic, words))
                    })
                });
                match outcome {
                    Ok(()) => break,
                    Err(error) => tries.again(self, error, &[]).await?,
                }
            }
        }
        Ok(())
    }

    /// Takes back what [`Self::deny_writes`] has done; gives how many of these ACLs there were.
    pub async fn allow_writes(&self, topics: &[&str]) -> Result<usize, ClientError> {
        let mut count = 0;
        for topics in topics.chunks(TOPICS_AT_ONCE) {
            let filter = |topic: &&str| {
                DeleteAclsFilter::default()
                    .with_resource_type_filter(TOPIC)
                    .with_resource_name_filter(Some(text(topic)))
                    .with_pattern_type_filter(LITERAL)
                    .with_principal_filter(Some(text(EVERYBODY)))
                    .with_host_filter(Some(text(ANY_HOST)))
                    .with_operation(WRITE)
                    .with_permission_type(DENY)
            };
            let mut tries = Tries::new();
            loop {
                let request = DeleteAclsRequest::default().with_filters(topics.iter().map(filter).collect());
                let outcome = self.call(Node::Controller, request).await.and_then(|response| {
                    let mut found = 0;
                    for (result, topic) in response.filter_results.into_iter().zip(topics) {
                        if result.error_code != 0 {
                            let words = result.error_message.as_deref();
                            return Err(self.api_error_with("DeleteAcls", result.error_code, topic, words));
                        }
                        found += result.matching_acls.iter().filter(|acl| acl.error_code == 0).count();
                    }
                    Ok(found)
                });
                match outcome {
                    Ok(found) => {
                        count += found;
                        break;
                    }
                    Err(error) => tries.again(self, error, &[]).await?,
                }
            }
        }
        Ok(count)
    }
}
