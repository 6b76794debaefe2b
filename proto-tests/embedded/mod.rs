//! The program as a user runs it, between embedded brokers: what cannot be brought about on a real cluster at will.

mod alerts;
mod api;
mod api_actions;
mod api_document;
mod api_load;
mod backed;
mod bandwidth;
mod capture;
mod demo;
mod drill;
mod drill_schedule;
mod failback;
pub(crate) mod failover;
mod group_commands;
mod group_sync;
mod groups;
mod identity;
mod leaders;
mod obstacles;
mod ownership;
mod policies;
mod reload;
mod replay;
mod shapes;
mod starting;
pub(crate) mod state;
mod sync;
mod takeover;
mod threats;
mod throttled;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kmirror::batch::{Codec, Record};
use kmirror::broker::{Cluster, ClusterOptions};
use tokio::runtime::Runtime;

use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Two embedded clusters with one topic on the source, and a mirror between them.
pub(crate) struct Pair {
    pub(crate) source: Arc<Cluster>,
    pub(crate) target: Arc<Cluster>,
    pub(crate) mirror: Mirror,
    pub(crate) topic: String,
    _runtime: Runtime,
}

impl Pair {
    /// Clusters of so many nodes; `more` are further lines of the mirror, indented by four.
    pub(crate) fn new(topic: &str, nodes: i32, partitions: i32, more: &str) -> Self {
        let pair = Self::matching(topic, topic, nodes, more);
        pair.source.create_topic(topic, partitions, 1, &[]).unwrap();
        pair
    }

    /// Mirrors records 0 to 9 of the one partition.
    pub(crate) fn mirrored(topic: &str, more: &str) -> Self {
        let mut pair = Self::new(topic, 2, 1, more);
        pair.write(0, 0, 10);
        pair.mirror.start();
        pair.await_values(0, &numbered("", 0, 10));
        pair
    }

    /// The target ends up with exactly these records, all of them mapped.
    pub(crate) fn ends_with(mut self, expected: &[String]) {
        self.await_values(0, expected);
        self.mirror.await_caught_up(1);
        self.assert_mapped(0);
        self.mirror.stop();
    }

    /// The same without a topic as yet: the mirror follows what the pattern matches.
    pub(crate) fn matching(topic: &str, include: &str, nodes: i32, more: &str) -> Self {
        Self::with_target(topic, include, nodes, more, &[])
    }

    /// The same with broker configs of the target.
    pub(crate) fn with_target(topic: &str, include: &str, nodes: i32, more: &str, configs: &[(&str, &str)]) -> Self {
        let runtime = Runtime::new().unwrap();
        let start = |name: &str, configs: &[(&str, &str)]| {
            let options = ClusterOptions {
                nodes,
                cluster_id: format!("{topic}-{name}"),
                auto_create_topics: false,
                broker_configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                ..ClusterOptions::default()
            };
            Arc::new(runtime.block_on(Cluster::start(options)).unwrap())
        };
        let (source, target) = (start("source", &[]), start("target", configs));
        let addresses = |cluster: &Cluster| cluster.bootstrap().join(",");
        let mirror = Mirror::between(topic, &addresses(&source), &addresses(&target), &[include], more);
        Self { source, target, mirror, topic: topic.to_owned(), _runtime: runtime }
    }

    /// The same mirror once more, as a second process.
    pub(crate) fn twin(&self) -> Mirror {
        let addresses = |cluster: &Cluster| cluster.bootstrap().join(",");
        Mirror::between(&self.topic, &addresses(&self.source), &addresses(&self.target), &[&self.topic], "")
    }

    /// Appends records `from..to` to a partition of the source as one batch; their values say which they are.
    pub(crate) fn write(&self, partition: i32, from: u64, to: u64) {
        append(&self.source, &self.topic, partition, "", from, to);
    }

    /// Values of a partition, in order.
    pub(crate) fn values(&self, cluster: &Cluster, partition: i32) -> Vec<String> {
        cluster.records(&self.topic, partition, 0).unwrap().iter().map(value).collect()
    }

    /// Waits until the target's partition holds exactly these records.
    pub(crate) fn await_values(&self, partition: i32, expected: &[String]) {
        wait_until("the records on the target", LIMIT, || {
            let there = self.target.records(&self.topic, partition, 0).map_err(|error| error.to_string())?;
            let there: Vec<String> = there.iter().map(value).collect();
            if there == expected { Ok(()) } else { Err(format!("{} records, last {:?}", there.len(), there.last())) }
        });
    }

    /// Waits until the running mirror stands still: it was told to once.
    pub(crate) fn await_pause_heeded(&self) {
        wait_until("the pause", LIMIT, || match self.mirror.log() {
            log if log.contains("paused=true") => Ok(()),
            log => Err(log),
        });
        // A fetch may be under way.
        std::thread::sleep(Duration::from_secs(1));
    }

    /// Waits for a halt of partition 0; its reason and the arguments of the command that ends it.
    pub(crate) fn await_halt(&self) -> (String, Vec<String>) {
        let row = self.mirror.await_state(&self.topic, 0, "halted");
        let text = |field: &str| row[field].as_str().expect("text").to_owned();
        let way_out = text("way_out");
        let (_, command) = way_out.split_once("kmirror ").expect("a command");
        (text("reason"), command.split(' ').map(str::to_owned).collect())
    }

    /// Runs the command that a halt has named.
    pub(crate) fn obey(&self, command: &[String]) {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = self.mirror.output(&args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }

    /// Every record that stands on both sides is mapped to itself, both ways.
    pub(crate) fn assert_mapped(&self, partition: i32) {
        let by_value = |cluster: &Cluster| -> BTreeMap<String, i64> {
            cluster.records(&self.topic, partition, 0).unwrap().iter().map(|r| (value(r), r.offset)).collect()
        };
        let (here, there) = (by_value(&self.source), by_value(&self.target));
        assert!(!here.is_empty());
        for (value, source) in here {
            let Some(target) = there.get(&value) else { continue };
            assert_eq!(self.mirror.translate(&self.topic, partition, source, &[]), (*target, None), "{value}");
            let back = self.mirror.translate(&self.topic, partition, *target, &["--reverse"]);
            assert_eq!(back, (source, None), "{value}");
        }
    }
}

/// Appends records to a partition as one batch; their values are the prefix and their number.
pub(crate) fn append(cluster: &Cluster, topic: &str, partition: i32, prefix: &str, from: u64, to: u64) {
    let record = |number| (Some(Bytes::from(format!("k{number}"))), Some(Bytes::from(format!("{prefix}{number}"))));
    let records: Vec<_> = (from..to).map(record).collect();
    cluster.append_records(topic, partition, Codec::None, 1_790_000_000_000, &records).unwrap();
}

/// The values that [`append`] writes.
pub(crate) fn numbered(prefix: &str, from: u64, to: u64) -> Vec<String> {
    (from..to).map(|number| format!("{prefix}{number}")).collect()
}

pub(crate) fn value(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}
