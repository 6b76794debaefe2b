//! The `backups:` section: what is backed up, to where, and under which keys.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::mirror::Isolation;

use super::raw;
use super::topics::{GroupFilter, TopicFilter};
use super::types::ClusterConfig;
use super::units;
use super::validate::Validator;

/// One backup: what of one cluster is kept at which places.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// `[a-zA-Z0-9._-]{1,100}`, unique in the file; the folder of the archive at each destination.
    pub name: String,
    /// The cluster's name in [`super::Config::clusters`].
    pub cluster: String,
    /// Which topics are backed up.
    pub topics: TopicFilter,
    /// Which consumer groups' offsets are captured.
    pub groups: GroupFilter,
    /// Where to; at least one, and each gets a whole copy.
    pub to: Vec<DestinationConfig>,
    /// Which records of transactions are backed up.
    pub isolation: Isolation,
    /// Time from one unit to the next; at least [`super::BACKUPS_INTERVAL_MIN`].
    pub interval: Duration,
    /// Age of a chain at which a new one begins; at least [`super::BACKUPS_INTERVAL_MIN`].
    pub full_every: Duration,
    /// Chains that are kept; at least 1.
    pub keep: usize,
    /// What is done to batches that their producer did not compress.
    pub compression: Compression,
    /// How records are sealed; `None`: not at all.
    pub encryption: Option<EncryptionConfig>,
    /// How manifests are signed; `None`: not at all.
    pub signing: Option<SigningConfig>,
    /// Size at which a segment is ended, bytes; at least [`super::SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// Partitions that are read at a time, 1 to 64.
    pub parallel: usize,
    /// Topics of which nothing counts as backed up before it is durable at every destination.
    pub synchronous: TopicFilter,
    /// Bounds of this backup.
    pub limits: BackupLimits,
}

/// One place that gets a whole copy.
#[derive(Clone, PartialEq, Eq)]
pub struct DestinationConfig {
    /// As written: a URL of a known scheme, without user, password, query and fragment.
    pub url: String,
    /// Settings of the object store by the store's own names. The values may be secrets.
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for DestinationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.options.keys().map(String::as_str).collect();
        f.debug_struct("DestinationConfig").field("url", &self.url).field("options", &names).finish()
    }
}

/// What is done to batches that their producer did not compress. What is compressed stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Nothing.
    None,
    /// They are compressed with zstd in the archive, and come out of it as they were.
    Zstd,
}

/// The keys that seal segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionConfig {
    /// What is written is sealed under this one.
    pub key: KeySource,
    /// What was written under these is still read.
    pub old_keys: Vec<KeySource>,
    /// Whether segments are read that are not sealed.
    pub accept_unsealed: bool,
}

/// The key that signs manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningConfig {
    /// Its private half.
    pub key: KeySource,
}

/// Where a key comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that holds it.
    File(PathBuf),
    /// An environment variable that holds it, by name.
    Env(String),
    /// A command of the shell that prints it, such as the client of a key management service.
    Command(String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            // A command may carry a token.
            Self::Command(_) => f.write_str("Command(…)"),
        }
    }
}

/// Bounds of one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupLimits {
    /// Bytes of records a second from the cluster; `None`: unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
}

/// Schemes of destinations.
const SCHEMES: [&str; 8] = ["file", "s3", "gs", "az", "abfs", "abfss", "memory", "hdfs"];

/// A destination's URL, with what is wrong in words that do not quote it: it may have come from a substitution.
pub(super) fn parse_destination(text: &str) -> Result<Url, String> {
    let wrong = || "is not a URL, such as file:///var/backups/kafka or s3://bucket/prefix".to_owned();
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if !plain || !text.contains("://") {
        return Err(wrong());
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(format!("has a scheme that is none of {}", SCHEMES.join(", ")));
    }
    // Azure writes the container in front of the @: abfss://container@account.dfs.core.windows.net/prefix.
    let is_container = url.scheme().starts_with("abfs");
    if url.password().is_some() || (!url.username().is_empty() && !is_container) {
        return Err("holds a user or a password; credentials of the store go under options".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or a fragment; settings of the store go under options".to_owned());
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    match url.scheme() {
        "file" if has_host => Err("has a relative path; write file:/// and an absolute one".to_owned()),
        "file" if url.path().trim_matches('/').is_empty() => {
            Err("names no folder; write file:/// and an absolute path".to_owned())
        }
        "s3" | "gs" | "az" | "abfs" | "abfss" if !has_host => {
            Err(format!("lacks the bucket or container: write {}://NAME/prefix", url.scheme()))
        }
        _ => Ok(url),
    }
}

/// Whether a text can be the name of an environment variable.
pub(super) fn is_variable(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Validator<'_> {
    pub(super) fn backups(
        &mut self,
        backups: Vec<raw::Backup>,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Vec<BackupConfig> {
        let mut names = HashMap::<String, usize>::new();
        let mut done = Vec::new();
        for (index, backup) in backups.into_iter().enumerate() {
            if let Some(first) = names.get(&backup.name) {
                let message = format!("backups[{first}] has this name already");
                self.error(&format!("backups[{index}].name"), message);
            } else {
                names.insert(backup.name.clone(), index);
            }
            done.extend(self.backup(&format!("backups[{index}]"), backup, clusters));
        }
        done
    }

    fn backup(
        &mut self,
        at: &str,
        backup: raw::Backup,
        clusters: &BTreeMap<String, ClusterConfig>,
    ) -> Option<BackupConfig> {
        let key = |name: &str| format!("{at}.{name}");
        self.known_cluster(&key("cluster"), &backup.cluster, clusters);
        if matches!(backup.name.as_str(), "." | "..") {
            self.error(&key("name"), "cannot be the name of a folder, and each destination has one for this backup");
        }
        let topics = TopicFilter::new(&backup.topics.include, &backup.topics.exclude);
        let topics = self.take(&key("topics"), topics);
        let groups = GroupFilter::new(&backup.groups.include, &backup.groups.exclude);
        let groups = self.take(&key("groups"), groups);
        let synchronous = self.take(&key("synchronous"), TopicFilter::new(&backup.synchronous, &[]));
        let interval = self.span(&key("interval"), &backup.interval);
        let full_every = self.span(&key("full_every"), &backup.full_every);
        let segment_bytes = self.take(&key("segment_bytes"), units::parse_size(&backup.segment_bytes));
        let bandwidth = match &backup.limits.bandwidth {
            Some(text) => Some(self.take(&key("limits.bandwidth"), units::parse_size(text))?),
            None => None,
        };
        let encryption = match backup.encryption {
            Some(encryption) => Some(self.encryption(&key("encryption"), encryption)?),
            None => None,
        };
        let signing = match backup.signing {
            Some(signing) => Some(SigningConfig { key: self.key_source(&key("signing.key"), signing.key)? }),
            None => None,
        };
        Some(BackupConfig {
            to: self.destinations(&key("to"), backup.to),
            name: backup.name,
            cluster: backup.cluster,
            topics: topics?,
            groups: groups?,
            isolation: backup.isolation,
            interval: interval?,
            full_every: full_every?,
            keep: backup.keep,
            compression: backup.compression,
            encryption,
            signing,
            segment_bytes: segment_bytes?,
            parallel: backup.parallel,
            synchronous: synchronous?,
            limits: BackupLimits { bandwidth_bytes_per_s: bandwidth },
        })
    }

    fn span(&mut self, key: &str, text: &str) -> Option<Duration> {
        let span = self.take(key, units::parse_duration(text))?;
        if span < super::BACKUPS_INTERVAL_MIN {
            self.error(key, "is too short: every partition is asked about each time; write 1s or more");
        }
        Some(span)
    }

    fn destinations(&mut self, at: &str, to: Vec<raw::Destination>) -> Vec<DestinationConfig> {
        let mut seen = HashMap::<String, usize>::new();
        let mut done = Vec::new();
        for (index, destination) in to.into_iter().enumerate() {
            let key = format!("{at}[{index}].url");
            let Some(url) = self.take(&key, parse_destination(&destination.url)) else { continue };
            let place = url.as_str().trim_end_matches('/').to_owned();
            if let Some(first) = seen.get(&place) {
                self.error(&key, format!("is also to[{first}]: two copies at one place are one"));
            } else {
                seen.insert(place, index);
            }
            done.push(DestinationConfig { url: destination.url, options: destination.options });
        }
        done
    }

    fn encryption(&mut self, at: &str, encryption: raw::Encryption) -> Option<EncryptionConfig> {
        let key = self.key_source(&format!("{at}.key"), encryption.key);
        let old_keys = encryption.old_keys.unwrap_or_default().into_iter().enumerate();
        let old_keys =
            old_keys.filter_map(|(index, old)| self.key_source(&format!("{at}.old_keys[{index}]"), old)).collect();
        let accept_unsealed = encryption.accept_unsealed.unwrap_or(false);
        Some(EncryptionConfig { key: key?, old_keys, accept_unsealed })
    }

    fn key_source(&mut self, at: &str, key: raw::Key) -> Option<KeySource> {
        match key {
            raw::Key { file: Some(path), env: None, command: None } => Some(KeySource::File(path.into())),
            raw::Key { file: None, env: Some(name), command: None } => Some(KeySource::Env(name)),
            raw::Key { file: None, env: None, command: Some(command) } => Some(KeySource::Command(command)),
            raw::Key { file, env, command } => {
                let given = [("file", file.is_some()), ("env", env.is_some()), ("command", command.is_some())];
                let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                let given = if given.is_empty() { "none".to_owned() } else { given.join(" and ") };
                self.error(at, format!("takes exactly one of file, env and command, not {given}"));
                None
            }
        }
    }
}
