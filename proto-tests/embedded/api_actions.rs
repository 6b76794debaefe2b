//! What changes something over HTTP: with the token only, and then what the commands do. And what an address that others reach answers.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use super::api::{await_summary, get};
use super::{Pair, append, numbered};
use crate::e2e::http::{Answer, Request};
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::free_port;
use crate::kafka::harness::wait_until;

const TOKEN: &str = "a-token-that-nobody-guesses";

fn section(port: u16) -> String {
    format!("http: {{ listen: \"127.0.0.1:{port}\", token: {TOKEN} }}\n")
}

fn told(port: u16, method: &str, path: &str, body: &Value) -> Answer {
    let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    Request { method, headers: &headers, body: &body.to_string(), ..Request::get(path) }.send(port).unwrap()
}

#[test]
fn nothing_is_changed_without_the_token() {
    let topic = "api-guarded";
    let port = free_port();
    let mut pair = Pair::mirrored(topic, &section(port));
    await_summary(port, "a safe mirror", |found| found["verdict"]["level"] == "safe");
    let path = format!("/api/v1/mirrors/{topic}/pause");
    let post = |headers: &str, body: &str| {
        let answer = Request { method: "POST", headers, body, ..Request::get(&path) }.send(port).unwrap();
        let problem = answer.json()["type"].as_str().unwrap_or_default().to_owned();
        (answer.status, problem.rsplit(':').next().unwrap().to_owned())
    };
    let json = "Content-Type: application/json\r\n";
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    for headers in [
        json.to_owned(),
        format!("{json}Authorization: Bearer {TOKEN}x\r\n"),
        format!("{json}Authorization: {TOKEN}\r\n"),
        format!("{json}Cookie: token={TOKEN}\r\n"),
    ] {
        assert_eq!(post(&headers, "{}"), (401, "token-missing".to_owned()), "{headers}");
    }
    // What a form of a page elsewhere could send, even if it had the token.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        assert_eq!(post(&format!("{bearer}Content-Type: {kind}\r\n"), "{}"), (415, "not-json".to_owned()), "{kind}");
    }
    let both = format!("{bearer}{json}");
    for wrong in ["", "[]", "{\"partition\": []}", "{\"partitions\": [{\"topic\": \"a\"}]}"] {
        assert_eq!(post(&both, wrong), (400, "bad-question".to_owned()), "{wrong}");
    }
    assert_eq!((get(port, &path).status, told(port, "GET", &path, &json!({})).status), (401, 405), "it cannot be read");
    assert_eq!(told(port, "POST", "/api/v1/mirrors/other/pause", &json!({})).status, 404);
    assert_eq!(get(port, "/api/v1/token").status, 401);
    assert_eq!(told(port, "GET", "/api/v1/token", &json!({})).json()["is_right"], true);
    assert_eq!(pair.mirror.row(topic, 0).unwrap()["state"], "mirroring", "none of these paused it");
    assert!(!pair.mirror.log().contains(TOKEN) && !get(port, "/metrics").body.contains(TOKEN));
    pair.mirror.stop();
}

#[test]
fn the_actions_are_those_of_the_commands() {
    let topic = "api-acts";
    let port = free_port();
    let mut pair = Pair::mirrored(topic, &section(port));
    let act = |what: &str, body: &Value| told(port, "POST", &format!("/api/v1/mirrors/{topic}/{what}"), body);
    let one = json!([{ "topic": topic, "partition": 0 }]);
    let answer = act("pause", &json!({ "partitions": one, "dry_run": true })).json();
    assert_eq!(
        answer,
        json!({ "schema_version": 1, "action": "pause", "mirror": topic, "partitions": one, "dry_run": true })
    );
    assert_eq!(pair.mirror.row(topic, 0).unwrap()["state"], "mirroring");
    assert_eq!(act("pause", &json!({ "partitions": one })).status, 200);
    pair.mirror.await_state(topic, 0, "paused");
    pair.await_pause_heeded();
    pair.write(0, 10, 20);
    await_summary(port, "lag", |found| found["lag_records"] == 10 && found["verdict"]["level"] != "safe");
    assert_eq!(act("resume", &json!({})).status, 200, "of the whole mirror, and so of the partition");
    pair.await_values(0, &numbered("", 0, 20));
    await_summary(port, "no lag", |found| found["lag_records"] == 0);
    bandwidth(&pair, &act);
    let report = act("drill", &json!({ "max_rpo": "1h", "max_rto": "1h" })).json();
    assert_eq!((&report["passed"], &report["mirror"]), (&Value::from(true), &Value::from(topic)), "{report}");
    assert_eq!(act("drill", &json!({ "max_rpo": "soon" })).status, 400);
    loss(&mut pair, &act, &one);
    level(&pair, port, &act);
    pair.mirror.stop();
}

fn bandwidth(pair: &Pair, act: &dyn Fn(&str, &Value) -> Answer) {
    assert_eq!(act("bandwidth", &json!({ "rate": "10MiB" })).json()["bandwidth_bytes_per_s"], 10 << 20);
    let shown = || pair.mirror.json(&["bandwidth"], 0)["bandwidth_bytes_per_s"].clone();
    assert_eq!(shown(), 10 << 20);
    for wrong in ["1", "fast"] {
        let answer = act("bandwidth", &json!({ "rate": wrong }));
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(act("bandwidth", &json!({ "rate": "file" })).status, 200);
    assert_eq!(shown(), Value::Null);
}

/// A loss is accepted by the range that the halt names, and by no other.
fn loss(pair: &mut Pair, act: &dyn Fn(&str, &Value) -> Answer, one: &Value) {
    let topic = pair.topic.clone();
    pair.source.truncate(&topic, 0, 15).unwrap();
    pair.source.move_leader(&topic, 0, 2).unwrap();
    append(&pair.source, &topic, 0, "other-", 0, 12);
    let (_, command) = pair.await_halt();
    let range = command
        .last()
        .unwrap()
        .split_once("..")
        .map(|(from, to)| (from.parse::<i64>().unwrap(), to.parse::<i64>().unwrap()));
    let (from, to) = range.expect("a range");
    let accepting =
        |from: i64, to: i64| act("resume", &json!({ "partitions": one, "accept_loss": { "from": from, "to": to } }));
    let refused = accepting(from, to + 1);
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains(&format!("{from}..{to}")), "{refused:?}");
    assert_eq!(act("resume", &json!({ "accept_loss": { "from": from, "to": to } })).status, 400, "of no partition");
    assert_eq!(accepting(from, to).status, 200);
    pair.mirror.await_state(&topic, 0, "mirroring");
}

/// A line for each action, as long as the level is one that shows it.
fn level(pair: &Pair, port: u16, act: &dyn Fn(&str, &Value) -> Answer) {
    let path = "/api/v1/log/level";
    assert_eq!(get(port, path).json()["level"], "info");
    assert_eq!(told(port, "PUT", path, &json!({ "level": "loud" })).status, 400);
    let lines = || pair.mirror.log().matches("told over HTTP").count();
    for (level, shown) in [("error", 0), ("info", 1), ("debug", 1)] {
        assert_eq!(told(port, "PUT", path, &json!({ "level": level })).json()["level"], level);
        assert_eq!(get(port, path).json()["level"], level);
        let before = lines();
        assert_eq!(act("bandwidth", &json!({ "rate": "file" })).status, 200);
        assert_eq!(lines() - before, shown, "{level}");
    }
}

#[test]
fn without_a_token_in_the_file_nothing_can_be_changed() {
    let topic = "api-tokenless";
    let port = free_port();
    let mut pair = Pair::mirrored(topic, &crate::e2e::http::section(port));
    let answer = told(port, "POST", &format!("/api/v1/mirrors/{topic}/pause"), &json!({}));
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (403, Some("urn:kmirror:problem:actions-off")),
        "{answer:?}"
    );
    pair.mirror.stop();
}

/// A certificate for localhost: its files, and who trusts it.
fn certificate(folder: &std::path::Path) -> Arc<rustls::ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn where_others_reach_it_it_answers_over_tls_and_to_the_token_alone() {
    let topic = "api-abroad";
    let folder = tempfile::tempdir().unwrap();
    let trust = certificate(folder.path());
    let (port, probes) = (free_port(), free_port());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let more = format!(
        "http: {{ listen: \"0.0.0.0:{port}\", token: {TOKEN}, tls: {{ cert: \"{}\", key: \"{}\" }}, probes: {{ listen: \"0.0.0.0:{probes}\" }} }}\n",
        file("cert.pem"),
        file("key.pem")
    );
    let mut pair = Pair::mirrored(topic, &more);
    let over_tls = |request: Request<'_>| {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&trust), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        request.send_over(rustls::StreamOwned::new(connection, stream)).unwrap()
    };
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let status =
        |path: &str, headers: &str| over_tls(Request { host: "mirror.example", headers, ..Request::get(path) }).status;
    wait_until("a mirror that is ready", LIMIT, || match status("/readyz", "") {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    // The program itself is no secret, nor is that it lives.
    for path in ["/", "/app.js", "/healthz", "/readyz"] {
        assert_eq!(status(path, ""), 200, "{path}");
    }
    for path in ["/api/v1/mirrors", "/api/v1/openapi.json", "/api/v1/events", "/api/v1/log/level", "/metrics"] {
        assert_eq!(status(path, ""), 401, "{path}");
        assert_eq!(status(path, "Authorization: Bearer another-token-of-nobody\r\n"), 401, "{path}");
    }
    for path in ["/api/v1/mirrors", "/api/v1/openapi.json", "/metrics", "/api/v1/token"] {
        assert_eq!(status(path, &bearer), 200, "{path}");
    }
    // Without TLS nothing is said at all, and that holds nobody up.
    let _silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(Request::get("/healthz").send(port).is_err());
    assert_eq!(status("/healthz", ""), 200);
    let probe = |path: &str| Request { host: "kubelet", ..Request::get(path) }.send(probes).unwrap().status;
    assert_eq!(["/healthz", "/metrics", "/", "/api/v1/mirrors"].map(probe), [200, 200, 404, 404]);
    pair.mirror.stop();
}
