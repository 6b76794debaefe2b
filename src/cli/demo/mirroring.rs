//! The first act: a mirror under load, killed and started again, groups kept in step, a drill.

use std::time::{Duration, Instant};

use super::load::{Load, Origin};
use super::stage::{LOOK_EVERY, PATIENCE, Stage, typed};
use super::summary::Summary;
use super::view::Way;
use super::{MIRROR, TOPIC, accounts, groups};
use crate::cli::output;

/// Of all records, in percent.
pub(super) const FIRST_LOAD: u64 = 60;
/// How long it lasts, where the machine is up to it and nobody looks on.
const FIRST_LOAD_LASTS: Duration = Duration::from_millis(1_500);

pub(super) async fn play(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let brokers = format!("source {} and standby {}, in memory", stage.source().address(), stage.standby().address());
    stage.view.step("brokers", None, brokers).await?;
    let load = mirror_and_kill(stage, summary).await?;
    load.finish().await?;
    catch_up(stage, summary).await?;
    keep_groups(stage, summary).await?;
    drill(stage, summary).await
}

async fn mirror_and_kill(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<Load> {
    let records = stage.share(FIRST_LOAD);
    stage.scene.doing("a load, and a mirror");
    let over = FIRST_LOAD_LASTS + stage.view.pace() * 6;
    let load = Load::start(stage.source(), Origin::Source, &stage.ranges(records), over).await?;
    let rate = count((records as f64 / over.as_secs_f64()) as u64);
    let partitions = stage.args.partitions;
    let words = format!("{rate} records a second into {TOPIC}, {partitions} partitions, five codecs");
    stage.view.step("load", None, words).await?;
    let process = stage.start(MIRROR, Way::Forth)?;
    stage.await_records(Stage::standby, records / 3).await?;
    let words = format!("process {process} copies while the load goes on");
    stage.view.step("mirror", Some(&typed(&["run", "--mirror", MIRROR])), words).await?;
    stage.kill().await?;
    let killed = Instant::now();
    summary.killed_at = stage.standby().count();
    let words = format!("{} records are on the standby", count(summary.killed_at));
    // Nobody looks on for long: the time until it goes on is measured.
    let pace = stage.view.hurry();
    stage.view.step("kill -9", Some(&format!("kill -9 {process}")), words).await?;
    let process = stage.start(MIRROR, Way::Forth)?;
    stage.await_records(Stage::standby, summary.killed_at + 1).await?;
    summary.recovery_seconds = killed.elapsed().as_secs_f64();
    stage.view.take_time(pace);
    let words = format!("process {process} goes on {:.2} s after the kill", summary.recovery_seconds);
    stage.view.step("restart", Some(&typed(&["run", "--mirror", MIRROR])), words).await?;
    Ok(load)
}

async fn catch_up(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    stage.scene.doing("catching up");
    let mirror = stage.mirror.clone();
    stage.await_in_step(&mirror).await?;
    let records = stage.source().count();
    let equal = accounts::equal_in_order(&stage.source().contents()?, &stage.standby().contents()?);
    summary.expect("records equal on both sides after the kill", records, equal);
    let words = format!("{} of {} records arrived once, in order, unchanged", count(equal), count(records));
    stage.view.step("in step", Some(&typed(&["status", "--mirror", MIRROR])), words).await
}

async fn keep_groups(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    stage.scene.doing("consumer groups read, each this far");
    let committed = groups::read_some(stage.source()).await?;
    let began = Instant::now();
    while groups::committed_count(stage.standby()) < committed && began.elapsed() < PATIENCE {
        stage.check_mirror()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let args = ["groups", "plan", "--mirror", MIRROR];
    // What was committed on the standby by now is on record there a moment later.
    let plan = loop {
        let plan = stage.kmirror(&args, summary).await?;
        if plan["totals"]["commits"] == 0 || began.elapsed() > PATIENCE {
            break plan;
        }
    };
    summary.expect("offsets of groups in step, as the plan has it", committed, number(&plan["totals"]["unchanged"]));
    summary.groups.in_step = groups::compare(stage.source(), stage.standby())?;
    summary.groups.groups = groups::count();
    summary.expect("offsets of groups with the same record on both sides", committed, summary.groups.in_step.same);
    let words = format!(
        "{} groups at {committed} offsets: behind {} of them stands the same record on both sides",
        summary.groups.groups, summary.groups.in_step.same
    );
    stage.view.step("groups", Some(&typed(&args)), words).await
}

async fn drill(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let args = ["drill", "--mirror", MIRROR, "--isolated", "--reports", "drills"];
    let report = stage.kmirror(&args, summary).await?;
    let checks = report["checks"].as_array().map_or(0, Vec::len);
    let sum = |field: &str| report["groups"].as_array().into_iter().flatten().map(|group| number(&group[field])).sum();
    let (compared, same): (u64, u64) = (sum("compared"), sum("same"));
    summary.drill = super::summary::Drill {
        passed: report["passed"] == true,
        checks,
        records_compared: compared,
        records_same: same,
        rto_seconds_estimate: report["rto_seconds_estimate"].as_f64().unwrap_or(-1.0),
    };
    summary.expect("the drill passes", true, summary.drill.passed);
    summary.expect("records that the drill found the same", compared, same);
    let words = format!(
        "{} by {checks} checks; {same} of {compared} records compared are the same; a failover would take about {:.1} s",
        if summary.drill.passed { "passed" } else { "FAILED" },
        summary.drill.rto_seconds_estimate
    );
    stage.view.step("drill", Some(&typed(&args)), words).await
}

/// A number for people.
pub(super) fn count(number: u64) -> String {
    output::count(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A number in a report.
pub(super) fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
