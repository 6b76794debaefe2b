//! Rights: what an authorizer must allow kmirror's principals, per command, as ACLs ready to be added (KIP-140, KIP-290).

mod reduce;
mod requests;
mod table;

use std::fmt;

use serde::Serialize;

use super::AclBinding;

pub use reduce::reduce;
pub use requests::lacking;
pub use table::{RIGHTS, readme};

/// What needs rights. More words than the command line has commands: what an option or a section of the configuration needs in
/// addition has a word of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the words of the table say it")]
pub enum Command {
    Run,
    Fleet,
    Groups,
    Heartbeats,
    Rollback,
    Check,
    Status,
    Translate,
    Control,
    Verify,
    Drill,
    Failover,
    FenceSource,
    Failback,
    FailbackReplay,
    Unfenced,
    Backup,
    Export,
    Restore,
    PreserveOffsets,
    Replay,
    SyncTopicConfigs,
    SyncAcls,
    SyncQuotas,
    SyncScramUsers,
    SyncDeletions,
}

/// Which cluster of a mirror. A backup has a source alone, a restore a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Read from.
    Source,
    /// Written to.
    Target,
}

impl Side {
    /// As the configuration calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// What kind of names a row is about; the configuration says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Names {
    /// What `topics` of the mirror or the backup selects.
    Topics,
    /// The same as they are called on the target.
    MirrorTopics,
    /// `__kmirror.<mirror>`.
    StateTopic,
    /// Of `heartbeats`.
    HeartbeatTopic,
    /// That the command line names.
    GivenTopic,
    /// Where replays note how far they came.
    ReplayJournal,
    /// What `groups` of the mirror or the backup selects.
    Groups,
    /// Groups under whose names kmirror keeps notes.
    OwnGroups,
    /// In which the instances of a mirror share it.
    FleetGroup,
    /// Copies that an isolated drill makes.
    DrillGroups,
    /// Under which shards are owned.
    TransactionalIds,
    /// Under which a replay is alone.
    ReplayTransactionalIds,
    /// The cluster itself.
    Cluster,
}

impl Names {
    /// What kind of resource they are of.
    #[must_use]
    pub const fn resource(self) -> Resource {
        match self {
            Self::Topics
            | Self::MirrorTopics
            | Self::StateTopic
            | Self::HeartbeatTopic
            | Self::GivenTopic
            | Self::ReplayJournal => Resource::Topic,
            Self::Groups | Self::OwnGroups | Self::FleetGroup | Self::DrillGroups => Resource::Group,
            Self::TransactionalIds | Self::ReplayTransactionalIds => Resource::TransactionalId,
            Self::Cluster => Resource::Cluster,
        }
    }

    /// For the README.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Topics => "Topic: the selected topics",
            Self::MirrorTopics => "Topic: the mirror topics",
            Self::StateTopic => "Topic `__kmirror.<mirror>`",
            Self::HeartbeatTopic => "Topic: that of `heartbeats`",
            Self::GivenTopic => "Topic: the one named",
            Self::ReplayJournal => "Topic `__kmirror-replays`",
            Self::Groups => "Group: the selected groups",
            Self::OwnGroups => "Group `__kmirror.<mirror>`, and prefix `__kmirror.<mirror>/`",
            Self::FleetGroup => "Group `kmirror.<mirror>`",
            Self::DrillGroups => "Group: prefix `__kmirror.<mirror>.drill.`",
            Self::TransactionalIds => "TransactionalId: prefix `kmirror.<mirror>.`",
            Self::ReplayTransactionalIds => "TransactionalId: prefix `kmirror.replay.`",
            Self::Cluster => "Cluster",
        }
    }
}

/// An operation of an ACL (`AclOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's words")]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
}

impl Operation {
    /// All that kmirror asks for.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::DescribeConfigs,
        Self::AlterConfigs,
    ];

    /// As the protocol's documents and `AclBinding` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Alter => "ALTER",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
            Self::AlterConfigs => "ALTER_CONFIGS",
        }
    }

    /// Its number in the protocol (`AclOperation.code`), which is its bit where authorised operations are told (KIP-430).
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Create => 5,
            Self::Delete => 6,
            Self::Alter => 7,
            Self::Describe => 8,
            Self::DescribeConfigs => 10,
            Self::AlterConfigs => 11,
        }
    }

    /// As `kafka-acls.sh` writes it.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::Alter => "Alter",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
            Self::AlterConfigs => "AlterConfigs",
        }
    }

    /// Whether who may do this may do the other as well.
    #[must_use]
    pub const fn implies(self, other: Self) -> bool {
        match other {
            Self::Describe => matches!(self, Self::Describe | Self::Read | Self::Write | Self::Delete | Self::Alter),
            Self::DescribeConfigs => matches!(self, Self::DescribeConfigs | Self::AlterConfigs),
            _ => self.code() == other.code(),
        }
    }
}

/// A kind of resource (`ResourceType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "Kafka's words")]
pub enum Resource {
    Topic,
    Group,
    TransactionalId,
    Cluster,
}

impl Resource {
    /// As `AclBinding` writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "TOPIC",
            Self::Group => "GROUP",
            Self::TransactionalId => "TRANSACTIONAL_ID",
            Self::Cluster => "CLUSTER",
        }
    }

    /// For people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Topic => "Topic",
            Self::Group => "Group",
            Self::TransactionalId => "TransactionalId",
            Self::Cluster => "Cluster",
        }
    }
}

/// The one name that a cluster has as a resource (`Resource.CLUSTER_NAME`).
pub const CLUSTER_NAME: &str = "kafka-cluster";
/// Every name, as a literal one (`ResourcePattern.WILDCARD_RESOURCE`).
pub const ANY_NAME: &str = "*";
/// Who is meant where nothing says who kmirror is.
pub const PRINCIPAL: &str = "User:kmirror";

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What needs it.
    pub command: Command,
    /// Where.
    pub side: Side,
    /// On what.
    pub on: Names,
    /// Which operations, those left out that another one implies.
    pub operations: &'static [Operation],
    /// What for.
    pub why: &'static str,
    /// What holds without; `None`: the command fails.
    pub without: Option<&'static str>,
}

/// Names of resources, as an ACL has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// Name, prefix, or `*`.
    pub name: String,
    /// Whether the name is a prefix.
    pub is_prefix: bool,
    /// What it covers beyond what was asked for, in words.
    pub wider: Option<String>,
}

impl Pattern {
    /// This name.
    #[must_use]
    pub fn literal(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_prefix: false, wider: None }
    }

    /// All names that begin so; without a beginning, all.
    #[must_use]
    pub fn prefix(name: impl Into<String>) -> Self {
        let name = name.into();
        if name.is_empty() { Self::literal(ANY_NAME) } else { Self { name, is_prefix: true, wider: None } }
    }

    /// Whether every name is meant.
    #[must_use]
    pub fn is_any(&self) -> bool {
        !self.is_prefix && self.name == ANY_NAME
    }

    /// Whether one name is meant.
    #[must_use]
    pub fn is_one(&self) -> bool {
        !self.is_prefix && self.name != ANY_NAME
    }

    fn covers(&self, other: &Self) -> bool {
        self.is_any()
            || (self.is_prefix && !other.is_any() && other.name.starts_with(&self.name))
            || (self.name == other.name && self.is_prefix == other.is_prefix)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_prefix { write!(f, "with prefix {}", self.name) } else { f.write_str(&self.name) }
    }
}

/// One operation on names of one kind: a right that is to be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What kind of resource.
    pub resource: Resource,
    /// Which.
    pub pattern: Pattern,
    /// What may be done.
    pub operation: Operation,
    /// What needs it.
    pub commands: Vec<Command>,
    /// What for.
    pub why: String,
    /// What holds without; `None`: something fails.
    pub without: Option<String>,
}

impl Right {
    /// The rights of a row, for these names.
    #[must_use]
    pub fn of_row(row: &Row, patterns: &[Pattern]) -> Vec<Self> {
        let right = |pattern: &Pattern, operation: &Operation| Self {
            resource: row.on.resource(),
            pattern: pattern.clone(),
            operation: *operation,
            commands: vec![row.command],
            why: row.why.to_owned(),
            without: row.without.map(str::to_owned),
        };
        patterns.iter().flat_map(|p| row.operations.iter().map(move |o| right(p, o))).collect()
    }

    /// The ACL that grants it.
    #[must_use]
    pub fn binding(&self, principal: &str) -> AclBinding {
        AclBinding {
            resource: self.resource.name().to_owned(),
            name: self.pattern.name.clone(),
            pattern: if self.pattern.is_prefix { "PREFIXED" } else { "LITERAL" }.to_owned(),
            principal: principal.to_owned(),
            host: "*".to_owned(),
            operation: self.operation.name().to_owned(),
            permission: "ALLOW".to_owned(),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.operation.name(), self.resource.word())?;
        if self.resource == Resource::Cluster { Ok(()) } else { write!(f, " {}", self.pattern) }
    }
}

/// How a cluster is reached by whoever may change its ACLs.
#[derive(Debug, Clone, Copy)]
pub struct Grantee<'a> {
    /// As `--bootstrap-server` has it.
    pub bootstrap: &'a str,
    /// Who is to be allowed.
    pub principal: &'a str,
}

/// The line of Kafka's own tool that grants these operations.
#[must_use]
pub fn kafka_acls(to: Grantee<'_>, resource: Resource, pattern: &Pattern, operations: &[Operation]) -> String {
    let operations: Vec<String> = operations.iter().map(|o| format!(" --operation {}", o.option())).collect();
    let name = quoted(&pattern.name);
    let on = match resource {
        Resource::Topic => format!("--topic {name}"),
        Resource::Group => format!("--group {name}"),
        Resource::TransactionalId => format!("--transactional-id {name}"),
        Resource::Cluster => "--cluster".to_owned(),
    };
    let kind = if pattern.is_prefix { " --resource-pattern-type prefixed" } else { "" };
    format!(
        "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --add --allow-principal {}{} {on}{kind}",
        to.bootstrap,
        quoted(to.principal),
        operations.concat()
    )
}

/// For a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/=,@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests;
