//! Mirrors and backups at a glance: what the first screen shows.

use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::Board;
use crate::ops::{GroupsStatus, MirrorStatus, PartitionStatus};

use super::backups::{BackupBoard, BackupPass, Complete};
use super::config_board::ConfigView;
use super::lookout::MirrorLook;
use super::verdict::{Verdict, lost_records};

/// Partitions that a summary names, of each kind.
const NAMED: usize = 20;

/// Of `/api/v1/mirrors`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MirrorsAnswer {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: String,
    /// In the order of the file.
    pub mirrors: Vec<Summary>,
    /// Backups that this process keeps.
    pub backups: Vec<BackupSummary>,
    /// The configuration in force; `null` where this process does not read it again.
    pub config: Option<ConfigView>,
}

/// A backup at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupSummary {
    /// Its name.
    pub name: String,
    /// `unknown`: its archive was not read yet; `never`: no pass read every partition to its end; `complete`: one did.
    pub state: &'static str,
    /// When the last such pass ended, ms since the epoch.
    pub complete_at_ms: Option<i64>,
    /// Source offsets that the archive lacked when the last pass ended; `null` where that is not known.
    pub lag_records: Option<i64>,
    /// Passes of this process, oldest first; the last twenty.
    pub passes: Vec<BackupPass>,
}

impl BackupSummary {
    pub(super) fn of(board: &BackupBoard) -> Self {
        let view = board.read();
        let (state, complete_at_ms) = match view.complete {
            Complete::Unknown => ("unknown", None),
            Complete::Never => ("never", None),
            Complete::At(at_ms) => ("complete", Some(at_ms)),
        };
        Self {
            name: board.backup().to_owned(),
            state,
            complete_at_ms,
            lag_records: view.lag_records,
            passes: board.passes(),
        }
    }
}

/// A mirror at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Name of the source cluster.
    pub source: String,
    /// Name of the target cluster.
    pub target: String,
    /// Whether it is safe.
    pub verdict: Verdict,
    /// `starting`, `mirroring`, `paused`, `halted` or `promoted`; `null` where the clusters could not be asked, as all below.
    pub state: Option<&'static str>,
    /// What a failover now would lose, seconds; −1 where some partition does not tell.
    pub rpo_seconds: Option<f64>,
    /// Source offsets not mirrored, over all partitions that tell.
    pub lag_records: Option<i64>,
    /// Source offsets whose records are missing on the target for good.
    pub lost_records: Option<i64>,
    /// Partitions.
    pub partitions: Option<usize>,
    /// Those that are halted, and how to free them; twenty at most.
    pub halted: Vec<Trouble>,
    /// Those that retention threatens; twenty at most.
    pub short: Vec<Trouble>,
    /// The consumer groups, where any are kept in step.
    pub groups: Option<GroupsStatus>,
    /// The last drill of `drills`, where there was one.
    pub drill: Option<Drill>,
    /// The bandwidth limit; `null`: unlimited.
    pub bandwidth_bytes_per_s: Option<u64>,
}

/// A partition that wants somebody.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Trouble {
    /// Source topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Why.
    pub reason: String,
    /// The command that ends it, where there is one.
    pub way_out: Option<String>,
}

/// How a drill went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Drill {
    /// When it began, ms since the epoch; `null` where none could be done so far.
    pub at_ms: Option<i64>,
    /// Whether it passed.
    pub passed: bool,
}

impl Summary {
    pub(super) fn of(look: &MirrorLook, board: Option<&Board>) -> Self {
        let status = look.status.as_ref();
        let partitions = || status.map(|status| status.partitions.as_slice());
        let drill = board.and_then(Board::last_drill).map(|d| Drill { at_ms: d.at_ms, passed: d.passed });
        Self {
            name: look.name.clone(),
            source: look.source.clone(),
            target: look.target.clone(),
            verdict: look.verdict.clone(),
            state: status.map(|status| status.state),
            rpo_seconds: status.map(|status| status.rpo_seconds),
            lag_records: partitions().map(|all| all.iter().map(|p| p.lag_records.max(0)).sum()),
            lost_records: status.map(lost_records),
            partitions: partitions().map(<[_]>::len),
            halted: named(status, |p| p.state == "halted"),
            short: named(status, |p| p.headroom_is_short),
            groups: status.and_then(|status| status.groups),
            drill,
            bandwidth_bytes_per_s: status.and_then(|status| status.bandwidth_bytes_per_s),
        }
    }
}

fn named(status: Option<&MirrorStatus>, is: impl Fn(&PartitionStatus) -> bool) -> Vec<Trouble> {
    let trouble = |p: &PartitionStatus| Trouble {
        topic: p.topic.clone(),
        partition: p.partition,
        reason: p.reason.clone().unwrap_or_else(|| {
            let left = p.retention_headroom_seconds.unwrap_or(0.0).max(0.0).round();
            format!("retention on the source may take records that are not mirrored in {left} s")
        }),
        way_out: p.way_out.clone(),
    };
    let partitions = status.map_or(&[][..], |status| &status.partitions);
    partitions.iter().filter(|p| is(p)).take(NAMED).map(trouble).collect()
}
