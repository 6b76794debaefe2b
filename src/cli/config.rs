//! `kmirror config`: work on the configuration file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Exit;
use super::output;
use super::reload_plan::DiffReport;
use crate::config;

/// Options of `config`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
`diff` says what a kmirror run that goes by the old file would do with the new one: each key that differs, and whether that takes effect in \
place (live), begins anew what works beside the mirrors (task), restarts that one mirror (mirror), waits for the next start of the process \
(process), or has the whole file refused (never; exit code 3). It asks no cluster.

An editor that knows the schema checks the file while it is written, and completes its keys. For the YAML language server \
its first line is then:
  # yaml-language-server: $schema=kmirror.schema.json

Examples:
  kmirror config validate -c standby.yaml
  kmirror config diff standby.yaml standby-new.yaml
  kmirror config show -c standby.yaml
  kmirror config schema > kmirror.schema.json
  kmirror config reference | less")]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Say what is wrong with the file, with line and column; exit code 2 if anything is
    Validate,
    /// Print the file with its defaults filled in, without secrets
    Show,
    /// Say what differs between two files, and how a running process would take it up; exit code 3 where it would not
    Diff {
        /// The file that is in force
        old: PathBuf,
        /// The file that is to follow
        new: PathBuf,
    },
    /// Print the JSON Schema of the file, for editors
    Schema,
    /// Print the reference of all keys, as Markdown
    Reference,
}

/// Does it.
///
/// # Errors
/// What is wrong with the file, or stdout cannot be written.
pub fn run(args: &ConfigArgs, ctx: &Context) -> anyhow::Result<Exit> {
    match &args.action {
        Action::Validate => {
            let config = config::Config::load(&ctx.config_path)?;
            validated(&config, ctx)?;
        }
        Action::Show => show(ctx)?,
        Action::Diff { old, new } => return diff(old, new, ctx),
        Action::Schema => output::json(&config::json_schema())?,
        Action::Reference => output::print(&config::reference_markdown())?,
    }
    Ok(Exit::Done)
}

fn diff(old: &Path, new: &Path, ctx: &Context) -> anyhow::Result<Exit> {
    let [old, new] = [config::load(old).0?, config::load(new).0?];
    let report = DiffReport::of(&old.written, &new.written);
    if ctx.json {
        output::json(&report)?;
    } else {
        output::print(&report.page())?;
    }
    Ok(if report.accepted { Exit::Done } else { Exit::Problems })
}

fn validated(config: &config::Config, ctx: &Context) -> anyhow::Result<()> {
    let (clusters, mirrors, backups) = (config.clusters.len(), config.mirrors.len(), config.backups.len());
    if ctx.json {
        return output::json(
            &serde_json::json!({ "valid": true, "clusters": clusters, "mirrors": mirrors, "backups": backups }),
        );
    }
    let backups = if backups > 0 { format!(", backups: {backups}") } else { String::new() };
    let counts = format!("clusters: {clusters}, mirrors: {mirrors}{backups}");
    output::print(&format!("{}: valid; {counts}\n", ctx.config_path.display()))
}

fn show(ctx: &Context) -> anyhow::Result<()> {
    let shown = config::show(&ctx.config_path)?;
    if ctx.json {
        return output::json(&shown);
    }
    output::print(&serde_yaml::to_string(&shown)?)
}
