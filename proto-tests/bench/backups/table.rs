//! What was found, as a table and as JSON.

use std::path::Path;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::spent::Spent;
use crate::spread::{Spread, number};
use crate::tools::{Load, Tool};

/// All runs of one of them.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) tool: Tool,
    pub(crate) spent: Vec<Spent>,
}

impl Row {
    pub(crate) fn new(tool: Tool) -> Self {
        Self { tool, spent: Vec::new() }
    }

    fn spread(&self, of: impl Fn(&Spent) -> f64) -> Spread {
        Spread::of(self.spent.iter().map(of)).expect("a round")
    }
}

/// A table in Markdown: medians, and how far the runs lie apart.
pub(crate) fn text(rows: &[Row], wire_bytes: u64) -> String {
    let gb = wire_bytes as f64 / 1e9;
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["", "CPU s/GB", "÷ kmirror", "s", "peak MB", "GB written"]);
    let ours = rows[0].spread(|spent| spent.cpu_s).median;
    for row in rows {
        let cpu = row.spread(|spent| spent.cpu_s / gb);
        let ratio = row.spread(|spent| spent.cpu_s).median / ours;
        let written = row.spread(|spent| spent.written_bytes as f64 / 1e9).median;
        table.add_row([
            row.tool.name().to_owned(),
            spread(cpu),
            format!("{ratio:.1}"),
            spread(row.spread(|spent| spent.seconds)),
            spread(row.spread(|spent| spent.peak_mb)),
            format!("{written:.2}"),
        ]);
    }
    for column in 1..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("median (min .. max); GB are those on the wire\n{table}")
}

fn spread(Spread { min, median, max }: Spread) -> String {
    format!("{} ({} .. {})", number(median), number(min), number(max))
}

/// Writes all that was found.
pub(crate) fn write_json(file: &Path, machine: &Machine, load: &Load, rows: &[Row]) {
    let row = |row: &Row| -> Value {
        let all = |of: fn(&Spent) -> f64| row.spent.iter().map(of).collect::<Vec<_>>();
        json!({
            "tool": row.tool.name(), "seconds": all(|s| s.seconds), "cpu_s": all(|s| s.cpu_s), "peak_mb": all(|s| s.peak_mb),
            "written_bytes": all(|s| s.written_bytes as f64),
        })
    };
    let report = json!({
        "machine": machine, "topics": load.topics, "records": load.records, "batches": load.logged.batches,
        "wire_bytes": load.logged.wire_bytes, "tools": rows.iter().map(row).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&report).expect("plain values") + "\n";
    std::fs::write(file, text).unwrap_or_else(|error| panic!("--json {}: {error}", file.display()));
}
