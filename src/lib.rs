//! kmirror: keeps a standby Kafka cluster ready to take over.

pub mod batch;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
pub mod mirror;
pub mod observe;
pub mod ops;
pub mod plan;
