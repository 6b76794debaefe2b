//! ACLs, as far as a comparison of two clusters needs them, a promotion that keeps writers off a source, and a backup that captures
//! them all (KIP-140, KIP-290).

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResource;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::{self, Tries};
use super::{Cluster, Node};
use crate::plan::{Acl, AclBinding, AclNumbers, AclResource, Acls, Grant};

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
/// ACLs in one request.
const ACLS_AT_ONCE: usize = 200;
/// There is no authorizer.
const SECURITY_DISABLED: i16 = 54;
const INVALID_REQUEST: i16 = 42;
const REQUEST_TIMED_OUT: i16 = 7;

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

    /// All ACLs of every kind of resource; `None` where there is no authorizer. Needs DESCRIBE on the cluster.
    pub async fn acl_bindings(&self) -> Result<Option<Vec<AclBinding>>, ClientError> {
        let resources = match self.describe_acls(ANY).await {
            Ok(resources) => resources,
            Err(error) if error.code() == Some(SECURITY_DISABLED) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(bindings(&resources)))
    }

    /// Creates ACLs; one that is there already stays. Gives those that the cluster refuses, and why. Needs ALTER on the cluster.
    pub async fn create_acls(&self, acls: &[AclBinding]) -> Result<Vec<(AclBinding, ClientError)>, ClientError> {
        retry::in_portions(self, acls, ACLS_AT_ONCE, |left| async move { self.create_acls_once(&left).await }).await
    }

    /// Those that were not created, and why.
    async fn create_acls_once<'a>(
        &self,
        acls: &[&'a AclBinding],
    ) -> Result<Vec<(&'a AclBinding, ClientError)>, ClientError> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            acls.iter().map(|acl| (*acl, creation(acl))).partition(|(_, creation)| creation.is_some());
        let invalid = |acl: &AclBinding| self.api_error("CreateAcls", INVALID_REQUEST, &acl.to_string());
        let mut errors: Vec<_> = unknown.into_iter().map(|(acl, _)| (acl, invalid(acl))).collect();
        if known.is_empty() {
            return Ok(errors);
        }
        let creations = known.iter().filter_map(|(_, creation)| creation.clone()).collect();
        let request = CreateAclsRequest::default().with_creations(creations);
        let response = self.call(Node::Controller, request).await?;
        let mut results = response.results.into_iter();
        for (acl, _) in known {
            // One without an answer may have been created: said again, it changes nothing.
            let (code, words) = results.next().map_or((REQUEST_TIMED_OUT, None), |r| (r.error_code, r.error_message));
            if code != 0 {
                errors.push((acl, self.api_error_with("CreateAcls", code, &acl.to_string(), words.as_deref())));
            }
        }
        Ok(errors)
    }

    /// Takes these ACLs away, and no other; one that is not there any more is no error. Gives those that the cluster refuses, and why.
    /// Needs ALTER on the cluster.
    pub async fn delete_acls(&self, acls: &[AclBinding]) -> Result<Vec<(AclBinding, ClientError)>, ClientError> {
        retry::in_portions(self, acls, ACLS_AT_ONCE, |left| async move { self.delete_acls_once(&left).await }).await
    }

    async fn delete_acls_once<'a>(
        &self,
        acls: &[&'a AclBinding],
    ) -> Result<Vec<(&'a AclBinding, ClientError)>, ClientError> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            acls.iter().map(|acl| (*acl, filter(acl))).partition(|(_, filter)| filter.is_some());
        let invalid = |acl: &AclBinding| self.api_error("DeleteAcls", INVALID_REQUEST, &acl.to_string());
        let mut errors: Vec<_> = unknown.into_iter().map(|(acl, _)| (acl, invalid(acl))).collect();
        if known.is_empty() {
            return Ok(errors);
        }
        let filters = known.iter().filter_map(|(_, filter)| filter.clone()).collect();
        let response = self.call(Node::Controller, DeleteAclsRequest::default().with_filters(filters)).await?;
        let mut results = response.filter_results.into_iter();
        for (acl, _) in known {
            let (code, words) = results.next().map_or((REQUEST_TIMED_OUT, None), |result| {
                let failed = result.matching_acls.into_iter().find(|acl| acl.error_code != 0);
                let of_match = failed.map(|acl| (acl.error_code, acl.error_message));
                of_match.unwrap_or((result.error_code, result.error_message))
            });
            if code != 0 {
                errors.push((acl, self.api_error_with("DeleteAcls", code, &acl.to_string(), words.as_deref())));
            }
        }
        Ok(errors)
    }

    async fn acls_of(&self, resource: AclResource) -> Result<Vec<Acl>, ClientError> {
        let resources = self.describe_acls(if resource == AclResource::Topic { TOPIC } else { GROUP }).await?;
        Ok(resources.iter().flat_map(|found| listed(resource, found)).collect())
    }

    async fn describe_acls(&self, resource_type: i8) -> Result<Vec<DescribeAclsResource>, ClientError> {
        let mut tries = Tries::new();
        loop {
            let request = DescribeAclsRequest::default()
                .with_resource_type_filter(resource_type)
                .with_resource_name_filter(None)
                .with_pattern_type_filter(ANY)
                .with_principal_filter(None)
                .with_host_filter(None)
                .with_operation(ANY)
                .with_permission_type(ANY);
            let outcome = self.call(Node::Any, request).await.and_then(|response| match response.error_code {
                0 => Ok(response.resources),
                code => Err(self.api_error_with("DescribeAcls", code, "ACLs", response.error_message.as_deref())),
            });
            match outcome {
                Ok(resources) => return Ok(resources),
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

/// In order.
pub(super) fn bindings(resources: &[DescribeAclsResource]) -> Vec<AclBinding> {
    let bindings = resources.iter().flat_map(|found| {
        found.acls.iter().map(|acl| {
            let numbers = AclNumbers {
                resource: found.resource_type,
                pattern: found.pattern_type,
                operation: acl.operation,
                permission: acl.permission_type,
            };
            numbers.binding(&found.resource_name, &acl.principal, &acl.host)
        })
    });
    let mut bindings: Vec<AclBinding> = bindings.collect();
    bindings.sort();
    bindings
}

/// `None` where its words are none of Kafka's.
fn creation(acl: &AclBinding) -> Option<AclCreation> {
    let numbers = acl.numbers()?;
    let creation = AclCreation::default()
        .with_resource_type(numbers.resource)
        .with_resource_name(text(&acl.name))
        .with_resource_pattern_type(numbers.pattern)
        .with_principal(text(&acl.principal))
        .with_host(text(&acl.host))
        .with_operation(numbers.operation)
        .with_permission_type(numbers.permission);
    Some(creation)
}

/// That meets this ACL alone.
fn filter(acl: &AclBinding) -> Option<DeleteAclsFilter> {
    let numbers = acl.numbers()?;
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(numbers.resource)
        .with_resource_name_filter(Some(text(&acl.name)))
        .with_pattern_type_filter(numbers.pattern)
        .with_principal_filter(Some(text(&acl.principal)))
        .with_host_filter(Some(text(&acl.host)))
        .with_operation(numbers.operation)
        .with_permission_type(numbers.permission);
    Some(filter)
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
