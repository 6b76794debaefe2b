//! The OpenAPI document is true: every path is there, every field that an answer has is described, and every one called required is in
//! it; and what the deeper paths say is what the commands say.

use serde_json::Value;

use super::api::{await_summary, get};
use super::{Pair, numbered};
use crate::e2e::http;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

/// A mirror of ten records, an aborted transaction's gap and ten more, with a group at 4.
fn mirrored(topic: &str) -> (Pair, u16) {
    let port = free_port();
    let more = format!("    groups: {{ include: [\".*\"], interval: 1s }}\n{}", http::section(port));
    let pair = Pair::mirrored(topic, &more);
    pair.source.commit_offset("billing", topic, 0, 4);
    (pair, port)
}

fn matches(document: &Value, path: &str, topic: &str, port: u16, methods: &Value) {
    let query =
        if path.ends_with("translate") { format!("?topic={topic}&partition=0&offset=1") } else { String::new() };
    let filled = path.replace("{mirror}", topic).replace("{topic}", topic).replace("{partition}", "0");
    let answer = get(port, &format!("{filled}{query}"));
    if path == "/api/v1/token" {
        assert_eq!(answer.status, 403, "there is no token in the file: {answer:?}");
        return;
    }
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert_holds(document, schema, &answer.json(), path);
}

#[test]
fn the_openapi_document_is_true() {
    let topic = "api-document";
    let (mut pair, port) = mirrored(topic);
    await_summary(port, "a safe mirror", |found| found["verdict"]["level"] == "safe" && !found["groups"].is_null());
    let document = get(port, "/api/v1/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    let (mut reads, mut acts) = (0, 0);
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            if method == "get" {
                reads += 1;
                if !path.ends_with("events") {
                    matches(&document, path, topic, port, methods);
                }
            } else {
                acts += 1;
                assert_eq!(operation["security"][0]["token"], Value::Array(Vec::new()), "{path}");
                let content = &operation["requestBody"]["content"]["application/json"];
                assert_holds(&document, &content["schema"], &content["example"], path);
            }
        }
    }
    assert_eq!((reads, acts), (16, 6));
    pair.mirror.stop();
}

/// Names and schemas of properties, through references and alternatives.
fn properties<'a>(document: &'a Value, schema: &'a Value, into: &mut Vec<(&'a str, &'a Value)>) {
    if let Some(name) = schema["$ref"].as_str() {
        let named = document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("no {name}"));
        properties(document, named, into);
    }
    into.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
    for of in ["allOf", "anyOf", "oneOf"] {
        schema[of].as_array().into_iter().flatten().for_each(|schema| properties(document, schema, into));
    }
}

fn items<'a>(document: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match schema["$ref"].as_str() {
        Some(name) => items(document, document.pointer(name.trim_start_matches('#'))?),
        None => schema.get("items"),
    }
}

/// Only what is in each of the alternatives is required of a value of several; so only those of the schema itself count.
fn required<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    match schema["$ref"].as_str() {
        Some(name) => required(document, document.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null)),
        None => schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    }
}

fn assert_holds(document: &Value, schema: &Value, value: &Value, at: &str) {
    for (number, value) in value.as_array().into_iter().flatten().enumerate() {
        let schema = items(document, schema).unwrap_or_else(|| panic!("{at} is a list: {schema}"));
        assert_holds(document, schema, value, &format!("{at}[{number}]"));
    }
    let Some(object) = value.as_object() else { return };
    let mut known = Vec::new();
    properties(document, schema, &mut known);
    for name in required(document, schema) {
        assert!(object.contains_key(name), "{at}: no {name} in {value}");
    }
    // A mapping of free names has none of its own.
    if known.is_empty() {
        return;
    }
    for (name, value) in object {
        let mut schemas = known.iter().filter(|(known, _)| known == name).map(|(_, schema)| *schema).peekable();
        assert!(schemas.peek().is_some(), "{at}: {name} is not in the document");
        // Alternatives may have a field of one name and different shapes: they are told apart by a tag, which is not looked at here.
        let all: Vec<&Value> = schemas.collect();
        if let [schema] = all.as_slice() {
            assert_holds(document, schema, value, &format!("{at}.{name}"));
        }
    }
}

#[test]
fn from_the_mirror_down_to_the_map_it_says_what_the_commands_say() {
    let topic = "api-down";
    let (mut pair, port) = mirrored(topic);
    let at = |rest: &str| get(port, &format!("/api/v1/mirrors/{topic}{rest}")).json();
    // A crash makes a second segment: its take-over leaves a marker on the target.
    pair.mirror.kill();
    pair.mirror.start();
    pair.write(0, 10, 25);
    pair.await_values(0, &numbered("", 0, 25));
    await_summary(port, "a mirror in step", |found| found["verdict"]["level"] == "safe" && found["lag_records"] == 0);
    let topics = at("/topics")["topics"].clone();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "{topics}");
    for (field, expected) in [
        ("topic", Value::from(topic)),
        ("state", "mirroring".into()),
        ("partitions", 1.into()),
        ("lag_records", 0.into()),
    ] {
        assert_eq!(topics[0][field], expected, "{field}: {topics}");
    }
    let row = pair.mirror.row(topic, 0).unwrap();
    assert_eq!(at(&format!("/topics/{topic}"))["partitions"][0], row);
    let partition = at(&format!("/topics/{topic}/partitions/0"));
    assert_eq!(partition["partition"], row);
    let segments = partition["map"]["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 2, "{partition}");
    let end = pair.target.log(topic, 0).unwrap().end_offset;
    let number = |segment: &Value, field: &str| segment[field].as_i64().unwrap();
    assert_eq!((number(&segments[0], "source_from"), number(&segments[1], "source_to")), (0, 25), "{partition}");
    assert_eq!(number(&segments[1], "target_to"), end, "{partition}");
    // Every end of every segment, as the command translates it.
    for segment in segments {
        let (source, target) = (number(segment, "source_from"), number(segment, "target_from"));
        assert_eq!(pair.mirror.translate(topic, 0, source, &[]), (target, None), "{segment}");
    }
    let gaps = at("/gaps")["gaps"].clone();
    assert_eq!(gaps.as_array().map(Vec::len), row["gaps"].as_array().map(Vec::len), "{gaps}");
    let groups = wait_until("the group in place", LIMIT, || {
        let groups = at("/groups");
        if groups["totals"]["unchanged"] == 1 { Ok(groups) } else { Err(groups.to_string()) }
    });
    assert_eq!(groups["groups"], pair.mirror.json(&["groups", "plan"], 0)["groups"]);
    assert_eq!(groups["groups"][0]["lines"][0]["outcome"]["to"]["offset"], 4, "{groups}");
    let said = pair.mirror.json(&["failover", "--dry-run"], 0);
    let plan = at("/failover-plan");
    for field in ["mode", "rpo", "steps", "blockers", "partitions", "generation"] {
        assert_eq!(plan[field], said[field], "{field}");
    }
    assert_eq!(get(port, &format!("/api/v1/mirrors/{topic}/failover-plan?mode=unplanned")).json()["mode"], "unplanned");
    assert!(!pair.mirror.status().unwrap().iter().any(|row| row["state"] == "promoted"), "a plan changes nothing");
    pair.mirror.stop();
}
