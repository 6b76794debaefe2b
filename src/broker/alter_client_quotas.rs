//! AlterClientQuotas v0–v1 (KIP-546). Omitted: which quotas there are, and the bounds of their values.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};

use super::describe_client_quotas::Entity;
use super::dispatch::Call;

const TYPES: [&str; 3] = ["user", "client-id", "ip"];

pub(super) fn handle(call: &Call, request: &AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let mut state = call.shared.lock();
    let entries = request.entries.iter().map(|entry| {
        let named = |part: &kafka_protocol::messages::alter_client_quotas_request::EntityData| {
            (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string))
        };
        let entity: Entity = entry.entity.iter().map(named).collect();
        let is_known = !entity.is_empty() && entity.keys().all(|kind| TYPES.contains(&kind.as_str()));
        if is_known && !request.validate_only {
            let values = state.quotas.entry(entity).or_default();
            for op in &entry.ops {
                if op.remove {
                    values.remove(op.key.as_str());
                } else {
                    values.insert(op.key.to_string(), op.value);
                }
            }
        }
        answer(entry, if is_known { 0 } else { ResponseError::InvalidRequest.code() })
    });
    let response = AlterClientQuotasResponse::default().with_entries(entries.collect());
    state.quotas.retain(|_, values| !values.is_empty());
    response
}

fn answer(entry: &kafka_protocol::messages::alter_client_quotas_request::EntryData, code: i16) -> EntryData {
    let entity = entry.entity.iter().map(|part| {
        EntityData::default().with_entity_type(part.entity_type.clone()).with_entity_name(part.entity_name.clone())
    });
    EntryData::default().with_error_code(code).with_error_message(None).with_entity(entity.collect())
}

/// The refusal of all of it.
pub(super) fn refuse(request: &AlterClientQuotasRequest, code: i16) -> AlterClientQuotasResponse {
    AlterClientQuotasResponse::default().with_entries(request.entries.iter().map(|entry| answer(entry, code)).collect())
}
