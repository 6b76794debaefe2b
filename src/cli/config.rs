//! `kmirror config`: work on the configuration file.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::config;

/// Options of `config`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
An editor that knows the schema checks the file while it is written, and completes its keys. For the YAML language server \
its first line is then:
  # yaml-language-server: $schema=kmirror.schema.json

Examples:
  kmirror config validate -c standby.yaml
  kmirror config show -c standby.yaml
  kmirror config schema > kmirror.schema.json
  kmirror config reference | less")]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Action {
    /// Say what is wrong with the file, with line and column; exit code 2 if anything is
    Validate,
    /// Print the file with its defaults filled in, without secrets
    Show,
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
    match args.action {
        Action::Validate => {
            let config = config::Config::load(&ctx.config_path)?;
            validated(&config, ctx)?;
        }
        Action::Show => show(ctx)?,
        Action::Schema => output::json(&config::json_schema())?,
        Action::Reference => output::print(&config::reference_markdown())?,
    }
    Ok(Exit::Done)
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
