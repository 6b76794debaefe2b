//! The third act: the source comes back with records that the standby never had, and all becomes as it was before.

use std::time::Instant;

use anyhow::Context as _;

use super::load::{Load, Origin};
use super::mirroring::{count, number, some};
use super::stage::{LOOK_EVERY, PATIENCE, Stage, typed};
use super::summary::{Failback, Summary, Switch, Verify};
use super::view::Way;
use super::{MIRROR, accounts, groups};

const EXPORT: &str = "divergent.jsonl";
/// What was lost is appended to this topic of the standby, which the mirror does not match.
const REPLAYED: &str = "orders.lost";

pub(super) async fn play(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    bring_back(stage).await?;
    divergent_tail(stage, summary).await?;
    replay(stage, summary).await?;
    mirror_home(stage, summary).await?;
    switch(stage, summary).await?;
    as_before(stage, summary).await?;
    verify(stage, summary).await
}

async fn bring_back(stage: &mut Stage) -> anyhow::Result<()> {
    stage.scene.doing("the source comes back");
    let began = Instant::now();
    // Somebody else may have had its port for a moment.
    while let Err(error) = stage.source().broker.start_node(1, None).await {
        if began.elapsed() > PATIENCE {
            return Err(error).context("starting the source again");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let words = format!("the source is back, with all of its {} records", count(stage.source().count()));
    stage.view.step("return", None, words).await
}

async fn divergent_tail(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let args = ["failback", "--mirror", MIRROR, "--export", EXPORT, "--dry-run"];
    let plan = stage.kmirror(&args, summary).await?;
    let tails = plan["partitions"].as_array().into_iter().flatten().map(|p| number(&p["tail"]["records"]));
    let exported = std::fs::read_to_string(stage.file(EXPORT)).context("reading the exported records")?;
    let (divergent, exported): (u64, u64) = (tails.sum(), exported.lines().count() as u64);
    summary.failback = Failback { divergent_records: divergent, exported_records: exported, ..Failback::default() };
    let lost = summary.accounts.lost;
    summary.expect("records that the old source has alone", lost, divergent);
    summary.expect("records exported", lost, exported);
    let words =
        format!("{} records are on the source alone: those that were lost; written to a file", count(divergent));
    stage.scene.diverged_by(divergent);
    stage.view.step("tail", Some(&typed(&args)), words).await
}

/// Whoever owns the topic may have what was lost appended to a topic of choice.
async fn replay(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    stage.standby().broker.create_topic(REPLAYED, stage.args.partitions, 1, &[])?;
    let args = ["failback", "--mirror", MIRROR, "--replay", REPLAYED, "--yes"];
    let report = stage.kmirror(&args, summary).await?;
    let found = accounts::replayed(stage, REPLAYED)?;
    summary.failback.replayed_records = found;
    summary.expect("records replayed, as the report says", summary.accounts.lost, number(&report["records"]));
    summary.expect("records replayed that are those that were lost", summary.accounts.lost, found);
    let words = format!("{} that were lost are on the standby as well, in a topic of their own", some(found, "record"));
    stage.view.step("replay", Some(&typed(&args)), words).await
}

async fn mirror_home(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let home = stage.mirror.reversed();
    let args = ["failback", "--mirror", MIRROR, "--yes"];
    let begun = stage.kmirror(&args, summary).await?;
    summary.expect("stage of the failback", "returning", begun["stage"].as_str().unwrap_or_default());
    let words = format!("the way home begins, as mirror {}: nothing that both have is copied again", home.name);
    stage.view.step("failback", Some(&typed(&args)), words).await?;
    let before = stage.source().count();
    stage.scene.doing("the standby's records come home");
    let process = stage.start(&home.name, Way::Home)?;
    stage.await_in_step(&home).await?;
    let copied = stage.source().count().saturating_sub(before);
    summary.expect("records copied home", summary.accounts.on_standby.iter().sum(), copied);
    let words = format!("process {process} has copied {} records home", count(copied));
    stage.view.step("home", Some(&typed(&["run", "--mirror", &home.name])), words).await
}

async fn switch(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let home = stage.mirror.reversed().name;
    let args = ["failover", "--mirror", &home, "--planned", "--quiet", "1s", "--yes"];
    let report = stage.kmirror(&args, summary).await?;
    let code = stage.await_end().await?;
    summary.switch = Switch {
        rpo_records: number(&report["rpo"]["records"]),
        rto_seconds: report["rto_seconds"].as_f64().unwrap_or(-1.0),
    };
    summary.expect("records lost by the switch home", 0, summary.switch.rpo_records);
    summary.expect("exit code of the mirror of the way home", 0, code);
    stage.scene.moved(false);
    let steps = report["steps"].as_array().into_iter().flatten();
    let verify = steps.filter(|step| step["step"] == "verify").find_map(|step| step["seconds"].as_f64());
    let words = format!(
        "source in charge again after {:.2} s (RTO), {} lost (RPO); looked over for {:.0} s more",
        summary.switch.rto_seconds,
        some(summary.switch.rpo_records, "record"),
        verify.unwrap_or_default()
    );
    stage.view.step("switch", Some(&typed(&args)), words).await?;
    // Whoever had read all that was mirrored, and no further, meets the divergent tail first, as it did never read it.
    let on_both = accounts::without_tail(&stage.source().contents()?, &summary.accounts);
    let standby = stage.standby();
    let positions = groups::compare((standby, &standby.contents()?), (stage.source(), &on_both))?;
    summary.groups.after_switch = positions;
    summary.expect("offsets of groups with another record at home", 0, positions.different);
    let words = format!(
        "{} of {} offsets, from the standby: the next record is the very record",
        positions.same,
        positions.same + positions.different
    );
    stage.view.step("groups", None, words).await
}

async fn as_before(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let args = ["failback", "--mirror", MIRROR, "--yes"];
    let taken = stage.kmirror(&args, summary).await?;
    let partitions = taken["partitions"].as_array().map_or(0, Vec::len);
    let words = format!("mirror {MIRROR} takes up again with {partitions} partitions, in a new generation");
    stage.view.step("again", Some(&typed(&args)), words).await?;
    stage.scene.doing("as before");
    let process = stage.start(MIRROR, Way::Forth)?;
    // As many as are missing to what was asked for.
    let ranges = stage.ranges(stage.args.records.saturating_sub(stage.standby().count() + summary.accounts.lost));
    Load::start(stage.source(), Origin::Home, &ranges, stage.view.pace()).await?.finish().await?;
    summary.accounts.at_home = ranges.iter().map(|(_, count)| *count).collect();
    let mirror = stage.mirror.clone();
    stage.await_in_step(&mirror).await?;
    let written: u64 = summary.accounts.at_home.iter().sum();
    let words = format!("process {process} mirrors as before: {} more records, in step", count(written));
    stage.view.step("mirror", Some(&typed(&["run", "--mirror", MIRROR])), words).await
}

async fn verify(stage: &mut Stage, summary: &mut Summary) -> anyhow::Result<()> {
    let args = ["verify", "--mirror", MIRROR];
    let report = stage.kmirror(&args, summary).await?;
    let sum = |field: &str| {
        let partitions = report["partitions"].as_array().into_iter().flatten();
        partitions.map(|p| number(&p[field])).sum()
    };
    summary.verify =
        Verify { equal: sum("equal"), differing: sum("differing"), missing: sum("missing"), extra: sum("extra") };
    let found = &summary.verify;
    let words = format!(
        "{} records are the same on both sides; {} differ, {} are missing, {} are extra",
        count(found.equal),
        count(found.differing),
        count(found.missing),
        count(found.extra)
    );
    stage.view.step("verify", Some(&typed(&args)), words).await?;
    stage.kill().await?;
    stage.scene.doing("every record is accounted for");
    accounts::settle(stage, summary).await
}
