//! DescribeCluster v0–v2 (KIP-700). Omitted: controller endpoints, authorised operations.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::dispatch::Call;

pub(super) fn handle(call: &Call, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let state = call.shared.lock();
    let fenced = call.version >= 2 && request.include_fenced_brokers;
    let brokers = state.nodes.iter().filter(|(_, node)| node.up || fenced).map(|(id, node)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(*id))
            .with_host(StrBytes::from_string(node.addr.ip().to_string()))
            .with_port(i32::from(node.addr.port()))
            .with_is_fenced(!node.up)
    });
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(call.shared.options.cluster_id.clone()))
        .with_controller_id(BrokerId(state.controller().unwrap_or(-1)))
        .with_brokers(brokers.collect())
}
