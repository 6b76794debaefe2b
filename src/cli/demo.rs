//! `kmirror demo`: the whole story in seconds, with nothing installed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::batch::{self, Codec, Record, Stamp};
use crate::broker::{Cluster as Broker, ClusterOptions};
use crate::client::{Cluster, ClusterSpec, TopicPartition, Topics};
use crate::config::{Config, SystemEnv};
use crate::engine::connect_mirror;
use crate::ops::{MirrorState, status};

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Starts two in-memory Kafka brokers on loopback ports and a workload, and mirrors from one to the \
other with a second kmirror process, which is killed (kill -9) in the middle and started again. Then compares both sides \
record by record, and every translated offset. Reads no configuration and writes no file.

Exit code 3 when a record is missing, twice, changed or out of order.

Examples:
  kmirror demo
  kmirror demo --records 1000000 --json")]
pub struct DemoArgs {
    /// Records that the workload produces
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub records: u64,
    /// Partitions of the demo's topic
    #[arg(long, value_name = "NUMBER", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub partitions: i32,
}

const TOPIC: &str = "orders";
const MIRROR: &str = "demo";
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Without progress for this long the demo has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the demo found; `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Records that the workload produced.
    produced: u64,
    /// Records that stand on the target, equal and in order.
    equal: u64,
    /// Records that are missing, changed or out of order.
    wrong: u64,
    /// Records beyond those produced.
    surplus: u64,
    /// Records on the target when the mirror was killed.
    killed_at: u64,
    /// From the kill to the first record that the new process appended, seconds.
    recovery_seconds: f64,
    /// Offsets translated in both directions and found exact.
    offsets_exact: u64,
    /// Offsets whose translation is not the record's.
    offsets_wrong: u64,
    /// Target offsets by which records are shifted against the source, at most: markers of the second start.
    shift_max: i64,
    /// All of it, seconds.
    seconds: f64,
}

struct Stage {
    source: Broker,
    target: Broker,
    args: DemoArgs,
    json: bool,
    began: Instant,
}

/// Plays the demo.
///
/// # Errors
/// What kept it from playing; a record missing or twice is [`Exit::Problems`].
pub async fn run(args: DemoArgs, ctx: &Context) -> anyhow::Result<Exit> {
    ctx.start_log();
    let stage = Stage::set(args, ctx.json).await?;
    let mut summary = Summary { produced: stage.args.records, ..Summary::default() };
    stage.play(&mut summary).await?;
    stage.compare(&mut summary)?;
    stage.check_offsets(&mut summary).await?;
    summary.seconds = stage.began.elapsed().as_secs_f64();
    show(&summary, ctx.json)?;
    let good = summary.wrong + summary.surplus + summary.offsets_wrong == 0 && summary.equal == summary.produced;
    Ok(if good { Exit::Done } else { Exit::Problems })
}

impl Stage {
    async fn set(args: DemoArgs, json: bool) -> anyhow::Result<Self> {
        let began = Instant::now();
        let start = async |name: &str| {
            let options =
                ClusterOptions { cluster_id: format!("demo-{name}"), auto_create_topics: false, ..Default::default() };
            Broker::start(options).await.with_context(|| format!("starting the {name} broker"))
        };
        let (source, target) = (start("source").await?, start("target").await?);
        source.create_topic(TOPIC, args.partitions, 1, &[])?;
        let stage = Self { source, target, args, json, began };
        stage.say(&format!(
            "brokers   source {} and target {}, in memory",
            stage.address(&stage.source),
            stage.address(&stage.target)
        ))?;
        Ok(stage)
    }

    fn address(&self, broker: &Broker) -> String {
        broker.bootstrap().join(",")
    }

    /// A line of the story; with `--json` only the end is told.
    fn say(&self, words: &str) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        output::print(&format!("{:6.2}s  {words}\n", self.began.elapsed().as_secs_f64()))
    }

    fn yaml(&self) -> String {
        format!(
            "clusters:\n  source: {{ bootstrap: [\"{}\"] }}\n  target: {{ bootstrap: [\"{}\"] }}\nmirrors:\n  - name: {MIRROR}\n    \
             source: source\n    target: target\n    topics: {{ include: [\"{TOPIC}\"] }}\n",
            self.address(&self.source),
            self.address(&self.target)
        )
    }

    async fn play(&self, summary: &mut Summary) -> anyhow::Result<()> {
        let workload = self.workload().await?;
        self.say(&format!(
            "workload  {} records into {TOPIC}, {} partitions, five codecs, batches of 1 to 400",
            output::count(self.args.records.cast_signed()),
            self.args.partitions
        ))?;
        let bar = output::progress(self.args.records, "mirrored");
        let mut mirror = self.start_mirror().await?;
        self.say(&format!("mirror    kmirror run, process {}", mirror.id().unwrap_or_default()))?;
        self.await_mirrored(&mut mirror, self.args.records / 3, &bar).await?;
        mirror.kill().await?;
        summary.killed_at = self.mirrored();
        let killed = Instant::now();
        self.say(&format!("kill -9   with {} records on the target", output::count(summary.killed_at.cast_signed())))?;
        let mut mirror = self.start_mirror().await?;
        self.await_mirrored(&mut mirror, summary.killed_at + 1, &bar).await?;
        summary.recovery_seconds = killed.elapsed().as_secs_f64();
        self.say(&format!(
            "mirror    started again, process {}; goes on after {:.2} s",
            mirror.id().unwrap_or_default(),
            summary.recovery_seconds
        ))?;
        self.await_mirrored(&mut mirror, self.args.records, &bar).await?;
        for outcome in workload.join_all().await {
            outcome?;
        }
        self.await_caught_up().await?;
        bar.finish_and_clear();
        mirror.kill().await?;
        self.say("mirror    caught up")
    }

    /// Writes over the wire, as any producer does: one task a partition.
    async fn workload(&self) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        let spec = ClusterSpec::new("source", self.source.bootstrap(), "demo-workload".to_owned());
        let cluster = Cluster::connect(spec).await?;
        let metadata = cluster.refresh(Topics::Named(&[TOPIC])).await?;
        let topic_id = metadata.topic(TOPIC).context("the demo's topic is there")?.id;
        let mut tasks = JoinSet::new();
        let partitions = u64::from(self.args.partitions.unsigned_abs());
        for (partition, number) in (0..self.args.partitions).zip(0..) {
            let tp = TopicPartition { topic: TOPIC.to_owned(), topic_id, partition };
            let count = self.args.records / partitions + u64::from(number < self.args.records % partitions);
            tasks.spawn(write_partition(cluster.clone(), tp, count));
        }
        Ok(tasks)
    }

    /// The mirror is a process of its own, so that the kill is a real one.
    async fn start_mirror(&self) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        let mut mirror = Command::new(program)
            .args(["run", "--log-level", "error", "-c", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting the mirror's process")?;
        let mut stdin = mirror.stdin.take().context("the mirror's standard input")?;
        stdin.write_all(self.yaml().as_bytes()).await.context("giving the mirror its configuration")?;
        Ok(mirror)
    }

    /// Records on the target now.
    fn mirrored(&self) -> u64 {
        let ends = (0..self.args.partitions).filter_map(|p| self.target.log(TOPIC, p).ok());
        ends.map(|log| log.high_watermark.unsigned_abs()).sum()
    }

    async fn await_mirrored(&self, mirror: &mut Child, count: u64, bar: &ProgressBar) -> anyhow::Result<()> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.mirrored();
            bar.set_position(now.min(self.args.records));
            if now >= count {
                return Ok(());
            }
            if now > last {
                (last, since) = (now, Instant::now());
            }
            if let Some(ended) = mirror.try_wait()? {
                bail!("the mirror's process ended by itself: {ended}");
            }
            if since.elapsed() > PATIENCE {
                bail!("the mirror stands still at {now} of {count} records");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Markers of the second start count as offsets: being at the end is what `status` says it is.
    async fn await_caught_up(&self) -> anyhow::Result<()> {
        let config = Config::parse(&self.yaml(), "demo", &SystemEnv { folder: std::path::PathBuf::new() })?;
        let mirror = config.mirrors.first().context("the demo's mirror")?;
        let (source, target) = connect_mirror(&config, mirror).await?;
        let began = Instant::now();
        loop {
            let now = status(mirror, &source, &target).await?;
            match now.partitions.iter().find(|p| p.lag_records > 0 || p.state != "mirroring") {
                None if !now.partitions.is_empty() => return Ok(()),
                Some(behind) if began.elapsed() > PATIENCE => {
                    bail!("partition {} is {}", behind.partition, behind.state)
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Record by record, as the brokers hold them.
    fn compare(&self, summary: &mut Summary) -> anyhow::Result<()> {
        for partition in 0..self.args.partitions {
            let (here, there) = self.both(partition)?;
            let equal = here.iter().zip(&there).filter(|(a, b)| same(a, b)).count();
            summary.equal += equal as u64;
            summary.wrong += (here.len() - equal) as u64;
            summary.surplus += there.len().saturating_sub(here.len()) as u64;
            let shift = here.iter().zip(&there).map(|(a, b)| b.offset - a.offset).max().unwrap_or(0);
            summary.shift_max = summary.shift_max.max(shift);
        }
        Ok(())
    }

    fn both(&self, partition: i32) -> anyhow::Result<(Vec<Record>, Vec<Record>)> {
        Ok((self.source.records(TOPIC, partition, 0)?, self.target.records(TOPIC, partition, 0)?))
    }

    /// Every record's offset, both ways, through the map in the state topic.
    async fn check_offsets(&self, summary: &mut Summary) -> anyhow::Result<()> {
        let spec = ClusterSpec::new("target", self.target.bootstrap(), "demo".to_owned());
        let state = MirrorState::read(MIRROR, &Cluster::connect(spec).await?).await?.context("the mirror's state")?;
        for known in state.partitions() {
            let (here, there) = self.both(known.declared.partition)?;
            let end = there.last().map_or(0, |r| r.offset + 1);
            for (a, b) in here.iter().zip(&there) {
                let (to_target, to_source) = (known.map.to_target(a.offset, end), known.map.to_source(b.offset, end));
                let exact = to_target.exact && to_source.exact;
                let right = exact && (to_target.offset, to_source.offset) == (b.offset, a.offset);
                if right { summary.offsets_exact += 1 } else { summary.offsets_wrong += 1 }
            }
        }
        Ok(())
    }
}

fn same(a: &Record, b: &Record) -> bool {
    (&a.key, &a.value, &a.headers, a.timestamp) == (&b.key, &b.value, &b.headers, b.timestamp)
}

async fn write_partition(cluster: Cluster, tp: TopicPartition, count: u64) -> anyhow::Result<()> {
    let mut written = 0;
    for (size, codec) in [1, 400, 7, 90, 250].into_iter().cycle().zip(CODECS.into_iter().cycle()) {
        let records: Vec<Record> = (written..count.min(written + size)).map(|n| order(&tp, n, written)).collect();
        if records.is_empty() {
            break;
        }
        written += records.len() as u64;
        let batch = batch::encode(&records, codec, Stamp::NONE)?;
        cluster.append_plain(&tp, batch.bytes).await?;
    }
    Ok(())
}

fn order(tp: &TopicPartition, number: u64, base: u64) -> Record {
    let value = format!("{{\"order\":\"{}-{number}\",\"amount\":{}}}", tp.partition, number * 7 % 1_000);
    Record {
        offset: (number - base).cast_signed(),
        timestamp: crate::engine::now_ms(),
        attributes: 0,
        key: (!number.is_multiple_of(10)).then(|| Bytes::from(format!("customer-{}", number % 997))),
        value: (!number.is_multiple_of(50)).then(|| Bytes::from(value)),
        // The same name twice: both must arrive, in order.
        headers: vec![
            (Bytes::from_static(b"trace"), Some(Bytes::from(number.to_string()))),
            (Bytes::from_static(b"trace"), None),
        ],
    }
}

fn show(summary: &Summary, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(summary);
    }
    let count = |n: u64| output::count(n.cast_signed());
    let rows = [
        ("records produced", count(summary.produced)),
        ("arrived once, in order, unchanged", count(summary.equal)),
        ("missing, changed or out of order", count(summary.wrong)),
        ("twice", count(summary.surplus)),
        ("offsets translated exactly, both ways", count(summary.offsets_exact)),
        ("offsets translated wrongly", count(summary.offsets_wrong)),
        ("kill -9 to the next record", format!("{:.2} s", summary.recovery_seconds)),
        ("offset shift left by the second start's markers", output::count(summary.shift_max)),
    ];
    let table = output::table(&["", ""], &[1], rows.map(|(what, value)| vec![what.to_owned(), value]));
    output::print(&format!("{table}in {:.1} s\n", summary.seconds))
}
