//! The validated configuration: what the engine and the commands read. Built by [`super::validate`] alone, so a value of
//! these types has passed every check.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::mirror::{GapReason, Isolation};

use super::backups::BackupConfig;
use super::fleet::FleetConfig;
use super::http::HttpConfig;
use super::security::{SaslConfig, TlsConfig};
use super::topics::{GroupFilter, Rename, TopicFilter};

/// A whole configuration file, validated and with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The clusters by the name that mirrors use for them.
    pub clusters: BTreeMap<String, ClusterConfig>,
    /// The mirrors, in the order of the file; names are unique. None in a file that is about backups alone.
    pub mirrors: Vec<MirrorConfig>,
    /// The backups, in the order of the file; names are unique.
    pub backups: Vec<BackupConfig>,
    /// Bounds that hold for the whole process.
    pub limits: Limits,
    /// The fleet that this process is a member of; `None`: it does everything alone.
    pub fleet: Option<FleetConfig>,
    /// The HTTP listener; `None` when the file has no `http` section.
    pub http: Option<HttpConfig>,
    /// Drills on a schedule.
    pub drills: Vec<DrillConfig>,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Config {
    /// The mirror of a restore, by its name: `restore.BACKUP.CLUSTER`, and `.SUFFIX` where a restore was given one. It stands in no
    /// file, and is known all the same: its offset map is on the cluster.
    #[must_use]
    pub fn restore_mirror(&self, name: &str) -> Option<MirrorConfig> {
        let pairs = self.backups.iter().flat_map(|backup| self.clusters.keys().map(move |cluster| (backup, cluster)));
        let is_named = |(backup, cluster): &(&BackupConfig, &String)| {
            let rest = name.strip_prefix(&restore_name(&backup.name, cluster, None));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let (backup, cluster) =
            pairs.filter(is_named).max_by_key(|(backup, cluster)| backup.name.len() + cluster.len())?;
        let rename = Rename::new("{topic}", "archive", cluster).ok()?;
        let mirror = MirrorConfig::for_restore(name, cluster, rename);
        Some(MirrorConfig { source: backup.cluster.clone(), ..mirror })
    }
}

/// Name of the mirror that restores a backup to a cluster.
#[must_use]
pub fn restore_name(backup: &str, cluster: &str, suffix: Option<&str>) -> String {
    let suffix = suffix.map(|suffix| format!(".{suffix}")).unwrap_or_default();
    format!("restore.{backup}.{cluster}{suffix}")
}

/// One Kafka cluster and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The name under `clusters`.
    pub name: String,
    /// Where the first connection goes; at least one. The other brokers come from its metadata.
    pub bootstrap: Vec<HostPort>,
    /// The `client.id` to send instead of `kmirror.<mirror>`.
    pub client_id: Option<String>,
    /// TLS to its brokers; `None`: in plain text.
    pub tls: Option<TlsConfig>,
    /// Who authenticates; `None`: nobody does, beyond what TLS shows.
    pub sasl: Option<SaslConfig>,
}

impl ClusterConfig {
    /// The `client.id` that requests of this mirror carry to this cluster.
    #[must_use]
    pub fn client_id_for(&self, mirror: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("kmirror.{mirror}"))
    }

    /// Who kmirror is there, as far as the file tells: what a certificate or a token says is between them and the brokers, whose
    /// `ssl.principal.mapping.rules` and principal builders have their say as well.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        match &self.sasl {
            Some(SaslConfig::Plain(login) | SaslConfig::Scram(_, login)) => Some(format!("User:{}", login.username)),
            Some(SaslConfig::OauthBearer(_)) | None => None,
        }
    }

    /// As `--bootstrap-server` has it.
    #[must_use]
    pub fn bootstrap_line(&self) -> String {
        self.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// A host name or address and a port; shows as `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The TCP port, never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One directed flow, source to target.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// `[a-zA-Z0-9._-]{1,100}`, unique in the file; part of the state topic's name and of the transactional ids.
    pub name: String,
    /// The source's name in [`Config::clusters`].
    pub source: String,
    /// The target's name in [`Config::clusters`]; never the source's.
    pub target: String,
    /// Which of the source's topics are mirrored.
    pub topics: TopicFilter,
    /// What a topic is called on the target.
    pub rename: Rename,
    /// Where a partition begins that existed when the mirror first started; later ones begin at earliest.
    pub start: Start,
    /// Which records of transactions are mirrored.
    pub isolation: Isolation,
    /// How topics are created on the target.
    pub target_topics: TargetTopics,
    /// Consumer groups whose offsets follow; `None`: none do.
    pub groups: Option<GroupSync>,
    /// Heartbeats that travel through the mirror; `None`: there are none.
    pub heartbeats: Option<Heartbeats>,
    /// What else of a topic follows the source.
    pub sync: Sync,
    /// What happens where a mirror cannot go on without losing something.
    pub on: Policies,
    /// Bounds of this mirror.
    pub limits: MirrorLimits,
    /// Why offsets of the source are not there, by topic and partition, where that is known beforehand; of a restore, never in a file.
    pub source_gaps: BTreeMap<(String, i32), Vec<SourceGap>>,
}

/// Offsets that the source does not have: first, behind the last, and why.
pub type SourceGap = (i64, i64, GapReason);

/// Which consumer groups' offsets follow, and how closely.
#[derive(Debug, Clone)]
pub struct GroupSync {
    /// Which groups of the source.
    pub filter: GroupFilter,
    /// Time between two translations.
    pub interval: Duration,
}

/// Bounds of one mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorLimits {
    /// Bytes of records a second, from the source and to the target alike; `None`: unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Small batches that wait together are sent as one of at most this size, bytes; 0: never.
    pub coalesced_batch_bytes: usize,
}

impl MirrorConfig {
    /// The mirror that brings topics back from an archive: whoever restores sets its source and its topics.
    #[must_use]
    pub fn for_restore(name: &str, target: &str, rename: Rename) -> Self {
        Self {
            name: name.to_owned(),
            source: String::new(),
            target: target.to_owned(),
            topics: TopicFilter::all(),
            rename,
            start: Start::Earliest,
            isolation: Isolation::ReadCommitted,
            target_topics: TargetTopics::default(),
            groups: Self::of_groups(&GroupFilter::all()),
            heartbeats: None,
            sync: Sync::of_topics(),
            on: Policies {
                retention_loss: Policy::Halt,
                source_recreated: Policy::Halt,
                truncation: Policy::Halt,
                foreign_records: Policy::Halt,
                corrupt_batch: Policy::Halt,
            },
            limits: MirrorLimits { bandwidth_bytes_per_s: None, coalesced_batch_bytes: 0 },
            source_gaps: BTreeMap::new(),
        }
    }

    /// Groups that are kept, as a restore keeps them.
    #[must_use]
    pub fn of_groups(filter: &GroupFilter) -> Option<GroupSync> {
        Some(GroupSync { filter: filter.clone(), interval: Duration::from_secs(3600) })
    }

    /// Whether this is the mirror of a way home ([`Self::reversed`]).
    #[must_use]
    pub fn is_way_home(&self) -> bool {
        self.name.ends_with(REVERSED)
    }

    /// The name that the file has for it, which is another one on the way home.
    #[must_use]
    pub fn forward_name(&self) -> &str {
        self.name.strip_suffix(REVERSED).unwrap_or(&self.name)
    }

    /// What this source topic is called on the target.
    #[must_use]
    pub fn target_topic(&self, topic: &str) -> String {
        self.rename.apply(topic)
    }

    /// The mirror of the way home, which a failback runs: what this one has written, under the names that it had before, from
    /// its target to its source.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            name: format!("{}{REVERSED}", self.name),
            source: self.target.clone(),
            target: self.source.clone(),
            topics: self.topics.renamed(&self.rename),
            rename: self.rename.reversed(),
            start: Start::Earliest,
            // How topics are to be on the standby says nothing of how they were at home.
            target_topics: TargetTopics::default(),
            heartbeats: None,
            // The old source is nobody's copy.
            sync: Sync { deletions: None, ..self.sync },
            ..self.clone()
        }
    }
}

/// What the name of a mirror on the way home ends with.
const REVERSED: &str = ".failback";

/// Where a mirror starts in a partition it has never been in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the log start offset.
    Earliest,
    /// At the end: only records produced after the first start.
    Latest,
    /// At the first record whose timestamp is at or after this moment, in milliseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// Heartbeats that travel through a mirror, and measure it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    /// The topic on the source.
    pub topic: String,
    /// Time between two.
    pub interval: Duration,
}

/// How topics are created on the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetTopics {
    /// Replicas of each partition, at least 1; `None`: the target's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// Topic configs that win over those copied from the source.
    pub configs: BTreeMap<String, String>,
}

/// What of a topic, besides its records, follows the source while the mirror runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sync {
    /// Topic configs that are not the source's defaults.
    pub topic_configs: bool,
    /// The partition count, which can only grow.
    pub partitions: bool,
    /// ACLs.
    pub acls: bool,
    /// Client quotas.
    pub quotas: bool,
    /// Users with SCRAM credentials are compared.
    pub scram_users: bool,
    /// Deletion of topics: how long one must be gone; `None`: none is deleted.
    pub deletions: Option<Duration>,
    /// Time between two looks.
    pub interval: Duration,
}

impl Sync {
    /// What belongs to the topics alone: configs and partition counts.
    #[must_use]
    pub fn of_topics() -> Self {
        Self {
            topic_configs: true,
            partitions: true,
            acls: false,
            quotas: false,
            scram_users: false,
            deletions: None,
            interval: Duration::from_secs(60),
        }
    }

    /// Whether there is anything to look at beside partition counts.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.topic_configs || self.acls || self.quotas || self.scram_users || self.deletions.is_some()
    }
}

/// What to do about each event that costs records or certainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    /// The source deleted records, by retention or `DeleteRecords`, before they were mirrored.
    pub retention_loss: Policy,
    /// The source's topic was deleted and made again: its topic id changed.
    pub source_recreated: Policy,
    /// The source's log diverged or got shorter than what was mirrored (unclean leader election).
    pub truncation: Policy,
    /// A target partition holds records that this mirror did not write.
    pub foreign_records: Policy,
    /// A batch whose checksum or structure is wrong.
    pub corrupt_batch: Policy,
}

/// The answer to such an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Halt the partition, with the evidence and the command that frees it; the others go on.
    Halt,
    /// Note a gap with its reason, and go on.
    Continue,
}

/// A failover drill on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillConfig {
    /// Which mirror is rehearsed.
    pub mirror: String,
    /// Folder of the reports.
    pub reports: PathBuf,
    /// Time from one to the next; at least [`super::DRILLS_EVERY_MIN`].
    pub every: Duration,
    /// What a failover may lose at most.
    pub max_rpo: Duration,
    /// How long it may take at most.
    pub max_rto: Duration,
    /// Committed offsets of each group whose records are compared, at most.
    pub sample: usize,
    /// Consume with copies of the groups.
    pub isolated: bool,
}

/// Bounds of the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of records in flight between source and target; at least [`super::MEMORY_BYTES_MIN`].
    pub memory_bytes: u64,
}

/// What is logged to stderr, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is shown.
    pub level: LogLevel,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// Severity, as `tracing` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs a look.
    Warn,
    /// What a run does.
    Info,
    /// Every decision.
    Debug,
    /// Every request.
    Trace,
}

impl LogLevel {
    /// The name as a `tracing` filter directive.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object a line.
    Json,
}
