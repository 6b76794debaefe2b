//! The results of a load as a table and as JSON.

use std::fs;
use std::path::Path;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::figures::{Better, Results, Row};
use crate::machine::Machine;
use crate::peer::Peer;
use crate::spread::{Spread, number};

/// Below this share of idle CPU time the machine may have set the pace.
const FULL_BELOW_PERCENT: f64 = 10.0;

/// A table in Markdown, with what is to be known about it.
pub(crate) fn text(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["", "unit", "better", "kmirror", "MirrorMaker 2", "MM2 ÷ kmirror"]);
    for row in &results.rows {
        let unit = row.figure.unit.to_owned();
        let [ours, theirs] = Peer::ALL.map(|peer| row.spread(peer).map_or("-".to_owned(), spread));
        table.add_row([row.figure.label.to_owned(), unit, better(row).to_owned(), ours, theirs, ratio(row)]);
    }
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = vec![format!("\n{}: {}", results.load.name(), results.shape), results.filled.to_string()];
    lines.push("median (min .. max); the ratio of the medians (least .. greatest of a round)".to_owned());
    lines.push(table.to_string());
    lines.extend(saturation(results));
    lines.extend(results.notes.iter().cloned());
    lines.join("\n")
}

fn spread(Spread { min, median, max }: Spread) -> String {
    format!("{} ({} .. {})", number(median), number(min), number(max))
}

fn ratio(row: &Row) -> String {
    let ratio = row.ratio().filter(|_| row.figure.better != Better::Neither);
    ratio.map_or(String::new(), |ratio| {
        let Spread { min, max, .. } = ratio.by_round;
        format!("{} ({} .. {})", number(ratio.of_medians), number(min), number(max))
    })
}

fn better(row: &Row) -> &'static str {
    match row.figure.better {
        Better::Higher => "more",
        Better::Lower => "less",
        Better::Neither => "",
    }
}

/// Says where a rate may be that of the machine rather than that of the replicator.
fn saturation(results: &Results) -> Vec<String> {
    let median = |key: &str, peer| {
        results
            .rows
            .iter()
            .find(|row| row.figure.key == key)
            .and_then(|row| row.spread(peer))
            .map(|spread| spread.median)
    };
    let said = Peer::ALL.into_iter().filter_map(|peer| {
        let idle = median("machine_idle", peer)?;
        let (target, others) = (number(median("target_busy", peer)?), number(median("others_busy", peer)?));
        let full =
            if idle < FULL_BELOW_PERCENT { "the machine was full, and may have set the pace" } else { "not full" };
        let who = format!("{} % idle, {target} % target broker, {others} % neither peer nor brokers", number(idle));
        Some(format!("{}: {full} ({who})", peer.name()))
    });
    said.collect()
}

/// Writes all that was found.
pub(crate) fn write_json(file: &Path, machine: &Machine, rounds: u32, factor: f64, all: &[Results]) {
    let loads: Vec<Value> = all.iter().map(load).collect();
    let report = json!({ "machine": machine, "rounds": rounds, "records_factor": factor, "loads": loads });
    let text = serde_json::to_string_pretty(&report).expect("plain values") + "\n";
    fs::write(file, text).unwrap_or_else(|error| panic!("--json {}: {error}", file.display()));
}

fn load(results: &Results) -> Value {
    let filled = &results.filled;
    let figures: Vec<Value> = results.rows.iter().map(figure).collect();
    json!({
        "load": results.load.name(), "shape": results.shape, "records": filled.records, "batches": filled.batches,
        "wire_bytes": filled.wire_bytes, "topics": filled.topics.len(), "partitions_per_topic": filled.partitions,
        "figures": figures, "notes": results.notes,
    })
}

fn figure(row: &Row) -> Value {
    let [kmirror, mirror_maker] =
        Peer::ALL.map(|peer| json!({ "by_round": row.values(peer), "spread": row.spread(peer) }));
    json!({
        "key": row.figure.key, "label": row.figure.label, "unit": row.figure.unit, "better": row.figure.better,
        "kmirror": kmirror, "mirror_maker_2": mirror_maker, "mirror_maker_2_by_kmirror": row.ratio(),
    })
}
