//! The API and the dashboard of a running mirror: true figures, errors that can be told apart, and nobody else's pages.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{Pair, append, numbered};
use crate::e2e::http::{self, Answer};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

pub(super) fn get(port: u16, path: &str) -> Answer {
    http::get(port, path, &format!("localhost:{port}")).unwrap()
}

fn mirrored(topic: &str) -> (Pair, u16) {
    let port = free_port();
    (Pair::mirrored(topic, &http::section(port)), port)
}

/// Waits until a mirror's summary is as wanted; gives it.
pub(super) fn await_summary(port: u16, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, LIMIT, || {
        let found = get(port, "/api/v1/mirrors").json()["mirrors"][0].clone();
        if is(&found) { Ok(found) } else { Err(found.to_string()) }
    })
}

#[test]
fn it_says_what_status_says() {
    let (mut pair, port) = mirrored("api-figures");
    pair.mirror.await_caught_up(1);
    let summary = await_summary(port, "a safe mirror", |found| found["verdict"]["level"] == "safe");
    for (field, expected) in [("rpo_seconds", 0.into()), ("lag_records", 0.into()), ("partitions", Value::from(1))] {
        assert_eq!(summary[field].as_f64(), expected.as_f64(), "{field}: {summary}");
    }
    assert_eq!(summary["verdict"]["reasons"][0], "In step: a failover now would lose nothing.");
    assert_eq!((&summary["source"], &summary["target"]), (&Value::from("from"), &Value::from("to")));
    let whole = get(port, "/api/v1/mirrors/api-figures").json()["mirror"]["status"].clone();
    let status = pair.mirror.json(&["status"], 0)["mirrors"][0].clone();
    assert_eq!(whole, status);
    assert_eq!(whole["partitions"][0]["mirrored_to"], 10);
    let history = wait_until("a sample", LIMIT, || {
        let history = get(port, "/api/v1/mirrors/api-figures/history").json()["samples"].clone();
        if history.as_array().is_some_and(|all| !all.is_empty()) { Ok(history) } else { Err(history.to_string()) }
    });
    assert_eq!((&history[0]["lag_records"], &history[0]["halted"]), (&Value::from(0), &Value::from(0)));
    let translated = get(port, "/api/v1/mirrors/api-figures/translate?topic=api-figures&partition=0&offset=7").json();
    assert_eq!(
        (translated["exact"].as_bool(), pair.mirror.translate("api-figures", 0, 7, &[]).0),
        (Some(true), translated["offset"].as_i64().unwrap())
    );
    pair.mirror.stop();
}

#[test]
fn what_cannot_be_answered_is_told_apart() {
    let (mut pair, port) = mirrored("api-errors");
    let asked = |path: &str| {
        let answer = get(port, path);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{problem}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:kmirror:problem:"), "{problem}");
        (answer.status, problem["detail"].as_str().unwrap_or_default().to_owned())
    };
    for path in [
        "/api/v1/mirrors/other",
        "/api/v1/mirrors/other/history",
        "/api/v1/mirrors/other/translate?topic=a&partition=0&offset=1",
        "/api/v1/mirrors/other/topics",
        "/api/v1/mirrors/other/groups",
        "/api/v1/mirrors/other/drills",
        "/api/v1/mirrors/other/failover-plan",
    ] {
        let (status, error) = asked(path);
        assert!(status == 404 && error.contains("\"other\""), "{path}: {status} {error}");
    }
    let (status, error) = asked("/api/v1/mirrors/api-errors/translate?topic=a&partition=x&offset=1");
    assert!(status == 400 && error.contains("partition"), "{status} {error}");
    let (status, error) = asked("/api/v1/mirrors/api-errors/translate?topic=unheard-of&partition=0&offset=1");
    assert!(status == 404 && error.contains("unheard-of:0"), "{status} {error}");
    for path in ["topics/unheard-of", "topics/unheard-of/partitions/0", "topics/api-errors/partitions/1"] {
        let (status, error) = asked(&format!("/api/v1/mirrors/api-errors/{path}"));
        assert!(status == 404 && error.contains("api-errors"), "{path}: {status} {error}");
    }
    let (status, error) = asked("/api/v1/mirrors/api-errors/groups");
    assert!(status == 404 && error.contains("selects no groups"), "{status} {error}");
    assert_eq!(asked("/api/v1/nothing").0, 404);
    pair.mirror.stop();
}

#[test]
fn a_halt_is_not_safe_and_the_way_out_is_shown() {
    let (mut pair, port) = mirrored("api-halt");
    append(&pair.target, "api-halt", 0, "foreign-", 0, 3);
    pair.write(0, 10, 20);
    let (_, command) = pair.await_halt();
    let summary = await_summary(port, "a halt", |found| found["verdict"]["level"] == "unsafe");
    assert!(summary["verdict"]["reasons"][0].as_str().unwrap().starts_with("Halted: 1 of 1 partition."), "{summary}");
    let halted = &summary["halted"][0];
    assert!(halted["reason"].as_str().unwrap().starts_with("foreign_records"), "{summary}");
    assert!(halted["way_out"].as_str().unwrap().ends_with(&command.join(" ")), "{summary}");
    pair.obey(&command);
    await_summary(port, "a mirror that goes on", |found| {
        found["verdict"]["level"] == "safe" && found["lag_records"] == 0
    });
    pair.mirror.stop();
}

#[test]
fn clusters_that_do_not_answer_are_not_called_safe() {
    let (mut pair, port) = mirrored("api-gone");
    await_summary(port, "a safe mirror", |found| found["verdict"]["level"] == "safe");
    for node in 1..=2 {
        pair._runtime.block_on(pair.source.stop_node(node)).unwrap();
    }
    let summary = await_summary(port, "doubt", |found| found["verdict"]["level"] != "safe");
    assert!(["unknown", "unsafe"].contains(&summary["verdict"]["level"].as_str().unwrap()), "{summary}");
    assert!(summary["rpo_seconds"].is_null() || summary["rpo_seconds"].as_f64() == Some(-1.0), "{summary}");
    pair.mirror.kill();
}

/// Events come by themselves, the first at once.
#[test]
fn news_are_sent_to_those_who_listen() {
    let (mut pair, port) = mirrored("api-events");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines();
    let mut data = lines
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("data: ").map(|text| serde_json::from_str::<Value>(text).unwrap()));
    let first = data.next().unwrap();
    assert_eq!(first["mirrors"][0]["name"], "api-events");
    pair.write(0, 10, 25);
    pair.await_values(0, &numbered("", 0, 25));
    let later = data.find(|event| event["at"] != first["at"]).unwrap();
    assert_eq!(later["mirrors"][0]["partitions"], 1, "{later}");
    pair.mirror.stop();
}

/// It asks for no token: a page of elsewhere that makes its own name lead to this address must not read it.
#[test]
fn it_answers_to_no_other_name() {
    let (mut pair, port) = mirrored("api-names");
    for path in ["/", "/app.js", "/api/v1/mirrors", "/api/v1/events"] {
        for host in ["evil.example", "evil.example:9644", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            let answer = http::get(port, path, host).unwrap();
            assert_eq!(answer.status, 403, "{path} as {host:?}: {answer:?}");
        }
    }
    for host in [format!("localhost:{port}"), "LOCALHOST".to_owned(), "127.0.0.1".to_owned(), format!("[::1]:{port}")] {
        assert_eq!(http::get(port, "/api/v1/mirrors", &host).unwrap().status, 200, "{host}");
    }
    assert_eq!(http::get(port, "/healthz", "kubelet").unwrap().status, 200, "probes are asked by any name");
    pair.mirror.stop();
}

/// All that the page loads is there, and from here.
#[test]
fn the_page_stands_by_itself() {
    let (mut pair, port) = mirrored("api-page");
    let page = get(port, "/");
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    let mut files = vec![("/".to_owned(), page.body.clone())];
    let mut seen: BTreeSet<String> = BTreeSet::new();
    // What a file loads: attributes of the page, imports of a module.
    while let Some((path, text)) = files.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let loaded = ["href=\"/", "src=\"/", "from \"./"].iter().flat_map(|before| text.split(before).skip(1));
        for name in loaded.filter_map(|rest| rest.split('"').next()).filter(|name| !name.starts_with("api/")) {
            if !["", "metrics"].contains(&name) {
                let file = get(port, &format!("/{name}"));
                assert_eq!(file.status, 200, "{path} loads {name}");
                let kind = file.header("content-type");
                let expected = if name.ends_with(".js") { "text/javascript" } else { "" };
                assert!(kind.starts_with(expected) && !kind.is_empty(), "{name}: {kind}");
                files.push((format!("/{name}"), file.body));
            }
        }
        // But for comments in what others wrote.
        let foreign = text.matches("://").count() - text.matches("http://www.w3.org/2000/svg").count();
        assert!(foreign == 0 || path.starts_with("/uplot/"), "{path}");
    }
    let bytes: usize = seen.iter().map(|path| get(port, path).body.len()).sum();
    assert!(seen.len() > 10 && bytes < 300_000, "{bytes} in {seen:?}");
    pair.mirror.stop();
}
