//! Producer epochs, transaction markers and what they fence: the ground that taking over stands on. The versions are
//! those that the take-over uses (AddPartitionsToTxn v3, EndTxn v3), which keep an epoch over a transaction's end.

use std::sync::atomic::{AtomicU32, Ordering};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, TransactionalId, WriteTxnMarkersRequest,
};
use kmirror::batch::{ATTR_TRANSACTIONAL, RawBatch};

use super::batch::BatchSpec;
use super::code;
use super::subject::{LIMIT, PRODUCE, Produced, Subject, Topic, on_every_broker, produced, text, topic_name};
use crate::kafka::harness::wait_until;

on_every_broker!(
    each_init_keeps_the_id_and_raises_the_epoch,
    init_alone_fences_no_partition,
    a_transactional_producer_id_may_write_outside_transactions,
    an_unknown_topic_fails_the_whole_request,
    an_old_owner_can_neither_add_nor_end,
    init_aborts_the_open_transaction_first,
    written_markers_fence_without_the_coordinator;
    since_3:
    an_empty_aborted_transaction_writes_one_marker_per_partition,
    from_the_marker_on_the_old_epoch_is_refused,
    after_the_marker_the_new_epoch_begins_at_zero,
    a_marker_of_the_same_epoch_leaves_the_sequence_alone,
    an_open_transaction_holds_back_the_stable_offset,
    aborted_data_is_named_and_committed_data_is_not,
    a_commit_marker_takes_an_offset,
);

/// A producer with a transactional.id, as the coordinator knows it.
#[derive(Debug)]
pub(crate) struct Owner<'a> {
    subject: &'a Subject,
    transactional_id: String,
    id: i64,
    epoch: i16,
}

impl<'a> Owner<'a> {
    /// InitProducerId on a transactional.id that no other test uses.
    pub(crate) fn new(subject: &'a Subject) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let transactional_id = format!("conformance-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self::init(subject, &transactional_id)
    }

    /// InitProducerId, asked again while the coordinator is not ready or still ends a transaction.
    pub(crate) fn init(subject: &'a Subject, transactional_id: &str) -> Self {
        let find = FindCoordinatorRequest::default().with_key(text(transactional_id)).with_key_type(1);
        wait_until("the transaction coordinator", LIMIT, || {
            let error = subject.connect().call(3, &find).error_code;
            if error == 0 { Ok(()) } else { Err(format!("error {error}")) }
        });
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(transactional_id))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        wait_until("a producer id", LIMIT, || {
            let answer = subject.connect().call(4, &request);
            let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
            let owner = Self { subject, transactional_id: transactional_id.to_owned(), id, epoch };
            if answer.error_code == 0 { Ok(owner) } else { Err(format!("error {}", answer.error_code)) }
        })
    }

    /// The next owner of the same transactional.id.
    fn successor(&self) -> Self {
        Self::init(self.subject, &self.transactional_id)
    }

    fn producer(&self) -> (i64, i16) {
        (self.id, self.epoch)
    }

    /// AddPartitionsToTxn: the error of each partition asked for, in that order. Asked again while the coordinator is
    /// still at the transaction before.
    fn add(&self, partitions: &[(&str, i32)]) -> Vec<i16> {
        let topic = |(name, partition): &(&str, i32)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(vec![*partition])
        };
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&self.transactional_id)))
            .with_v3_and_below_producer_id(self.id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(partitions.iter().map(topic).collect());
        let results = wait_until("the coordinator to be free", LIMIT, || {
            let answer = self.subject.connect().call(3, &request).results_by_topic_v3_and_below;
            let busy = answer.iter().flat_map(|topic| &topic.results_by_partition);
            let busy = busy.filter(|partition| partition.partition_error_code == code::CONCURRENT_TRANSACTIONS).count();
            if busy == 0 { Ok(answer) } else { Err("concurrent transactions".to_owned()) }
        });
        let error_of = |(name, partition): &(&str, i32)| {
            let topic = results.iter().filter(|topic| topic.name.as_str() == *name);
            let mut rows = topic.flat_map(|topic| &topic.results_by_partition);
            rows.find(|row| row.partition_index == *partition).map(|row| row.partition_error_code)
        };
        partitions.iter().map(|asked| error_of(asked).expect("an answer for each partition")).collect()
    }

    fn end(&self, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(&self.transactional_id)))
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        self.subject.connect().call(3, &request).error_code
    }

    /// Waits until the coordinator has had all markers written.
    fn await_state(&self, wanted: &str) {
        let ids = vec![TransactionalId(text(&self.transactional_id))];
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
        wait_until(wanted, LIMIT, || {
            let answer = self.subject.connect().call(0, &request);
            let state = &answer.transaction_states[0];
            assert_eq!(state.error_code, 0);
            if &*state.transaction_state == wanted { Ok(()) } else { Err(format!("{:?}", state.transaction_state)) }
        });
    }

    /// The whole marker: an empty transaction over these topics' first partitions, aborted.
    fn mark(&self, topics: &[&Topic<'_>]) {
        let partitions: Vec<(&str, i32)> = topics.iter().map(|topic| (topic.name.as_str(), 0)).collect();
        assert_eq!(self.add(&partitions), vec![0; topics.len()]);
        assert_eq!(self.end(false), 0);
        self.await_state("CompleteAbort");
    }

    fn send(&self, topic: &Topic<'_>, sequence: i32, count: i32) -> Produced {
        topic.produce(&BatchSpec::idempotent("owned", self.producer(), sequence, count))
    }

    fn send_in_transaction(&self, topic: &Topic<'_>, sequence: i32, count: i32) -> Produced {
        let batch = BatchSpec::idempotent("in-transaction", self.producer(), sequence, count);
        let batch = BatchSpec { attributes: ATTR_TRANSACTIONAL, ..batch };
        let request = topic
            .produce_request(batch.encode())
            .with_transactional_id(Some(TransactionalId(text(&self.transactional_id))));
        produced(&self.subject.connect().call(PRODUCE, &request).responses[0].partition_responses[0])
    }
}

/// Whose marker it is, and whether it commits. The record's key is a version and the type: 0 abort, 1 commit
/// (`ControlRecordType`); five one-byte fields stand in front of it.
fn marker(batch: &RawBatch) -> (i64, i16, bool) {
    let header = &batch.header;
    assert!(header.is_control() && header.is_transactional());
    assert_eq!((header.records_count, header.last_offset_delta, header.base_sequence), (1, 0, -1));
    let payload = batch.payload();
    assert_eq!(payload[5..8], [0, 0, 0]);
    (header.producer_id, header.producer_epoch, payload[8] == 1)
}

fn each_init_keeps_the_id_and_raises_the_epoch(subject: &Subject) {
    let first = Owner::new(subject);
    let second = first.successor();
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    assert_ne!(Owner::new(subject).id, first.id);
}

fn an_empty_aborted_transaction_writes_one_marker_per_partition(subject: &Subject) {
    let (topic, empty) = (subject.topic(), subject.topic());
    topic.produce(&BatchSpec::plain("a", 4)).offset();
    let owner = Owner::new(subject);
    owner.mark(&[&topic, &empty]);
    for (topic, at) in [(&topic, 4), (&empty, 0)] {
        assert_eq!(topic.end(), at + 1);
        let found = topic.batches(at);
        assert_eq!((found.len(), found[0].header.base_offset), (1, at));
        assert_eq!(marker(&found[0]), (owner.id, owner.epoch, false));
    }
}

fn init_alone_fences_no_partition(subject: &Subject) {
    let topic = subject.topic();
    let old = Owner::new(subject);
    old.send(&topic, 0, 2).offset();
    let new = old.successor();
    assert!(new.epoch > old.epoch);
    assert_eq!(old.send(&topic, 2, 2).offset(), 2, "only a marker in this partition tells its leader");
}

fn from_the_marker_on_the_old_epoch_is_refused(subject: &Subject) {
    let (topic, untouched) = (subject.topic(), subject.topic());
    let old = Owner::new(subject);
    old.send(&topic, 0, 2).offset();
    old.send(&untouched, 0, 2).offset();
    let new = old.successor();
    new.mark(&[&topic]);
    assert_eq!(old.send(&topic, 2, 2).error, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(old.send(&topic, 0, 2).error, code::INVALID_PRODUCER_EPOCH, "nor are its duplicates known any more");
    assert_eq!(topic.end(), 3);
    assert_eq!(old.send(&untouched, 2, 1).offset(), 2);
}

fn after_the_marker_the_new_epoch_begins_at_zero(subject: &Subject) {
    let topic = subject.topic();
    let old = Owner::new(subject);
    old.send(&topic, 0, 2).offset();
    let new = old.successor();
    new.mark(&[&topic]);
    let state = topic.producer_state(new.id).unwrap();
    assert_eq!((state.producer_epoch, state.last_sequence), (i32::from(new.epoch), -1));
    assert_eq!(new.send(&topic, 0, 3).offset(), 3);
    assert_eq!(new.send(&topic, 3, 1).offset(), 6);
    assert_eq!(new.send(&topic, 3, 1).offset(), 6, "a duplicate again");
}

fn a_marker_of_the_same_epoch_leaves_the_sequence_alone(subject: &Subject) {
    let topic = subject.topic();
    let owner = Owner::new(subject);
    owner.send(&topic, 0, 2).offset();
    owner.mark(&[&topic]);
    assert_eq!(owner.send(&topic, 0, 2).offset(), 0, "a duplicate still known");
    assert_eq!(owner.send(&topic, 0, 3).error, code::OUT_OF_ORDER_SEQUENCE);
    assert_eq!(owner.send(&topic, 2, 1).offset(), 3);
}

fn a_transactional_producer_id_may_write_outside_transactions(subject: &Subject) {
    let topic = subject.topic();
    let owner = Owner::new(subject);
    assert_eq!(owner.send(&topic, 0, 2).offset(), 0);
    let data = topic.fetch(0);
    assert_eq!((data.high_watermark, data.last_stable_offset), (2, 2));
}

fn an_unknown_topic_fails_the_whole_request(subject: &Subject) {
    let topic = subject.topic();
    let owner = Owner::new(subject);
    let errors = owner.add(&[(&topic.name, 0), ("conformance-there-is-no-such-topic", 0)]);
    assert_eq!(errors, [code::OPERATION_NOT_ATTEMPTED, code::UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(owner.add(&[(&topic.name, 0), (&topic.name, 9)])[1], code::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(owner.add(&[(&topic.name, 0)]), [0]);
    assert_eq!(owner.end(false), 0);
}

fn an_old_owner_can_neither_add_nor_end(subject: &Subject) {
    let topic = subject.topic();
    let old = Owner::new(subject);
    let new = old.successor();
    let refused = [code::INVALID_PRODUCER_EPOCH, code::PRODUCER_FENCED];
    let add = old.add(&[(&topic.name, 0)])[0];
    assert!(refused.contains(&add), "error {add}");
    new.add(&[(&topic.name, 0)]);
    let end = old.end(true);
    assert!(refused.contains(&end), "error {end}");
    assert_eq!(new.end(false), 0);
}

fn init_aborts_the_open_transaction_first(subject: &Subject) {
    let topic = subject.topic();
    let old = Owner::new(subject);
    old.add(&[(&topic.name, 0)]);
    assert_eq!(old.send_in_transaction(&topic, 0, 2).offset(), 0);
    assert_eq!(topic.fetch(0).last_stable_offset, 0);
    let new = old.successor();
    assert_eq!(new.id, old.id);
    assert!(new.epoch > old.epoch);
    let found = topic.batches(2);
    let (id, epoch, committed) = marker(&found[0]);
    assert_eq!((id, committed), (old.id, false));
    assert!(old.epoch < epoch && epoch <= new.epoch, "{} < {epoch} <= {}", old.epoch, new.epoch);
    assert_eq!(topic.fetch(0).last_stable_offset, 3);
    assert_eq!(old.send(&topic, 2, 1).error, code::INVALID_PRODUCER_EPOCH);
}

fn written_markers_fence_without_the_coordinator(subject: &Subject) {
    let topic = subject.topic();
    let id = super::idempotence::own_producer_id();
    topic.produce(&BatchSpec::idempotent("zombie", (id, 4), 0, 2)).offset();
    let marked = WritableTxnMarkerTopic::default().with_name(topic_name(&topic.name)).with_partition_indexes(vec![0]);
    let one = WritableTxnMarker::default()
        .with_producer_id(id.into())
        .with_producer_epoch(5)
        .with_transaction_result(false)
        .with_coordinator_epoch(0)
        .with_topics(vec![marked]);
    let answer = subject.connect().call(1, &WriteTxnMarkersRequest::default().with_markers(vec![one]));
    assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, 0);
    let zombie = topic.produce(&BatchSpec::idempotent("zombie", (id, 4), 2, 1));
    assert_eq!(zombie.error, code::INVALID_PRODUCER_EPOCH);
    assert_eq!(marker(&topic.batches(2)[0]), (id, 5, false));
}

fn an_open_transaction_holds_back_the_stable_offset(subject: &Subject) {
    let topic = subject.topic();
    let owner = Owner::new(subject);
    topic.produce(&BatchSpec::plain("before", 3)).offset();
    owner.add(&[(&topic.name, 0)]);
    owner.send_in_transaction(&topic, 0, 2).offset();
    topic.produce(&BatchSpec::plain("after", 1)).offset();
    let data = topic.fetch_with(FetchPartition::default(), 1);
    assert_eq!((data.high_watermark, data.last_stable_offset), (6, 3));
    assert_eq!(kmirror::batch::Batches::new(data.records.unwrap()).count(), 1, "nothing from the open one on");
    assert_eq!(owner.end(true), 0);
    owner.await_state("CompleteCommit");
    assert_eq!(topic.fetch(0).last_stable_offset, 7);
}

fn aborted_data_is_named_and_committed_data_is_not(subject: &Subject) {
    let topic = subject.topic();
    let (aborts, commits) = (Owner::new(subject), Owner::new(subject));
    for owner in [&aborts, &commits] {
        assert_eq!(owner.add(&[(&topic.name, 0)]), [0]);
        owner.send_in_transaction(&topic, 0, 2).offset();
    }
    aborts.send_in_transaction(&topic, 2, 1).offset();
    for (owner, committed) in [(&aborts, false), (&commits, true)] {
        assert_eq!(owner.end(committed), 0);
        owner.await_state(if committed { "CompleteCommit" } else { "CompleteAbort" });
    }
    let data = topic.fetch_with(FetchPartition::default(), 1);
    let aborted = data.aborted_transactions.unwrap();
    assert_eq!(aborted.iter().map(|one| (one.producer_id.0, one.first_offset)).collect::<Vec<_>>(), [(aborts.id, 0)]);
    let found: Vec<RawBatch> =
        kmirror::batch::Batches::new(data.records.unwrap()).map(|batch| batch.unwrap()).collect();
    assert_eq!(found.len(), 5, "aborted batches come along, for the reader to drop");
    assert_eq!(
        (marker(&found[3]), marker(&found[4])),
        ((aborts.id, aborts.epoch, false), (commits.id, commits.epoch, true))
    );
    let data = topic.fetch_with(FetchPartition::default().with_fetch_offset(5), 1);
    assert_eq!(
        data.aborted_transactions.unwrap_or_default().len(),
        1,
        "from the abort marker itself it is still named"
    );
    let data = topic.fetch_with(FetchPartition::default().with_fetch_offset(6), 1);
    assert_eq!(data.aborted_transactions.unwrap_or_default().len(), 0);
}

fn a_commit_marker_takes_an_offset(subject: &Subject) {
    let topic = subject.topic();
    let owner = Owner::new(subject);
    owner.add(&[(&topic.name, 0)]);
    owner.send_in_transaction(&topic, 0, 2).offset();
    assert_eq!(owner.end(true), 0);
    owner.await_state("CompleteCommit");
    assert_eq!(marker(&topic.batches(2)[0]), (owner.id, owner.epoch, true));
    assert_eq!(topic.produce(&BatchSpec::plain("next", 1)).offset(), 3);
}
