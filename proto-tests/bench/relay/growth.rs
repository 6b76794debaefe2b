//! How cost grows: one number is varied, all others stay, and each point says what a GB, a batch and a record cost.

use std::fs::File;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::args::Args;
use super::ends::Source;
use super::proc::Reading;
use super::report::say;

/// What is varied, and how.
struct Axis {
    name: &'static str,
    points: &'static [u32],
    set: fn(&mut Args, u32),
}

const AXES: [Axis; 5] = [
    Axis {
        name: "records in a batch of 16 KiB",
        points: &[1, 4, 16, 64, 256],
        set: |args, point| args.records = point.cast_signed(),
    },
    Axis {
        name: "bytes of a batch of one record",
        points: &[256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20],
        set: |args, point| (args.batch_bytes, args.records) = (point as usize, 1),
    },
    Axis {
        name: "partitions, 16 KiB batches",
        points: &[1, 10, 100, 1_000, 10_000],
        set: |args, point| args.partitions = point.cast_signed(),
    },
    Axis {
        name: "mirrors of 12 partitions in one process",
        points: &[1, 2, 4, 8, 16],
        set: |args, point| args.mirrors = point,
    },
    Axis {
        name: "instances of a fleet, 48 partitions",
        points: &[1, 2, 3],
        set: |args, point| (args.partitions, args.instances) = (48, point),
    },
];

#[derive(Debug, Serialize)]
struct Point {
    axis: &'static str,
    at: u32,
    cpu_s_per_gb: f64,
    cpu_us_per_batch: f64,
    cpu_us_per_record: f64,
    gb_per_s: f64,
    peak_mb: f64,
}

impl Point {
    fn of(axis: &'static str, at: u32, source: &Source, reading: &Reading) -> Self {
        let cpu_us = reading.cpu_per_gb() * source.bytes() as f64 / 1e3;
        Self {
            axis,
            at,
            cpu_s_per_gb: reading.cpu_per_gb(),
            cpu_us_per_batch: cpu_us / source.batches() as f64,
            cpu_us_per_record: cpu_us / source.records() as f64,
            gb_per_s: reading.gb_per_second(),
            peak_mb: reading.peak_mb(),
        }
    }
}

/// Measures every point by `measure`, the median (by CPU) of as many rounds as the arguments say.
pub(crate) fn run(args: &Args, measure: impl Fn(&Args, &Source) -> anyhow::Result<Reading>) -> anyhow::Result<()> {
    let mut points = Vec::new();
    for axis in &AXES {
        say(&format!(
            "\n{:>40}  {:>8}  {:>9}  {:>9}  {:>6}  {:>7}",
            axis.name, "CPU s/GB", "us/batch", "us/record", "GB/s", "peak MB"
        ));
        for at in axis.points {
            let mut args = args.clone();
            (axis.set)(&mut args, *at);
            let source = Source::new(&args)?;
            let measured = (0..args.rounds).map(|_| measure(&args, &source));
            let mut readings =
                measured.collect::<anyhow::Result<Vec<Reading>>>().with_context(|| format!("{}: {at}", axis.name))?;
            readings.sort_by(|a, b| a.cpu_per_gb().total_cmp(&b.cpu_per_gb()));
            let Some(reading) = readings.get(readings.len() / 2) else { continue };
            let point = Point::of(axis.name, *at, &source, reading);
            say(&format!(
                "{:>40}  {:>8.3}  {:>9.3}  {:>9.3}  {:>6.2}  {:>7.1}",
                at, point.cpu_s_per_gb, point.cpu_us_per_batch, point.cpu_us_per_record, point.gb_per_s, point.peak_mb
            ));
            points.push(point);
        }
    }
    let Some(path) = &args.json else { return Ok(()) };
    let out = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    serde_json::to_writer_pretty(out, &json!({ "args": args, "points": points }))
        .with_context(|| format!("writing {}", path.display()))
}
