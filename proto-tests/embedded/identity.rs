//! A topic made again at the very moment at which it is asked for by its name: ListOffsets and Fetch below v13 know no ids.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use kafka_protocol::ResponseError::OffsetOutOfRange;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster};

use super::{Pair, append, numbered};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::wait_until;

/// Makes the source topic again, as `fill` does it, when the mirror asks for it by name.
fn made_again_by(pair: &Pair, api: ApiKey, fill: impl Fn(&Cluster, &str) + Send + Sync + 'static) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let (cluster, topic, once) = (Arc::downgrade(&pair.source), pair.topic.clone(), Arc::clone(&done));
    pair.source.intercept(api, None, move |context| {
        let by_name = api == ApiKey::ListOffsets || context.api_version < FETCH_BY_ID;
        if by_name && !once.swap(true, SeqCst) {
            let cluster = cluster.upgrade().expect("it answers");
            assert!(cluster.delete_topic(&topic));
            cluster.create_topic(&topic, 1, 1, &[]).unwrap();
            fill(&cluster, &topic);
        }
        Action::Pass
    });
    done
}

/// The first version of Fetch that names topics by their id.
const FETCH_BY_ID: i16 = 13;

fn await_done(done: &AtomicBool) {
    wait_until(
        "the topic to be made again",
        LIMIT,
        || if done.load(SeqCst) { Ok(()) } else { Err("not yet".to_owned()) },
    );
}

/// The new topic is mirrored behind the old one, once somebody has said so.
fn ends_as_recreated(mut pair: Pair, anew: &[String]) {
    let (reason, command) = pair.await_halt();
    assert!(reason.starts_with("source_recreated"), "{reason}");
    let log = pair.mirror.log();
    assert!(!log.contains("going on without source offsets"), "{log}");
    pair.obey(&command);
    pair.await_values(0, &[&numbered("", 0, 10), anew].concat());
    pair.mirror.await_caught_up(1);
    pair.mirror.stop();
}

/// It ends where the old one was mirrored already.
#[test]
fn a_topic_made_again_while_its_bounds_are_asked_for_is_no_truncated_one() {
    let pair = Pair::mirrored("identity-shorter", "");
    let done = made_again_by(&pair, ApiKey::ListOffsets, |cluster, topic| append(cluster, topic, 0, "anew", 0, 3));
    pair.source.intercept(ApiKey::Fetch, Some(1), |_| Action::Error(OffsetOutOfRange));
    await_done(&done);
    ends_as_recreated(pair, &numbered("anew", 0, 3));
}

/// It begins further up than the old one was mirrored, and nothing of the old one is given up for that.
#[test]
fn a_topic_made_again_while_its_bounds_are_asked_for_has_lost_nothing_to_retention() {
    let pair = Pair::mirrored("identity-further-up", "    on: { retention_loss: continue }\n");
    let done = made_again_by(&pair, ApiKey::ListOffsets, |cluster, topic| {
        append(cluster, topic, 0, "anew", 0, 30);
        cluster.delete_before(topic, 0, 30).unwrap();
        append(cluster, topic, 0, "anew", 30, 33);
    });
    pair.source.intercept(ApiKey::Fetch, Some(1), |_| Action::Error(OffsetOutOfRange));
    await_done(&done);
    ends_as_recreated(pair, &numbered("anew", 30, 33));
}

/// At a start the last mirrored record is compared with the source's, which is another topic's by then.
#[test]
fn a_topic_made_again_while_its_last_record_is_compared_is_no_mismatch() {
    let mut pair = Pair::mirrored("identity-compared", "");
    pair.mirror.kill();
    let done = made_again_by(&pair, ApiKey::Fetch, |cluster, topic| append(cluster, topic, 0, "anew", 0, 12));
    pair.mirror.start();
    await_done(&done);
    ends_as_recreated(pair, &numbered("anew", 0, 12));
}
