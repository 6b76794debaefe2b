//! Those that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backlog::Logged;
use crate::kafka::harness::Cluster;
use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::jars;
use crate::machine::kmirror;
use crate::spent::{self, Spent};

/// What stands on the source.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) topics: Vec<String>,
    pub(crate) records: u64,
    pub(crate) logged: Logged,
}

/// Who brings it to the disk.
#[derive(Debug, Clone)]
pub(crate) enum Tool {
    /// `kmirror backup`, with this for its `compression`.
    Kmirror(&'static str),
    /// Of a public build: decodes, encodes again, zstd.
    KafkaBackup(PathBuf),
    /// Reads all records and throws them away.
    ConsoleConsumer,
    /// `cp` of what kmirror wrote: no broker, no checksum, no fsync.
    Copy,
}

impl Tool {
    pub(crate) fn all(kafka_backup: Option<&Path>) -> Vec<Self> {
        let mut all = vec![Self::Kmirror("none"), Self::Kmirror("zstd")];
        all.extend(kafka_backup.map(|file| Self::KafkaBackup(file.to_owned())));
        all.extend([Self::ConsoleConsumer, Self::Copy]);
        all
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kmirror("zstd") => "kmirror backup, zstd",
            Self::Kmirror(_) => "kmirror backup",
            Self::KafkaBackup(_) => "kafka-backup, zstd",
            Self::ConsoleConsumer => "console consumer to nowhere",
            Self::Copy => "cp of the archive",
        }
    }

    /// Runs it once, and leaves nothing.
    pub(crate) fn run(&self, cluster: &Cluster, load: &Load, round: u32) -> Spent {
        let scratch = run_folder("backups");
        let to = scratch.join("to");
        std::fs::create_dir_all(&to).unwrap();
        let spent = match self {
            Self::Kmirror(compression) => {
                let spent = spent::run(&backup(cluster, &scratch, &to, compression), &scratch, &to);
                let verify = spent::run(&verify(&scratch), &scratch, Path::new(""));
                eprintln!("archive verify: {verify}");
                spent
            }
            Self::KafkaBackup(binary) => {
                spent::run(&kafka_backup(binary, cluster, &scratch, &to, round), &scratch, &to)
            }
            Self::ConsoleConsumer => spent::run(&console_consumer(cluster, load), &scratch, &to),
            Self::Copy => {
                let from = scratch.join("from");
                std::fs::create_dir_all(&from).unwrap();
                spent::run(&backup(cluster, &scratch, &from, "none"), &scratch, &from);
                let mut copy = Command::new("cp");
                copy.arg("-r").arg(&from).arg(&to);
                spent::run(&copy, &scratch, &to)
            }
        };
        std::fs::remove_dir_all(&scratch).unwrap();
        spent
    }
}

fn backup(cluster: &Cluster, scratch: &Path, to: &Path, compression: &str) -> Command {
    let text = format!(
        "clusters:\n  from: {{ bootstrap: [\"{}\"] }}\nbackups:\n  - name: bench\n    cluster: from\n    topics: {{ include: [\"mixed-.*\"] }}\n    \
         to: [{{ url: \"file://{}\" }}]\n    compression: {compression}\n",
        cluster.bootstrap(),
        to.display()
    );
    let file = scratch.join("kmirror.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(kmirror());
    command.arg("backup").arg("-c").arg(file);
    command
}

fn verify(scratch: &Path) -> Command {
    let mut command = Command::new(kmirror());
    command.args(["archive", "verify", "-c"]).arg(scratch.join("kmirror.yaml"));
    command
}

/// As its own examples configure it, but for the folder. Its memory of offsets is left in the scratch folder.
fn kafka_backup(binary: &Path, cluster: &Cluster, scratch: &Path, to: &Path, round: u32) -> Command {
    let text = format!(
        "mode: backup\nbackup_id: \"bench-{round}\"\nsource:\n  bootstrap_servers: [\"{}\"]\n  topics:\n    include: [\"mixed-*\"]\n\
         storage:\n  backend: filesystem\n  path: \"{}\"\nbackup:\n  segment_max_bytes: 134217728\n  compression: zstd\n  \
         start_offset: earliest\n  continuous: false\noffset_storage:\n  db_path: \"{}\"\n",
        cluster.bootstrap(),
        to.display(),
        scratch.join("offsets.db").display()
    );
    let file = scratch.join("kafka-backup.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(binary);
    command.arg("backup").arg("--config").arg(file);
    command
}

fn console_consumer(cluster: &Cluster, load: &Load) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars::class_path(cluster.version())).arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command.args(["--bootstrap-server", &cluster.bootstrap(), "--include", "mixed-.*", "--from-beginning"]);
    command.args(["--max-messages", &load.records.to_string()]);
    // A formatter that writes nothing.
    command.args(["--formatter", "org.apache.kafka.tools.consumer.NoOpMessageFormatter"]);
    command
}
