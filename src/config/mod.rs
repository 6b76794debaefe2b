//! YAML as written → a validated [`Config`].
//!
//! The text becomes a tree with places ([`yaml`]); the tree is held against the one table of options ([`options`]),
//! which knows every key, its kind, its default and whether it is built ([`shape`]); serde reads the result ([`raw`]);
//! what spans several values is checked last ([`validate`], [`routes`], [`backups`], [`http`]). What differs between two files is told
//! by [`diff`]; [`patterns`] says what expressions are as ACLs. Every fault has file, line, column and
//! path, and as many as can be told apart are reported at once. A value from `${env:…}` or `${file:…}` is in no message.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod backups;
mod diff;
mod error;
mod fleet;
mod http;
pub mod options;
mod patterns;
mod raw;
mod reference;
mod routes;
mod schema;
mod secret;
mod security;
mod shape;
mod substitute;
mod topics;
mod types;
mod units;
mod validate;
mod yaml;

pub use crate::mirror::Isolation;
pub use backups::{
    BackupConfig, BackupLimits, Compression, DestinationConfig, EncryptionConfig, KeySource, SigningConfig,
};
pub use diff::{Change, Diff, Part, What, Written};
pub use error::{ConfigError, ConfigErrors, Place};
pub use fleet::FleetConfig;
pub use http::{HttpConfig, HttpTls};
pub use reference::reference_markdown;
pub use routes::{Conflict, conflicts, target_topic};
pub use schema::json_schema;
pub use secret::Secret;
pub use security::{ClientCredentials, Login, SaslConfig, ScramHash, TlsConfig, TokenSource};
pub use substitute::{Env, FILE_BYTES_MAX, SystemEnv};
pub use topics::{
    GroupFilter, PatternError, Rename, RenameError, STATE_TOPIC_PREFIX, TOPIC_NAME_CHARS_MAX, TopicFilter,
    is_topic_name, never_mirrored,
};
pub use types::{
    ClusterConfig, Config, DrillConfig, GroupSync, Heartbeats, HostPort, Limits, LogConfig, LogFormat, LogLevel,
    MirrorConfig, MirrorLimits, Policies, Policy, SourceGap, Start, Sync, TargetTopics, restore_name,
};
pub(crate) use units::parse_size;
pub use units::{bytes, is_name as is_mirror_name, parse_rfc3339_ms};

/// Least `limits.memory`: 4 MiB, so that a few batches of Kafka's default largest size are under way at once.
pub const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// Least `mirrors[].groups.interval`.
pub const GROUPS_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Least `mirrors[].sync.interval`.
pub const SYNC_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Least `mirrors[].heartbeats.interval`.
pub const HEARTBEATS_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// Least `drills[].every`.
pub const DRILLS_EVERY_MIN: std::time::Duration = std::time::Duration::from_secs(60);
/// Least `backups[].interval` and `backups[].full_every`.
pub const BACKUPS_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Least `backups[].segment_bytes`: 1 MiB, so that an archive is not a heap of crumbs.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Least `mirrors[].limits.bandwidth` and `backups[].limits.bandwidth`, bytes a second.
pub const BANDWIDTH_BYTES_MIN: u64 = 16 << 10;

impl Config {
    /// Reads and validates a file; `${file:…}` paths start from its folder.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        load(path).0.map(|loaded| loaded.config)
    }

    /// Validates a text. `name` stands for the file in messages.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str, env: &dyn Env) -> Result<Self, ConfigErrors> {
        parse(text, name, env).map(|loaded| loaded.config)
    }

    /// The cluster that a mirror reads from.
    #[must_use]
    pub fn source(&self, mirror: &MirrorConfig) -> Option<&ClusterConfig> {
        self.clusters.get(&mirror.source)
    }

    /// The cluster that a mirror writes to.
    #[must_use]
    pub fn target(&self, mirror: &MirrorConfig) -> Option<&ClusterConfig> {
        self.clusters.get(&mirror.target)
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// How it says it, for [`Diff`].
    pub written: Written,
}

/// A file with its defaults filled in: substitutions as they are written, secrets struck out.
///
/// # Errors
/// As [`Config::load`].
pub fn show(path: &Path) -> Result<serde_yaml::Value, ConfigErrors> {
    load(path).0.map(|loaded| loaded.written.shown)
}

/// Reads and validates a file, as [`Config::load`] does. With it the files that it puts in by `${file:…}`, also where it is refused:
/// a change of theirs is one of the configuration.
pub fn load(path: &Path) -> (Result<Loaded, ConfigErrors>, BTreeSet<PathBuf>) {
    let name = path.display().to_string();
    let text = substitute::read_bounded(path).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file; name the one meant with -c FILE".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        ConfigErrors::new(&name, vec![ConfigError { place: None, key: String::new(), message }])
    });
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let env = Noting { inner: SystemEnv { folder }, files: RefCell::default() };
    let loaded = text.and_then(|text| parse(&text, &name, &env));
    (loaded, env.files.into_inner())
}

/// Notes which files are read.
struct Noting {
    inner: SystemEnv,
    files: RefCell<BTreeSet<PathBuf>>,
}

impl Env for Noting {
    fn var(&self, name: &str) -> Option<String> {
        self.inner.var(name)
    }

    fn file(&self, path: &str) -> std::io::Result<String> {
        self.files.borrow_mut().insert(self.inner.folder.join(path));
        self.inner.file(path)
    }

    fn folder(&self) -> PathBuf {
        self.inner.folder()
    }
}

/// Validates a text, as [`Config::parse`] does.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, name: &str, env: &dyn Env) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let root = match yaml::parse(text, &mut errors) {
        Ok(root) => root,
        Err(error) => {
            errors.push(error);
            return Err(ConfigErrors::new(name, errors));
        }
    };
    let shaped = shape::shape(&root, env, errors);
    if !shaped.errors.is_empty() {
        return Err(ConfigErrors::new(name, shaped.errors));
    }
    let internal = |what: &dyn std::fmt::Display| {
        let message = format!("cannot be read although its keys are right ({what}); please report this");
        ConfigErrors::new(name, vec![ConfigError { place: None, key: String::new(), message }])
    };
    let written = Written { value: shaped.value.clone(), shown: shaped.shown };
    let file: raw::File = serde_yaml::from_value(shaped.value).map_err(|error| internal(&error))?;
    let mut validator = validate::Validator { places: &shaped.places, errors: Vec::new(), folder: env.folder() };
    match validator.config(file) {
        Some(config) => Ok(Loaded { config, written }),
        None => Err(ConfigErrors::new(name, validator.errors)),
    }
}

#[cfg(test)]
mod tests;
