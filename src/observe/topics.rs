//! From a mirror down to the offset map of one partition.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ops::{GapView, MapView, MirrorStatus, PartitionStatus, map_of};

use super::api::{Api, fresh};
use super::live::Live;
use super::lookout::Look;
use super::problem::{Kind, Problem};
use super::verdict::worst_state;

/// Of `/api/v1/mirrors/{mirror}/topics`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TopicsAnswer<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: &'a str,
    /// By name.
    pub topics: Vec<TopicView<'a>>,
}

/// A topic at a glance.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TopicView<'a> {
    /// Source topic.
    pub topic: &'a str,
    /// Target topic.
    pub target_topic: &'a str,
    /// The worst of its partitions' states: `halted`, `paused`, `starting`, `mirroring` or `promoted`.
    pub state: &'static str,
    /// Partitions.
    pub partitions: usize,
    /// Of these, halted.
    pub halted: usize,
    /// Of these, threatened by retention.
    pub short: usize,
    /// Source offsets not mirrored, over all partitions that tell.
    pub lag_records: i64,
    /// Age of the oldest of them, seconds; −1 where some partition does not tell.
    pub lag_seconds: f64,
    /// Source offsets whose records are missing on the target for good.
    pub lost_records: i64,
}

impl<'a> TopicView<'a> {
    fn of(topic: &'a str, partitions: &[&'a PartitionStatus]) -> Self {
        let count = |is: fn(&PartitionStatus) -> bool| partitions.iter().filter(|p| is(p)).count();
        let seconds = partitions.iter().map(|p| p.lag_seconds);
        let lost = partitions.iter().flat_map(|p| &p.gaps).filter(|gap| gap.is_loss);
        Self {
            topic,
            target_topic: partitions.first().map_or(topic, |p| &p.target_topic),
            state: worst_state(partitions.iter().map(|p| p.state)),
            partitions: partitions.len(),
            halted: count(|p| p.state == "halted"),
            short: count(|p| p.headroom_is_short),
            lag_records: partitions.iter().map(|p| p.lag_records.max(0)).sum(),
            lag_seconds: if seconds.clone().any(|s| s < 0.0) { -1.0 } else { seconds.fold(0.0, f64::max) },
            lost_records: lost.map(|gap| gap.to - gap.from).sum(),
        }
    }
}

/// Of `/api/v1/mirrors/{mirror}/topics/{topic}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TopicAnswer<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: &'a str,
    /// The topic.
    pub topic: TopicView<'a>,
    /// Its partitions.
    pub partitions: Vec<&'a PartitionStatus>,
}

/// Of `/api/v1/mirrors/{mirror}/topics/{topic}/partitions/{partition}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PartitionAnswer<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: &'a str,
    /// The partition.
    pub partition: &'a PartitionStatus,
    /// Its offset map; `null` before the mirror has begun with it.
    pub map: Option<MapView>,
}

/// Of `/api/v1/mirrors/{mirror}/gaps`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GapsAnswer<'a> {
    /// Version of this shape.
    pub schema_version: u32,
    /// When the clusters were asked, RFC 3339.
    pub at: &'a str,
    /// By topic, partition and offset.
    pub gaps: Vec<PlacedGap<'a>>,
}

/// A gap, and where it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlacedGap<'a> {
    /// Source topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// The gap.
    #[serde(flatten)]
    pub gap: &'a GapView,
}

pub(super) fn routes() -> Router<Live> {
    Router::new()
        .route("/api/v1/mirrors/{mirror}/topics", get(topics))
        .route("/api/v1/mirrors/{mirror}/topics/{topic}", get(topic))
        .route("/api/v1/mirrors/{mirror}/topics/{topic}/partitions/{partition}", get(partition))
        .route("/api/v1/mirrors/{mirror}/gaps", get(gaps))
}

fn status<'a>(look: &'a Look, mirror: &str) -> Result<&'a MirrorStatus, Problem> {
    let look = look.mirror(mirror)?;
    let why = || look.verdict.reasons.join(" ");
    look.status.as_ref().ok_or_else(|| Kind::Unreachable.because(why()))
}

async fn topics(State(api): State<Api>, Path(mirror): Path<String>) -> Result<Response, Problem> {
    let look = api.lookout.look().await;
    let mut by_topic = BTreeMap::<&str, Vec<&PartitionStatus>>::new();
    for partition in &status(&look, &mirror)?.partitions {
        by_topic.entry(&partition.topic).or_default().push(partition);
    }
    let topics = by_topic.iter().map(|(topic, partitions)| TopicView::of(topic, partitions)).collect();
    Ok(fresh(Json(TopicsAnswer { schema_version: 1, at: &look.at, topics })))
}

async fn topic(State(api): State<Api>, Path((mirror, topic)): Path<(String, String)>) -> Result<Response, Problem> {
    let look = api.lookout.look().await;
    let partitions: Vec<_> = status(&look, &mirror)?.partitions.iter().filter(|p| p.topic == topic).collect();
    if partitions.is_empty() {
        return Err(Problem::no_partition(&mirror, &format!("topic {topic:?}")));
    }
    let topic = TopicView::of(&topic, &partitions);
    Ok(fresh(Json(TopicAnswer { schema_version: 1, at: &look.at, topic, partitions })))
}

async fn partition(
    State(api): State<Api>,
    Path((mirror, topic, partition)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let look = api.lookout.look().await;
    let all = &status(&look, &mirror)?.partitions;
    let found = all.iter().find(|p| p.topic == topic && p.partition.to_string() == partition);
    let found = found.ok_or_else(|| Problem::no_partition(&mirror, &format!("partition {topic}:{partition}")))?;
    let target = api.lookout.target(api.mirror(&mirror)?).await.map_err(|error| Kind::Unreachable.because(error))?;
    let map = map_of(&mirror, &target, found).await?;
    Ok(fresh(Json(PartitionAnswer { schema_version: 1, at: &look.at, partition: found, map })))
}

/// Which gaps.
#[derive(Debug, Deserialize)]
struct Which {
    #[serde(default)]
    loss: bool,
}

async fn gaps(
    State(api): State<Api>,
    Path(mirror): Path<String>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Which { loss }) = which?;
    let look = api.lookout.look().await;
    let mut partitions: Vec<_> = status(&look, &mirror)?.partitions.iter().collect();
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let mut gaps = Vec::new();
    for p in partitions {
        let wanted = p.gaps.iter().filter(|gap| gap.is_loss || !loss);
        gaps.extend(wanted.map(|gap| PlacedGap { topic: &p.topic, partition: p.partition, gap }));
    }
    Ok(fresh(Json(GapsAnswer { schema_version: 1, at: &look.at, gaps })))
}
