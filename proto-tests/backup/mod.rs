//! Backups and restores as a user does them, between embedded brokers and local folders.

mod away;
mod damage;
mod export;
mod golden;
mod identical;
mod kafka;
mod made;
mod planned;
mod principals;
mod replayed;
mod replayed_on_kafka;
mod round_trip;
mod s3;
mod s3_round_trip;
mod watched;

use std::path::PathBuf;

use serde_json::Value;

use crate::embedded::Pair;

/// Clusters as the mirror tests have them, and a backup `nightly` of the source in a folder.
pub(crate) struct Backed {
    pub(crate) pair: Pair,
    pub(crate) folders: Vec<PathBuf>,
}

impl Backed {
    /// A topic of so many partitions; `more` are further lines of the backup, indented by four.
    pub(crate) fn new(topic: &str, partitions: i32, copies: usize, more: &str) -> Self {
        let pair = Pair::new(topic, 1, partitions, "");
        let folders: Vec<PathBuf> = (0..copies).map(|copy| pair.mirror.folder().join(format!("copy-{copy}"))).collect();
        let to: Vec<String> =
            folders.iter().map(|folder| format!("{{ url: \"file://{}\" }}", folder.display())).collect();
        let text = std::fs::read_to_string(&pair.mirror.config).unwrap();
        let backups = format!(
            "backups:\n  - name: nightly\n    cluster: from\n    topics: {{ include: [\"{topic}.*\"] }}\n    to: [{}]\n{more}",
            to.join(", ")
        );
        std::fs::write(&pair.mirror.config, text + &backups).unwrap();
        Self { pair, folders }
    }

    pub(crate) fn backup(&self, more: &[&str], code: i32) -> Value {
        self.pair.mirror.json(&[&["backup"], more].concat(), code)
    }

    pub(crate) fn restore(&self, more: &[&str], code: i32) -> Value {
        self.pair.mirror.json(&[&["restore", "--to", "to", "--yes"], more].concat(), code)
    }

    pub(crate) fn archive(&self, more: &[&str], code: i32) -> Value {
        self.pair.mirror.json(&[&["archive"], more].concat(), code)
    }
}
