//! `kmirror restore`: topics back from an archive.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;

use super::args::TopicPartition;
use super::backup::one;
use super::context::Context;
use super::exit::{CliError, Exit};
use super::output;
use crate::backup::identical::Identical;
use crate::backup::restore::{How, Restore, RestorePlan, Restored, What};
use crate::backup::{open_archive, open_segments, trusted_key};
use crate::config::{
    BackupConfig, Config, MirrorConfig, Rename, TopicFilter, is_mirror_name, parse_rfc3339_ms, restore_name,
};

/// Options of `restore`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Brings topics back: byte for byte as they were, at offsets that are mapped as a mirror maps them, so that groups go on at the exact record and \
kmirror translate knows every offset (of the mirror that the plan names). Topics are created with the configs that they had. A call that \
was cut short is called again, and goes on where it was. In the end the target is promoted, as a failover does it.

With --mirror it seeds that mirror instead: its target is filled from the archive, and kmirror run goes on from there on the live source; \
nothing is copied twice.

--preserve-offsets puts every record at the offset that it had, into topics that are not there yet; committed offsets are written as they \
were, and there is no mirror to translate with. Offsets without a record are filled with control markers, which no consumer is shown; that \
takes ALTER on the cluster.

--at cuts each partition in front of the first record that is younger, within a batch if need be; a transaction that was open then did not count.

Examples:
  kmirror restore -c standby.yaml --backup nightly --to west --dry-run
  kmirror restore -c standby.yaml --backup nightly --to west --yes
  kmirror restore -c standby.yaml --backup nightly --to east --topic 'orders.*' --rename 'restored.{topic}' --yes
  kmirror restore -c standby.yaml --backup nightly --to west --at 2026-11-20T03:15:00Z --yes
  kmirror restore -c standby.yaml --backup nightly --to west --partition orders:3=4000..5000 --yes
  kmirror restore -c standby.yaml --backup nightly --to west --skip-damaged --dry-run
  kmirror restore -c standby.yaml --backup nightly --to west --preserve-offsets --yes
  kmirror restore -c standby.yaml --backup nightly --mirror dr --yes")]
pub struct RestoreArgs {
    /// The backup to restore from, where the file holds several
    #[arg(long, value_name = "NAME")]
    pub backup: Option<String>,
    /// The cluster of the file to restore to; without it --mirror says which mirror is seeded
    #[arg(long, value_name = "CLUSTER")]
    pub to: Option<String>,
    /// Nothing younger than this moment, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
    /// Only topics that match this pattern whole; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub topic: Vec<String>,
    /// Only this partition, and of it only these offsets where they are given; may be repeated
    #[arg(long, value_name = "TOPIC:PARTITION[=FROM..TO]")]
    pub partition: Vec<PartitionRange>,
    /// What topics are called on the target, with {topic} for the name that they had
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "mirror")]
    pub rename: Option<String>,
    /// The chain to read, where it is not to be the newest that restores by itself
    #[arg(long, value_name = "NUMBER")]
    pub chain: Option<u32>,
    /// Tells restores of one backup to one cluster apart: the mirror that restores is called restore.BACKUP.CLUSTER.SUFFIX
    #[arg(long, value_name = "SUFFIX", conflicts_with = "mirror")]
    pub suffix: Option<String>,
    /// Replicas of the topics that are created [default: the cluster's default.replication.factor]
    #[arg(long, value_name = "REPLICAS", value_parser = clap::value_parser!(i16).range(1..=100))]
    pub replication_factor: Option<i16>,
    /// Leave out what is damaged in every copy, and restore the rest; everything is read once before, and the plan names it
    #[arg(long)]
    pub skip_damaged: bool,
    /// Restore every record to the offset that it had: into topics that are not there yet
    #[arg(long, conflicts_with = "mirror")]
    pub preserve_offsets: bool,
    /// Leave committed offsets of groups out
    #[arg(long)]
    pub no_groups: bool,
    /// Leave ACLs out: without it those of the topics and groups that come back are added to the target
    #[arg(long)]
    pub no_acls: bool,
    /// Leave client quotas out: without it those of a whole restore are added where the target has none for whom they are
    #[arg(long)]
    pub no_quotas: bool,
}

/// A partition, and offsets of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRange {
    partition: TopicPartition,
    from: Option<i64>,
    to: Option<i64>,
}

impl FromStr for PartitionRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((partition, range)) = text.split_once('=') else {
            return Ok(Self { partition: text.parse()?, from: None, to: None });
        };
        let wrong = || "write the offsets as FROM..TO, FROM.. or ..TO, such as orders:3=4000..5000".to_owned();
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let number = |text: &str| match text {
            "" => Ok(None),
            _ => text.parse::<i64>().ok().filter(|offset| *offset >= 0).map(Some).ok_or_else(wrong),
        };
        Ok(Self { partition: partition.parse()?, from: number(from)?, to: number(to)? })
    }
}

pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    parse_rfc3339_ms(text).ok_or_else(|| "write the moment as RFC 3339, such as 2026-11-20T03:15:00Z".to_owned())
}

/// Restores.
///
/// # Errors
/// What kept it from it.
pub async fn run(args: RestoreArgs, ctx: &Context) -> anyhow::Result<Exit> {
    let config = ctx.load()?;
    let backup = one(&config, args.backup.as_deref())?;
    let archive = open_archive(backup)?;
    let segments = open_segments(backup, &archive).await?;
    let how = How { trusted: trusted_key(backup).await?, ..how(&args, ctx, &config, backup)? };
    let restore = Restore::prepare(&config, &archive, segments, &what(&args)?, how).await?;
    if ctx.dry_run || !restore.plan.obstacles.is_empty() {
        let stands = !restore.plan.obstacles.is_empty();
        if ctx.json {
            output::json(&restore.plan)?;
        } else {
            output::print(&plan_page(&restore.plan))?;
        }
        return Ok(if stands { Exit::Problems } else { Exit::Done });
    }
    if !ctx.json {
        output::print(&plan_page(&restore.plan))?;
    }
    let question = format!("Restore {} partitions to cluster {}?", restore.plan.partitions.len(), restore.plan.target);
    if !ctx.yes && output::confirm(&question, "yes")? != Some(true) {
        return Err(CliError::Refused("nothing was changed: say --yes to restore".to_owned()).into());
    }
    let bar = output::progress(0, "restoring");
    let restored = restore
        .run(&|done, all| {
            bar.set_length(all.unsigned_abs());
            bar.set_position(done.unsigned_abs());
        })
        .await;
    bar.finish_and_clear();
    let restored = restored?;
    let problems = restored.promotion.as_ref().is_some_and(|report| !report.problems.is_empty())
        || restored.identical.as_ref().is_some_and(|identical| !identical.problems.is_empty());
    if ctx.json {
        output::json(&serde_json::json!({ "schema_version": 1, "restored": restored }))?;
    } else {
        output::print(&page(&restored))?;
    }
    Ok(if problems { Exit::Problems } else { Exit::Done })
}

fn what(args: &RestoreArgs) -> anyhow::Result<What> {
    let wrong = |error: crate::config::PatternError| anyhow::Error::from(CliError::Usage(format!("--topic: {error}")));
    let topics = (!args.topic.is_empty()).then(|| TopicFilter::new(&args.topic, &[])).transpose().map_err(wrong)?;
    let partitions: BTreeMap<_, _> = args
        .partition
        .iter()
        .map(|range| ((range.partition.topic.clone(), range.partition.partition), (range.from, range.to)))
        .collect();
    Ok(What { chain: args.chain, at_ms: args.at, topics, partitions, skip_damaged: args.skip_damaged })
}

fn how(args: &RestoreArgs, ctx: &Context, config: &Config, backup: &BackupConfig) -> anyhow::Result<How> {
    let usage = |text: String| anyhow::Error::from(CliError::Usage(text));
    let with_groups = !args.no_groups;
    let Some(to) = &args.to else {
        if ctx.mirror.is_none() {
            return Err(usage("say --to CLUSTER, or --mirror NAME to seed that mirror".to_owned()));
        }
        let mirror = ctx.one_mirror(config)?.clone();
        if mirror.source != backup.cluster {
            return Err(usage(format!(
                "mirror {} copies from {}, and backup {} is of {}: it cannot be seeded from there",
                mirror.name, mirror.source, backup.name, backup.cluster
            )));
        }
        return Ok(How {
            mirror,
            is_seed: true,
            with_groups,
            with_acls: false,
            with_quotas: false,
            preserve_offsets: false,
            trusted: None,
        });
    };
    if ctx.mirror.is_some() {
        return Err(usage("--mirror seeds that mirror's own target: leave --to out".to_owned()));
    }
    if !config.clusters.contains_key(to) {
        return Err(usage(no_cluster(config, to)));
    }
    let name = restore_name(&backup.name, to, args.suffix.as_deref());
    if !is_mirror_name(&name) {
        return Err(usage(format!("{name:?} cannot be the name of a mirror: letters, digits, . _ and -, 100 at most")));
    }
    let template = args.rename.as_deref().unwrap_or("{topic}");
    let rename = Rename::new(template, "archive", to).map_err(|error| usage(format!("--rename: {error}")))?;
    let mut mirror = MirrorConfig::for_restore(&name, to, rename);
    mirror.target_topics.replication_factor = args.replication_factor;
    let (with_acls, with_quotas) = (!args.no_acls, !args.no_quotas);
    let preserve_offsets = args.preserve_offsets;
    Ok(How { mirror, is_seed: false, with_groups, with_acls, with_quotas, preserve_offsets, trusted: None })
}

pub(super) fn no_cluster(config: &Config, name: &str) -> String {
    let names: Vec<&str> = config.clusters.keys().map(String::as_str).collect();
    format!("no cluster is called {name:?}; there are: {}", names.join(", "))
}

fn plan_page(plan: &RestorePlan) -> String {
    let rows = plan.partitions.iter().map(|row| {
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            row.target_topic.clone(),
            format!("[{}, {})", row.from, row.to),
            bytesize::ByteSize::b(row.bytes).to_string(),
            output::count(row.lost_offsets),
        ]
    });
    let header = ["TOPIC", "PARTITION", "TARGET TOPIC", "OFFSETS", "SEGMENTS", "LOST"];
    let mut text = output::table(&header, &[1, 4, 5], rows);
    let bytes: u64 = plan.partitions.iter().map(|row| row.bytes).sum();
    let at = plan.captured_at.as_deref().unwrap_or("never");
    text.push_str(&format!(
        "\nfrom backup {}, chain {} up to unit {} ({}), to cluster {} {}; {} groups as of {at}\n",
        plan.backup,
        plan.chain,
        plan.unit,
        bytesize::ByteSize::b(bytes),
        plan.target,
        if plan.preserves_offsets { "at the same offsets".to_owned() } else { format!("as mirror {}", plan.mirror) },
        plan.groups
    ));
    if !plan.empty_topics.is_empty() {
        text.push_str(&format!("topics without a record: {}\n", plan.empty_topics.join(", ")));
    }
    if let Some(acls) = &plan.acls {
        match &acls.unavailable {
            Some(why) if acls.plan.create.is_empty() => text.push_str(&format!("no ACLs: {why}\n")),
            _ => text.push_str(&format!("{} ACLs are added\n", acls.plan.create.len())),
        }
    }
    text.push_str(&principals_page(plan));
    for warning in &plan.warnings {
        text.push_str(&format!("WARNING {warning}\n"));
    }
    for obstacle in &plan.obstacles {
        text.push_str(&format!("OBSTACLE {obstacle}\n"));
    }
    text
}

/// Quotas, and users whom nobody but their owners can bring.
fn principals_page(plan: &RestorePlan) -> String {
    let mut text = String::new();
    if let Some(quotas) = &plan.quotas {
        match &quotas.unavailable {
            Some(why) if quotas.plan.create.is_empty() => text.push_str(&format!("no quotas: {why}\n")),
            _ => text.push_str(&format!("{} client quotas are added\n", quotas.plan.create.len())),
        }
        for quota in &quotas.plan.create {
            text.push_str(&format!("  {quota}\n"));
        }
        for difference in &quotas.plan.differing {
            text.push_str(&format!(
                "QUOTA stays as it is: {}, where it was {}\n",
                difference.found, difference.captured
            ));
        }
    }
    for user in plan.users.iter().flat_map(|users| &users.missing) {
        text.push_str(&format!("USER {} is missing, and no backup knows passwords: {}\n", user.user, user.command));
    }
    if let Some(why) = plan.users.as_ref().and_then(|users| users.unavailable.as_ref()) {
        text.push_str(&format!("SCRAM users are not known: {why}\n"));
    }
    text
}

fn identical_page(identical: &Identical) -> String {
    let count = |number: u64| output::count(number.cast_signed());
    let mut text = format!(
        "{} records were read back, each at the offset that it had; {} offsets without a record hold a marker, {} in front were written and \
         deleted\n{} committed offsets of groups are as they were\n",
        count(identical.records),
        output::count(identical.markers),
        output::count(identical.front_offsets),
        count(identical.group_offsets as u64)
    );
    identical.problems.iter().for_each(|problem| text.push_str(&format!("PROBLEM {problem}\n")));
    text
}

fn page(restored: &Restored) -> String {
    let mut text = format!(
        "restored {} offsets of {} partitions in {:.1} s\n",
        output::count(restored.offsets),
        restored.plan.partitions.len(),
        restored.seconds
    );
    for refused in restored.plan.acls.iter().flat_map(|acls| &acls.refused) {
        text.push_str(&format!("PROBLEM an ACL was refused: {}\n", refused.error));
    }
    for refused in restored.plan.quotas.iter().flat_map(|quotas| &quotas.refused) {
        text.push_str(&format!("PROBLEM a quota was refused: {}: {}\n", refused.quota, refused.error));
    }
    match (&restored.promotion, &restored.identical) {
        (_, Some(identical)) => text.push_str(&identical_page(identical)),
        (None, None) => text.push_str("kmirror run goes on from here on the live source\n"),
        (Some(report), None) => {
            report.problems.iter().for_each(|problem| text.push_str(&format!("PROBLEM {problem}\n")));
        }
    }
    text
}
