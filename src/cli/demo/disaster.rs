//! The second act: the line to the standby stalls, the source is lost under load, and the standby takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::Notify;

use super::load::{Load, Origin, Written};
use super::mirroring::{FIRST_LOAD, count, number, some};
use super::side::Side;
use super::stage::{LOOK_EVERY, PATIENCE, Stage, typed};
use super::summary::{Failover, Summary};
use super::{MIRROR, TOPIC, groups};
use crate::batch::RawBatch;
use crate::broker::{Action, Intercept, RequestKind};
use crate::client::ApiKey;
use crate::ops::MirrorState;

/// What the load may write until the source is lost, of all records in percent.
const LOAD_TO_THE_END: u64 = 20;
/// Longer than the story takes to come there.
const LOAD_LASTS: Duration = Duration::from_secs(12);
/// What is written to the standby, in percent.
const ON_STANDBY: u64 = 10;
/// The mirror would give up what it has sent, and send it again, if the line stalled for half a minute.
const STAY_MAX: Duration = Duration::from_secs(4);
/// At least so long the load goes on behind a line that stalls.
const STALLED: Duration = Duration::from_secs(1);

pub(super) async fn play(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let pace = stage.view.hurry();
    stage.view.take_time(pace.min(STAY_MAX));
    let (load, line) = stall(stage).await?;
    lose_source(stage, load, summary).await?;
    let report = fail_over(stage, summary).await?;
    too_late(stage, &line, summary).await?;
    stage.view.take_time(pace);
    account(stage, &report, summary)?;
    compare_groups(stage, summary).await?;
    move_over(stage, summary).await
}

/// Data on their way to the standby, which its broker does not get to.
struct Line {
    hook: Intercept,
    released: Arc<Notify>,
    records: Arc<AtomicU64>,
}

impl Line {
    /// From here on no data get through. What the mirror notes down, and what else goes on, does.
    fn stall(standby: &Side) -> anyhow::Result<Self> {
        let topics = standby.broker.topics();
        let id = topics.iter().find(|topic| topic.name == TOPIC).context("the topic is on the standby")?.id;
        let (released, records) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let (held, counted) = (Arc::clone(&released), Arc::clone(&records));
        let hook = standby.broker.intercept(ApiKey::Produce, None, move |context| {
            let RequestKind::Produce(request) = context.request else { return Action::Pass };
            let data = request.topic_data.iter().filter(|topic| topic.topic_id == id || topic.name.0.as_str() == TOPIC);
            let batches = data.flat_map(|topic| &topic.partition_data).filter_map(|p| p.records.clone());
            let records = batches.filter_map(|bytes| RawBatch::parse(bytes).ok());
            let records: u64 = records.map(|batch| u64::from(batch.header.records_count.unsigned_abs())).sum();
            if records == 0 {
                return Action::Pass;
            }
            counted.fetch_add(records, Ordering::Relaxed);
            Action::HoldUntil(Arc::clone(&held))
        });
        Ok(Self { hook, released, records })
    }

    /// What was on its way arrives, and is answered.
    async fn release(&self, standby: &Side) -> anyhow::Result<()> {
        standby.broker.remove_intercept(&self.hook);
        self.released.notify_waiters();
        let began = Instant::now();
        // Each request that is held has its own share in it, until the moment in which it is handled.
        while Arc::strong_count(&self.released) > 1 {
            anyhow::ensure!(began.elapsed() < PATIENCE, "what was held is not answered");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

async fn stall(stage: &mut Stage) -> anyhow::Result<(Load, Line)> {
    stage.scene.doing("the load goes on");
    let first = stage.ranges(stage.share(FIRST_LOAD)).into_iter().map(|(_, to)| to);
    let more = stage.ranges(stage.share(LOAD_TO_THE_END)).into_iter().map(|(_, count)| count);
    let ranges: Vec<(u64, u64)> = first.zip(more).map(|(from, count)| (from, from + count)).collect();
    let line = Line::stall(stage.standby())?;
    let over = LOAD_LASTS + stage.view.pace() * 4;
    let load = Load::start(stage.source(), Origin::Source, &ranges, over).await?;
    let words = "the load goes on, and the line to the standby lets nothing through".to_owned();
    stage.view.step("stall", None, words).await?;
    stage.scene.doing("the mirror falls behind");
    await_seen(stage, &line).await?;
    let lag = stage.source().count().saturating_sub(stage.standby().count());
    let words =
        format!("{} records behind, {} of them on their way", count(lag), count(line.records.load(Ordering::Relaxed)));
    stage.view.step("lag", Some(&typed(&["status", "--mirror", MIRROR])), words).await?;
    Ok((load, line))
}

/// Waits until data are on their way, and the mirror has noted on the standby that the source has more: what it can tell of a source
/// that is gone.
async fn await_seen(stage: &mut Stage, line: &Line) -> anyhow::Result<()> {
    let client = stage.standby().client("watch").await?;
    let began = Instant::now();
    loop {
        let state = MirrorState::read(MIRROR, &client).await?.context("the mirror's state")?;
        let there = stage.standby().counts();
        // The load leaves no gaps: the source's offsets are the numbers of its records.
        let is_ahead = state.partitions().any(|p| {
            let mirrored = usize::try_from(p.declared.partition).ok().and_then(|p| there.get(p));
            mirrored.is_some_and(|mirrored| p.seen.end > mirrored.cast_signed())
        });
        if is_ahead && line.records.load(Ordering::Relaxed) > 0 && began.elapsed() >= STALLED {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "the mirror does not note how far the source is");
        stage.check_mirror()?;
        tokio::time::sleep(LOOK_EVERY * 5).await;
    }
}

async fn lose_source(stage: &mut Stage, load: Load, summary: &mut Summary) -> anyhow::Result<()> {
    stage.source().broker.stop_node(1).await?;
    let written = load.abandon().await;
    let first = stage.ranges(stage.share(FIRST_LOAD));
    let landed = stage.source().counts();
    for (partition, ((landed, (_, before)), Written { acknowledged, sent })) in
        landed.iter().zip(first).zip(written).enumerate()
    {
        // The last batch may have been taken without an answer.
        if *landed < before + acknowledged || *landed > before + sent {
            let what = format!("partition {partition} of the source holds {landed} records");
            summary.problems.push(format!("{what}, where {} to {} were to be", before + acknowledged, before + sent));
        }
    }
    let landed: u64 = landed.iter().sum();
    let words = format!(
        "the source is gone, with {} records; {} of them are on the standby",
        count(landed),
        count(stage.standby().count())
    );
    stage.view.step("lost", None, words).await
}

async fn fail_over(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<Value> {
    let args = ["failover", "--mirror", MIRROR, "--yes"];
    let report = stage.kmirror(&args, summary).await?;
    let seconds = |field: &str| report[field].as_f64().unwrap_or(-1.0);
    let lost = report["loss_manifest"]["lost"].as_array().map_or(0, Vec::len);
    summary.failover = Failover {
        rpo_records: number(&report["rpo"]["records"]),
        lost_ranges: lost,
        rto_seconds: seconds("rto_seconds"),
        outage_seconds: seconds("outage_seconds"),
        partitions_fenced: number(&report["verification"]["refusing"]),
        ..Failover::default()
    };
    summary.expect("kind of the failover", "unplanned", report["mode"].as_str().unwrap_or_default());
    let partitions = u64::from(stage.args.partitions.unsigned_abs());
    summary.expect("partitions that refuse older writers", partitions, summary.failover.partitions_fenced);
    let Failover { rpo_records, rto_seconds, .. } = summary.failover;
    let words = format!(
        "standby in charge after {rto_seconds:.2} s (RTO); {} known to be lost (RPO), in {}",
        some(rpo_records, "record"),
        some(lost as u64, "range")
    );
    stage.scene.moved(true);
    stage.view.step("failover", Some(&typed(&args)), words).await?;
    Ok(report)
}

/// What was on its way comes to brokers that know better.
async fn too_late(stage: &mut Stage, line: &Line, summary: &mut Summary) -> anyhow::Result<()> {
    stage.scene.doing("what was on its way arrives");
    let before = stage.standby().count();
    line.release(stage.standby()).await?;
    let code = stage.await_end().await?;
    let appended = stage.standby().count().saturating_sub(before);
    summary.failover.late_records = line.records.load(Ordering::Relaxed);
    summary.failover.late_records_appended = appended;
    summary.expect("exit code of the mirror that was told", 0, code);
    summary.expect("late records on the standby", 0, appended);
    let words = format!(
        "{} that were on their way are refused by the standby; the mirror ended with exit code {code}",
        some(summary.failover.late_records, "record")
    );
    stage.view.step("too late", None, words).await
}

/// What the report says against what the clusters hold.
fn account(stage: &Stage, report: &Value, summary: &mut Summary) -> anyhow::Result<()> {
    let source = stage.source().contents()?;
    let standby = stage.standby().counts();
    let range = |entry: &Value| {
        let partition = usize::try_from(number(&entry["partition"])).unwrap_or(usize::MAX);
        let (from, to) = (entry["from"].as_i64().unwrap_or(-1), entry["to"].as_i64().unwrap_or(i64::MAX));
        let records = source.get(partition).map_or(&[][..], Vec::as_slice);
        records.iter().filter(|record| (from..to).contains(&record.offset)).count() as u64
    };
    let listed = |list: &str| report["loss_manifest"][list].as_array().into_iter().flatten().map(range).sum();
    let accounts = &mut summary.accounts;
    (accounts.lost_listed, accounts.lost_unseen) = (listed("lost"), listed("unseen"));
    accounts.landed = source.iter().map(|records| records.len() as u64).collect();
    accounts.mirrored.clone_from(&standby);
    let there: u64 = standby.iter().sum();
    accounts.lost = accounts.landed.iter().sum::<u64>().saturating_sub(there);
    let (lost, listed, told) = (accounts.lost, accounts.lost_listed + accounts.lost_unseen, accounts.lost_listed);
    summary.expect("records lost with the source, and in a range of the loss manifest", lost, listed);
    summary.expect("records in ranges that the manifest calls lost", summary.failover.rpo_records, told);
    for (partition, mirrored) in standby.iter().enumerate() {
        let all = report["partitions"].as_array().into_iter().flatten();
        let told =
            all.filter(|p| number(&p["partition"]) == partition as u64).map(|p| number(&p["mirrored_to"])).next();
        summary.expect(&format!("partition {partition}, mirrored to"), *mirrored, told.unwrap_or_default());
    }
    Ok(())
}

async fn compare_groups(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let (source, standby) = (stage.source(), stage.standby());
    let positions = groups::compare((source, &source.contents()?), (standby, &standby.contents()?))?;
    summary.groups.after_failover = positions;
    summary.expect("offsets of groups with another record on the standby", 0, positions.different);
    summary.expect("offsets of groups compared", summary.groups.in_step.same, positions.same);
    let words = format!(
        "{} of {} offsets: the next record is the very record",
        positions.same,
        positions.same + positions.different
    );
    stage.view.step("groups", None, words).await
}

async fn move_over(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    stage.scene.doing("producers and consumers move");
    let ranges = stage.ranges(stage.share(ON_STANDBY));
    Load::start(stage.standby(), Origin::Standby, &ranges, stage.view.pace()).await?.finish().await?;
    summary.accounts.on_standby = ranges.iter().map(|(_, count)| *count).collect();
    let committed = groups::read_on(stage.standby()).await?;
    let words = format!(
        "producers have written {} records there, consumers have read on: {committed} offsets",
        count(summary.accounts.on_standby.iter().sum())
    );
    stage.view.step("standby", None, words).await
}
