//! The commands of the Java driver that only this benchmark uses (`proto-tests/java/Groups.java`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kafka::harness::{Cluster, driver};

/// An offset that a group has committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Offsets by group.
pub(crate) type Offsets = BTreeMap<String, Vec<Committed>>;

fn call(command: &str, on: &Cluster, args: Value) -> Value {
    let answer = driver().try_call(command, &on.bootstrap(), args).unwrap_or_else(|error| panic!("{command}: {error}"));
    Value::Object(answer)
}

/// Commits for groups without members, as Kafka's admin client does.
pub(crate) fn commit(on: &Cluster, groups: &Offsets) {
    call("commit_offsets", on, json!({ "groups": groups }));
}

/// What these groups have committed, in a fixed order.
pub(crate) fn committed(on: &Cluster, groups: &[String]) -> Offsets {
    let answer = call("committed_offsets", on, json!({ "groups": groups }));
    let mut offsets: Offsets = serde_json::from_value(answer["groups"].clone()).unwrap();
    for rows in offsets.values_mut() {
        rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    }
    offsets
}
