//! `kmirror groups`: what consumer groups' offsets are on the target, written there, and taken back.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit::{CliError, Exit};
use super::{groups_page as page, output};
use crate::client::Cluster;
use crate::config::{Config, GroupFilter, GroupSync, MirrorConfig};
use crate::engine::{connect_source, connect_target, now_ms};
use crate::groups::{GroupPlan, Ledger, Overwrite, Snapshot};
use crate::ops::groups as ops;
use crate::ops::groups::{Applied, Commits, Gathering, GroupsWorld, PATIENCE};

/// Groups that are written together, so that progress shows.
const GROUPS_AT_ONCE: usize = 100;

/// Options of `groups`.
#[derive(Debug, Clone, Args)]
pub struct GroupsArgs {
    /// What to do
    #[command(subcommand)]
    pub command: GroupsCommand,
}

/// What can be done with groups.
#[derive(Debug, Clone, Subcommand)]
pub enum GroupsCommand {
    /// Show what would be written for every group, and why
    Plan(PlanArgs),
    /// Write the translated offsets to the target
    Apply(ApplyArgs),
    /// Bring back the offsets that stood on the target before an apply
    Rollback(RollbackArgs),
}

/// Options of `groups plan`, and of `apply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For each partition that a selected group (mirrors[].groups) has an offset in: what is committed on the source, what stands on \
the target, and the offset of the same record there. Never beyond what is mirrored. In a gap (aborted data, compaction) \
it is the offset of the next record. A group with members on the target is left alone, and so is an offset there that is \
not the mirror's.

Exit code 4 where the source cannot be reached: then the offsets that stand on the target are shown, and how old they are.

Examples:
  kmirror groups plan -c standby.yaml --mirror dr
  kmirror groups plan -c standby.yaml --mirror dr --group billing --overwrite all
  kmirror groups plan -c standby.yaml --mirror dr --json | jq '.totals'")]
pub struct PlanArgs {
    /// Only groups whose whole id matches this regular expression, of those that the file selects; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub group: Vec<String>,
    /// Which offsets on the target may be overwritten
    #[arg(long, value_enum, default_value_t = Over::Unused)]
    pub overwrite: Over,
    /// Leave out what stands there already
    #[arg(long)]
    pub changes: bool,
}

/// Options of `groups apply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Plans anew, keeps the target's former offsets in a file (see `kmirror groups rollback`), then writes, each group through its \
coordinator. A group that cannot be written holds up no other (exit code 1). Without --yes nothing is written (exit code 6; \
with --dry-run 0). Run again, it writes what is still to be written, and adds to the same file where one is named.

Examples:
  kmirror groups apply -c standby.yaml --mirror dr --dry-run
  kmirror groups apply -c standby.yaml --mirror dr --yes
  kmirror groups apply -c standby.yaml --mirror dr --group 'billing-.*' --overwrite all --snapshot before.json --yes")]
pub struct ApplyArgs {
    /// What to plan
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Where to keep the former offsets [default: kmirror-groups-MIRROR-TIME.json]
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,
}

/// Options of `groups rollback`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Commits what stood on the target before, and takes away what had not been there. An offset that is neither the former one nor \
one that was written is left alone: somebody has used the group since; --force overwrites it. A group with members is \
left alone in any case. Without --yes it shows what it would do (exit code 6; with --dry-run 0).

Examples:
  kmirror groups rollback before.json -c standby.yaml --mirror dr --dry-run
  kmirror groups rollback before.json -c standby.yaml --mirror dr --yes")]
pub struct RollbackArgs {
    /// The file that an apply has kept
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// Also where somebody has used the group since
    #[arg(long)]
    pub force: bool,
}

/// Which offsets on the target may be overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// Those that a mirror is known to have written
    Own,
    /// And all of groups that nobody ever consumed with on the target
    Unused,
    /// All; a group with members on the target is left alone even so
    All,
}

impl From<Over> for Overwrite {
    fn from(over: Over) -> Self {
        match over {
            Over::Own => Self::Own,
            Over::Unused => Self::Unused,
            Over::All => Self::All,
        }
    }
}

/// Works on groups.
///
/// # Errors
/// What kept it from reading or writing.
pub async fn run(args: GroupsArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let mirror = ctx.one_mirror(&config)?;
    match args.command {
        GroupsCommand::Plan(args) => {
            ctx.no_dry_run("a plan changes nothing")?;
            plan(&args, &config, mirror, ctx).await
        }
        GroupsCommand::Apply(args) => apply(args, &config, mirror, ctx).await,
        GroupsCommand::Rollback(args) => rollback(&args, &config, mirror, ctx).await,
    }
}

/// What both clusters say; the source may be gone.
async fn gather(config: &Config, mirror: &MirrorConfig, target: &Cluster) -> anyhow::Result<GroupsWorld> {
    let GroupSync { filter, .. } = configured(mirror)?;
    let source = connect_source(config, mirror).await.map_err(|error| error.to_string());
    let how = Gathering::new(filter);
    Ok(ops::gather(mirror, source.as_ref().map_err(Clone::clone), target, &how).await?)
}

fn configured(mirror: &MirrorConfig) -> anyhow::Result<&GroupSync> {
    mirror.groups.as_ref().ok_or_else(|| {
        let name = &mirror.name;
        let what = format!("mirror {name} selects no groups; add `groups: {{ include: [\".*\"] }}` to it in the file");
        CliError::Usage(what).into()
    })
}

/// Those of the file that the command names as well.
fn selection(args: &PlanArgs, mirror: &MirrorConfig) -> anyhow::Result<impl Fn(&str) -> bool + use<>> {
    let filter = configured(mirror)?.filter.clone();
    let named = match args.group.is_empty() {
        true => None,
        false => {
            Some(GroupFilter::new(&args.group, &[]).map_err(|error| CliError::Usage(format!("--group: {error}")))?)
        }
    };
    Ok(move |group: &str| filter.matches(group) && named.as_ref().is_none_or(|named| named.matches(group)))
}

async fn plan(args: &PlanArgs, config: &Config, mirror: &MirrorConfig, ctx: &Context) -> anyhow::Result<Exit> {
    let selected = selection(args, mirror)?;
    let target = connect_target(config, mirror).await?;
    let world = gather(config, mirror, &target).await?;
    let views = world.views();
    let plans = ops::plan(&world, &views, args.overwrite.into(), selected);
    show(&world, mirror, &plans, args.changes, ctx)?;
    Ok(if world.source_gone.is_some() { Exit::Unreachable } else { Exit::Done })
}

fn show(
    world: &GroupsWorld,
    mirror: &MirrorConfig,
    plans: &[GroupPlan<'_>],
    changes: bool,
    ctx: &Context,
) -> anyhow::Result<()> {
    let report = world.report(&mirror.name, plans);
    if ctx.json { output::json(&report) } else { output::print(&page::plan(&report, world, changes)) }
}

async fn apply(args: ApplyArgs, config: &Config, mirror: &MirrorConfig, ctx: &Context) -> anyhow::Result<Exit> {
    let selected = selection(&args.plan, mirror)?;
    let target = connect_target(config, mirror).await?;
    let world = gather(config, mirror, &target).await?;
    let views = world.views();
    let plans = ops::plan(&world, &views, args.plan.overwrite.into(), selected);
    if let Some(why) = &world.source_gone {
        show(&world, mirror, &plans, args.plan.changes, ctx)?;
        return Err(CliError::Unreachable(format!("nothing to write: {why}")).into());
    }
    let commits = Commits::of(&plans, &world.targets);
    let act = ctx.yes && !ctx.dry_run && !commits.is_empty();
    if !act {
        show(&world, mirror, &plans, args.plan.changes, ctx)?;
        if commits.is_empty() || ctx.dry_run {
            return Ok(Exit::Done);
        }
        let what = format!("nothing was written; to write {} groups, add --yes", commits.len());
        return Err(CliError::Refused(what).into());
    }
    let file = keep_snapshot(&args, mirror, &world, &plans)?;
    let applied = write(&mirror.name, &target, commits, world.ledger.clone()).await;
    if ctx.json {
        let report = world.report(&mirror.name, &plans);
        output::json(&json!({ "schema_version": 1, "plan": report, "snapshot": file, "applied": applied }))?;
    } else {
        output::print(&page::plan(&world.report(&mirror.name, &plans), &world, args.plan.changes))?;
        output::print(&page::applied(&applied, &file))?;
    }
    Ok(outcome([&applied]))
}

/// A group that came to life meanwhile is left alone; anything else that was not written is a failure.
fn outcome<const N: usize>(all: [&Applied; N]) -> Exit {
    let failed = all.iter().any(|applied| applied.refused.iter().any(|refused| !refused.live));
    if failed { Exit::Failed } else { Exit::Done }
}

async fn write(mirror: &str, target: &Cluster, mut commits: Commits, mut ledger: Ledger) -> Applied {
    let bar = output::progress(commits.len() as u64, "writing groups");
    let mut all = Applied::default();
    while !commits.is_empty() {
        let portion = commits.split(GROUPS_AT_ONCE);
        let groups = portion.len() as u64;
        all.add(ops::apply(mirror, target, portion, &mut ledger, PATIENCE).await);
        bar.inc(groups);
    }
    bar.finish_and_clear();
    all
}

/// Keeps what stands there before anything is written: in a new file, or added to one of an apply before.
fn keep_snapshot(
    args: &ApplyArgs,
    mirror: &MirrorConfig,
    world: &GroupsWorld,
    plans: &[GroupPlan<'_>],
) -> anyhow::Result<PathBuf> {
    let now_ms = now_ms();
    let file = args.snapshot.clone().unwrap_or_else(|| default_name(&mirror.name, now_ms));
    let mut snapshot = match args.snapshot.as_deref().filter(|file| file.exists()) {
        Some(file) => read_snapshot(file, mirror, &world.target_cluster_id)?,
        None => Snapshot::new(&mirror.name, &world.target_cluster_id, now_ms),
    };
    ops::snapshot(world, plans, &mut snapshot);
    let cannot = || format!("cannot keep the former offsets in {}; nothing was written", file.display());
    // In whole or not at all: what an earlier apply has kept must not be lost half-way.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let mut out = fs::File::create_new(&draft).with_context(cannot)?;
    let text = snapshot.to_json().with_context(cannot)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).with_context(cannot)?;
    fs::rename(&draft, &file).with_context(cannot)?;
    Ok(file)
}

fn default_name(mirror: &str, now_ms: i64) -> PathBuf {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    let time = humantime::format_rfc3339_millis(at).to_string().replace([':', '.'], "-");
    PathBuf::from(format!("kmirror-groups-{mirror}-{time}.json"))
}

fn read_snapshot(file: &Path, mirror: &MirrorConfig, cluster_id: &str) -> anyhow::Result<Snapshot> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let snapshot = Snapshot::from_json(&text).with_context(|| file.display().to_string())?;
    let of = (snapshot.mirror.as_str(), snapshot.cluster_id.as_str());
    if of == (mirror.name.as_str(), cluster_id) {
        return Ok(snapshot);
    }
    Err(CliError::Usage(format!(
        "{} is of mirror {} and the cluster with id {}, not of mirror {} and {cluster_id}: its offsets mean nothing here",
        file.display(),
        of.0,
        of.1,
        mirror.name
    ))
    .into())
}

async fn rollback(args: &RollbackArgs, config: &Config, mirror: &MirrorConfig, ctx: &Context) -> anyhow::Result<Exit> {
    let target = connect_target(config, mirror).await?;
    let snapshot = read_snapshot(&args.snapshot, mirror, &target.cluster_id())?;
    let names: Vec<String> = snapshot.groups().map(|(group, _)| group.to_owned()).collect();
    let (groups, failed) = ops::on_target(&target, &names, PATIENCE).await?;
    let mut steps = ops::rollback_plan(&snapshot, &groups, args.force);
    steps.retain(|step| !failed.contains_key(step.group));
    let work = page::work(&steps);
    let act = ctx.yes && !ctx.dry_run && work > 0;
    let done = if act { Some(ops::rollback(&target, &steps, PATIENCE).await) } else { None };
    let unread: Vec<_> = failed.iter().map(|(group, error)| (group.as_str(), error.to_string())).collect();
    if ctx.json {
        let failed: Vec<_> = unread.iter().map(|(group, error)| json!({ "group": group, "error": error })).collect();
        output::json(&json!({
            "schema_version": 1, "mirror": mirror.name, "groups": steps, "failed": failed, "applied": done
        }))?;
    } else {
        output::print(&page::rollback(&steps, &unread, done.as_ref()))?;
    }
    match done {
        Some(done) if unread.is_empty() => Ok(outcome([&done.committed, &done.deleted])),
        _ if !unread.is_empty() => Ok(Exit::Failed),
        None if work > 0 && !ctx.dry_run => {
            Err(CliError::Refused(format!("nothing was written; to bring {work} offsets back, add --yes")).into())
        }
        _ => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_mirrors_name_and_the_time() {
        let name = default_name("dr", 1_790_000_000_123);
        assert_eq!(name, PathBuf::from("kmirror-groups-dr-2026-09-21T14-13-20-123Z.json"));
    }
}
