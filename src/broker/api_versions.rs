//! ApiVersions v0–v4 (KIP-35, KIP-511). Omitted: features (transaction version, KRaft version).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::messages::APIS;

pub(super) fn handle() -> ApiVersionsResponse {
    let keys = APIS.iter().map(|&(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// The answer to a version that is not offered; the list tells which ones are.
pub(super) fn unsupported() -> ApiVersionsResponse {
    handle().with_error_code(ResponseError::UnsupportedVersion.code())
}
