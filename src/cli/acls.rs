//! `kmirror check --print-acls`: the ACLs that the file's mirrors and backups need, ready to be added.

use std::collections::BTreeMap;

use super::check::CheckArgs;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::config::Config;
use crate::ops::rights::{AclPlan, ClusterAcls, Wish, acl_plan};
use crate::plan::rights::{Command, Side};

/// Prints them; nothing is connected to.
pub(super) fn print(args: &CheckArgs, config: &Config, ctx: &Context) -> anyhow::Result<Exit> {
    let plan = acl_plan(config, &wish(args, config, ctx)?);
    if ctx.json {
        output::json(&plan)?;
    } else {
        output::print(&page(&plan))?;
    }
    Ok(Exit::Done)
}

fn wish<'a>(args: &CheckArgs, config: &'a Config, ctx: &Context) -> anyhow::Result<Wish<'a>> {
    let mirrors = if config.mirrors.is_empty() { Vec::new() } else { ctx.mirrors(config)? };
    // A mirror that is named is all that is meant.
    let backups = if ctx.mirror.is_some() { Vec::new() } else { config.backups.iter().collect() };
    let mut commands = Vec::new();
    for word in &args.commands {
        if word == "all" {
            commands.extend(Command::ALL);
            continue;
        }
        commands.push(Command::of_word(word).ok_or_else(|| CliError::Usage(unknown(word)))?);
    }
    commands.sort_unstable();
    commands.dedup();
    Ok(Wish { mirrors, backups, commands, principals: principals(args)? })
}

fn unknown(word: &str) -> String {
    let words: Vec<&str> = Command::ALL.into_iter().map(Command::word).collect();
    format!("--for {word}: there is no such word; there are: all, {}", words.join(", "))
}

/// Who kmirror is, by the options.
pub(super) fn principals(args: &CheckArgs) -> anyhow::Result<BTreeMap<Side, String>> {
    let given = [(Side::Source, &args.principal_source), (Side::Target, &args.principal_target)];
    let mut principals = BTreeMap::new();
    for (side, principal) in given {
        let Some(principal) = principal else { continue };
        // KafkaPrincipal: a type and a name.
        if !principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
            let words = format!(
                "--principal-{}: {principal:?} is no principal: write TYPE:NAME, such as User:kmirror",
                side.word()
            );
            return Err(CliError::Usage(words).into());
        }
        principals.insert(side, principal.clone());
    }
    Ok(principals)
}

/// A script for a shell: what is not a command is a comment.
fn page(plan: &AclPlan) -> String {
    let mut text = String::new();
    for cluster in &plan.clusters {
        text += &section(cluster);
    }
    if plan.clusters.is_empty() {
        text += "# nothing: by this file there is nothing to do for these words\n";
    }
    text
}

fn section(cluster: &ClusterAcls) -> String {
    let from = match cluster.principal_from {
        "placeholder" => " (a placeholder: --principal-source and --principal-target name another one)",
        _ => "",
    };
    let mut text = format!(
        "# cluster {}, as {}{from}\n# admin.properties: how somebody who may ALTER the cluster reaches it\n",
        cluster.cluster, cluster.principal
    );
    for needed in &cluster.acls {
        let acl = &needed.acl;
        let kind = if acl.pattern == "PREFIXED" { "prefix " } else { "" };
        let name = if acl.resource == "CLUSTER" { String::new() } else { format!(" {kind}{}", acl.name) };
        text += &format!(
            "#   {} on {}{name} [{}]: {}\n",
            acl.operation,
            acl.resource,
            needed.needed_for.join(", "),
            needed.why
        );
        if let Some(without) = &needed.without {
            text += &format!("#     can be left out; then: {without}\n");
        }
        if let Some(wider) = &needed.wider {
            text += &format!("#     NOTE {wider}\n");
        }
    }
    cluster.commands.iter().for_each(|line| text += &format!("{line}\n"));
    text += "\n";
    text
}
