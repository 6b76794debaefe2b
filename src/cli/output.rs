//! Results on stdout: tables for people, JSON for machines. Progress on stderr, where that is a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::exit::StdoutError;

/// Writes text to stdout as it is.
///
/// # Errors
/// [`StdoutError`]; a broken pipe ends the program quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(StdoutError)?;
    Ok(())
}

/// Writes a value to stdout as indented JSON and a newline.
///
/// # Errors
/// [`StdoutError`], or the value has no JSON form.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// A table for people; columns named in `right` are aligned to the right. On a terminal it folds to the width, elsewhere
/// rows stay whole.
#[must_use]
pub fn table(header: &[&str], right: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// A number with its thousands set apart: `1,234,567`.
#[must_use]
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time span in its two largest units: `1h 3m`, `12.5s`, `340ms`.
#[must_use]
pub fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{:.1}s", (span.as_secs_f64() * 10.0).floor() / 10.0),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Asks on stderr, where somebody is there to answer: `None` where stdin or stderr is no terminal. Only the word counts.
///
/// # Errors
/// The terminal cannot be read.
pub fn confirm(question: &str, word: &str) -> io::Result<Option<bool>> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(None);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} Type {word} to go on: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(Some(answer.trim() == word))
}

/// A progress bar on stderr; draws nothing where stderr is no terminal.
#[must_use]
pub fn progress(total: u64, what: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// Does some work, and shows how much of how much is done while it lasts.
pub async fn watched<T>(what: &str, progress: impl Fn() -> (u64, u64), work: impl Future<Output = T>) -> T {
    let bar = self::progress(0, what);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let (done, total) = progress();
                bar.set_length(total);
                bar.set_position(done);
            }
        }
    }
}
