//! What was found, as a table and as JSON.

use std::fs;
use std::path::Path;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::judge::{Judged, Position, Sums, sums};
use crate::machine::Machine;
use crate::peers::Peer;
use crate::stage::{PARTITIONS, TOPICS};
use crate::standing::{GROUPS, Group};

/// A table in Markdown: a row for each group, summed over its partitions.
pub(crate) fn text(judged: &Judged) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let mut header = vec!["the group stands".to_owned(), "unread".to_owned()];
    header.extend(Peer::ALL.map(|peer| peer.name().to_owned()));
    table.set_header(header);
    for group in &GROUPS {
        let of = |position: &&Position| position.group == group.name;
        let unread = judged.positions.iter().filter(of).map(|position| position.unread).sum();
        table.add_row(row(group.what, &number(unread), judged, Some(group)));
    }
    table.add_row(row("all", "", judged, None));
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let topics = TOPICS.len();
    let mut lines = vec![format!(
        "\n{} records in {topics} topics of {PARTITIONS} partitions, {} groups, {} positions",
        number(judged.records as u64),
        GROUPS.len(),
        judged.positions.len()
    )];
    lines.push("records read again / skipped, over all partitions of a group".to_owned());
    lines.push(table.to_string());
    for peer in Peer::ALL {
        let all = sums(judged, None)[peer.key()];
        let differences = judged.differences[peer as usize];
        lines.push(format!(
            "{}: at worst {} read again and {} skipped in one partition; {} positions without an offset; {differences} \
             differences between source and copy",
            peer.name(),
            number(all.again_worst),
            number(all.skipped_worst),
            all.without_offset
        ));
    }
    lines.join("\n")
}

fn row(what: &str, unread: &str, judged: &Judged, group: Option<&Group>) -> Vec<String> {
    let sums = sums(judged, group.map(|group| group.name));
    let cells = Peer::ALL.map(|peer| cell(sums[peer.key()]));
    [what.to_owned(), unread.to_owned()].into_iter().chain(cells).collect()
}

fn cell(sums: Sums) -> String {
    let moved = format!("{} / {}", number(sums.again), number(sums.skipped));
    match sums.without_offset {
        0 => moved,
        all if all == sums.positions => "no offset".to_owned(),
        some => format!("{moved}, {some} of {} no offset", sums.positions),
    }
}

/// Thousands apart.
fn number(value: u64) -> String {
    let text = value.to_string();
    let groups: Vec<&[u8]> = text.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join(",")
}

/// Writes all that was found.
pub(crate) fn write_json(file: &Path, machine: &Machine, judged: &Judged) {
    let groups: Vec<Value> = GROUPS
        .iter()
        .map(|group| json!({ "group": group.name, "stands": group.what, "sums": sums(judged, Some(group.name)) }))
        .collect();
    let positions: Vec<Value> = judged.positions.iter().map(position).collect();
    let differences: Value =
        Peer::ALL.into_iter().map(|peer| (peer.key().to_owned(), json!(judged.differences[peer as usize]))).collect();
    let report = json!({
        "machine": machine, "records": judged.records, "topics": TOPICS, "partitions_per_topic": PARTITIONS,
        "differences_of_the_copies": differences, "all": sums(judged, None), "groups": groups, "positions": positions,
    });
    let text = serde_json::to_string_pretty(&report).expect("plain values") + "\n";
    fs::write(file, text).unwrap_or_else(|error| panic!("--json {}: {error}", file.display()));
}

fn position(position: &Position) -> Value {
    let mut row = serde_json::to_value(position).expect("plain values");
    for peer in Peer::ALL {
        row[peer.key()] = json!(position.found[peer as usize]);
    }
    row
}
