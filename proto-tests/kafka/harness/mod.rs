//! Real Kafka for the tests, without containers: the jars come from Maven Central, brokers are child processes on
//! loopback ports, and Kafka's own Java clients write and read through [`Driver`].
//!
//! Nothing here knows kmirror's library: what these tests see of a cluster, they see through Kafka's own code.

pub(crate) mod cluster;
pub(crate) mod driver;
pub(crate) mod dump;
pub(crate) mod jars;
pub(crate) mod process;
pub(crate) mod proxy;
mod smoke;
pub(crate) mod wait;
mod zookeeper;

pub(crate) use cluster::{Cluster, ClusterSpec, Version, source, target};
pub(crate) use driver::{Produce, TopicSpec, Transact, driver};
pub(crate) use dump::{Dump, Report, compare};
pub(crate) use wait::wait_until;

/// How much of the suite was asked for, `KMIRROR_TESTS`: `embedded` runs without Java, the default is what CI runs,
/// `full` adds the long tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// No real Kafka: Java and Maven are not needed.
    Embedded,
    /// What CI runs.
    Ci,
    /// Everything.
    Full,
}

/// The tier asked for; a word that names none is an error, for a typing error must not run less than was meant.
pub(crate) fn tier() -> Tier {
    match std::env::var("KMIRROR_TESTS").as_deref() {
        Err(_) | Ok("" | "ci") => Tier::Ci,
        Ok("embedded") => Tier::Embedded,
        Ok("full") => Tier::Full,
        Ok(other) => panic!("KMIRROR_TESTS={other}: say embedded, ci or full"),
    }
}

/// Whether a test that needs real Kafka runs; says so where it does not.
pub(crate) fn real_kafka_wanted(test: &str) -> bool {
    let wanted = tier() != Tier::Embedded;
    if !wanted {
        eprintln!("{test}: not run, KMIRROR_TESTS=embedded leaves real Kafka out");
    }
    wanted
}
