//! `kmirror demo backup`: a mistake that a mirror would have repeated within milliseconds, and the way back to the moment before it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::groups::{self, Kept, Positions};
use super::load::{Load, Origin};
use super::mirroring::{count, number, some};
use super::side::Side;
use super::stage::{Stage, typed, yaml};
use super::summary::Summary;
use super::view::Step;
use super::{DemoArgs, TOPIC, accounts};
use crate::batch::Record;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::engine::now_ms;
use crate::ops::time::rfc3339;

const BACKUP: &str = "nightly";
/// What is produced before the full backup, of all records in percent.
const FIRST: u64 = 50;
/// Between it and the incremental one.
const SECOND: u64 = 30;
/// What the job writes that should not have run.
const RUBBISH: u64 = 10;
/// What is produced once the topic is back.
const LAST: u64 = 10;

/// What `demo backup --json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Records that were produced, the rubbish aside.
    produced: u64,
    /// Records of the job that should not have run.
    rubbish: u64,
    /// What each backup read.
    backups: Vec<Pass>,
    /// The topic brought back to the moment before the rubbish.
    restored: Restored,
    /// All of it in another cluster, once the source was lost.
    elsewhere: Restored,
    /// All of it, seconds.
    seconds: f64,
    /// The story, step by step.
    steps: Vec<Step>,
    /// What does not add up. Nothing, if all is well.
    problems: Vec<String>,
}

/// A pass of the backup.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Pass {
    chain: u64,
    unit: u64,
    /// Records that it read, those of control batches among them.
    records: u64,
    /// How many those are: a restore leaves one behind in each partition.
    markers: u64,
    stored_bytes: u64,
}

/// What came back, against what was there.
#[derive(Debug, Default, Serialize)]
struct Restored {
    /// Records that were there.
    due: u64,
    /// Records that are there now.
    records: u64,
    /// Records that stand where they stood, equal.
    equal: u64,
    /// Records that stand at the very offset that they had.
    at_their_offset: u64,
    /// What groups had committed: the next record is the very record, or is not.
    groups: Positions,
    /// Records that were left to read, for all groups together.
    left_before: u64,
    /// And that are left now.
    left_after: u64,
    /// How long it took.
    seconds: f64,
}

/// A topic as it was at a moment, and its readers.
struct Moment {
    at: String,
    contents: Vec<Vec<Record>>,
    groups: Kept,
}

impl Moment {
    fn of(side: &Side) -> anyhow::Result<Self> {
        Ok(Self { at: rfc3339(now_ms()), contents: side.contents()?, groups: groups::kept(side) })
    }

    fn records(&self) -> u64 {
        self.contents.iter().map(|records| records.len() as u64).sum()
    }
}

/// The story, and where its figures go. What commands report and what does not agree is in the book.
struct Tale {
    stage: Stage,
    report: Report,
    book: Summary,
}

pub(super) async fn play(args: DemoArgs, json: bool) -> anyhow::Result<Exit> {
    let stage = Stage::set(args, json, configuration).await?;
    let mut tale = Tale { stage, report: Report::default(), book: Summary::default() };
    tale.back_up().await?;
    let before = tale.make_a_mistake().await?;
    tale.bring_back(&before).await?;
    tale.lose_all().await?;
    let Tale { stage, mut report, mut book } = tale;
    stage.end(&mut book);
    (report.seconds, report.steps, report.problems) = (book.seconds, book.steps, book.problems);
    if json {
        output::json(&report)?;
    } else {
        output::print(&page(&report))?;
    }
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Problems })
}

fn configuration(folder: &Path, source: &Side, standby: &Side) -> String {
    let archive = url::Url::from_file_path(folder.join("archive")).map(String::from).unwrap_or_default();
    format!(
        "{}backups:\n  - name: {BACKUP}\n    cluster: source\n    topics: {{ include: [\"{TOPIC}\"] }}\n    to: [{{ url: \"{archive}\" }}]\n    \
         compression: zstd\n",
        yaml(source, standby)
    )
}

impl Tale {
    async fn step(&mut self, step: &'static str, command: Option<&str>, fact: String) -> anyhow::Result<()> {
        self.stage.view.step(step, command, fact).await
    }

    /// Writes the next records of an origin to the source; gives how many.
    async fn produce(&mut self, origin: Origin, done: u64, percent: u64) -> anyhow::Result<u64> {
        let (from, to) = (self.stage.ranges(done), self.stage.ranges(done + self.stage.share(percent)));
        let ranges: Vec<(u64, u64)> = from.into_iter().zip(to).map(|((_, from), (_, to))| (from, to)).collect();
        Load::start(self.stage.source(), origin, &ranges, Duration::ZERO).await?.finish().await?;
        Ok(self.stage.share(percent))
    }

    async fn back_up(&mut self) -> anyhow::Result<()> {
        let (source, standby) = (self.stage.source().address().to_owned(), self.stage.standby().address().to_owned());
        self.stage.scene.archived("nothing yet");
        let words =
            format!("source {source} and another cluster {standby}, in memory; the archive is a temporary folder");
        self.step("brokers", None, words).await?;
        let first = self.produce(Origin::Source, 0, FIRST).await?;
        let offsets = groups::read_some(self.stage.source()).await?;
        let words = format!(
            "{} by five codecs; {} groups have read some of them: {offsets} offsets",
            records(first),
            groups::count()
        );
        self.step("load", None, words).await?;
        self.pass("full", &["--full"], first).await?;
        let second = self.produce(Origin::Source, first, SECOND).await?;
        groups::read_on(self.stage.source()).await?;
        let words = format!("{} more, and the groups have read on", records(second));
        self.step("load", None, words).await?;
        self.pass("backup", &[], second).await?;
        self.report.produced = first + second;
        Ok(())
    }

    /// One pass of the backup; it must read so many records.
    async fn pass(&mut self, step: &'static str, more: &[&str], due: u64) -> anyhow::Result<()> {
        let args = [&["backup", "--backup", BACKUP], more].concat();
        let said = self.stage.kmirror(&args, &mut self.book).await?;
        let of = |field: &str| number(&said["pass"][field]);
        let (chain, unit, records) = (of("chain"), of("unit"), of("records"));
        let pass =
            Pass { chain, unit, records, markers: records.saturating_sub(due), stored_bytes: of("stored_bytes") };
        // Before the topic was restored there are none.
        self.book.expect(&format!("markers that backup {unit} has read"), self.stage.source().markers(), pass.markers);
        self.book.expect(&format!("records that backup {unit} has read"), due, records - pass.markers);
        self.report.backups.push(pass);
        let stored: u64 = self.report.backups.iter().map(|pass| pass.stored_bytes).sum();
        let stored = bytesize::ByteSize::b(stored);
        self.stage.scene.archived(&format!("chain {}, {}, {stored}", pass.chain, some(pass.unit, "unit")));
        let words = format!(
            "unit {unit} of chain {chain}: {} in {}",
            some(due, "record"),
            bytesize::ByteSize::b(pass.stored_bytes)
        );
        self.step(step, Some(&typed(&args)), words).await
    }

    /// Rubbish is written, and backed up; then the topic is deleted. Gives how it was before.
    async fn make_a_mistake(&mut self) -> anyhow::Result<Moment> {
        let before = Moment::of(self.stage.source())?;
        self.book.expect("records before the mistake", self.report.produced, before.records());
        // Behind the moment, by the clock that stamps records.
        while rfc3339(now_ms()) <= before.at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.report.rubbish = self.produce(Origin::Rubbish, 0, RUBBISH).await?;
        let words = format!(
            "after {} a job writes {} of rubbish over the orders; a mirror repeats it at once",
            before.at,
            records(self.report.rubbish)
        );
        self.step("mistake", None, words).await?;
        self.pass("backup", &[], self.report.rubbish).await?;
        let deleted = self.stage.source().broker.delete_topic(TOPIC);
        self.book.expect("the topic was there to be deleted", true, deleted);
        self.stage.source().forget();
        let offsets = groups::committed_count(self.stage.source());
        let words =
            format!("and somebody deletes the topic; with it went the offsets of all groups: {offsets} are left");
        self.step("deleted", Some(&format!("kafka-topics.sh --delete --topic {TOPIC}")), words).await?;
        Ok(before)
    }

    async fn bring_back(&mut self, before: &Moment) -> anyhow::Result<()> {
        let args = ["archive", "verify", "--backup", BACKUP];
        let report = self.stage.kmirror(&args, &mut self.book).await?;
        let damages = report["damages"].as_array().map_or(usize::MAX, Vec::len);
        self.book.expect("damages that archive verify found", 0, damages);
        let read = bytesize::ByteSize::b(number(&report["bytes"]));
        self.step("verify", Some(&typed(&args)), format!("{read} of the archive read and found whole")).await?;
        let args = ["restore", "--backup", BACKUP, "--to", "source", "--at", &before.at];
        let dry = [&args[..], &["--dry-run"]].concat();
        let plan = self.stage.kmirror(&dry, &mut self.book).await?;
        let planned: u64 = plan["partitions"].as_array().into_iter().flatten().map(|row| number(&row["to"])).sum();
        self.book.expect("offsets that the plan brings back", before.records(), planned);
        let words = format!("{} would come back, and {} groups", records(planned), number(&plan["groups"]));
        self.step("plan", Some(&typed(&dry)), words).await?;
        let sure = [&args[..], &["--yes"]].concat();
        let said = self.stage.kmirror(&sure, &mut self.book).await?;
        self.report.restored = self.compare(before, self.stage.source(), &said)?;
        let words = told(&self.report.restored);
        self.check("restored", &before.groups, true);
        self.step("restore", Some(&typed(&sure)), words).await?;
        let words = in_place(&self.report.restored);
        self.step("groups", None, words).await?;
        let last = self.produce(Origin::Home, 0, LAST).await?;
        self.report.produced += last;
        let offsets = groups::read_on(self.stage.source()).await?;
        let words =
            format!("{} are written to the topic, and all groups have read on: {offsets} offsets", records(last));
        self.step("go on", None, words).await
    }

    /// The cluster is lost; the archive fills another one.
    async fn lose_all(&mut self) -> anyhow::Result<()> {
        let before = Moment::of(self.stage.source())?;
        self.book.expect("records in the end", self.report.produced, before.records());
        // The topic that was made again is another log, which the archive has nothing of yet.
        self.pass("backup", &[], self.report.produced).await?;
        self.stage.source().broker.stop_node(1).await?;
        self.step("lost", None, "the whole cluster is gone".to_owned()).await?;
        let args = ["restore", "--backup", BACKUP, "--to", "standby", "--preserve-offsets", "--yes"];
        let said = self.stage.kmirror(&args, &mut self.book).await?;
        self.report.elsewhere = self.compare(&before, self.stage.standby(), &said)?;
        self.stage.scene.moved(true);
        let words = format!(
            "{}; {} of them at the very offset that they had",
            told(&self.report.elsewhere),
            count(self.report.elsewhere.at_their_offset)
        );
        self.check("restored elsewhere", &before.groups, false);
        self.book.expect("records at their offset", before.records(), self.report.elsewhere.at_their_offset);
        self.step("restore", Some(&typed(&args)), words).await?;
        let words = in_place(&self.report.elsewhere);
        self.step("groups", None, words).await
    }

    fn compare(&self, before: &Moment, side: &Side, said: &Value) -> anyhow::Result<Restored> {
        let now = Moment::of(side)?;
        let pairs = before.contents.iter().zip(&now.contents).flat_map(|(here, there)| here.iter().zip(there));
        let at_their_offset = pairs.filter(|(a, b)| a.offset == b.offset && groups::is_same_record(a, b)).count();
        Ok(Restored {
            due: before.records(),
            records: now.records(),
            equal: accounts::equal_in_order(&before.contents, &now.contents),
            at_their_offset: at_their_offset as u64,
            groups: groups::compare_kept((&before.groups, &before.contents), (side, &now.contents))?,
            left_before: groups::left(&before.groups, &before.contents),
            left_after: groups::left(&now.groups, &now.contents),
            seconds: said["restored"]["seconds"].as_f64().context("the restore says how long it took")?,
        })
    }

    /// Every figure of a restore against its counterpart.
    fn check(&mut self, what: &str, groups: &Kept, is_first: bool) {
        let found = if is_first { &self.report.restored } else { &self.report.elsewhere };
        let offsets = groups.values().map(|offsets| offsets.len() as u64).sum::<u64>();
        self.book.expect(&format!("records {what}"), found.due, found.records);
        self.book.expect(&format!("records {what}, equal and in order"), found.due, found.equal);
        self.book.expect(&format!("offsets of groups {what}, at the very record"), offsets, found.groups.same);
        self.book.expect(&format!("offsets of groups {what}, elsewhere"), 0, found.groups.different);
        self.book.expect(&format!("records left to read, {what}"), found.left_before, found.left_after);
    }
}

fn told(restored: &Restored) -> String {
    format!(
        "{} of {} are there again, equal and in order, after {:.1} s",
        count(restored.equal),
        records(restored.due),
        restored.seconds
    )
}

fn in_place(restored: &Restored) -> String {
    let Positions { same, different } = restored.groups;
    format!(
        "{same} of {} offsets: the next record is the very record; {} left to read, as before",
        same + different,
        records(restored.left_after)
    )
}

fn records(number: u64) -> String {
    some(number, "record")
}

fn page(report: &Report) -> String {
    let of = |restored: &Restored| {
        let Positions { same, different } = restored.groups;
        [
            count(restored.due),
            count(restored.records),
            count(restored.equal),
            count(restored.at_their_offset),
            format!("{same} of {}", same + different),
            count(restored.left_before),
            count(restored.left_after),
            format!("{:.2} s", restored.seconds),
        ]
    };
    let names = [
        "records that were there",
        "records that came back",
        "equal, in order",
        "at the offset that they had",
        "groups at their very record",
        "left to read before",
        "left to read after",
        "time",
    ];
    let rows = names.iter().zip(of(&report.restored)).zip(of(&report.elsewhere));
    let rows = rows.map(|((name, here), there)| vec![(*name).to_owned(), here, there]);
    let mut text = format!("\n{}", output::table(&["RESTORED", "TO THE MOMENT", "ELSEWHERE"], &[1, 2], rows));
    report.problems.iter().for_each(|problem| text.push_str(&format!("\nPROBLEM {problem}\n")));
    let verdict = if report.problems.is_empty() { "every record is accounted for" } else { "it does not add up" };
    text.push_str(&format!("\n{verdict}, in {:.1} s\n", report.seconds));
    text
}
