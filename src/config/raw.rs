//! The file's shape as serde and schemars see it. Defaults are filled in from the table of options before it is read, so
//! only what may be absent altogether is an `Option`. A test holds the keys equal to the table's. Nothing here is `Debug`:
//! values may be secrets.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mirror::Isolation;

use super::backups::Compression;
use super::types::{LogFormat, LogLevel, Policy};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "kmirror")]
pub(super) struct File {
    pub(super) clusters: BTreeMap<String, Cluster>,
    pub(super) mirrors: Option<Vec<Mirror>>,
    pub(super) limits: Limits,
    pub(super) fleet: Option<Fleet>,
    pub(super) http: Option<Http>,
    pub(super) backups: Option<Vec<Backup>>,
    pub(super) drills: Option<Vec<Drill>>,
    pub(super) log: Log,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fleet {
    pub(super) instance_id: Option<String>,
    pub(super) session_timeout: String,
    pub(super) suspect_after: Option<String>,
    pub(super) weight: u32,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) bootstrap: Vec<String>,
    pub(super) client_id: Option<String>,
    pub(super) tls: Option<ClusterTls>,
    pub(super) sasl: Option<Sasl>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTls {
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) server_name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sasl {
    pub(super) mechanism: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) oauth: Option<Oauth>,
    pub(super) msk_iam: Option<MskIam>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MskIam {
    pub(super) region: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Oauth {
    pub(super) token_endpoint: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) scope: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mirror {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) topics: Topics,
    pub(super) rename: String,
    pub(super) start: String,
    pub(super) isolation: Isolation,
    pub(super) target_topics: TargetTopics,
    pub(super) groups: Option<Groups>,
    pub(super) sync: Sync,
    pub(super) on: On,
    pub(super) heartbeats: Option<Heartbeats>,
    pub(super) limits: MirrorLimits,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeats {
    pub(super) topic: Option<String>,
    pub(super) interval: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Topics {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetTopics {
    pub(super) replication_factor: Option<i16>,
    pub(super) configs: BTreeMap<String, String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Groups {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) interval: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sync {
    pub(super) topic_configs: bool,
    pub(super) partitions: bool,
    pub(super) acls: bool,
    pub(super) quotas: bool,
    pub(super) scram_users: bool,
    pub(super) deletions: bool,
    pub(super) deletions_grace: String,
    pub(super) interval: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct On {
    pub(super) retention_loss: Policy,
    pub(super) source_recreated: Policy,
    pub(super) truncation: Policy,
    pub(super) foreign_records: Policy,
    pub(super) corrupt_batch: Policy,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MirrorLimits {
    pub(super) bandwidth: Option<String>,
    pub(super) coalesced_batch: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) memory: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: String,
    pub(super) metrics: HttpMetrics,
    pub(super) tls: Option<HttpTls>,
    pub(super) token: Option<String>,
    pub(super) probes: Option<Probes>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpMetrics {
    pub(super) max_series: usize,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpTls {
    pub(super) cert: String,
    pub(super) key: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Probes {
    pub(super) listen: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backup {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) topics: Topics,
    pub(super) groups: BackupGroups,
    pub(super) to: Vec<Destination>,
    pub(super) isolation: Isolation,
    pub(super) interval: String,
    pub(super) full_every: String,
    pub(super) keep: usize,
    pub(super) compression: Compression,
    pub(super) encryption: Option<Encryption>,
    pub(super) signing: Option<Signing>,
    pub(super) segment_bytes: String,
    pub(super) parallel: usize,
    pub(super) synchronous: Vec<String>,
    pub(super) limits: BackupLimits,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupGroups {
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Destination {
    pub(super) url: String,
    pub(super) options: BTreeMap<String, String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Encryption {
    pub(super) key: Key,
    pub(super) old_keys: Option<Vec<Key>>,
    pub(super) accept_unsealed: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Signing {
    pub(super) key: Key,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) file: Option<String>,
    pub(super) env: Option<String>,
    pub(super) command: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupLimits {
    pub(super) bandwidth: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drill {
    pub(super) mirror: String,
    pub(super) reports: String,
    pub(super) every: String,
    pub(super) max_rpo: String,
    pub(super) max_rto: String,
    pub(super) sample: usize,
    pub(super) isolated: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: LogLevel,
    pub(super) format: LogFormat,
}
