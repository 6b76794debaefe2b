//! What every command starts from: the global options, the configuration, the way results go out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::args::Global;
use super::exit::CliError;
use super::logging;
use crate::config::{Config, ConfigErrors, Loaded, LogConfig, LogFormat, LogLevel, MirrorConfig};

/// The global options of one call.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configuration file's path.
    pub config_path: PathBuf,
    /// `--mirror`.
    pub mirror: Option<String>,
    /// `--json`: results as JSON.
    pub json: bool,
    /// `--dry-run`: show what would be changed on a cluster, change nothing.
    pub dry_run: bool,
    /// `--yes`: no question before a change.
    pub yes: bool,
    log_level: Option<LogLevel>,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let Global { config, mirror, json, dry_run, yes, log_level } = global;
        Self { config_path: config, mirror, json, dry_run, yes, log_level }
    }

    /// Reads the configuration and starts the log as it says.
    ///
    /// # Errors
    /// [`crate::config::ConfigErrors`]: exit code 2.
    pub fn load(&self) -> anyhow::Result<Config> {
        let loaded = self.read().0?;
        self.begin_log(&loaded.config);
        Ok(loaded.config)
    }

    /// Reads the configuration, and tells which files it reads.
    pub(super) fn read(&self) -> (Result<Loaded, ConfigErrors>, BTreeSet<PathBuf>) {
        let (loaded, files) = crate::config::load(&self.config_path);
        let turned = loaded.map(|mut loaded| {
            self.turn_round(&mut loaded.config);
            loaded
        });
        (turned, files)
    }

    /// Starts the log as a configuration says.
    pub(super) fn begin_log(&self, config: &Config) {
        logging::start(self.log_level, config.log);
    }

    /// `--mirror NAME.failback` means the mirror of the way home of NAME: in the place of NAME, for the two are never to run
    /// together.
    fn turn_round(&self, config: &mut Config) {
        let Some(name) = &self.mirror else { return };
        if config.mirrors.iter().any(|mirror| mirror.name == *name) {
            return;
        }
        config.mirrors.extend(config.restore_mirror(name));
        for mirror in &mut config.mirrors {
            let home = mirror.reversed();
            if home.name == *name {
                *mirror = home;
            }
        }
    }

    /// Starts the log for a command that reads no configuration.
    pub fn start_log(&self) {
        logging::start(self.log_level, LogConfig { level: LogLevel::Warn, format: LogFormat::Text });
    }

    /// The mirrors meant: the one named by `--mirror`, or all.
    ///
    /// # Errors
    /// [`CliError::Usage`] where the name is none of the file's, or the file has no mirrors.
    pub fn mirrors<'a>(&self, config: &'a Config) -> anyhow::Result<Vec<&'a MirrorConfig>> {
        if config.mirrors.is_empty() {
            let backups = config.backups.iter().map(|backup| backup.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!(
                "the file has no mirrors, only backups ({backups}): kmirror backup is for those; \
                 for a mirror, add a section mirrors"
            );
            return Err(CliError::Usage(message).into());
        }
        let Some(name) = &self.mirror else { return Ok(config.mirrors.iter().collect()) };
        let found: Vec<_> = config.mirrors.iter().filter(|mirror| mirror.name == *name).collect();
        if found.is_empty() {
            return Err(CliError::Usage(format!("no mirror is called {name:?}; there are: {}", names(config))).into());
        }
        Ok(found)
    }

    /// The one mirror meant: the one named by `--mirror`, or the only one of the file.
    ///
    /// # Errors
    /// [`CliError::Usage`] where the file holds several and none is named, or none has the name.
    pub fn one_mirror<'a>(&self, config: &'a Config) -> anyhow::Result<&'a MirrorConfig> {
        match self.mirrors(config)?.as_slice() {
            [one] => Ok(one),
            _ => Err(CliError::Usage(format!(
                "the file holds several mirrors; say --mirror NAME, one of: {}",
                names(config)
            ))
            .into()),
        }
    }

    /// Refuses `--dry-run` for a command that has none, so that nobody believes it was heeded.
    ///
    /// # Errors
    /// [`CliError::Usage`], with what to use instead.
    pub fn no_dry_run(&self, instead: &str) -> anyhow::Result<()> {
        if self.dry_run {
            Err(CliError::Usage(format!("--dry-run does not apply here: {instead}")).into())
        } else {
            Ok(())
        }
    }
}

fn names(config: &Config) -> String {
    config.mirrors.iter().map(|mirror| mirror.name.as_str()).collect::<Vec<_>>().join(", ")
}
