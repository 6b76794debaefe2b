//! Instances of a fleet that take up another file, one after the other: what each goes by is shown, and every record is there once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::{FLEET, another, await_shared, everywhere};
use super::load::Load;
use super::{PARTITIONS, Pair, markers};
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::embedded::{append, numbered, value};
use crate::kafka::harness::wait_until;

/// A topic that is added to the mirror, and one that a mirror is added for.
const MORE: &str = "fleet-reload-more";
const APART: &str = "fleet-reload-apart";

/// How often the leader has all say what they go by.
const SURVEY_EVERY: Duration = Duration::from_secs(60);

/// The file of an instance, which all of them have alike.
fn text(pair: &Pair) -> String {
    std::fs::read_to_string(&pair.mirror.config).unwrap()
}

/// With another topic, another mirror, and other terms for the fleet.
fn changed(first: &str, pair: &Pair) -> String {
    let include = |topics: &str| format!("topics: {{ include: [{topics}] }}");
    let (before, after) = (format!("\"{}\"", pair.topic), format!("\"{}\", {MORE}", pair.topic));
    let apart = format!("  - {{ name: apart, source: from, target: to, {} }}\n", include(APART));
    let terms = FLEET.replace("6s", "7s, weight: 50");
    first.replace(&include(&before), &include(&after)).replace(FLEET, &(apart + &terms))
}

/// How many instances go by each file, and whether that is called a skew; of the mirror of this name.
fn files(mirror: &Mirror, name: &str) -> Result<(BTreeMap<String, usize>, bool), String> {
    let status = mirror.json(&["status"], 0);
    let of_it = status["mirrors"].as_array().unwrap().iter().find(|of| of["name"] == name);
    let fleet = &of_it.ok_or_else(|| status.to_string())?["fleet"];
    if fleet["state"] != "Stable" {
        return Err(fleet.to_string());
    }
    let mut files = BTreeMap::new();
    for member in fleet["members"].as_array().unwrap() {
        *files.entry(member["config_hash"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    Ok((files, fleet["is_skewed"] == true))
}

/// Waits until so many instances go by the one file and so many by the other.
fn await_files(mirror: &Mirror, name: &str, counts: &[usize]) {
    wait_until(&format!("{counts:?} instances of {name} to go by the same file"), LIMIT, || {
        let (files, is_skewed) = files(mirror, name)?;
        let mut found: Vec<usize> = files.values().copied().collect();
        found.sort_unstable();
        assert_eq!(is_skewed, files.len() > 1, "{files:?}");
        if found == counts { Ok(()) } else { Err(format!("{files:?}")) }
    });
}

fn await_records(pair: &Pair, topic: &str, count: u64) {
    for partition in 0..PARTITIONS {
        wait_until(&format!("{topic}:{partition} on the target"), LIMIT, || {
            let there = pair.target.records(topic, partition, 0).map_err(|error| error.to_string())?;
            let there: Vec<String> = there.iter().map(value).collect();
            if there == numbered("", 0, count) { Ok(()) } else { Err(format!("{} records", there.len())) }
        });
    }
}

#[test]
fn a_file_that_reaches_one_instance_after_the_other_is_seen_and_loses_nothing() {
    let mut pair = Pair::new("fleet-reload", 2, PARTITIONS, FLEET);
    for topic in [MORE, APART] {
        pair.source.create_topic(topic, PARTITIONS, 1, &[]).unwrap();
        (0..PARTITIONS).for_each(|partition| append(&pair.source, topic, partition, "", 0, 10));
    }
    let mut others = [another(&pair, FLEET), another(&pair, FLEET)];
    pair.mirror.start();
    for other in &mut others {
        other.start();
    }
    await_shared(&pair, 3);
    let load = Load::start(&pair);
    load.await_flow();
    await_files(&pair.mirror, &pair.topic, &[3]);

    let first = text(&pair);
    let then = changed(&first, &pair);
    assert!(then.contains(MORE) && then.contains(APART) && then.contains("weight: 50"), "{then}");
    load.forget_stalls();
    let began = Instant::now();
    std::fs::write(&pair.mirror.config, &then).unwrap();
    await_files(&others[0], &pair.topic, &[1, 2]);
    assert!(began.elapsed() < SURVEY_EVERY / 2, "it is told by itself, after {:?}", began.elapsed());
    await_files(&pair.mirror, "apart", &[1]);
    let page = String::from_utf8(others[1].output(&["status"]).stdout).unwrap();
    assert!(page.contains(", of different versions or configurations"), "{page}");
    // The mirror that one instance alone knows is that one's; what all know goes on.
    await_records(&pair, APART, 10);
    load.await_flow();
    let skewed = load.stalls(&everywhere()).0;

    std::fs::write(&others[0].config, &then).unwrap();
    await_files(&pair.mirror, &pair.topic, &[1, 2]);
    std::fs::write(&others[1].config, &then).unwrap();
    await_files(&pair.mirror, &pair.topic, &[3]);
    await_files(&pair.mirror, "apart", &[3]);
    let page = String::from_utf8(others[1].output(&["status"]).stdout).unwrap();
    assert!(!page.contains("different"), "{page}");
    await_records(&pair, MORE, 10);
    load.await_flow();
    let converged = load.stalls(&everywhere()).0;

    // One alone takes the topic out, and takes it in again: the others never let go of it, and it goes on where it was.
    std::fs::write(&pair.mirror.config, then.replace(&format!(", {MORE}"), "")).unwrap();
    await_files(&others[0], &pair.topic, &[1, 2]);
    (0..PARTITIONS).for_each(|partition| append(&pair.source, MORE, partition, "", 10, 20));
    std::fs::write(&pair.mirror.config, &then).unwrap();
    await_files(&others[0], &pair.topic, &[3]);
    await_records(&pair, MORE, 20);
    (0..PARTITIONS).for_each(|partition| append(&pair.source, APART, partition, "", 10, 20));
    await_records(&pair, APART, 20);

    let written = load.stop();
    eprintln!("longest stall while files differ {skewed:?}, until all agree {converged:?}");
    assert_eq!(markers(&pair), [0; PARTITIONS as usize], "somebody took over what was not handed over");
    for (partition, count) in (0..).zip(&written) {
        pair.await_values(partition, &numbered("", 0, *count));
        assert_eq!(pair.target.log(MORE, partition).unwrap().end_offset, 20, "a marker in {MORE}:{partition}");
    }
    let is_pending = |mirror: &Mirror| mirror.log().contains("these take effect with the next start of the process");
    assert!(is_pending(&pair.mirror) && others.iter().all(is_pending), "the terms of the fleet wait for a restart");
    // And with a restart of all they are in force.
    pair.mirror.stop();
    pair.mirror.start();
    for other in &mut others {
        other.stop();
        other.start();
    }
    await_files(&pair.mirror, &pair.topic, &[3]);
    pair.mirror.stop();
    others.iter_mut().for_each(Mirror::stop);
    let verified: Value = pair.mirror.json(&["verify", "--mirror", &pair.topic], 0);
    let equal: u64 = verified["partitions"].as_array().unwrap().iter().map(|p| p["equal"].as_u64().unwrap()).sum();
    assert_eq!(equal, written.iter().sum::<u64>() + 20 * PARTITIONS as u64, "{verified}");
}
