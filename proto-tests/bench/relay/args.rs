//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use kmirror::batch::Codec;
use serde::Serialize;

use super::plain::Role;

/// kmirror between null ends, next to a plain TCP relay of the same bytes.
#[derive(Debug, Clone, Parser, Serialize)]
pub(crate) struct Args {
    /// Rounds; each measures kmirror and the relay in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// GB (10^9 bytes of batches) per round
    #[arg(long, default_value_t = 4.0)]
    pub(crate) gb: f64,
    /// Partitions of each topic
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,
    /// Bytes of a batch, about
    #[arg(long, default_value_t = 16 * 1024)]
    pub(crate) batch_bytes: usize,
    /// Records in a batch
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) records: i32,
    /// Codec of the batches
    #[arg(long, value_enum, default_value_t = CodecName::None)]
    pub(crate) codec: CodecName,
    /// Mirrors in the one process, each with a topic of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) mirrors: u32,
    /// Instances that share the one mirror as a fleet
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16), conflicts_with = "mirrors")]
    pub(crate) instances: u32,
    /// Instead of that: how the cost of a byte, batch, record, partition, mirror and instance grows with their number
    #[arg(long)]
    pub(crate) growth: bool,
    /// Also write every reading to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The program to measure
    #[arg(long, env = "KMIRROR_BINARY", default_value = env!("CARGO_BIN_EXE_kmirror"))]
    pub(crate) kmirror: PathBuf,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    #[serde(skip)]
    bench: bool,
    #[command(subcommand)]
    #[serde(skip)]
    pub(crate) role: Option<Role>,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CodecName {
    None,
    Lz4,
    Zstd,
}

impl CodecName {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}
