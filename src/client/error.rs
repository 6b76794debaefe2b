//! What can go wrong between us and a cluster, and what to do about it: retry, refresh metadata, or give up. This is
//! the one place that decides.

use std::borrow::Cow;

use kafka_protocol::ResponseError;

use crate::plan::rights::{self, Resource};

/// A request that brought no usable answer. Names the cluster, and what was asked of whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The broker answered with an error code.
    #[error("cluster {cluster}: {api} of {subject}: {name} ({code}){detail}")]
    Api {
        /// Cluster name.
        cluster: String,
        /// Api name.
        api: &'static str,
        /// What the request was about: a topic-partition, a transactional id, a topic.
        subject: String,
        /// Kafka's error code (`org.apache.kafka.common.protocol.Errors`).
        code: i16,
        /// Its name.
        name: Cow<'static, str>,
        /// What to do about it, or the broker's own words; empty or beginning with "; ".
        detail: String,
    },
    /// No connection could be made.
    #[error("cluster {cluster}: {address} is unreachable: {detail}")]
    Unreachable {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// What the system said.
        detail: String,
    },
    /// The broker does not take us for who we say we are, or is not who it should be, or there is nothing to show it.
    #[error("cluster {cluster}: {address} does not let in {who}: {detail}")]
    Authentication {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// User and mechanism.
        who: String,
        /// Why, and what to do about it.
        detail: String,
    },
    /// A connection ended while requests waited on it.
    #[error("cluster {cluster}: connection to {address} lost: {detail}")]
    Disconnected {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// What the system said.
        detail: String,
    },
    /// No answer in time; the connection is given up with all that waits on it.
    #[error("cluster {cluster}: {address} did not answer {api} within {waited_ms} ms")]
    Timeout {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// Api name.
        api: &'static str,
        /// How long it was waited for, ms.
        waited_ms: u64,
    },
    /// The broker does not offer an api in a version that we speak.
    #[error("cluster {cluster}: {address} offers {api} {theirs}, kmirror speaks v{min} to v{max}")]
    UnsupportedApi {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// Api name.
        api: &'static str,
        /// Lowest version we speak.
        min: i16,
        /// Highest version we speak.
        max: i16,
        /// What it offers, in words.
        theirs: String,
    },
    /// Bytes that are not a response to what was asked.
    #[error("cluster {cluster}: {address}: {api}: malformed response: {detail}")]
    Protocol {
        /// Cluster name.
        cluster: String,
        /// Host and port.
        address: String,
        /// Api name.
        api: &'static str,
        /// What is wrong, and where.
        detail: String,
    },
    /// A request that cannot be written in the negotiated version.
    #[error("cluster {cluster}: {api} v{version} cannot be encoded: {detail}")]
    Encode {
        /// Cluster name.
        cluster: String,
        /// Api name.
        api: &'static str,
        /// Version negotiated.
        version: i16,
        /// The field that does not fit.
        detail: String,
    },
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after a pause.
    Retry,
    /// Refresh metadata (leader, coordinator, controller), then try again.
    Refresh,
    /// Trying again cannot help.
    Fatal,
}

/// Judges an error code. Retriable and "invalid metadata" codes are those of Kafka's Java client
/// (`RetriableException`, `InvalidMetadataException`).
pub fn classify(code: i16) -> Verdict {
    use ResponseError as E;
    let Some(error) = ResponseError::try_from_code(code) else { return Verdict::Fatal };
    match error {
        E::UnknownTopicOrPartition
        | E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::BrokerNotAvailable
        | E::ReplicaNotAvailable
        | E::NetworkException
        | E::CoordinatorNotAvailable
        | E::NotCoordinator
        | E::NotController
        | E::KafkaStorageError
        | E::ListenerNotFound
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::UnknownTopicId
        | E::InconsistentTopicId
        | E::RebootstrapRequired => Verdict::Refresh,
        E::RequestTimedOut
        | E::CoordinatorLoadInProgress
        | E::NotEnoughReplicas
        | E::NotEnoughReplicasAfterAppend
        | E::ConcurrentTransactions
        | E::FetchSessionIdNotFound
        | E::InvalidFetchSessionEpoch
        | E::FetchSessionTopicIdError
        | E::OffsetNotAvailable
        | E::UnstableOffsetCommit
        | E::PreferredLeaderNotAvailable
        | E::EligibleLeadersNotAvailable
        | E::ThrottlingQuotaExceeded => Verdict::Retry,
        _ => Verdict::Fatal,
    }
}

/// Name of an error code, as Kafka's documentation writes it.
pub fn code_name(code: i16) -> Cow<'static, str> {
    match ResponseError::try_from_code(code) {
        Some(ResponseError::Unknown(_)) => Cow::Borrowed("UNKNOWN_CODE"),
        Some(error) => Cow::Owned(screaming(&format!("{error:?}"))),
        None if code == 0 => Cow::Borrowed("NONE"),
        None => Cow::Borrowed("UNKNOWN_CODE"),
    }
}

fn screaming(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 8);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

fn advice(code: i16) -> &'static str {
    use ResponseError as E;
    match ResponseError::try_from_code(code) {
        Some(E::TopicAuthorizationFailed) => "; grant the principal the topic rights that README.md lists",
        Some(E::GroupAuthorizationFailed) => {
            "; grant DESCRIBE on the group to read its offsets, READ to commit them or to be a member, DELETE to take them back"
        }
        Some(E::InvalidSessionTimeout) => {
            "; set fleet.session_timeout between group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers"
        }
        Some(E::OffsetMetadataTooLarge) => "; raise offset.metadata.max.bytes of the brokers",
        Some(E::TransactionalIdAuthorizationFailed) => {
            "; grant WRITE and DESCRIBE on transactional ids with prefix `kmirror.`"
        }
        Some(E::ClusterAuthorizationFailed) => "; grant the principal the cluster rights that README.md lists",
        Some(E::MessageTooLarge) => "; raise max.message.bytes of the topic (or the broker's message.max.bytes)",
        Some(E::InvalidReplicationFactor) => "; set target_topics.replication_factor to at most the number of brokers",
        Some(E::PolicyViolation) => "; the cluster's create-topic policy refuses it: create the topic by hand",
        _ => "",
    }
}

/// On what kind of resource a right is lacking, by the error code that says so.
fn lacking(code: i16) -> Option<Resource> {
    use ResponseError as E;
    match ResponseError::try_from_code(code)? {
        E::TopicAuthorizationFailed => Some(Resource::Topic),
        E::GroupAuthorizationFailed => Some(Resource::Group),
        E::TransactionalIdAuthorizationFailed => Some(Resource::TransactionalId),
        E::ClusterAuthorizationFailed => Some(Resource::Cluster),
        _ => None,
    }
}

impl ClientError {
    pub(crate) fn api(cluster: &str, api: &'static str, code: i16, subject: &str, message: Option<&str>) -> Self {
        let words = message.filter(|m| !m.is_empty()).map(|m| format!("; the broker says: {m}")).unwrap_or_default();
        Self::Api {
            cluster: cluster.to_owned(),
            api,
            subject: subject.to_owned(),
            code,
            name: code_name(code),
            detail: format!("{words}{}", advice(code)),
        }
    }

    /// The same; where an authorizer refused it, with who lacks which right and the line that grants it.
    pub(crate) fn with_right(self, principal: Option<&str>, bootstrap: &[String]) -> Self {
        let Self::Api { cluster, api, subject, code, name, detail } = self else { return self };
        let advice = advice(code);
        let right = lacking(code)
            .and_then(|resource| rights::lacking(api, &subject, resource, principal, &bootstrap.join(",")));
        let detail = match (right, detail.strip_suffix(advice)) {
            (Some(right), Some(words)) => format!("{words}; {right}"),
            _ => detail,
        };
        Self::Api { cluster, api, subject, code, name, detail }
    }

    /// Kafka's error code, where a broker has answered with one.
    pub fn code(&self) -> Option<i16> {
        match self {
            Self::Api { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether a group has members, and therefore refuses what is not theirs: a commit of somebody else (UNKNOWN_MEMBER_ID,
    /// or by its state REBALANCE_IN_PROGRESS), or the deletion of an offset (NON_EMPTY_GROUP, GROUP_SUBSCRIBED_TO_TOPIC).
    pub fn is_of_live_group(&self) -> bool {
        use ResponseError as E;
        let live = [E::UnknownMemberId, E::RebalanceInProgress, E::NonEmptyGroup, E::GroupSubscribedToTopic];
        self.code().is_some_and(|code| live.iter().any(|error| error.code() == code))
    }

    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Api { code, .. } => classify(*code),
            // Credentials can be put right while a mirror runs. What is no answer has cost its connection, and says nothing of
            // the next: one broker that is broken must not end what others could go on with.
            Self::Authentication { .. }
            | Self::Protocol { .. }
            | Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::Timeout { .. } => Verdict::Refresh,
            Self::UnsupportedApi { .. } | Self::Encode { .. } => Verdict::Fatal,
        }
    }

    /// Whether trying again can help.
    pub fn is_retriable(&self) -> bool {
        self.verdict() != Verdict::Fatal
    }

    /// Whether nobody answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Timeout { .. })
    }

    /// Whether the cluster could not be reached, or refused the credentials or rights: exit code 4.
    pub fn is_unreachable_or_unauthorised(&self) -> bool {
        use ResponseError as E;
        match self {
            error if error.is_unreachable() || error.is_unauthorised() => true,
            Self::Authentication { .. } => true,
            Self::Api { code, .. } => matches!(
                ResponseError::try_from_code(*code),
                Some(E::SaslAuthenticationFailed | E::UnsupportedSaslMechanism)
            ),
            _ => false,
        }
    }

    /// Whether an authorizer refused it.
    pub fn is_unauthorised(&self) -> bool {
        self.code().is_some_and(|code| lacking(code).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_kafkas_names_and_verdicts() {
        assert_eq!(code_name(6), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(code_name(47), "INVALID_PRODUCER_EPOCH");
        assert_eq!(code_name(-1), "UNKNOWN_SERVER_ERROR");
        assert_eq!(code_name(12345), "UNKNOWN_CODE");
        assert_eq!(classify(6), Verdict::Refresh);
        assert_eq!(classify(19), Verdict::Retry);
        assert_eq!(classify(87), Verdict::Fatal);
        assert_eq!(classify(12345), Verdict::Fatal);
    }

    #[test]
    fn what_an_authorizer_refused_names_the_right_in_place_of_general_advice() {
        let refused = |code| ClientError::api("standby", "Produce", code, "orders:3", None);
        let words = refused(29).with_right(Some("User:alice"), &["h:1".to_owned(), "h:2".to_owned()]).to_string();
        assert!(words.contains("TOPIC_AUTHORIZATION_FAILED (29); User:alice lacks WRITE on Topic orders: "), "{words}");
        assert!(words.contains("--bootstrap-server h:1,h:2 ") && !words.contains("README"), "{words}");
        assert_eq!(refused(10).with_right(None, &[]), refused(10));
    }

    #[test]
    fn an_error_names_cluster_api_subject_and_code() {
        let error = ClientError::api("standby", "Produce", 10, "orders:3", Some("too big"));
        let words = error.to_string();
        for part in ["standby", "Produce", "orders:3", "MESSAGE_TOO_LARGE (10)", "too big", "max.message.bytes"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
