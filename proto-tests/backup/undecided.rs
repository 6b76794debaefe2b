//! On real Kafka: a log under read_committed ends where the first transaction begins that is not decided. One that began before it may
//! be decided already, and its marker stand behind that end, where no backup has read it.

use super::kafka::backed;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::{Produce, TopicSpec, Transact, driver, real_kafka_wanted, source, target, wait_until};

#[test]
fn a_transaction_whose_marker_is_not_in_the_archive_does_not_come_back() {
    if !real_kafka_wanted("a_transaction_whose_marker_is_not_in_the_archive_does_not_come_back") {
        return;
    }
    let (driver, bootstrap, topic) = (driver(), source().bootstrap(), "bk-undecided");
    driver.create_topic(&bootstrap, &TopicSpec::new(topic, 1));
    let (mirror, _) = backed(topic, "");
    driver.produce(&bootstrap, &Produce::new(topic, 20));
    let open = |seed, timeout_ms| Transact {
        leave_open: true,
        transaction_timeout_ms: timeout_ms,
        ..Transact::new(Produce { seed, ..Produce::new(topic, 5) })
    };
    driver.transact(&bootstrap, &open(1, 1_000));
    driver.transact(&bootstrap, &open(2, 600_000));
    // The coordinator aborts the first; behind the second's records.
    let stable_end = wait_until("the first transaction to be aborted", LIMIT, || {
        let ends = driver.offsets(&bootstrap, &[topic]);
        match ends.first().filter(|ends| ends.stable_end > 20 && ends.end > 30) {
            Some(ends) => Ok(ends.stable_end),
            None => Err(format!("{ends:?}")),
        }
    });
    assert_eq!(stable_end, 25, "where the second begins");
    let seen = driver.dump(&bootstrap, &[topic]);
    assert_eq!(seen.len(), 20, "what a consumer under read_committed sees");

    mirror.json(&["backup"], 0);
    let shown = mirror.json(&["archive", "show"], 0);
    assert_eq!(shown["partitions"][0]["to"], 25, "{shown}");
    let output = mirror.output(&["archive", "export", "--topic", topic]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 20, "{output:?}");
    let restored = mirror.json(&["restore", "--to", "to", "--suffix", "undecided", "--no-quotas", "--yes"], 0);
    let there = driver.dump(&target().bootstrap(), &[topic]);
    assert_eq!(there.len(), 20, "{restored}");
    assert_eq!(there.partitions, seen.partitions);
}
