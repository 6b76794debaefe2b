//! ACLs, as far as a comparison of two clusters needs them, and a promotion that keeps writers off a source (KIP-140, KIP-290).

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResource;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::Tries;
use super::{Cluster, Node};
use crate::plan::{Acl, AclResource, Acls, Grant};

/// `ResourceType`, `PatternType`, `AclPermissionType`, and what each calls ANY.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const ANY: i8 = 1;
/// `AclOperation.WRITE`.
const WRITE: i8 = 4;
const EVERYBODY: &str = "User:*";
const ANY_HOST: &str = "*";
/// Topics in one request.
const TOPICS_AT_ONCE: usize = 200;
/// There is no authorizer.
const SECURITY_DISABLED: i16 = 54;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Cluster {
    /// All ACLs of topics and groups. Needs DESCRIBE on the cluster.
    pub async fn acls(&self) -> Result<Acls, ClientError> {
        let mut acls = Vec::new();
        for resource in [AclResource::Topic, AclResource::Group] {
            match self.acls_of(resource).await {
                Ok(some) => acls.extend(some),
                Err(error) if error.code() == Some(SECURITY_DISABLED) => return Ok(Acls::None),
                Err(error) => return Err(error),
            }
        }
        Ok(Acls::Listed(acls))
    }

    async fn acls_of(&self, resource: AclResource) -> Result<Vec<Acl>, ClientError> {
        let mut tries = Tries::new();
        loop {
            let request = DescribeAclsRequest::default()
                .with_resource_type_filter(if resource == AclResource::Topic { TOPIC } else { GROUP })
                .with_resource_name_filter(None)
                .with_pattern_type_filter(ANY)
                .with_principal_filter(None)
                .with_host_filter(None)
                .with_operation(ANY)
                .with_permission_type(ANY);
            let outcome = self.call(Node::Any, request).await.and_then(|response| match response.error_code {
                0 => Ok(response.resources.iter().flat_map(|found| listed(resource, found)).collect()),
                code => Err(self.api_error_with("DescribeAcls", code, "ACLs", response.error_message.as_deref())),
            });
            match outcome {
                Ok(acls) => return Ok(acls),
                Err(error) => tries.again(self, error, &[]).await?,
            }
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

/// Kinds of patterns and permissions that nobody knows yet say nothing.
fn listed(resource: AclResource, found: &DescribeAclsResource) -> Vec<Acl> {
    if ![LITERAL, PREFIXED].contains(&found.pattern_type) {
        return Vec::new();
    }
    let known = found.acls.iter().filter(|acl| [ALLOW, DENY].contains(&acl.permission_type));
    let acl = known.map(|acl| Acl {
        resource,
        name: found.resource_name.to_string(),
        is_prefix: found.pattern_type == PREFIXED,
        grant: Grant {
            principal: acl.principal.to_string(),
            host: acl.host.to_string(),
            operation: acl.operation,
            is_denied: acl.permission_type == DENY,
        },
    });
    acl.collect()
}
