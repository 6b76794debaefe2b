//! CreateAcls and DeleteAcls v1–v3, for one kind of ACL: everybody is denied to write to a topic, by its literal name. Produce
//! heeds it. Omitted: every other ACL, DescribeAcls, and who asks.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::messages::{RequestKind, ResponseKind};

/// Resource type topic, pattern literal, operation write, permission deny.
const KIND: (i8, i8, i8, i8) = (2, 3, 4, 2);
const EVERYBODY: &str = "User:*";
const ANY_HOST: &str = "*";

pub(super) fn create(call: &Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let mut state = call.shared.lock();
    let results = request.creations.into_iter().map(|acl| {
        let kind = (acl.resource_type, acl.resource_pattern_type, acl.operation, acl.permission_type);
        let error = if kind == KIND && acl.principal.as_str() == EVERYBODY && acl.host.as_str() == ANY_HOST {
            state.read_only.insert(acl.resource_name.to_string());
            0
        } else {
            ResponseError::InvalidRequest.code()
        };
        AclCreationResult::default().with_error_code(error)
    });
    CreateAclsResponse::default().with_results(results.collect())
}

pub(super) fn delete(call: &Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let mut state = call.shared.lock();
    let results = request.filters.into_iter().map(|filter| match name(&filter) {
        None => DeleteAclsFilterResult::default().with_error_code(ResponseError::InvalidRequest.code()),
        Some(topic) => {
            let there = state.read_only.remove(&topic);
            DeleteAclsFilterResult::default().with_matching_acls(there.then(|| matching(topic)).into_iter().collect())
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

/// The refusal of all of it.
pub(super) fn refuse(request: &RequestKind, code: i16) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::CreateAcls(r) => {
            let results = r.creations.iter().map(|_| AclCreationResult::default().with_error_code(code));
            ResponseKind::CreateAcls(CreateAclsResponse::default().with_results(results.collect()))
        }
        RequestKind::DeleteAcls(r) => {
            let results = r.filters.iter().map(|_| DeleteAclsFilterResult::default().with_error_code(code));
            ResponseKind::DeleteAcls(DeleteAclsResponse::default().with_filter_results(results.collect()))
        }
        _ => return None,
    })
}

fn name(filter: &DeleteAclsFilter) -> Option<String> {
    let kind = (filter.resource_type_filter, filter.pattern_type_filter, filter.operation, filter.permission_type);
    let is_it = kind == KIND
        && filter.principal_filter.as_deref() == Some(EVERYBODY)
        && filter.host_filter.as_deref() == Some(ANY_HOST);
    filter.resource_name_filter.as_ref().filter(|_| is_it).map(ToString::to_string)
}

fn matching(topic: String) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(KIND.0)
        .with_resource_name(StrBytes::from_string(topic))
        .with_pattern_type(KIND.1)
        .with_principal(StrBytes::from_static_str(EVERYBODY))
        .with_host(StrBytes::from_static_str(ANY_HOST))
        .with_operation(KIND.2)
        .with_permission_type(KIND.3)
}
