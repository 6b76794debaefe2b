//! The first act: a mirror under load, killed and started again, groups kept in step, a drill.

use std::time::{Duration, Instant};

use super::load::{Load, Origin};
use super::stage::{PATIENCE, Stage, typed};
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
    let run = typed(&["run", "--mirror", MIRROR]);
    stage.scene.doing(&run);
    let process = stage.start(MIRROR, Way::Forth)?;
    stage.await_that("the topic on the standby", |stage| stage.standby().has_topic()).await?;
    let partitions = u64::from(stage.args.partitions.unsigned_abs());
    let words = format!("process {process}; {TOPIC} is on the standby with {}", some(partitions, "partition"));
    stage.view.step("mirror", Some(&run), words).await?;
    let records = stage.share(FIRST_LOAD);
    let over = FIRST_LOAD_LASTS + stage.view.pace() * 3;
    let load = Load::start_held(stage.source(), Origin::Source, &stage.ranges(records), over).await?;
    let rate = count((records as f64 / over.as_secs_f64()) as u64);
    stage.view.step("load", None, format!("{rate} records a second come in, by five codecs")).await?;
    stage.scene.doing("mirroring under load");
    stage.await_records(Stage::standby, records / 3).await?;
    stage.kill().await?;
    load.let_go_on();
    let (killed, epoch) = (Instant::now(), stage.standby().epoch());
    summary.killed_at = stage.standby().count();
    let words = format!("with {} records on the standby, and the load going on", count(summary.killed_at));
    // Nobody looks on for long: the time until it goes on is measured.
    let pace = stage.view.hurry();
    stage.view.step("kill -9", Some(&format!("kill -9 {process}")), words).await?;
    let process = stage.start(MIRROR, Way::Forth)?;
    // What the old process had sent may still come in; what the new one writes has a newer epoch.
    stage.await_that("records of the new process", |stage| stage.standby().epoch() > epoch).await?;
    summary.recovery_seconds = killed.elapsed().as_secs_f64();
    stage.view.take_time(pace);
    let words = format!("process {process} goes on {:.2} s after the kill", summary.recovery_seconds);
    stage.view.step("restart", Some(&run), words).await?;
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
    let in_step = move |stage: &Stage| groups::committed_count(stage.standby()) == committed;
    stage.await_that("the groups on the standby", in_step).await?;
    let began = Instant::now();
    let args = ["groups", "plan", "--mirror", MIRROR];
    // What was committed on the standby by now is on record there a moment later.
    let plan = loop {
        let plan = stage.kmirror(&args, summary).await?;
        if plan["totals"]["commits"] == 0 || began.elapsed() > PATIENCE {
            break plan;
        }
    };
    summary.expect("offsets of groups in step, as the plan has it", committed, number(&plan["totals"]["unchanged"]));
    let (source, standby) = (stage.source(), stage.standby());
    summary.groups.in_step = groups::compare((source, &source.contents()?), (standby, &standby.contents()?))?;
    summary.groups.groups = groups::count();
    summary.expect("offsets of groups with the same record on both sides", committed, summary.groups.in_step.same);
    let words = format!(
        "{} groups, {committed} offsets in step: behind {} of them stands the very record",
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
        "{} by {checks} checks; {same} of {compared} records compared are the same; RTO of about {:.1} s",
        if summary.drill.passed { "passed" } else { "FAILED" },
        summary.drill.rto_seconds_estimate
    );
    stage.view.step("drill", Some(&typed(&args)), words).await
}

/// A number for people.
pub(super) fn count(number: u64) -> String {
    output::count(i64::try_from(number).unwrap_or(i64::MAX))
}

/// So many of something, in words.
pub(super) fn some(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", count(number)) }
}

/// A number in a report.
pub(super) fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
