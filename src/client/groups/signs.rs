//! Signs of life of a fleet's members: offsets that they commit in their own names, and what is done about one that gives none.
//! One request, one try, on a connection of their own: nothing that waits at the coordinator stands before them.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{LeaveGroupRequest, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;

use super::GroupCall;
use super::describe::group_id;
use super::members::{GroupSeat, MANY_LEAVE};
use super::offsets::{FetchOffsets, topic_name};
use crate::client::connection::Connection;
use crate::client::coordinators::KeyType;
use crate::client::{ClientError, Cluster};
use crate::plan::fleet::{Post, Seen, Sign};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const UNKNOWN_MEMBER_ID: i16 = 25;
/// For the coordinator's log (KIP-800), where it takes one.
const REASON: &str = "it gives no signs of life";
/// The first version of LeaveGroup that does.
const WITH_REASON: i16 = 5;

impl Cluster {
    /// Gives a sign of life: commits `count`, with the sign as its metadata, for partition [`Post::slot`] of `topic`, as the member that
    /// the post names.
    ///
    /// # Errors
    /// Nobody answered, or by an error code: of the coordinator, or UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID and
    /// REBALANCE_IN_PROGRESS, which say that the post is not held any more, or not yet.
    pub async fn give_sign(
        &self,
        seat: &GroupSeat,
        (topic, post): (&str, &Post),
        (count, sign): (i64, &Sign),
    ) -> Result<(), ClientError> {
        let at = self.sign_connection(&seat.group).await?;
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(post.slot.cast_signed())
            .with_committed_offset(count)
            .with_committed_metadata(Some(StrBytes::from_string(sign.to_text())));
        let place = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&seat.group))
            .with_generation_id_or_member_epoch(post.generation)
            .with_member_id(StrBytes::from_string(post.member.clone()))
            .with_group_instance_id(seat.instance())
            .with_topics(vec![place]);
        let answered = self.heed(seat, at.call(request, 0).await)?;
        let told = answered.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        let subject = format!("{} on {topic}:{}", seat.group, post.slot);
        self.told_of(seat, ("OffsetCommit", &subject), told.max_by_key(|code| *code != 0))
    }

    /// All signs that stand there.
    ///
    /// # Errors
    /// Nobody answered, or by an error code.
    pub async fn read_signs(&self, seat: &GroupSeat, topic: &str) -> Result<Vec<Seen>, ClientError> {
        let at = self.sign_connection(&seat.group).await?;
        let mut each =
            self.heed(seat, FetchOffsets { stable: false }.ask(self, &at, std::slice::from_ref(&seat.group)).await)?;
        let silent = || Err(self.api_error("OffsetFetch", UNKNOWN_SERVER_ERROR, &seat.group));
        let fetched = self.heed(seat, each.remove(&seat.group).unwrap_or_else(silent))?.all()?;
        let committed = fetched.topic(topic).into_iter().flat_map(|partitions| partitions.values());
        let seen = committed.filter_map(|committed| {
            Some(Seen { sign: Sign::from_text(&committed.metadata)?, count: committed.offset })
        });
        Ok(seen.collect())
    }

    /// Has the coordinator take these members' leave, as Kafka's `removeMembersFromConsumerGroup` does (KIP-345). Whom it does not know
    /// any more is gone already: gives those that it knew.
    ///
    /// # Errors
    /// Nobody answered, or by another error code.
    pub async fn put_out(&self, seat: &GroupSeat, members: &[String]) -> Result<Vec<String>, ClientError> {
        let at = self.sign_connection(&seat.group).await?;
        let answers = self.heed(seat, leave_for(&at, seat, members).await)?;
        let mut gone = Vec::new();
        for (member, code) in answers {
            match code {
                UNKNOWN_MEMBER_ID => {}
                0 => gone.push(member),
                code => self.told_of(seat, ("LeaveGroup", &seat.group), Some(code))?,
            }
        }
        Ok(gone)
    }

    async fn sign_connection(&self, group: &str) -> Result<Connection, ClientError> {
        let node = self.coordinator(KeyType::Group, group).await?;
        let connection = self.member_sign_connection(node).await;
        connection.inspect_err(|_| self.doubt_member_coordinator(group))
    }

    /// Where nobody answers, or somebody who is not the coordinator, it is looked for anew.
    fn heed<T>(&self, seat: &GroupSeat, outcome: Result<T, ClientError>) -> Result<T, ClientError> {
        outcome.inspect_err(|error| self.doubt_coordinator(KeyType::Group, &seat.group, error))
    }

    fn told_of(
        &self,
        seat: &GroupSeat,
        (api, subject): (&'static str, &str),
        code: Option<i16>,
    ) -> Result<(), ClientError> {
        match code {
            Some(0) => Ok(()),
            code => self.heed(seat, Err(self.api_error(api, code.unwrap_or(UNKNOWN_SERVER_ERROR), subject))),
        }
    }
}

async fn leave_for(at: &Connection, seat: &GroupSeat, members: &[String]) -> Result<Vec<(String, i16)>, ClientError> {
    let request = LeaveGroupRequest::default().with_group_id(group_id(&seat.group));
    let version = at.version_of::<LeaveGroupRequest>()?;
    if version < MANY_LEAVE {
        let mut answers = Vec::new();
        for member in members {
            let request = request.clone().with_member_id(StrBytes::from_string(member.clone()));
            answers.push((member.clone(), at.call(request, 0).await?.error_code));
        }
        return Ok(answers);
    }
    // A static member goes by its member id as well; its instance id would put out a successor that has come back under it.
    let identity = |member: &String| {
        let identity = MemberIdentity::default().with_member_id(StrBytes::from_string(member.clone()));
        let reason = (version >= WITH_REASON).then(|| StrBytes::from_static_str(REASON));
        identity.with_reason(reason)
    };
    let answer = at.call(request.with_members(members.iter().map(identity).collect()), 0).await?;
    if answer.error_code != 0 {
        return Ok(members.iter().map(|member| (member.clone(), answer.error_code)).collect());
    }
    Ok(answer.members.iter().map(|member| (member.member_id.to_string(), member.error_code)).collect())
}
