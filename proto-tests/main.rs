//! kmirror tested from outside: against real Kafka and the embedded broker, with Kafka's own Java clients as witness.
//!
//! `cargo test` runs all of it; `KMIRROR_TESTS=embedded` leaves out what needs Java and Maven, `KMIRROR_TESTS=full`
//! adds what takes long. Real Kafka comes from Maven Central (`kafka/pom.xml`) at the first run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod kafka {
    pub(crate) mod harness;
}

mod backup;
mod browser;
mod client;
mod conformance;
mod deploy;
mod e2e;
mod embedded;
mod fuzz;
mod goldens;
mod monitoring;
mod nemesis;
mod secure;
mod sim;
mod tidy;
