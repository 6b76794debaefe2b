//! DescribeAcls, as far as a comparison of two clusters needs it (KIP-140, KIP-290).

use kafka_protocol::messages::DescribeAclsRequest;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResource;

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
/// There is no authorizer.
const SECURITY_DISABLED: i16 = 54;

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
