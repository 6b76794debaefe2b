//! Which rights the mirrors and backups of a configuration need, and on which cluster; the table is [`crate::plan::rights`].

pub mod probe;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::client::{ClientError, Cluster};

use crate::config::{BackupConfig, ClusterConfig, Config, MirrorConfig, Rename, restore_name};
use crate::engine::topology::Matching;
use crate::mirror::state_topic;
use crate::plan::rights::{
    CLUSTER_NAME, Command, Grantee, Names, Operation, PRINCIPAL, Pattern, Resource, Right, Side, kafka_acls, reduce,
};
use crate::plan::{AclBinding, fleet};

use probe::{Probed, probe};

/// A topic that only a command line names.
const GIVEN: &str = "TOPIC";

/// Whose rights are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wish<'a> {
    /// Mirrors.
    pub mirrors: Vec<&'a MirrorConfig>,
    /// Backups.
    pub backups: Vec<&'a BackupConfig>,
    /// What is to be done; empty: what `kmirror run` does by the file.
    pub commands: Vec<Command>,
    /// Who kmirror is on sources and on targets, where the file does not tell or something else is wanted.
    pub principals: BTreeMap<Side, String>,
}

/// `check --print-acls --json`.
#[derive(Debug, Clone, Serialize)]
pub struct AclPlan {
    /// Version of this shape.
    pub schema_version: u32,
    /// By cluster and principal.
    pub clusters: Vec<ClusterAcls>,
}

/// What one principal needs on one cluster.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterAcls {
    /// Its name in the configuration.
    pub cluster: String,
    /// Where it is reached.
    pub bootstrap: String,
    /// Who kmirror is there.
    pub principal: String,
    /// `option`, `sasl.username`, or `placeholder`: nothing says who.
    pub principal_from: &'static str,
    /// The least set of ACLs.
    pub acls: Vec<NeededAcl>,
    /// The same as lines of Kafka's own tool.
    pub commands: Vec<String>,
}

/// An ACL, and what it is for.
#[derive(Debug, Clone, Serialize)]
pub struct NeededAcl {
    /// The ACL.
    #[serde(flatten)]
    pub acl: AclBinding,
    /// What needs it: words of `--for`.
    #[serde(rename = "for")]
    pub needed_for: Vec<&'static str>,
    /// What for.
    pub why: String,
    /// What holds without; `null`: something fails.
    pub without: Option<String>,
    /// What it covers beyond what the configuration selects.
    pub wider: Option<String>,
}

/// Rights by cluster and side.
type BySide = BTreeMap<(String, Side), Vec<Right>>;

/// One flow of data: a mirror, a backup or a restore.
struct Flow<'a> {
    mirror: &'a MirrorConfig,
    source: Option<&'a str>,
    target: Option<&'a str>,
}

/// The least sets of ACLs.
#[must_use]
pub fn acl_plan(config: &Config, wish: &Wish<'_>) -> AclPlan {
    let mut by_principal: BTreeMap<(String, String, &'static str), Vec<Right>> = BTreeMap::new();
    for ((cluster, side), rights) in rights_by_side(config, wish) {
        let (principal, from) = principal(config, wish, &cluster, side);
        by_principal.entry((cluster, principal, from)).or_default().extend(rights);
    }
    let clusters = by_principal.into_iter().map(|((cluster, principal, principal_from), rights)| {
        let bootstrap = config.clusters.get(&cluster).map(ClusterConfig::bootstrap_line);
        let bootstrap = bootstrap.unwrap_or_default();
        let rights = reduce(rights);
        let commands = lines(Grantee { bootstrap: &bootstrap, principal: &principal }, &rights);
        let acls = rights.into_iter().map(|right| needed(right, &principal)).collect();
        ClusterAcls { cluster, bootstrap, principal, principal_from, acls, commands }
    });
    AclPlan { schema_version: 1, clusters: clusters.collect() }
}

fn needed(right: Right, principal: &str) -> NeededAcl {
    NeededAcl {
        acl: right.binding(principal),
        needed_for: right.commands.iter().map(|command| command.word()).collect(),
        why: right.why,
        without: right.without,
        wider: right.pattern.wider,
    }
}

/// One line for each name: its operations together.
fn lines(to: Grantee<'_>, rights: &[Right]) -> Vec<String> {
    let mut by_name: BTreeMap<(Resource, &Pattern), Vec<Operation>> = BTreeMap::new();
    for right in rights {
        by_name.entry((right.resource, &right.pattern)).or_default().push(right.operation);
    }
    by_name.iter().map(|((resource, pattern), operations)| kafka_acls(to, *resource, pattern, operations)).collect()
}

fn principal(config: &Config, wish: &Wish<'_>, cluster: &str, side: Side) -> (String, &'static str) {
    if let Some(principal) = wish.principals.get(&side) {
        return (principal.clone(), "option");
    }
    let told = config.clusters.get(cluster).and_then(ClusterConfig::principal);
    told.map_or_else(|| (PRINCIPAL.to_owned(), "placeholder"), |principal| (principal, "sasl.username"))
}

fn rights_by_side(config: &Config, wish: &Wish<'_>) -> BySide {
    let mut found = BySide::new();
    for mirror in &wish.mirrors {
        for command in of_mirror(config, mirror, &wish.commands) {
            add_mirror(&mut found, mirror, command);
        }
    }
    for backup in &wish.backups {
        let commands = if wish.commands.is_empty() { &[Command::Backup][..] } else { &wish.commands };
        commands.iter().for_each(|command| add_backup(&mut found, config, backup, *command));
    }
    found
}

/// What is to be done with a mirror. A run does what the file asks for on the side.
fn of_mirror(config: &Config, mirror: &MirrorConfig, asked: &[Command]) -> Vec<Command> {
    let mut commands = asked.to_vec();
    if commands.is_empty() {
        commands.push(Command::Run);
        if config.drills.iter().any(|drill| drill.mirror == mirror.name) {
            commands.push(Command::Drill);
        }
    }
    if commands.contains(&Command::Run) {
        commands.extend(run_with(mirror, config.fleet.is_some()));
    }
    commands.sort_unstable();
    commands.dedup();
    commands
}

/// A run, by itself or in a fleet, and what it does beside, drills aside.
fn run_with(mirror: &MirrorConfig, is_shared: bool) -> impl Iterator<Item = Command> {
    let shared = is_shared.then_some(Command::Fleet);
    std::iter::once(Command::Run).chain(beside_records(mirror)).chain(shared)
}

/// What a run does beside the mirroring of records.
fn beside_records(mirror: &MirrorConfig) -> impl Iterator<Item = Command> {
    let sync = &mirror.sync;
    let all = [
        (Command::Groups, mirror.groups.is_some()),
        (Command::Heartbeats, mirror.heartbeats.is_some()),
        (Command::SyncTopicConfigs, sync.topic_configs),
        (Command::SyncAcls, sync.acls),
        (Command::SyncQuotas, sync.quotas),
        (Command::SyncScramUsers, sync.scram_users),
        (Command::SyncDeletions, sync.deletions.is_some()),
    ];
    all.into_iter().filter_map(|(command, wanted)| wanted.then_some(command))
}

fn add_mirror(found: &mut BySide, mirror: &MirrorConfig, command: Command) {
    match command {
        // Their places are those of backups.
        Command::Backup | Command::Export | Command::Restore | Command::PreserveOffsets | Command::Replay => {}
        Command::Failback => {
            let home = mirror.reversed();
            for command in [Command::Run, Command::Groups, Command::Failover] {
                add_flow(found, &Flow::of(&home), command);
            }
            // What is on record of the way there, and that it begins anew.
            for command in [Command::Status, Command::Control] {
                add_flow(found, &Flow::of(mirror), command);
            }
        }
        command => add_flow(found, &Flow::of(mirror), command),
    }
}

/// A backup's topics are read, and a restore is a mirror out of its archive.
fn add_backup(found: &mut BySide, config: &Config, backup: &BackupConfig, command: Command) {
    let archived = |name: &str, cluster: &str| MirrorConfig {
        topics: backup.topics.clone(),
        groups: MirrorConfig::of_groups(&backup.groups),
        ..MirrorConfig::for_restore(name, cluster, Rename::same())
    };
    match command {
        Command::Backup | Command::Export => {
            let mirror = archived(&backup.name, &backup.cluster);
            add_flow(found, &Flow { mirror: &mirror, source: Some(&backup.cluster), target: None }, command);
        }
        Command::Restore | Command::PreserveOffsets | Command::Replay => {
            let mut to: Vec<&String> = config.clusters.keys().filter(|name| **name != backup.cluster).collect();
            if to.is_empty() {
                to.push(&backup.cluster);
            }
            for cluster in to {
                let mirror = archived(&restore_name(&backup.name, cluster, None), cluster);
                add_flow(found, &Flow { mirror: &mirror, source: None, target: Some(cluster) }, command);
            }
        }
        _ => {}
    }
}

fn add_flow(found: &mut BySide, flow: &Flow<'_>, command: Command) {
    for row in command.rows() {
        let cluster = if row.side == Side::Source { flow.source } else { flow.target };
        let Some(cluster) = cluster else { continue };
        let rights = Right::of_row(row, &flow.patterns(row.on));
        found.entry((cluster.to_owned(), row.side)).or_default().extend(rights);
    }
}

impl<'a> Flow<'a> {
    fn of(mirror: &'a MirrorConfig) -> Self {
        Self { mirror, source: Some(&mirror.source), target: Some(&mirror.target) }
    }

    fn patterns(&self, names: Names) -> Vec<Pattern> {
        let mirror = self.mirror;
        let of_groups = |patterns: Vec<Pattern>| if mirror.groups.is_some() { patterns } else { Vec::new() };
        let state = state_topic(&mirror.name);
        match names {
            Names::Topics => mirror.topics.patterns(),
            Names::MirrorTopics => mirror.rename.patterns(&mirror.topics.patterns()),
            Names::StateTopic => vec![Pattern::literal(state)],
            Names::HeartbeatTopic => mirror.heartbeats.iter().map(|h| Pattern::literal(&h.topic)).collect(),
            Names::GivenTopic => {
                let wider = Some(format!("put the topic's name in the place of {GIVEN}"));
                vec![Pattern { wider, ..Pattern::literal(GIVEN) }]
            }
            Names::ReplayJournal => vec![Pattern::literal("__kmirror-replays")],
            Names::Groups => mirror.groups.iter().flat_map(|groups| groups.filter.patterns()).collect(),
            Names::OwnGroups => of_groups(vec![Pattern::literal(state.clone()), Pattern::prefix(format!("{state}/"))]),
            Names::FleetGroup => vec![Pattern::literal(fleet::group_id(&mirror.name))],
            Names::DrillGroups => of_groups(vec![Pattern::prefix(format!("{state}.drill."))]),
            Names::TransactionalIds => vec![Pattern::prefix(format!("kmirror.{}.", mirror.name))],
            Names::ReplayTransactionalIds => vec![Pattern::prefix("kmirror.replay.")],
            Names::Cluster => vec![Pattern::literal(CLUSTER_NAME)],
        }
    }
}

/// What a run of this mirror needs on each side.
fn needed_by_run(mirror: &MirrorConfig, is_shared: bool) -> BTreeMap<Side, Vec<Right>> {
    let mut found = BySide::new();
    for command in run_with(mirror, is_shared) {
        add_mirror(&mut found, mirror, command);
    }
    found.into_iter().map(|((_, side), rights)| (side, reduce(rights))).collect()
}

/// Asks both clusters about every right that a run of the mirror needs.
///
/// # Errors
/// A cluster does not answer.
pub(crate) async fn probe_run(
    (mirror, is_shared): (&MirrorConfig, bool),
    principals: &BTreeMap<Side, String>,
    found: &Matching,
    (source, target): (&Cluster, &Cluster),
) -> Result<[(Side, Probed); 2], ClientError> {
    let mut needed = needed_by_run(mirror, is_shared);
    let here: BTreeSet<String> = found.topics.iter().chain(&found.failed).map(|topic| topic.name.clone()).collect();
    let there: BTreeSet<String> = here.iter().map(|topic| mirror.target_topic(topic)).collect();
    let groups = match &mirror.groups {
        Some(groups) => {
            let listed = source.list_groups().await?;
            listed.into_iter().map(|group| group.id).filter(|id| groups.filter.matches(id)).collect()
        }
        None => BTreeSet::new(),
    };
    let heartbeats = mirror.heartbeats.iter().map(|heartbeats| heartbeats.topic.clone()).collect();
    let mut asked = |side: Side, cluster, topics, own: Vec<String>| probe::Asked {
        cluster,
        principal: principals.get(&side).cloned(),
        rights: needed.remove(&side).unwrap_or_default(),
        topics,
        groups: groups.clone(),
        own,
    };
    let here = asked(Side::Source, source, here, heartbeats);
    let there = asked(Side::Target, target, there, vec![state_topic(&mirror.name)]);
    Ok([(Side::Source, probe(here).await?), (Side::Target, probe(there).await?)])
}

#[cfg(test)]
mod tests;
