//! The null ends: two embedded clusters, the source's topic made up as it is read, the target's forgotten as it is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kmirror::batch::{Codec, RawBatch, Record, Stamp, encode};
use kmirror::broker::{Action, Cluster, ClusterOptions, RequestKind, Template};
use kmirror::client::ApiKey;
use uuid::Uuid;

use super::args::Args;

/// Bytes of different batches before they repeat: more than a cache of a core holds, so that reading costs what it costs.
const RING_BYTES: usize = 8 << 20;
/// Bytes of a record that are not its value, about.
const RECORD_OVERHEAD: usize = 9;

/// What the source has to offer.
pub(crate) struct Source {
    template: Template,
    /// One a mirror.
    topics: Vec<String>,
    partitions: i32,
    batches_each: u64,
    pub(crate) batch_bytes: usize,
    records: i32,
}

impl Source {
    pub(crate) fn new(args: &Args) -> anyhow::Result<Self> {
        let different = (RING_BYTES / args.batch_bytes.max(1)).clamp(16, 4096);
        let mut random = fastrand::Rng::with_seed(1);
        let batches = (0..different).map(|_| batch(args, &mut random)).collect::<Result<Vec<RawBatch>, _>>()?;
        let batch_bytes = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() / batches.len();
        let wanted = args.gb * 1e9 / f64::from(args.mirrors) / f64::from(args.partitions) / batch_bytes as f64;
        Ok(Self {
            template: Template::new(&batches)?,
            topics: (0..args.mirrors).map(|number| format!("bench-{number}")).collect(),
            partitions: args.partitions,
            batches_each: (wanted as u64).max(1),
            batch_bytes,
            records: args.records,
        })
    }

    /// Batches of all partitions.
    pub(crate) fn batches(&self) -> u64 {
        self.batches_each * self.partitions().count() as u64
    }

    fn partitions(&self) -> impl Iterator<Item = (&str, i32)> {
        self.topics.iter().flat_map(|topic| (0..self.partitions).map(move |partition| (topic.as_str(), partition)))
    }

    /// Bytes of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.batches() * self.batch_bytes as u64
    }

    pub(crate) fn records(&self) -> i64 {
        self.batches().cast_signed() * i64::from(self.records)
    }
}

/// Values that do not compress: the bytes on the wire are as many with every codec, and those stay what is compared. They
/// are dated now: with old records the target would be thought to forget sequences, and one batch be under way at a time.
fn batch(args: &Args, random: &mut fastrand::Rng) -> anyhow::Result<RawBatch> {
    let each = args.batch_bytes / args.records.unsigned_abs() as usize;
    let timestamp = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let records = (0..i64::from(args.records)).map(|offset| {
        let mut value = vec![0; each.saturating_sub(RECORD_OVERHEAD).max(1)];
        random.fill(&mut value);
        let value = Some(Bytes::from(value));
        Record { offset, timestamp, attributes: 0, key: None, value, headers: Vec::new() }
    });
    let codec: Codec = args.codec.codec();
    Ok(encode(&records.collect::<Vec<_>>(), codec, Stamp::NONE)?)
}

pub(crate) struct Ends<'a> {
    of: &'a Source,
    source: Cluster,
    target: Cluster,
}

impl<'a> Ends<'a> {
    pub(crate) async fn start(of: &'a Source) -> anyhow::Result<Self> {
        let options = |name: &str| ClusterOptions { cluster_id: format!("bench-{name}"), ..Default::default() };
        let (source, target) = (Cluster::start(options("source")).await?, Cluster::start(options("target")).await?);
        for topic in &of.topics {
            source.create_topic(topic, of.partitions, 1, &[])?;
            target.create_topic(topic, of.partitions, 1, &[])?;
        }
        for (topic, partition) in of.partitions() {
            target.forget(topic, partition)?;
        }
        Ok(Self { of, source, target })
    }

    /// What a process between them is to do; one of a fleet shares it with others.
    pub(crate) fn config(&self, fleet: bool) -> String {
        let address = |cluster: &Cluster| cluster.bootstrap().join(",");
        let mut text = format!(
            "clusters:\n  source: {{ bootstrap: [\"{}\"] }}\n  target: {{ bootstrap: [\"{}\"] }}\nmirrors:\n",
            address(&self.source),
            address(&self.target)
        );
        for topic in &self.of.topics {
            let _ = writeln!(
                text,
                "  - {{ name: {topic}, source: source, target: target, topics: {{ include: [{topic}] }} }}"
            );
        }
        if fleet {
            text.push_str("fleet: {}\n");
        }
        text
    }

    /// Of the fleet's group: how often its members have changed.
    pub(crate) fn generation(&self) -> i32 {
        self.of.topics.iter().map(|mirror| self.target.group_generation(&format!("kmirror.{mirror}"))).sum()
    }

    /// Says, once asked, whether every partition has been fetched: all of kmirror's start lies behind it then.
    pub(crate) fn watch_fetches(&self) -> impl Fn() -> bool {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (partitions, noted) = (self.of.partitions().count(), seen.clone());
        self.source.intercept(ApiKey::Fetch, None, move |context| {
            if let RequestKind::Fetch(request) = context.request {
                let mut noted = noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                for topic in &request.topics {
                    noted.extend(topic.partitions.iter().map(|wanted| (topic.topic_id, wanted.partition)));
                }
            }
            Action::Pass
        });
        move || seen.lock().is_ok_and(|seen: std::sync::MutexGuard<'_, BTreeSet<(Uuid, i32)>>| seen.len() >= partitions)
    }

    /// Lets the source have its records.
    pub(crate) fn release(&self) -> anyhow::Result<()> {
        self.source.clear_intercepts();
        for (topic, partition) in self.of.partitions() {
            self.source.generate(topic, partition, &self.of.template, self.of.batches_each)?;
        }
        Ok(())
    }

    /// Records that the target has acknowledged.
    pub(crate) fn acknowledged(&self) -> i64 {
        let ends = self.of.partitions().filter_map(|(topic, partition)| self.target.log(topic, partition).ok());
        ends.map(|log| log.high_watermark).sum()
    }

    pub(crate) fn source(&self) -> &Source {
        self.of
    }
}
