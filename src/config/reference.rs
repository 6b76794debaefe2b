//! The reference of all keys as Markdown; `configs/REFERENCE.md` is its output, held equal by a test.

use std::fmt::Write as _;

use super::options::{OPTIONS, Opt};

const HEAD: &str = "\
# Configuration reference

Written by `kmirror config reference` from the table in `src/config/options.rs`; do not edit.

One YAML file. Unknown and repeated keys are refused. `*` stands for a name of your own, `[]` for every item of a list.

- Any single value may hold `${env:NAME}` (an environment variable) and `${file:PATH}` (a file's content without its last
  newline; relative to the configuration file). What comes in is text, never YAML; it appears in no message and not in
  `kmirror config show`. `$${` writes a plain `${`.
- A *secret* of a cluster may hold `${command:COMMAND}` as well: what a command of the shell prints, which must not contain
  a `}` itself. Secrets of clusters are read anew whenever a connection authenticates, so that they can be changed
  while kmirror runs.
- Patterns are regular expressions that must match the whole name: `orders` is one topic or group, `orders.*` all that begin
  with it.
- Sizes: `512KiB`, `32MiB`, `1GB`. Time spans: `30s`, `5m`, `1h 30m`. Times: RFC 3339, such as `2026-01-31T06:00:00Z`.
- Never mirrored, whatever the patterns say: `__consumer_offsets`, `__transaction_state`, `__share_group_state`,
  `__cluster_metadata`, `__remote_log_metadata` and `__kmirror.*`.
- Refused: two sources for one target topic, and mirrors that would send records in a circle. What the patterns do not show
  by themselves is checked again when topics are discovered.

*Change* says how another value takes effect in a running `kmirror run`, which reads the file again when it changes:

- `live`: in place; nothing pauses.
- `task`: a backup, drills, or the groups or heartbeats of a mirror begin anew; no partition pauses.
- `mirror`: the mirror stops cleanly and starts anew, and of a cluster's key each mirror that it serves; the others go on.
- `process`: with the next start of the process; until then it is shown as pending.
- `never`: the whole file is refused. Another mirror takes another name.

A mirror, a backup or a drill that is added starts, one that is removed stops.

| Key | Takes | Default | Change | |
|---|---|---|---|---|
";

/// The reference, a newline at its end.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = HEAD.to_owned();
    for option in OPTIONS {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            option.path,
            cell(&option.kind.describe()),
            default(option),
            option.takes.word(),
            cell(option.doc),
        );
    }
    text
}

fn default(option: &Opt) -> String {
    match option.default {
        _ if option.required => "required".to_owned(),
        None | Some("{}") => String::new(),
        Some(text) => format!("`{}`", cell(text)),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
