//! `kmirror backup plan`: what a backup would take and cost.

use std::time::Duration;

use clap::Args;

use super::backup::one;
use super::context::Context;
use super::exit::Exit;
use super::output;
use crate::backup::Keeper;
use crate::backup::planning::{BackupPlan, Prices, Schedule, ScheduleRow, TopicPlan};

/// Options of `backup plan`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Asks the source how large the topics of a backup are and how fast they grow, looks at some batches of each, and says what schedules make of \
that: the archive's size, requests, what both cost, and how much would be lost at most. It reads a few megabytes and changes nothing. What is \
estimated is said below the tables.

Examples:
  kmirror backup plan -c standby.yaml
  kmirror backup plan -c standby.yaml --backup nightly --price-per-gb-month 0.0125 --price-per-1000-writes 0.005
  kmirror backup plan -c standby.yaml --interval 30s,5m,1h --full-every 1d,7d --keep 2,8 --json")]
pub struct PlanArgs {
    /// The backup meant, where the file holds several
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// What 10^9 bytes cost a month, in any currency
    #[arg(long, value_name = "PRICE", default_value = "0.023", value_parser = parse_price)]
    pub price_per_gb_month: f64,
    /// What a thousand requests that write cost
    #[arg(long, value_name = "PRICE", default_value = "0.005", value_parser = parse_price)]
    pub price_per_1000_writes: f64,
    /// Times from pass to pass to compare
    #[arg(
        long,
        value_name = "TIME",
        value_delimiter = ',',
        default_value = "1m,5m,1h",
        value_parser = parse_span
    )]
    pub interval: Vec<Duration>,
    /// Ages of a chain at which the next begins, to compare
    #[arg(
        long,
        value_name = "TIME",
        value_delimiter = ',',
        default_value = "1d,7d,30d",
        value_parser = parse_span
    )]
    pub full_every: Vec<Duration>,
    /// Numbers of chains that are kept, to compare [default: the backup's own]
    #[arg(long, value_name = "CHAINS", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub keep: Vec<u16>,
}

fn parse_price(text: &str) -> Result<f64, String> {
    let price = text.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| "write a number, such as 0.023".to_owned())
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span < Duration::from_secs(1) { Err("write 1s or more".to_owned()) } else { Ok(span) }
}

/// Plans.
///
/// # Errors
/// What kept it from it.
pub async fn run(args: PlanArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let backup = one(&config, args.backup.as_deref())?;
    let keeper = Keeper::connect(&config, backup).await?;
    let keep =
        if args.keep.is_empty() { vec![backup.keep] } else { args.keep.iter().map(|k| usize::from(*k)).collect() };
    let mut schedules = Vec::new();
    for keep in keep {
        for &full_every in &args.full_every {
            schedules.extend(args.interval.iter().map(|&interval| Schedule { interval, full_every, keep }));
        }
    }
    let prices = Prices { per_gb_month: args.price_per_gb_month, per_1000_writes: args.price_per_1000_writes };
    let plan = keeper.plan(&schedules, prices).await?;
    if ctx.json {
        output::json(&plan)?;
    } else {
        output::print(&page(&plan))?;
    }
    Ok(if plan.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

fn size(bytes: f64) -> String {
    bytesize::ByteSize::b(bytes.max(0.0) as u64).to_string()
}

fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 10.0 => format!("{value:.2}"),
        value => output::count(value.round() as i64),
    }
}

fn page(plan: &BackupPlan) -> String {
    let header = [
        "TOPIC",
        "PARTITIONS",
        "RECORDS",
        "SIZE",
        "STORED",
        "WITH ZSTD",
        "RECORDS/S HOUR",
        "DAY",
        "SIZE/S HOUR",
        "DAY",
        "UPDATES",
    ];
    let right: Vec<usize> = (1..header.len()).collect();
    let mut text = output::table(&header, &right, plan.topics.iter().map(topic_cells));
    let header = [
        "INTERVAL",
        "FULL EVERY",
        "KEEP",
        "ARCHIVE",
        "AT MOST",
        "WRITES A MONTH",
        "COST A MONTH",
        "RPO",
        "RPO, FULL PASS",
        "",
    ];
    text.push('\n');
    text.push_str(&output::table(&header, &[0, 1, 2, 3, 4, 5, 6, 7, 8], plan.schedules.iter().map(schedule_cells)));
    text.push_str(&format!(
        "\nbackup {} of cluster {}, as of {}: compression {}, {} copies; ARCHIVE and AT MOST are of one copy, WRITES and COST of all; \
         {} for 10^9 bytes a month, {} for 1000 writes\n",
        plan.backup,
        plan.cluster,
        plan.as_of,
        plan.compression,
        plan.copies,
        plan.prices.per_gb_month,
        plan.prices.per_1000_writes
    ));
    text.extend(plan.notes.iter().map(|note| format!("NOTE {note}\n")));
    for problem in &plan.problems {
        text.push_str(&format!("PROBLEM {}:{}: {}\n", problem.topic, problem.partition, problem.reason));
    }
    text
}

fn topic_cells(topic: &TopicPlan) -> Vec<String> {
    let policy = if topic.is_compacted == Some(true) { " (compacted)" } else { "" };
    vec![
        format!("{}{policy}", topic.topic),
        topic.partitions.to_string(),
        output::count(topic.offsets),
        size(topic.bytes),
        size(topic.stored_bytes),
        size(topic.stored_bytes_zstd),
        number(topic.records_per_s_hour),
        number(topic.records_per_s_day),
        size(topic.bytes_per_s_hour),
        size(topic.bytes_per_s_day),
        topic.update_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
    ]
}

fn schedule_cells(row: &ScheduleRow) -> Vec<String> {
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds).map_or_else(|_| "-".to_owned(), output::span);
    vec![
        span(row.interval_s),
        span(row.full_every_s),
        row.keep.to_string(),
        size(row.archive_bytes),
        size(row.archive_bytes_max),
        output::count(row.writes_per_month.round() as i64),
        format!("{:.2}", row.cost_per_month),
        span(row.rpo_s),
        span(row.rpo_full_s),
        if row.is_configured { "<- the file".to_owned() } else { String::new() },
    ]
}
