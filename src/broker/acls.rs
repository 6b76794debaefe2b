//! CreateAcls, DeleteAcls and DescribeAcls v1–v3. Produce heeds one kind of ACL: everybody is denied to write to a topic, by its
//! literal name. Omitted: what all others would mean, who asks, and the filter MATCH.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;
use super::messages::{RequestKind, ResponseKind};

const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const WRITE: i8 = 4;
const DENY: i8 = 2;
/// In a filter: whatever it is.
const ANY: i8 = 1;
const MATCH: i8 = 2;
const EVERYBODY: &str = "User:*";
const ANY_HOST: &str = "*";

/// An ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    resource_type: i8,
    name: String,
    pattern_type: i8,
    principal: String,
    host: String,
    operation: i8,
    permission_type: i8,
}

impl Binding {
    /// Whether it keeps everybody from writing to this topic.
    pub(super) fn denies_writes(&self, topic: &str) -> bool {
        (self.resource_type, self.pattern_type, self.operation, self.permission_type) == (TOPIC, LITERAL, WRITE, DENY)
            && (self.name.as_str(), self.principal.as_str(), self.host.as_str()) == (topic, EVERYBODY, ANY_HOST)
    }
}

/// Which ACLs are meant.
struct Filter<'a> {
    kinds: [i8; 4],
    texts: [Option<&'a StrBytes>; 3],
}

impl Filter<'_> {
    fn takes(&self, acl: &Binding) -> bool {
        let kinds = [acl.resource_type, acl.pattern_type, acl.operation, acl.permission_type];
        let texts = [&acl.name, &acl.principal, &acl.host];
        self.kinds.iter().zip(kinds).all(|(wanted, kind)| *wanted == ANY || *wanted == kind)
            && self.texts.iter().zip(texts).all(|(wanted, text)| wanted.is_none_or(|wanted| wanted.as_str() == text))
    }
}

/// Adds an ACL, unless it is there.
pub(super) fn add(acls: &mut Vec<Binding>, acl: &AclCreation) {
    let binding = Binding {
        resource_type: acl.resource_type,
        name: acl.resource_name.to_string(),
        pattern_type: acl.resource_pattern_type,
        principal: acl.principal.to_string(),
        host: acl.host.to_string(),
        operation: acl.operation,
        permission_type: acl.permission_type,
    };
    if !acls.contains(&binding) {
        acls.push(binding);
    }
}

pub(super) fn create(call: &Call, request: &CreateAclsRequest) -> CreateAclsResponse {
    let mut state = call.shared.lock();
    let results = request.creations.iter().map(|acl| {
        add(&mut state.acls, acl);
        AclCreationResult::default()
    });
    CreateAclsResponse::default().with_results(results.collect())
}

pub(super) fn delete(call: &Call, request: &DeleteAclsRequest) -> DeleteAclsResponse {
    let mut state = call.shared.lock();
    let results = request.filters.iter().map(|filter| {
        let wanted = Filter {
            kinds: [filter.resource_type_filter, filter.pattern_type_filter, filter.operation, filter.permission_type],
            texts: [
                filter.resource_name_filter.as_ref(),
                filter.principal_filter.as_ref(),
                filter.host_filter.as_ref(),
            ],
        };
        if filter.pattern_type_filter == MATCH {
            return DeleteAclsFilterResult::default().with_error_code(ResponseError::InvalidRequest.code());
        }
        let (gone, left) = state.acls.drain(..).partition(|acl| wanted.takes(acl));
        state.acls = left;
        let gone: Vec<Binding> = gone;
        DeleteAclsFilterResult::default().with_matching_acls(gone.into_iter().map(matching).collect())
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

pub(super) fn describe(call: &Call, request: &DescribeAclsRequest) -> DescribeAclsResponse {
    if request.pattern_type_filter == MATCH {
        return DescribeAclsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let wanted = Filter {
        kinds: [request.resource_type_filter, request.pattern_type_filter, request.operation, request.permission_type],
        texts: [request.resource_name_filter.as_ref(), request.principal_filter.as_ref(), request.host_filter.as_ref()],
    };
    let state = call.shared.lock();
    // Each by itself: Kafka puts those of one pattern together, and readers take either.
    let resources = state.acls.iter().filter(|acl| wanted.takes(acl)).map(|acl| {
        let description = AclDescription::default()
            .with_principal(text(&acl.principal))
            .with_host(text(&acl.host))
            .with_operation(acl.operation)
            .with_permission_type(acl.permission_type);
        DescribeAclsResource::default()
            .with_resource_type(acl.resource_type)
            .with_resource_name(text(&acl.name))
            .with_pattern_type(acl.pattern_type)
            .with_acls(vec![description])
    });
    DescribeAclsResponse::default().with_resources(resources.collect())
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
        RequestKind::DescribeAcls(_) => {
            ResponseKind::DescribeAcls(DescribeAclsResponse::default().with_error_code(code))
        }
        _ => return None,
    })
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn matching(acl: Binding) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(acl.resource_type)
        .with_resource_name(StrBytes::from_string(acl.name))
        .with_pattern_type(acl.pattern_type)
        .with_principal(StrBytes::from_string(acl.principal))
        .with_host(StrBytes::from_string(acl.host))
        .with_operation(acl.operation)
        .with_permission_type(acl.permission_type)
}
