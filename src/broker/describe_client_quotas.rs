//! DescribeClientQuotas v0–v1 (KIP-546). Quotas hold nobody back. Omitted: user
//! names that are quoted for ZooKeeper.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use super::cluster::Cluster;
use super::dispatch::Call;

/// Entity type → name; `None` is the default of that type.
pub(super) type Entity = BTreeMap<String, Option<String>>;

/// In a component: this name, the default, any that is named.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;

impl Cluster {
    /// Plants a quota, such as `producer_byte_rate`, of an entity: pairs of type (`user`, `client-id`, `ip`) and name, where
    /// `None` is the default of that type.
    pub fn plant_quota(&self, entity: &[(&str, Option<&str>)], quota: &str, value: f64) {
        let entity = entity.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect();
        self.shared.lock().quotas.entry(entity).or_default().insert(quota.to_owned(), value);
    }
}

pub(super) fn handle(call: &Call, request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let state = call.shared.lock();
    let matches = |entity: &Entity| {
        request.components.iter().all(|component| is_of(component, entity))
            && (!request.strict || request.components.len() == entity.len())
    };
    let wanted = state.quotas.iter().filter(|(entity, _)| matches(entity));
    let entries = wanted.map(|(entity, values)| {
        let entity = entity.iter().map(|(kind, name)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name.as_deref().map(text))
        });
        let values = values.iter().map(|(key, value)| ValueData::default().with_key(text(key)).with_value(*value));
        EntryData::default().with_entity(entity.collect()).with_values(values.collect())
    });
    DescribeClientQuotasResponse::default().with_error_message(None).with_entries(Some(entries.collect()))
}

fn is_of(component: &ComponentData, entity: &Entity) -> bool {
    entity.get(component.entity_type.as_str()).is_some_and(|name| match component.match_type {
        EXACT => name.is_some() && name.as_deref() == component._match.as_deref(),
        DEFAULT => name.is_none(),
        _ => true,
    })
}

/// The refusal of all of it.
pub(super) fn refuse(code: i16) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse::default().with_error_code(code).with_error_message(None).with_entries(None)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
