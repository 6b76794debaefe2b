//! What is said in the end.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::args::Args;
use super::ends::Source;
use super::plain::BUFFERS;
use super::proc::Reading;

/// One turn of each.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) kmirror: Reading,
    /// In the order of [`BUFFERS`].
    pub(crate) relays: Vec<Reading>,
}

pub(crate) struct Report<'a> {
    args: &'a Args,
    rounds: Vec<Round>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(sorted.len().saturating_sub(1) / 2), at(sorted.len() / 2));
        Self { min: at(0), median: f64::midpoint(low, high), max: at(sorted.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>7.3} {:>7.3} {:>7.3}", self.min, self.median, self.max)
    }
}

type Figure = (&'static str, fn(&Reading) -> f64);
const FIGURES: [Figure; 6] = [
    ("CPU s/GB", Reading::cpu_per_gb),
    ("  of it user", Reading::user_per_gb),
    ("ends, CPU s/GB", Reading::ends_per_gb),
    ("GB/s", Reading::gb_per_second),
    ("GB/s per core", Reading::gb_per_core),
    ("peak RSS, MB", Reading::peak_mb),
];

impl<'a> Report<'a> {
    pub(crate) fn new(args: &'a Args, source: &Source) -> Self {
        say(&format!(
            "{} rounds of {:.2} GB: {} partitions, {} records in batches of {} x {} bytes, codec {:?}, {}",
            args.rounds,
            source.bytes() as f64 / 1e9,
            args.partitions,
            source.records(),
            args.records,
            source.batch_bytes / args.records.unsigned_abs() as usize,
            args.codec,
            args.kmirror.display()
        ));
        Self { args, rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        let relays = round.relays.iter().map(|relay| format!("{:.3}", relay.cpu_per_gb()));
        say(&format!(
            "round {}: kmirror {:.3} CPU s/GB, relay {}",
            self.rounds.len() + 1,
            round.kmirror.cpu_per_gb(),
            relays.collect::<Vec<_>>().join(" and ")
        ));
        self.rounds.push(round);
    }

    fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of))
    }

    /// Which buffer served the relay better.
    fn better(&self) -> usize {
        let median = |at: usize| self.spread(|round| round.relays[at].cpu_per_gb()).median;
        (0..BUFFERS.len()).min_by(|a, b| median(*a).total_cmp(&median(*b))).unwrap_or(0)
    }

    fn ratio(&self) -> Spread {
        let better = self.better();
        self.spread(|round| round.kmirror.cpu_per_gb() / round.relays[better].cpu_per_gb())
    }

    pub(crate) fn print(&self) {
        let better = self.better();
        say(&format!("\n{:14}   {:^23}   {:^23}", "", "kmirror", format!("relay, {} KiB", BUFFERS[better] >> 10)));
        let heads = format!("{:>7} {:>7} {:>7}", "min", "median", "max");
        say(&format!("{:14}   {heads}   {heads}", ""));
        for (name, figure) in FIGURES {
            let (kmirror, relay) = (self.spread(|r| figure(&r.kmirror)), self.spread(|r| figure(&r.relays[better])));
            say(&format!("{name:14}   {kmirror}   {relay}"));
        }
        say(&format!("\nkmirror / relay, CPU: {}", self.ratio()));
    }

    pub(crate) fn write(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(path) = file else { return Ok(()) };
        let document = json!({
            "args": self.args,
            "buffers": BUFFERS,
            "rounds": self.rounds,
            "better_buffer": BUFFERS[self.better()],
            "cpu_seconds_per_gb": self.spread(|round| round.kmirror.cpu_per_gb()),
            "relay_cpu_seconds_per_gb": self.spread(|round| round.relays[self.better()].cpu_per_gb()),
            "ratio": self.ratio(),
        });
        let out = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        serde_json::to_writer_pretty(out, &document).with_context(|| format!("writing {}", path.display()))
    }
}

#[allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
