//! A topic whose rights are taken away while it is mirrored: the source hides it where all topics are asked for, refuses it by
//! name, and refuses to be read. It is not gone, and goes on by itself when the right is back.

use std::sync::Arc;

use kafka_protocol::ResponseError::TopicAuthorizationFailed;
use kafka_protocol::messages::ApiKey;
use kmirror::broker::{Action, Cluster, Intercept, RequestContext, RequestKind, ResponseKind};

use super::{ROUND, await_reason};
use crate::e2e::mirror::LIMIT;
use crate::embedded::{Pair, append, numbered, value};
use crate::kafka::harness::wait_until;

/// As Kafka answers who may neither describe nor read a topic. The one that may be read has another leader.
pub(crate) fn take_rights(source: &Arc<Cluster>, topic: &str) -> Vec<Intercept> {
    let hidden = topic.to_owned();
    let metadata = source.intercept(ApiKey::Metadata, None, move |context: &RequestContext<'_>| {
        let RequestKind::Metadata(request) = context.request else { return Action::Pass };
        let (all, hidden) = (request.topics.is_none(), hidden.clone());
        Action::Edit(Box::new(move |response| {
            let ResponseKind::Metadata(response) = response else { return };
            let is_it = |name: Option<&str>| name == Some(hidden.as_str());
            if all {
                response.topics.retain(|topic| !is_it(topic.name.as_ref().map(|name| name.as_str())));
            }
            for topic in &mut response.topics {
                if is_it(topic.name.as_ref().map(|name| name.as_str())) {
                    topic.error_code = TopicAuthorizationFailed.code();
                    topic.topic_id = uuid::Uuid::nil();
                    topic.partitions.clear();
                }
            }
        }))
    });
    let refuse = |api| {
        source.intercept(api, None, |context: &RequestContext<'_>| {
            if context.node == 1 { Action::Error(TopicAuthorizationFailed) } else { Action::Pass }
        })
    };
    vec![metadata, refuse(ApiKey::ListOffsets), refuse(ApiKey::Fetch)]
}

struct Two {
    pair: Pair,
    hidden: String,
    seen: String,
    rounds: u64,
}

impl Two {
    fn new(name: &str) -> Self {
        let mut pair = Pair::matching(name, &format!("{name}-.*"), 2, "");
        let (hidden, seen) = (format!("{name}-hidden"), format!("{name}-seen"));
        for (topic, node) in [(&hidden, 1), (&seen, 2)] {
            pair.source.create_topic(topic, 1, 1, &[]).unwrap();
            pair.source.move_leader(topic, 0, node).unwrap();
        }
        pair.mirror.start();
        let mut two = Self { pair, hidden, seen, rounds: 0 };
        two.write();
        two.await_all(&two.hidden);
        two.await_all(&two.seen);
        two
    }

    fn write(&mut self) {
        for topic in [&self.hidden, &self.seen] {
            append(&self.pair.source, topic, 0, "", self.rounds * ROUND, (self.rounds + 1) * ROUND);
        }
        self.rounds += 1;
    }

    fn await_all(&self, topic: &str) {
        wait_until(&format!("{topic} on the target"), LIMIT, || {
            let there = self.pair.target.records(topic, 0, 0).map_err(|error| error.to_string())?;
            let there: Vec<String> = there.iter().map(value).collect();
            if there == numbered("", 0, self.rounds * ROUND) { Ok(()) } else { Err(format!("{there:?}")) }
        });
    }

    fn give_back(&self, hooks: &[Intercept]) {
        hooks.iter().for_each(|hook| self.pair.source.remove_intercept(hook));
    }

    fn finish(mut self) {
        self.await_all(&self.hidden);
        self.await_all(&self.seen);
        self.pair.mirror.await_caught_up(2);
        self.pair.mirror.stop();
    }
}

#[test]
fn a_topic_that_may_not_be_seen_any_more_halts_and_goes_on_by_itself() {
    let mut two = Two::new("answers-rights");
    let hooks = take_rights(&two.pair.source, &two.hidden);
    two.write();
    two.await_all(&two.seen);
    let row = two.pair.mirror.await_state(&two.hidden, 0, "halted");
    assert!(row["reason"].as_str().unwrap().starts_with("unauthorised"), "{row}");
    assert_eq!(two.pair.mirror.row(&two.seen, 0).unwrap()["state"], "mirroring");
    two.give_back(&hooks);
    two.finish();
}

/// Rights that come back while nobody runs are seen by the next start.
#[test]
fn a_topic_that_may_not_be_seen_at_a_start_goes_on_by_itself() {
    let mut two = Two::new("answers-rights-start");
    let hooks = take_rights(&two.pair.source, &two.hidden);
    two.pair.mirror.await_state(&two.hidden, 0, "halted");
    two.pair.mirror.stop();
    two.pair.mirror.start();
    two.write();
    two.await_all(&two.seen);
    await_reason(&two.pair, &two.hidden, 0, "unauthorised");
    two.give_back(&hooks);
    two.finish();
}

/// Only hidden, it is read on: its leader is known, and does not mind.
#[test]
fn a_topic_that_is_only_hidden_is_read_on() {
    let mut two = Two::new("answers-hidden");
    let hooks = take_rights(&two.pair.source, &two.hidden);
    two.give_back(&hooks[1..]);
    // Two discoveries.
    let asked = hooks[0].hits();
    wait_until("metadata to be asked for", LIMIT, || {
        if hooks[0].hits() > asked + 3 { Ok(()) } else { Err("not yet".into()) }
    });
    two.write();
    two.await_all(&two.seen);
    two.await_all(&two.hidden);
    await_reason(&two.pair, &two.hidden, 0, "TOPIC_AUTHORIZATION_FAILED");
    // It is not taken for gone.
    assert!(!two.pair.mirror.log().contains("no such topic any more"), "{}", two.pair.mirror.log());
    two.give_back(&hooks[..1]);
    two.finish();
}

/// A topic that was deleted is told from one that is hidden.
#[test]
fn a_topic_that_was_deleted_is_said_to_be_gone() {
    let mut two = Two::new("answers-gone");
    assert!(two.pair.source.delete_topic(&two.hidden));
    wait_until("the log to say so", LIMIT, || {
        let log = two.pair.mirror.log();
        if log.contains("no such topic any more") { Ok(()) } else { Err(log) }
    });
    assert!(two.pair.mirror.row(&two.hidden, 0).is_err());
    append(&two.pair.source, &two.seen, 0, "", ROUND, 2 * ROUND);
    two.rounds += 1;
    two.await_all(&two.seen);
    two.pair.mirror.await_caught_up(1);
    two.pair.mirror.stop();
}
