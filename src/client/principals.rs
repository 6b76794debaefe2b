//! What a cluster keeps about clients and users: quotas (KIP-546) and SCRAM credentials (KIP-554), which brokers tell without
//! what is secret of them.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_response::{
    EntityData as DescribedPart, EntryData as DescribedQuota,
};
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult as DescribedUser;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, DescribeClientQuotasRequest, DescribeUserScramCredentialsRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::error::ClientError;
use super::retry::{self, Tries};
use super::{Cluster, Node};
use crate::plan::{Quota, QuotaEntity, ScramCredential};

/// RESOURCE_NOT_FOUND: there is no such user (any more).
const RESOURCE_NOT_FOUND: i16 = 91;
const REQUEST_TIMED_OUT: i16 = 7;
/// Entities in one request.
const QUOTAS_AT_ONCE: usize = 200;

/// The quotas of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientQuota {
    /// Entity type (`user`, `client-id`, `ip`) and name; `None` is the default of that type.
    pub entity: Vec<(String, Option<String>)>,
    /// Quota, such as `producer_byte_rate`, and its value.
    pub values: BTreeMap<String, f64>,
}

/// A change of the quotas of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaChange {
    /// As of [`ClientQuota`].
    pub entity: Vec<(String, Option<String>)>,
    /// Quota, and its value; `None`: it is taken away.
    pub values: BTreeMap<String, Option<f64>>,
}

impl From<ClientQuota> for QuotaChange {
    fn from(quota: ClientQuota) -> Self {
        Self { entity: quota.entity, values: quota.values.into_iter().map(|(key, value)| (key, Some(value))).collect() }
    }
}

/// A user with SCRAM credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramUser {
    /// User name.
    pub user: String,
    /// Mechanism by its number (`ScramMechanism`: 1 is SCRAM-SHA-256, 2 SCRAM-SHA-512) → iterations.
    pub mechanisms: BTreeMap<i8, i32>,
}

impl From<ClientQuota> for Quota {
    /// Without what is no finite number: JSON has none.
    fn from(quota: ClientQuota) -> Self {
        Self {
            entity: quota.entity.into_iter().map(|(kind, name)| QuotaEntity { kind, name }).collect(),
            values: quota.values.into_iter().filter(|(_, value)| value.is_finite()).collect(),
        }
    }
}

impl ScramUser {
    /// Its credentials, by the names of their mechanisms.
    pub fn credentials(&self) -> Vec<ScramCredential> {
        let credential = |(mechanism, iterations): (&i8, &i32)| ScramCredential {
            user: self.user.clone(),
            mechanism: match mechanism {
                1 => "SCRAM-SHA-256".to_owned(),
                2 => "SCRAM-SHA-512".to_owned(),
                other => format!("mechanism {other}"),
            },
            iterations: *iterations,
        };
        self.mechanisms.iter().map(credential).collect()
    }
}

impl Cluster {
    /// All client quotas. Needs DESCRIBE_CONFIGS on the cluster.
    pub async fn client_quotas(&self) -> Result<Vec<ClientQuota>, ClientError> {
        let mut tries = Tries::new();
        loop {
            // Without a component every entity is meant.
            let request = DescribeClientQuotasRequest::default().with_strict(false);
            let outcome = self.call(Node::Any, request).await.and_then(|response| match response.error_code {
                0 => Ok(response.entries.unwrap_or_default()),
                code => {
                    let words = response.error_message.as_deref();
                    Err(self.api_error_with("DescribeClientQuotas", code, "client quotas", words))
                }
            });
            match outcome {
                Ok(entries) => return Ok(entries.into_iter().map(quota).collect()),
                Err(error) => tries.again(self, error, &[]).await?,
            }
        }
    }

    /// Changes these quotas; others of the same entities stay. Gives those that the cluster refuses, and why. Needs ALTER_CONFIGS on the
    /// cluster.
    pub async fn change_client_quotas(
        &self,
        changes: &[QuotaChange],
    ) -> Result<Vec<(QuotaChange, ClientError)>, ClientError> {
        retry::in_portions(
            self,
            changes,
            QUOTAS_AT_ONCE,
            |left| async move { self.change_client_quotas_once(&left).await },
        )
        .await
    }

    /// Those that were not changed, and why.
    async fn change_client_quotas_once<'a>(
        &self,
        quotas: &[&'a QuotaChange],
    ) -> Result<Vec<(&'a QuotaChange, ClientError)>, ClientError> {
        const API: &str = "AlterClientQuotas";
        let request = AlterClientQuotasRequest::default().with_entries(quotas.iter().copied().map(entry).collect());
        let response = self.call(Node::Controller, request).await?;
        let mut errors = Vec::new();
        for quota in quotas.iter().copied() {
            // Answers need not come in the order of the request.
            let is_its = |answer: &&kafka_protocol::messages::alter_client_quotas_response::EntryData| {
                let told = |(kind, name): &(String, Option<String>)| {
                    let mut parts = answer.entity.iter();
                    parts
                        .any(|part| part.entity_type.as_str() == kind && part.entity_name.as_deref() == name.as_deref())
                };
                answer.entity.len() == quota.entity.len() && quota.entity.iter().all(told)
            };
            // One without an answer may have been changed: said again, it changes nothing.
            let (code, words) = response
                .entries
                .iter()
                .find(is_its)
                .map_or((REQUEST_TIMED_OUT, None), |answer| (answer.error_code, answer.error_message.as_deref()));
            if code != 0 {
                errors.push((quota, self.api_error_with(API, code, "client quotas", words)));
            }
        }
        Ok(errors)
    }

    /// All users with SCRAM credentials, by name: of these a cluster tells mechanisms and iterations. Needs DESCRIBE on the
    /// cluster.
    pub async fn scram_users(&self) -> Result<Vec<ScramUser>, ClientError> {
        let mut tries = Tries::new();
        loop {
            match self.scram_users_once().await {
                Ok(users) => return Ok(users),
                Err(error) => tries.again(self, error, &[]).await?,
            }
        }
    }

    async fn scram_users_once(&self) -> Result<Vec<ScramUser>, ClientError> {
        const API: &str = "DescribeUserScramCredentials";
        // Nobody named means everybody. Null does as well, but a broker that refuses it never answers: the refusal of null
        // ends in a NullPointerException (`DescribeUserScramCredentialsRequest.getErrorResponse`, measured on 4.3.1).
        let request = DescribeUserScramCredentialsRequest::default().with_users(Some(Vec::new()));
        // Under ZooKeeper the controller alone answers.
        let response = self.call(Node::Controller, request).await?;
        if response.error_code != 0 {
            let words = response.error_message.as_deref();
            return Err(self.api_error_with(API, response.error_code, "SCRAM users", words));
        }
        let mut users = Vec::new();
        for found in response.results {
            match found.error_code {
                0 => {}
                RESOURCE_NOT_FOUND => continue,
                code => return Err(self.api_error_with(API, code, &found.user, found.error_message.as_deref())),
            }
            users.push(scram_user(&found));
        }
        users.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(users)
    }

    /// Features that are finalized for the whole cluster (KIP-584), such as `metadata.version`, by their level; none before
    /// Kafka 2.7.
    pub async fn finalized_features(&self) -> Result<BTreeMap<String, i16>, ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("kmirror"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = self.call(Node::Any, request).await?;
        match response.error_code {
            0 => {
                let features = response.finalized_features.into_iter();
                Ok(features.map(|feature| (feature.name.to_string(), feature.max_version_level)).collect())
            }
            code => Err(self.api_error("ApiVersions", code, "finalized features")),
        }
    }
}

pub(super) fn quota(entry: DescribedQuota) -> ClientQuota {
    let part = |part: DescribedPart| (part.entity_type.to_string(), part.entity_name.map(|name| name.to_string()));
    ClientQuota {
        entity: entry.entity.into_iter().map(part).collect(),
        values: entry.values.into_iter().map(|value| (value.key.to_string(), value.value)).collect(),
    }
}

pub(super) fn scram_user(found: &DescribedUser) -> ScramUser {
    let mechanisms = found.credential_infos.iter().map(|info| (info.mechanism, info.iterations)).collect();
    ScramUser { user: found.user.to_string(), mechanisms }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn entry(quota: &QuotaChange) -> EntryData {
    let entity = quota.entity.iter().map(|(kind, name)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.as_deref().map(text))
    });
    let ops = quota.values.iter().map(|(key, value)| {
        OpData::default().with_key(text(key)).with_value(value.unwrap_or_default()).with_remove(value.is_none())
    });
    EntryData::default().with_entity(entity.collect()).with_ops(ops.collect())
}
