//! `kmirror demo live`: a mirror to look at and to try things on, until it is interrupted.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::load::{Load, Origin, shared_out};
use super::side::Side;
use super::stage::{Stage, yaml};
use super::view::Way;
use super::{DemoArgs, MIRROR, TOPIC};
use crate::cli::exit::Exit;
use crate::cli::output;

/// Records a second, as long as there are some left.
const RATE: u64 = 150;
const ROUND: Duration = Duration::from_secs(1);
/// Rounds until a mirror that was killed is started again: long enough for its lag to be seen.
const AWAY: u32 = 10;

/// What `demo live --json` prints.
#[derive(Debug, Serialize)]
struct Place {
    dashboard: String,
    token: String,
    config: String,
    process: u32,
}

pub(super) async fn play(args: DemoArgs, port: u16, json: bool) -> anyhow::Result<Exit> {
    let token = uuid::Uuid::new_v4().simple().to_string();
    let written = |folder: &Path, source: &Side, standby: &Side| {
        let reports = folder.join("drills");
        format!(
            "{}http: {{ listen: \"127.0.0.1:{port}\", token: {token} }}\ndrills: [{{ mirror: {MIRROR}, reports: \"{}\" }}]\n",
            yaml(source, standby),
            reports.display()
        )
    };
    let mut stage = Stage::set(args, true, written).await?;
    let process = stage.start(MIRROR, Way::Forth)?;
    stage.await_that("the topic on the standby", |stage| stage.standby().has_topic()).await?;
    let config = stage.config_file().display().to_string();
    let place = Place { dashboard: format!("http://localhost:{port}/"), token: token.clone(), config, process };
    if json {
        output::json(&place)?;
    } else {
        output::print(&page(&place, stage.args.records))?;
    }
    go_on(&mut stage, json).await
}

fn page(place: &Place, records: u64) -> String {
    let Place { dashboard, token, config, process } = place;
    format!(
        "Two brokers in memory, {RATE} records a second into {TOPIC} (for {} minutes), and a mirror between them.\n\n  \
         dashboard  {dashboard}\n  token      {token}   (\"Actions\" there takes it)\n\nIn another terminal:\n\n  \
         kmirror pause -c {config}      the lag rises\n  \
         kmirror resume -c {config}     and falls\n  \
         kill -9 {process}      the mirror is gone, and started again ten seconds later\n  \
         kmirror status -c {config} --watch\n  \
         kmirror groups plan -c {config}\n\nCtrl-C ends it.\n",
        records.div_ceil(RATE * 60)
    )
}

/// Until somebody interrupts it.
async fn go_on(stage: &mut Stage, json: bool) -> anyhow::Result<Exit> {
    let (mut written, mut away) = (0, 0);
    loop {
        let next = stage.args.records.min(written + RATE);
        let (from, to) = (shared_out(written, stage.args.partitions), shared_out(next, stage.args.partitions));
        let ranges: Vec<(u64, u64)> = from.into_iter().zip(to).collect();
        if next > written {
            Load::start(stage.source(), Origin::Source, &ranges, ROUND).await?.finish().await?;
        } else {
            tokio::time::sleep(ROUND).await;
        }
        written = next;
        consume(stage);
        away = if stage.has_ended()? { away + 1 } else { 0 };
        if away == AWAY {
            let process = stage.start(MIRROR, Way::Forth)?;
            if !json {
                output::print(&format!("the mirror runs again as process {process}\n"))?;
            }
        }
    }
}

/// One group reads all that comes, another one half of it.
fn consume(stage: &Stage) {
    let source = &stage.source().broker;
    for partition in 0..stage.args.partitions {
        let Ok(log) = source.log(TOPIC, partition) else { continue };
        source.commit_offset("billing", TOPIC, partition, log.high_watermark);
        source.commit_offset("audit", TOPIC, partition, log.high_watermark / 2);
    }
}
