//! A mirror's fleet as its group shows it: which instances there are, what they run, and who owns which shards. Read off the cluster,
//! so that any instance, and none, can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::client::{ClientError, Cluster, DescribedFleet, FleetMember};
use crate::plan::fleet::{Assignment, Load, PROTOCOL_TYPE, PutOut, Subscription, group_id};

/// How long the group's coordinator is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mirror's fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FleetView {
    /// Group id on the target.
    pub group: String,
    /// State of the group, in Kafka's words: `Stable` when every instance knows what it owns.
    pub state: String,
    /// Shards of the mirror, as far as an instance has told.
    pub shard_count: u32,
    /// Shards that no instance was given.
    pub unassigned: Vec<u32>,
    /// Whether instances run other versions or configurations than others.
    pub is_skewed: bool,
    /// The instances.
    pub members: Vec<FleetInstance>,
}

/// An instance of a fleet. What it owns and its load are as it told them when it joined last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FleetInstance {
    /// Member id.
    pub member_id: String,
    /// `fleet.instance_id`, of a static member.
    pub instance_id: Option<String>,
    /// Host and process.
    pub host: String,
    /// Version of kmirror.
    pub software: String,
    /// Of its configuration.
    pub config_hash: String,
    /// The newest version of state records that it reads.
    pub state_version: u32,
    /// Whether it does what a mirror does once.
    pub elected: bool,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Shards that it was given.
    pub shards: Vec<u32>,
    /// Bytes a second, when it joined.
    pub bytes_per_second: u64,
    /// Records that waited on the source, when it joined.
    pub backlog_records: u64,
    /// Instances that it has lately put out of the fleet, as they gave no sign of life (`fleet.suspect_after`); the newest is the last.
    pub put_out: Vec<PutOut>,
}

/// The fleet of a mirror; `None` where there is none, or never was.
///
/// # Errors
/// Its coordinator does not answer, or refuses to tell.
pub async fn fleet_view(mirror: &str, target: &Cluster) -> Result<Option<FleetView>, ClientError> {
    let group = group_id(mirror);
    Ok(target.describe_fleet(&group, PATIENCE).await?.and_then(|described| shown(group, described)))
}

/// The view of a group as its coordinator describes it; `None` where it is none of a fleet.
pub(super) fn shown(group: String, described: DescribedFleet) -> Option<FleetView> {
    if described.protocol_type != PROTOCOL_TYPE {
        return None;
    }
    let mut shard_count = 0;
    let mut members = Vec::new();
    for member in described.members {
        // While the group is not stable nobody says anything.
        let said = Subscription::from_bytes(&member.subscription).ok();
        shard_count = shard_count.max(said.as_ref().map_or(0, |said| said.shard_count));
        members.push(instance(member, said));
    }
    members.sort_by(|a: &FleetInstance, b| (&a.host, &a.member_id).cmp(&(&b.host, &b.member_id)));
    let given: BTreeSet<u32> = members.iter().flat_map(|member| member.shards.iter().copied()).collect();
    let runs: BTreeSet<_> = members.iter().map(|m| (&m.software, &m.config_hash, m.state_version)).collect();
    Some(FleetView {
        group,
        state: described.state.to_string(),
        shard_count,
        unassigned: (0..shard_count).filter(|shard| !given.contains(shard)).collect(),
        is_skewed: runs.len() > 1,
        members,
    })
}

fn instance(member: FleetMember, said: Option<Subscription>) -> FleetInstance {
    let given = Assignment::from_bytes(&member.assignment).unwrap_or_default();
    let loads: BTreeMap<u32, Load> = said.as_ref().map(|said| said.held.clone()).unwrap_or_default();
    FleetInstance {
        member_id: member.id,
        instance_id: member.instance_id,
        host: said.as_ref().map_or(member.client_host, |said| said.host.clone()),
        software: said.as_ref().map(|said| said.software.clone()).unwrap_or_default(),
        config_hash: said.as_ref().map(|said| said.config_hash.clone()).unwrap_or_default(),
        state_version: said.as_ref().map_or(0, |said| said.state_version),
        elected: given.elected,
        draining: said.as_ref().is_some_and(|said| said.draining),
        shards: given.shards.into_keys().collect(),
        bytes_per_second: sum(loads.values().map(|load| load.bytes_per_second)),
        backlog_records: sum(loads.values().map(|load| load.backlog_records)),
        put_out: said.map(|said| said.put_out).unwrap_or_default(),
    }
}

/// Of what members say, and so of any numbers.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}
