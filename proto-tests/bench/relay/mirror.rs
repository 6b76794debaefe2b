//! kmirror as a process of its own between the ends.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::ends::Ends;
use super::proc::{Reading, Stopwatch};

const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After its start, so that what it does once only is over.
const SETTLE: Duration = Duration::from_millis(500);
/// Without progress for this long the measurement has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// From the moment when the source has records until the target has acknowledged the last one.
pub(crate) async fn measure(program: &Path, ends: &Ends<'_>) -> anyhow::Result<Reading> {
    let fetched = ends.watch_fetches();
    let mut process = start(program, &ends.config()).await?;
    let pid = process.id().context("kmirror's process id")?;
    await_progress(&mut process, || (i64::from(fetched()), 1)).await.context("its start")?;
    tokio::time::sleep(SETTLE).await;
    let watch = Stopwatch::start(pid)?;
    ends.release()?;
    await_progress(&mut process, || (ends.acknowledged(), ends.source().records())).await?;
    let reading = watch.stop(ends.source().bytes())?;
    process.kill().await?;
    Ok(reading)
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
async fn await_progress(process: &mut Child, look: impl Fn() -> (i64, i64)) -> anyhow::Result<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let (now, wanted) = look();
        if now >= wanted {
            return Ok(());
        }
        if now > last {
            (last, since) = (now, Instant::now());
        }
        if let Some(ended) = process.try_wait()? {
            bail!("it ended by itself: {ended}");
        }
        if since.elapsed() > PATIENCE {
            bail!("it stands still at {now} of {wanted}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
