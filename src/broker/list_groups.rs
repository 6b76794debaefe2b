//! ListGroups v0–v5 (states since v4, KIP-518; kinds since v5, KIP-848): the groups that this node coordinates.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;

const WITH_STATE: i16 = 4;
const WITH_KIND: i16 = 5;

pub(super) fn handle(call: &Call, request: &ListGroupsRequest) -> ListGroupsResponse {
    let state = call.shared.lock();
    // Kafka reads both filters without regard to case.
    let passes = |filter: &[StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let here = state.groups.iter().filter(|(id, group)| {
        state.coordinates(call.node, id).is_ok()
            && passes(&request.states_filter, group.state())
            && passes(&request.types_filter, group.kind.name())
    });
    let listed = here.map(|(id, group)| {
        let listed = ListedGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(id.clone())))
            .with_protocol_type(StrBytes::from_string(group.speaks()));
        let since = |version, name| if call.version >= version { name } else { "" };
        listed
            .with_group_state(StrBytes::from_static_str(since(WITH_STATE, group.state())))
            .with_group_type(StrBytes::from_static_str(since(WITH_KIND, group.kind.name())))
    });
    ListGroupsResponse::default().with_groups(listed.collect())
}
