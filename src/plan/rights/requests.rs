//! Which operation a request takes (`KafkaApis`, `ControllerApis`): what is lacking where a broker refuses it.

use super::Operation::{Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
use super::Resource::{Cluster, Group, Topic, TransactionalId};
use super::{CLUSTER_NAME, Grantee, Operation, PRINCIPAL, Pattern, Resource, kafka_acls};

/// By request and by the kind of resource that the error names.
const REQUESTS: &[(&str, Resource, Operation)] = &[
    ("Fetch", Topic, Read),
    ("Metadata", Topic, Describe),
    ("ListOffsets", Topic, Describe),
    ("DescribeProducers", Topic, Read),
    ("Produce", Topic, Write),
    ("AddPartitionsToTxn", Topic, Write),
    ("CreateTopics", Topic, Create),
    ("CreatePartitions", Topic, Alter),
    ("DeleteRecords", Topic, Delete),
    ("DescribeConfigs", Topic, DescribeConfigs),
    ("IncrementalAlterConfigs", Topic, AlterConfigs),
    ("OffsetFetch", Topic, Describe),
    ("OffsetCommit", Topic, Read),
    ("OffsetDelete", Topic, Read),
    ("FindCoordinator", Group, Describe),
    ("DescribeGroups", Group, Describe),
    ("ConsumerGroupDescribe", Group, Describe),
    ("JoinGroup", Group, Read),
    ("LeaveGroup", Group, Read),
    ("OffsetFetch", Group, Describe),
    ("OffsetCommit", Group, Read),
    ("OffsetDelete", Group, Delete),
    ("JoinGroup", Group, Read),
    ("FindCoordinator", TransactionalId, Describe),
    ("InitProducerId", TransactionalId, Write),
    ("AddPartitionsToTxn", TransactionalId, Write),
    ("EndTxn", TransactionalId, Write),
    ("CreateTopics", Cluster, Create),
    ("DescribeConfigs", Cluster, DescribeConfigs),
    ("WriteTxnMarkers", Cluster, Alter),
    ("DescribeAcls", Cluster, Describe),
    ("CreateAcls", Cluster, Alter),
    ("DeleteAcls", Cluster, Alter),
    ("DescribeClientQuotas", Cluster, DescribeConfigs),
    ("AlterClientQuotas", Cluster, AlterConfigs),
    ("DescribeUserScramCredentials", Cluster, Describe),
];

/// What an authorizer refused: who lacks which right, and the line that grants it. `subject` is what the error speaks of.
#[must_use]
pub fn lacking(
    request: &str,
    subject: &str,
    resource: Resource,
    principal: Option<&str>,
    bootstrap: &str,
) -> Option<String> {
    let (_, _, operation) = REQUESTS.iter().find(|(name, kind, _)| *name == request && *kind == resource)?;
    let name = name(subject, resource)?;
    let to = Grantee { bootstrap, principal: principal.unwrap_or(PRINCIPAL) };
    let line = kafka_acls(to, resource, &Pattern::literal(name), &[*operation]);
    let on = if resource == Cluster { resource.word().to_owned() } else { format!("{} {name}", resource.word()) };
    Some(format!("{} lacks {} on {on}: {line}", principal.unwrap_or("kmirror's principal"), operation.name()))
}

/// The name of the resource in what an error speaks of: `orders:3`, `orders:3 at offset 7`, `billing on orders:3`.
fn name(subject: &str, resource: Resource) -> Option<&str> {
    let (before, behind) = subject.split_once(" on ").unwrap_or((subject, subject));
    let name = match resource {
        Cluster => CLUSTER_NAME,
        Group | TransactionalId => before,
        Topic => {
            let place = behind.split(' ').next()?;
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            place.rsplit_once(':').filter(|(_, partition)| is_number(partition)).map_or(place, |(topic, _)| topic)
        }
    };
    (!name.is_empty() && !name.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_in_what_an_error_speaks_of() {
        let who = Some("User:alice");
        let words = |request, subject, resource| lacking(request, subject, resource, who, "h:1").unwrap();
        assert_eq!(
            words("Fetch", "orders:3 at offset 7", Topic),
            "User:alice lacks READ on Topic orders: kafka-acls.sh --bootstrap-server h:1 --command-config \
             admin.properties --add --allow-principal User:alice --operation Read --topic orders"
        );
        let commit = |resource| words("OffsetCommit", "billing on orders:3", resource);
        assert!(commit(Group).starts_with("User:alice lacks READ on Group billing: "));
        assert!(commit(Topic).starts_with("User:alice lacks READ on Topic orders: "));
        assert!(words("WriteTxnMarkers", "orders:3", Cluster).ends_with(" --operation Alter --cluster"));
        assert!(words("CreateTopics", "dr.orders", Topic).contains("lacks CREATE on Topic dr.orders"));
    }

    #[test]
    fn who_is_not_known_is_not_made_up() {
        let words = lacking("Metadata", "orders", Topic, None, "h:1").unwrap();
        assert!(words.starts_with("kmirror's principal lacks DESCRIBE on Topic orders: "), "{words}");
        assert!(words.contains("--allow-principal User:kmirror "), "{words}");
        assert_eq!(lacking("Fetch", "", Topic, None, "h:1"), None);
        assert_eq!(lacking("Heartbeat", "orders", Topic, None, "h:1"), None);
    }
}
