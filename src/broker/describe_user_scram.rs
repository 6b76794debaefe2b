//! DescribeUserScramCredentials v0 (KIP-554). Users are planted from outside; there is no SASL. Omitted: altering them, a user
//! that is asked for twice.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;

use super::cluster::Cluster;
use super::dispatch::Call;

/// Mechanism by its number (1 is SCRAM-SHA-256, 2 SCRAM-SHA-512) → iterations.
pub(super) type Mechanisms = BTreeMap<i8, i32>;

impl Cluster {
    /// Plants a SCRAM credential: a user, the mechanism by its number (1 is SCRAM-SHA-256, 2 SCRAM-SHA-512), its iterations.
    pub fn plant_scram_user(&self, user: &str, mechanism: i8, iterations: i32) {
        self.shared.lock().scram_users.entry(user.to_owned()).or_default().insert(mechanism, iterations);
    }
}

pub(super) fn handle(
    call: &Call,
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let state = call.shared.lock();
    let named = request.users.iter().flatten().map(|user| user.name.to_string());
    let mut names: Vec<String> = named.collect();
    if names.is_empty() {
        names = state.scram_users.keys().cloned().collect();
    }
    let results = names.into_iter().map(|name| {
        let found = state.scram_users.get(&name);
        let result = DescribeUserScramCredentialsResult::default()
            .with_user(StrBytes::from_string(name))
            .with_error_message(None);
        let Some(mechanisms) = found else {
            return result.with_error_code(ResponseError::ResourceNotFound.code());
        };
        let infos = mechanisms.iter().map(|(mechanism, iterations)| {
            CredentialInfo::default().with_mechanism(*mechanism).with_iterations(*iterations)
        });
        result.with_credential_infos(infos.collect())
    });
    DescribeUserScramCredentialsResponse::default().with_error_message(None).with_results(results.collect())
}

/// The refusal of all of it.
pub(super) fn refuse(code: i16) -> DescribeUserScramCredentialsResponse {
    DescribeUserScramCredentialsResponse::default().with_error_code(code).with_error_message(None)
}
