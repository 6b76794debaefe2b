//! The one table of rights: what each command does with which resource of which cluster. The README's section, `kmirror check`,
//! `--print-acls` and the advice in errors are made of it. Which operation a request takes is read in Kafka's `KafkaApis`
//! and `ControllerApis`; what `StandardAuthorizer` lets through with these and nothing else is tested.
//!
//! An operation that another one of the same row implies is left out (`AclAuthorizer`, `StandardAuthorizer`): READ, WRITE,
//! DELETE and ALTER imply DESCRIBE; ALTER_CONFIGS implies DESCRIBE_CONFIGS.

use super::Operation::{Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
use super::Side::{Source, Target};
use super::{Command, Names, Operation, Row, Side};

const fn row(command: Command, side: Side, on: Names, operations: &'static [Operation], why: &'static str) -> Row {
    Row { command, side, on, operations, why, without: None }
}

impl Row {
    /// The command does without, and then this holds.
    const fn or(self, without: &'static str) -> Self {
        Self { without: Some(without), ..self }
    }
}

use Command as C;
use Names as N;

/// What may not be compared is said to be so.
const NOT_COMPARED: &str = "that ACLs were not compared is said";
/// What a backup may not see.
const LEFT_OUT: &str = "it is left out, and the manifest says why";

/// Every row, by command.
#[rustfmt::skip] // A table is read by its rows.
pub const RIGHTS: &[Row] = &[
    row(C::Run, Source, N::Topics, &[Read], "reading records and their offsets, and who holds a transaction open"),
    row(C::Run, Source, N::Topics, &[DescribeConfigs], "the settings that a mirror topic gets (`sync.topic_configs`), and retention headroom"),
    row(C::Run, Target, N::MirrorTopics, &[Read], "finding the settled end, and translating offsets"),
    row(C::Run, Target, N::MirrorTopics, &[Write], "writing records and markers"),
    row(C::Run, Target, N::MirrorTopics, &[Create], "making mirror topics").or("topics that are there already are mirrored"),
    row(C::Run, Target, N::MirrorTopics, &[Alter], "adding partitions as the source does (`sync.partitions`)").or("further partitions are not mirrored, which is said"),
    row(C::Run, Target, N::StateTopic, &[Read, Write, Create], "the mirror's state"),
    row(C::Run, Target, N::StateTopic, &[Delete], "trimming the state below a snapshot (DeleteRecords)"),
    row(C::Run, Target, N::StateTopic, &[DescribeConfigs], "which topic settings the target knows"),
    row(C::Run, Target, N::TransactionalIds, &[Write], "owning a shard, and fencing its former owner"),
    row(C::Run, Target, N::Cluster, &[DescribeConfigs], "`producer.id.expiration.ms` and `offsets.retention.minutes`"),
    row(C::Fleet, Target, N::FleetGroup, &[Read], "sharing the mirror with other instances"),
    row(C::Groups, Source, N::Groups, &[Describe], "reading committed offsets").or("a group that may not be seen is not known to kmirror"),
    row(C::Groups, Target, N::Groups, &[Read], "committing translated offsets"),
    row(C::Groups, Target, N::OwnGroups, &[Read], "noting when the groups were last in step, and what was committed on the target"),
    row(C::Heartbeats, Source, N::HeartbeatTopic, &[Write], "writing heartbeats"),
    row(C::Heartbeats, Source, N::HeartbeatTopic, &[Create], "making their topic").or("it can be made beforehand"),
    row(C::Rollback, Target, N::Groups, &[Read, Delete], "taking committed offsets back"),
    row(C::Rollback, Target, N::OwnGroups, &[Read, Delete], "and the notes about them"),
    row(C::Check, Source, N::Topics, &[Read, DescribeConfigs], "comparing topics and their settings"),
    row(C::Check, Target, N::MirrorTopics, &[Describe, DescribeConfigs], "the same"),
    row(C::Check, Target, N::StateTopic, &[Read], "what the mirror has written before"),
    row(C::Check, Target, N::Cluster, &[DescribeConfigs], "the brokers' settings"),
    row(C::Status, Source, N::Topics, &[Read], "where the source ends, and since when what is not mirrored waits"),
    row(C::Status, Source, N::Topics, &[DescribeConfigs], "retention headroom").or("it is unknown"),
    row(C::Status, Target, N::MirrorTopics, &[Read], "where the target ends"),
    row(C::Status, Target, N::StateTopic, &[Read], "the mirror's state"),
    row(C::Status, Target, N::OwnGroups, &[Describe], "how far groups are in step").or("it is unknown"),
    row(C::Translate, Target, N::MirrorTopics, &[Read], "where the target ends"),
    row(C::Translate, Target, N::StateTopic, &[Read], "the offset map"),
    row(C::Control, Target, N::StateTopic, &[Read, Write], "`pause`, `resume` and `bandwidth`: commands to the mirror are records of its state"),
    row(C::Verify, Source, N::Topics, &[Read], "comparing records"),
    row(C::Verify, Target, N::MirrorTopics, &[Read], "the same"),
    row(C::Verify, Target, N::MirrorTopics, &[DescribeConfigs], "telling what retention has taken").or("it counts as missing"),
    row(C::Verify, Target, N::StateTopic, &[Read], "the offset map"),
    row(C::Drill, Source, N::Topics, &[Read, DescribeConfigs], "what would be lost, and the settings to compare"),
    row(C::Drill, Source, N::Groups, &[Describe], "where groups stand"),
    row(C::Drill, Source, N::Cluster, &[Describe], "comparing ACLs").or(NOT_COMPARED),
    row(C::Drill, Target, N::MirrorTopics, &[Read, DescribeConfigs], "the record at each translated offset, and the settings"),
    row(C::Drill, Target, N::StateTopic, &[Read, DescribeConfigs], "the offset map"),
    row(C::Drill, Target, N::Groups, &[Describe], "where groups stand"),
    row(C::Drill, Target, N::DrillGroups, &[Read, Delete], "`--isolated`: copies of the groups, taken back afterwards"),
    row(C::Drill, Target, N::Cluster, &[DescribeConfigs], "the brokers' settings"),
    row(C::Drill, Target, N::Cluster, &[Describe], "comparing ACLs").or(NOT_COMPARED),
    row(C::Failover, Source, N::Topics, &[Read, DescribeConfigs], "draining it, and the settings that were held back").or("only where the source is there"),
    row(C::Failover, Source, N::Groups, &[Describe], "the last committed offsets").or("only where the source is there"),
    row(C::Failover, Source, N::Cluster, &[Describe], "comparing ACLs").or(NOT_COMPARED),
    row(C::Failover, Target, N::MirrorTopics, &[Read, Write, Create, Alter], "as `run`"),
    row(C::Failover, Target, N::MirrorTopics, &[AlterConfigs], "applying topic settings that were held back"),
    row(C::Failover, Target, N::StateTopic, &[Read, Write, Create, Delete, DescribeConfigs], "as `run`"),
    row(C::Failover, Target, N::TransactionalIds, &[Write], "fencing every older writer"),
    row(C::Failover, Target, N::Groups, &[Read], "committing translated offsets"),
    row(C::Failover, Target, N::OwnGroups, &[Read], "as `groups`"),
    row(C::Failover, Target, N::Cluster, &[DescribeConfigs], "as `run`"),
    row(C::Failover, Target, N::Cluster, &[Describe], "comparing ACLs").or(NOT_COMPARED),
    row(C::Failover, Target, N::Cluster, &[Alter], "applying ACLs that were held back").or("only with `sync.acls`"),
    row(C::FenceSource, Source, N::Cluster, &[Alter], "`failover --fence-source acl`, and the `failback` after it: an ACL that denies everybody to write"),
    row(C::Unfenced, Target, N::Cluster, &[Alter], "fencing an owner that the coordinator has forgotten (WriteTxnMarkers; before Kafka 3.7 CLUSTER_ACTION)").or("its partitions halt as `unfenced`"),
    row(C::FailbackReplay, Target, N::GivenTopic, &[Read, Write, DescribeConfigs], "`failback --replay TOPIC`: records that the old source had alone; compacted topics are refused"),
    row(C::Backup, Source, N::Topics, &[Read, DescribeConfigs], "records, and the topics' settings"),
    row(C::Backup, Source, N::Groups, &[Describe], "committed offsets").or(LEFT_OUT),
    row(C::Backup, Source, N::Cluster, &[Describe], "ACLs, and the names of SCRAM users").or(LEFT_OUT),
    row(C::Backup, Source, N::Cluster, &[DescribeConfigs], "quotas").or(LEFT_OUT),
    row(C::Export, Source, N::GivenTopic, &[Read], "`archive export` of a live topic"),
    row(C::Restore, Target, N::MirrorTopics, &[Read, Write, Create, AlterConfigs], "as `run` and `failover`, the mirror being called `restore.<backup>.<cluster>`"),
    row(C::Restore, Target, N::StateTopic, &[Read, Write, Create, Delete, DescribeConfigs], "the same"),
    row(C::Restore, Target, N::TransactionalIds, &[Write], "the same"),
    row(C::Restore, Target, N::Groups, &[Read], "committing offsets"),
    row(C::Restore, Target, N::OwnGroups, &[Read], "as `groups`"),
    row(C::Restore, Target, N::Cluster, &[DescribeConfigs], "the brokers' settings, and planning quotas"),
    row(C::Restore, Target, N::Cluster, &[Describe], "planning ACLs, and naming SCRAM users that are missing").or("`--no-acls`"),
    row(C::Restore, Target, N::Cluster, &[Alter], "adding ACLs").or("`--no-acls`"),
    row(C::Restore, Target, N::Cluster, &[AlterConfigs], "adding quotas").or("`--no-quotas`"),
    row(C::PreserveOffsets, Target, N::MirrorTopics, &[Read, Write, Create, Delete, AlterConfigs], "`restore --preserve-offsets`: DELETE for DeleteRecords"),
    row(C::PreserveOffsets, Target, N::Groups, &[Read], "committing offsets"),
    row(C::PreserveOffsets, Target, N::Cluster, &[DescribeConfigs], "the brokers' settings"),
    row(C::PreserveOffsets, Target, N::Cluster, &[Alter], "filling offsets without a record (WriteTxnMarkers; before Kafka 3.7 CLUSTER_ACTION)").or("an archive with such offsets is refused"),
    row(C::Replay, Target, N::GivenTopic, &[Read, Write, DescribeConfigs], "the topic of `--into`"),
    row(C::Replay, Target, N::ReplayJournal, &[Read, Write, Create], "how far each replay came"),
    row(C::Replay, Target, N::ReplayTransactionalIds, &[Write], "being the only one who replays"),
    row(C::SyncTopicConfigs, Target, N::MirrorTopics, &[AlterConfigs], "topic settings that follow the source's").or("mirror topics keep those that they were made with"),
    row(C::SyncAcls, Source, N::Cluster, &[Describe], "reading ACLs"),
    row(C::SyncAcls, Target, N::Cluster, &[Alter], "reading and writing ACLs"),
    row(C::SyncQuotas, Source, N::Cluster, &[DescribeConfigs], "reading quotas"),
    row(C::SyncQuotas, Target, N::Cluster, &[AlterConfigs], "reading and writing quotas"),
    row(C::SyncScramUsers, Source, N::Cluster, &[Describe], "names of SCRAM users"),
    row(C::SyncScramUsers, Target, N::Cluster, &[Describe], "the same"),
    row(C::SyncDeletions, Target, N::MirrorTopics, &[Delete], "deleting mirror topics whose source topic is gone"),
];

impl Command {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 26] = [
        Self::Run,
        Self::Fleet,
        Self::Groups,
        Self::Heartbeats,
        Self::Rollback,
        Self::Check,
        Self::Status,
        Self::Translate,
        Self::Control,
        Self::Verify,
        Self::Drill,
        Self::Failover,
        Self::FenceSource,
        Self::Failback,
        Self::FailbackReplay,
        Self::Unfenced,
        Self::Backup,
        Self::Export,
        Self::Restore,
        Self::PreserveOffsets,
        Self::Replay,
        Self::SyncTopicConfigs,
        Self::SyncAcls,
        Self::SyncQuotas,
        Self::SyncScramUsers,
        Self::SyncDeletions,
    ];

    /// Its word for `--for`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Fleet => "fleet",
            Self::Groups => "groups",
            Self::Heartbeats => "heartbeats",
            Self::Rollback => "groups-rollback",
            Self::Check => "check",
            Self::Status => "status",
            Self::Translate => "translate",
            Self::Control => "control",
            Self::Verify => "verify",
            Self::Drill => "drill",
            Self::Failover => "failover",
            Self::FenceSource => "fence-source",
            Self::Failback => "failback",
            Self::FailbackReplay => "failback-replay",
            Self::Unfenced => "fence",
            Self::Backup => "backup",
            Self::Export => "export",
            Self::Restore => "restore",
            Self::PreserveOffsets => "preserve-offsets",
            Self::Replay => "replay",
            Self::SyncTopicConfigs => "sync.topic_configs",
            Self::SyncAcls => "sync.acls",
            Self::SyncQuotas => "sync.quotas",
            Self::SyncScramUsers => "sync.scram_users",
            Self::SyncDeletions => "sync.deletions",
        }
    }

    /// By its word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.word() == word)
    }

    /// Its rows. The way home ([`Command::Failback`]) has none of its own: it is `run`, `groups` and `failover` with the sides
    /// turned round.
    pub fn rows(self) -> impl Iterator<Item = &'static Row> {
        RIGHTS.iter().filter(move |row| row.command == self)
    }
}

/// The README's table.
#[must_use]
pub fn readme() -> String {
    let mut text = String::from("| `--for` | Cluster | Resource | Operations | What for |\n|---|---|---|---|---|\n");
    for command in Command::ALL {
        for row in command.rows() {
            let operations: Vec<&str> = row.operations.iter().map(|operation| operation.name()).collect();
            let without = row.without.map(|without| format!(". Without: {without}")).unwrap_or_default();
            text += &format!(
                "| `{}` | {} | {} | {} | {}{without} |\n",
                command.word(),
                row.side.word(),
                row.on.words(),
                operations.join(", "),
                row.why
            );
        }
        if command == Command::Failback {
            text += "| `failback` | both | | | the way home is a mirror `<mirror>.failback` from target to source: `run`, `groups` and `failover` with the sides turned round |\n";
        }
    }
    text
}
