//! What the story is played on: two brokers, a folder with the configuration, this program's own commands as processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::load::shared_out;
use super::side::Side;
use super::summary::Summary;
use super::view::{Scene, View, Way};
use super::{DemoArgs, MIRROR, TOPIC};
use crate::config::{Config, MirrorConfig, SystemEnv};
use crate::engine::connect_mirror;
use crate::ops::status;

pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Without progress for this long the demo has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// No command takes longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
const FILE: &str = "kmirror.yaml";
const LOG: &str = "run.log";

/// Everything the demo has made, and ends.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) scene: Arc<Scene>,
    pub(super) view: View,
    pub(super) args: DemoArgs,
    pub(super) mirror: MirrorConfig,
    config: Config,
    folder: TempDir,
    process: Option<Child>,
}

impl Stage {
    /// `yaml` writes the configuration, for a folder and both clusters.
    pub(super) async fn set(
        args: DemoArgs,
        json: bool,
        yaml: impl FnOnce(&Path, &Side, &Side) -> String,
    ) -> anyhow::Result<Self> {
        let source = Side::start("source", args.partitions).await?;
        let standby = Side::start("standby", args.partitions).await?;
        source.broker.create_topic(TOPIC, args.partitions, 1, &[])?;
        let folder = TempDir::with_prefix("kmirror-demo-").context("making a temporary folder")?;
        let text = yaml(folder.path(), &source, &standby);
        std::fs::write(folder.path().join(FILE), &text).context("writing the demo's configuration")?;
        let config = Config::parse(&text, "demo", &SystemEnv { folder: PathBuf::new() })?;
        let mirror = config.mirrors.first().context("the demo's mirror")?.clone();
        let scene = Scene::new(source, standby);
        let view = View::new(&scene, json, args.pace);
        Ok(Self { scene, view, args, mirror, config, folder, process: None })
    }

    pub(super) fn source(&self) -> &Side {
        &self.scene.source
    }

    pub(super) fn standby(&self) -> &Side {
        &self.scene.standby
    }

    /// So much of all records, in percent.
    pub(super) fn share(&self, percent: u64) -> u64 {
        self.args.records * percent / 100
    }

    /// Records shared out among the partitions, each as the numbers from..to of its own.
    pub(super) fn ranges(&self, records: u64) -> Vec<(u64, u64)> {
        shared_out(records, self.args.partitions).into_iter().map(|count| (0, count)).collect()
    }

    /// This program, in the demo's folder, where it finds its configuration; nothing of the outside gets in.
    fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).env_remove("KMIRROR_CONFIG").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Runs a command to its end: what it says as JSON. Its problems become the demo's.
    pub(super) async fn kmirror(&self, args: &[&str], summary: &mut Summary) -> anyhow::Result<Value> {
        let words = typed(args);
        self.scene.doing(&words);
        let running = self.command(args)?.arg("--json").output();
        let done = tokio::time::timeout(COMMAND_LIMIT, running).await;
        let output = done.with_context(|| format!("{words} has not ended after {COMMAND_LIMIT:?}"))?;
        let output = output.with_context(|| format!("running {words}"))?;
        let code = output.status.code();
        let said = String::from_utf8_lossy(&output.stderr);
        if !matches!(code, Some(0 | 3)) || output.stdout.is_empty() {
            bail!("{words} ended with {}: {}", output.status, said.trim());
        }
        summary.expect(&format!("exit code of {words}"), 0, code.unwrap_or(-1));
        let report: Value =
            serde_json::from_slice(&output.stdout).with_context(|| format!("reading what {words} says"))?;
        let problems = report["problems"].as_array().into_iter().flatten();
        summary.problems.extend(problems.map(|problem| format!("{words}: {problem}")));
        Ok(report)
    }

    /// Starts `kmirror run`, a process of its own so that a kill is a real one.
    pub(super) fn start(&mut self, mirror: &str, way: Way) -> anyhow::Result<u32> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(LOG))?;
        let mut command = self.command(&["run", "--mirror", mirror])?;
        let process = command.stdout(Stdio::null()).stderr(log).spawn().context("starting the mirror's process")?;
        let id = process.id().unwrap_or_default();
        self.process = Some(process);
        self.scene.mirrored_by(Some(id), way);
        Ok(id)
    }

    /// kill -9.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the mirror runs")?;
        process.kill().await.context("killing the mirror's process")?;
        self.scene.mirrored_by(None, Way::Forth);
        Ok(())
    }

    /// The mirror ends by itself, having been told: its exit code.
    pub(super) async fn await_end(&mut self) -> anyhow::Result<i32> {
        let mut process = self.process.take().context("the mirror runs")?;
        let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
        let ended = ended.with_context(|| format!("the mirror's process has not ended.{}", self.log()))??;
        self.scene.mirrored_by(None, Way::Forth);
        Ok(ended.code().unwrap_or(-1))
    }

    /// The mirror's last words, for an error.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return String::new();
        }
        format!(" Its log ends:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }

    /// Nothing comes of waiting for a process that has ended.
    pub(super) fn check_mirror(&mut self) -> anyhow::Result<()> {
        if let Some(ended) = self.process.as_mut().map(Child::try_wait).transpose()?.flatten() {
            bail!("the mirror's process ended by itself: {ended}.{}", self.log());
        }
        Ok(())
    }

    /// Waits for what the running mirror is to bring about.
    pub(super) async fn await_that(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is_so(self) {
            self.check_mirror()?;
            if began.elapsed() > PATIENCE {
                bail!("waited in vain for {what}.{}", self.log());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until a side holds so many records.
    pub(super) async fn await_records(&mut self, side: fn(&Self) -> &Side, count: u64) -> anyhow::Result<()> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = side(self).count();
            if now >= count {
                return Ok(());
            }
            if now > last {
                (last, since) = (now, Instant::now());
            }
            self.check_mirror()?;
            if since.elapsed() > PATIENCE {
                bail!("the {} stands still at {now} of {count} records.{}", side(self).name, self.log());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Markers count as offsets: being at the end is what `status` says it is.
    pub(super) async fn await_in_step(&mut self, mirror: &MirrorConfig) -> anyhow::Result<()> {
        let (source, target) = connect_mirror(&self.config, mirror).await?;
        let began = Instant::now();
        loop {
            let now = status(mirror, false, (&source, &target)).await?;
            let behind = now.partitions.iter().find(|p| p.lag_records != 0 || p.state != "mirroring");
            let all = now.partitions.len() as u64 >= u64::from(self.args.partitions.unsigned_abs());
            match behind {
                None if all => return Ok(()),
                _ if began.elapsed() > PATIENCE => {
                    let what = behind.map_or_else(
                        || "not all partitions are there".to_owned(),
                        |p| format!("partition {} is {} and lags by {} records", p.partition, p.state, p.lag_records),
                    );
                    bail!("mirror {} is not in step: {what}.{}", mirror.name, self.log());
                }
                _ => {}
            }
            self.check_mirror()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The configuration.
    pub(super) fn config_file(&self) -> PathBuf {
        self.file(FILE)
    }

    /// Whether the mirror's process is gone.
    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        let Some(process) = &mut self.process else { return Ok(true) };
        Ok(process.try_wait()?.is_some())
    }

    /// A file in the demo's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The curtain.
    pub(super) fn end(mut self, summary: &mut Summary) {
        self.view.end();
        summary.seconds = self.view.seconds();
        summary.steps = std::mem::take(&mut self.view.steps);
    }
}

/// What one would type.
pub(super) fn typed(args: &[&str]) -> String {
    format!("kmirror {}", args.join(" "))
}

/// The configuration of the whole story.
pub(super) fn yaml(source: &Side, standby: &Side) -> String {
    format!(
        "clusters:\n  source: {{ bootstrap: [\"{}\"] }}\n  standby: {{ bootstrap: [\"{}\"] }}\nmirrors:\n  - name: {MIRROR}\n    \
         source: source\n    target: standby\n    topics: {{ include: [\"{TOPIC}\"] }}\n    groups: {{ include: [\".*\"], interval: \
         1s }}\nlog: {{ level: error }}\n",
        source.address(),
        standby.address()
    )
}
