//! Several mirrors in one process: both ways, in a chain, from many to one and from one to many.

use std::fmt::Write as _;
use std::sync::Arc;

use kmirror::broker::{Cluster, ClusterOptions};
use tokio::runtime::Runtime;

use super::{append, numbered, value};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Clusters by name, and one process that runs all mirrors between them.
struct Shape {
    clusters: Vec<(&'static str, Arc<Cluster>)>,
    mirror: Mirror,
    _runtime: Runtime,
}

/// A mirror: its name, source, target, `include` and `rename`.
type Arrow = (&'static str, &'static str, &'static str, &'static str, &'static str);

impl Shape {
    fn new(name: &str, clusters: &[&'static str], arrows: &[Arrow]) -> Self {
        let runtime = Runtime::new().unwrap();
        let start = |cluster: &'static str| {
            let options = ClusterOptions {
                nodes: 1,
                cluster_id: format!("{name}-{cluster}"),
                auto_create_topics: false,
                ..ClusterOptions::default()
            };
            (cluster, Arc::new(runtime.block_on(Cluster::start(options)).unwrap()))
        };
        let clusters: Vec<_> = clusters.iter().copied().map(start).collect();
        let mirror = Mirror::between(name, "127.0.0.1:1", "127.0.0.1:2", &["x"], "");
        let mut text = "clusters:\n".to_owned();
        for (cluster, it) in &clusters {
            let _ = writeln!(text, "  {cluster}: {{ bootstrap: [\"{}\"] }}", it.bootstrap().join("\", \""));
        }
        text.push_str("mirrors:\n");
        for (mirror, source, target, include, rename) in arrows {
            let _ = writeln!(
                text,
                "  - {{ name: {mirror}, source: {source}, target: {target}, topics: {{ include: [\"{include}\"] }}, rename: \
                 \"{rename}\" }}"
            );
        }
        std::fs::write(&mirror.config, text).unwrap();
        Self { clusters, mirror, _runtime: runtime }
    }

    fn cluster(&self, name: &str) -> &Cluster {
        &self.clusters.iter().find(|(cluster, _)| *cluster == name).unwrap().1
    }

    /// A topic of one partition, with ten records that say where they are from.
    fn fill(&self, cluster: &str, topic: &str) {
        self.cluster(cluster).create_topic(topic, 1, 1, &[]).unwrap();
        append(self.cluster(cluster), topic, 0, &format!("{cluster}-"), 0, 10);
    }

    fn await_records(&self, cluster: &str, topic: &str, expected: &[String]) {
        wait_until(&format!("{topic} on {cluster}"), LIMIT, || {
            let there = self.cluster(cluster).records(topic, 0, 0).map_err(|error| error.to_string())?;
            let there: Vec<String> = there.iter().map(value).collect();
            if there == expected { Ok(()) } else { Err(format!("{there:?}")) }
        });
    }

    /// Topics of a cluster that are not kmirror's own.
    fn topics(&self, cluster: &str) -> Vec<String> {
        let mut names: Vec<String> = self.cluster(cluster).topics().into_iter().map(|topic| topic.name).collect();
        names.retain(|name| !name.starts_with("__"));
        names.sort();
        names
    }

    /// The configuration is refused, and says so.
    fn refused(&self) -> String {
        let output = self.mirror.output(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn two_mirrors_in_opposite_directions_do_not_loop() {
    let arrows = [("ab", "a", "b", "orders", "{source}.{topic}"), ("ba", "b", "a", "orders", "{source}.{topic}")];
    let mut shape = Shape::new("active-active", &["a", "b"], &arrows);
    shape.fill("a", "orders");
    shape.fill("b", "orders");
    shape.mirror.start();
    shape.await_records("b", "a.orders", &numbered("a-", 0, 10));
    shape.await_records("a", "b.orders", &numbered("b-", 0, 10));
    for cluster in ["a", "b"] {
        append(shape.cluster(cluster), "orders", 0, &format!("{cluster}-"), 10, 15);
    }
    shape.await_records("b", "a.orders", &numbered("a-", 0, 15));
    shape.await_records("a", "b.orders", &numbered("b-", 0, 15));
    shape.mirror.stop();
    assert_eq!(shape.topics("a"), ["b.orders", "orders"]);
    assert_eq!(shape.topics("b"), ["a.orders", "orders"]);
    assert_eq!(shape.cluster("a").records("orders", 0, 0).unwrap().len(), 15, "what was written there, and no more");
}

#[test]
fn what_would_run_in_a_circle_is_refused_before_it_starts() {
    for (include, rename) in [("orders", "{topic}"), (".*", "{source}.{topic}")] {
        let arrows = [("ab", "a", "b", include, rename), ("ba", "b", "a", include, rename)];
        let refused = Shape::new("circular", &["a", "b"], &arrows).refused();
        assert!(refused.contains("circle"), "{refused}");
    }
}

#[test]
fn a_chain_hands_on_what_the_one_before_it_has_written() {
    let arrows = [("ab", "a", "b", "orders", "{topic}"), ("bc", "b", "c", "orders", "{topic}")];
    let mut shape = Shape::new("chain", &["a", "b", "c"], &arrows);
    shape.fill("a", "orders");
    shape.mirror.start();
    shape.await_records("c", "orders", &numbered("a-", 0, 10));
    shape.mirror.kill();
    append(shape.cluster("a"), "orders", 0, "a-", 10, 15);
    shape.mirror.start();
    shape.await_records("b", "orders", &numbered("a-", 0, 15));
    shape.await_records("c", "orders", &numbered("a-", 0, 15));
    let ask = |mirror: &str| shape.mirror.translate("orders", 0, 12, &["--mirror", mirror]);
    let (on_b, reason) = ask("ab");
    assert_eq!(reason, None);
    let (on_c, _) = shape.mirror.translate("orders", 0, on_b, &["--mirror", "bc"]);
    let records = shape.cluster("c").records("orders", 0, on_c).unwrap();
    assert_eq!(value(&records[0]), "a-12");
    shape.mirror.stop();
}

#[test]
fn many_lead_to_one_and_one_leads_to_many() {
    let arrows = [
        ("ac", "a", "c", "orders", "{source}.{topic}"),
        ("bc", "b", "c", "orders", "{source}.{topic}"),
        ("ab", "a", "b", "orders", "copy.{topic}"),
    ];
    let mut shape = Shape::new("fans", &["a", "b", "c"], &arrows);
    shape.fill("a", "orders");
    shape.fill("b", "orders");
    shape.mirror.start();
    shape.await_records("c", "a.orders", &numbered("a-", 0, 10));
    shape.await_records("c", "b.orders", &numbered("b-", 0, 10));
    shape.await_records("b", "copy.orders", &numbered("a-", 0, 10));
    shape.mirror.stop();
    assert_eq!(shape.topics("c"), ["a.orders", "b.orders"]);
}
