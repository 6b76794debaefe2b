//! kmirror as a process of its own between the ends, or as several that share the work.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::ends::Ends;
use super::proc::{Reading, Stopwatch};

const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After its start or the last change of a fleet.
const SETTLE: Duration = Duration::from_secs(1);
/// Without progress for this long the measurement has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// From the moment when the source has records until the target has acknowledged the last one.
pub(crate) async fn measure(program: &Path, ends: &Ends<'_>, instances: u32) -> anyhow::Result<Reading> {
    let fetched = ends.watch_fetches();
    let mut processes = Vec::new();
    for _ in 0..instances {
        let before = ends.generation();
        processes.push(start(program, &ends.config(instances > 1)).await?);
        await_progress(&mut processes, || (i64::from(fetched()), 1)).await.context("its start")?;
        if instances > 1 {
            await_progress(&mut processes, || (i64::from(ends.generation()), i64::from(before) + 1))
                .await
                .context("its joining")?;
        }
        settle(ends).await;
    }
    let pids: Vec<u32> = processes.iter().filter_map(Child::id).collect();
    let watch = Stopwatch::start(pids)?;
    ends.release()?;
    await_progress(&mut processes, || (ends.acknowledged(), ends.source().records())).await?;
    let reading = watch.stop(ends.source().bytes())?;
    for process in &mut processes {
        process.kill().await?;
    }
    Ok(reading)
}

/// Until what is done once only is over, shards among instances handed over included.
async fn settle(ends: &Ends<'_>) {
    let (mut generation, mut since) = (ends.generation(), Instant::now());
    while since.elapsed() < SETTLE {
        tokio::time::sleep(LOOK_EVERY).await;
        if ends.generation() != generation {
            (generation, since) = (ends.generation(), Instant::now());
        }
    }
}

async fn start(program: &Path, config: &str) -> anyhow::Result<Child> {
    let mut process = Command::new(program)
        .args(["run", "--log-level", "error", "-c", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut stdin = process.stdin.take().context("its standard input")?;
    stdin.write_all(config.as_bytes()).await?;
    Ok(process)
}

/// Until as much is there as is wanted; `look` gives both.
async fn await_progress(processes: &mut [Child], look: impl Fn() -> (i64, i64)) -> anyhow::Result<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let (now, wanted) = look();
        if now >= wanted {
            return Ok(());
        }
        if now > last {
            (last, since) = (now, Instant::now());
        }
        for process in &mut *processes {
            if let Some(ended) = process.try_wait()? {
                bail!("it ended by itself: {ended}");
            }
        }
        if since.elapsed() > PATIENCE {
            bail!("it stands still at {now} of {wanted}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
