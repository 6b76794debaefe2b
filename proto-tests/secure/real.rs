//! Real Kafka behind every kind of listener: the job of a mirror, replaced credentials, and what is said where it fails.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kmirror::client::Cluster as Client;
use serde_json::json;

use super::certs::{Authority, write};
use super::spec;
use crate::e2e::Mirror;
use crate::e2e::mirror::LIMIT;
use crate::kafka::harness::cluster::run_folder;
use crate::kafka::harness::{
    Cluster, ClusterSpec, Produce, TopicSpec, Version, compare, driver, real_kafka_wanted, source, target, wait_until,
};

const PLAIN_PASSWORD: &str = "pl4in-Zq8";
const SCRAM_PASSWORD: &str = "scr4m-Xw3";
const NEXT_PASSWORD: &str = "scr4m-Kj7";
const BOBS_PASSWORD: &str = "b0b-Rd6";
const CLIENT_SECRET: &str = "cl1ent-Vt5";
/// Name and protocol of each listener, and its mechanism.
const LISTENERS: [(&str, &str, &str); 7] = [
    ("TLS", "SSL", ""),
    ("MUTUAL", "SSL", ""),
    ("PLAIN", "SASL_SSL", "PLAIN"),
    ("SCRAM", "SASL_SSL", "SCRAM-SHA-256"),
    ("OPEN", "SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ("TOKEN", "SASL_SSL", "OAUTHBEARER"),
    ("ISSUER", "SASL_SSL", "OAUTHBEARER"),
];

/// A broker with all of them, and the folder of what clients need.
struct Secured {
    kafka: Cluster,
    folder: PathBuf,
}

/// Sessions last three seconds, so that everything authenticates anew under way.
fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(|| {
        let folder = run_folder("secured");
        let authority = Authority::new("authority");
        let broker = authority.issue(&["broker.test", "127.0.0.1"]);
        authority.issue(&["kmirror"]).write(&folder, "client");
        let ca = write(&folder, "ca.pem", &authority.pem);
        let store = write(&folder, "broker.pem", &format!("{}{}", broker.key, broker.cert));
        let (ca, store) = (ca.display().to_string(), store.display().to_string());
        let mut spec = ClusterSpec::new(Version::V4_3_1)
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", &store)
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.location", &ca)
            .set("listener.name.mutual.ssl.client.auth", "required")
            .set("connections.max.reauth.ms", "3000");
        for (name, protocol, mechanism) in LISTENERS {
            spec = spec.listener(name, protocol);
            if !mechanism.is_empty() {
                let listener = format!("listener.name.{}", name.to_lowercase());
                spec = spec.set(&format!("{listener}.sasl.enabled.mechanisms"), mechanism);
                let key = format!("{listener}.{}.sasl.jaas.config", mechanism.to_lowercase());
                spec = spec.set(&key, &jaas(mechanism));
            }
        }
        let kafka = Cluster::start(spec);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            driver().set_scram(&kafka.bootstrap(), "alice", mechanism, 4096, SCRAM_PASSWORD);
        }
        Secured { kafka, folder }
    })
}

fn jaas(mechanism: &str) -> String {
    let package = "org.apache.kafka.common.security";
    match mechanism {
        "PLAIN" => format!("{package}.plain.PlainLoginModule required user_alice=\"{PLAIN_PASSWORD}\";"),
        "OAUTHBEARER" => {
            format!("{package}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";")
        }
        _ => format!("{package}.scram.ScramLoginModule required;"),
    }
}

/// A token that Kafka's validator for tests takes: unsigned, for an hour.
fn token(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "sub": subject, "iat": now, "exp": now + 3600 });
    format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))
}

/// A token endpoint that knows one client; its URL.
fn issuer() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let wanted = format!("Basic {}", STANDARD.encode(format!("mirror:{CLIENT_SECRET}")));
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut room) = (Vec::new(), [0; 4096]);
            while !String::from_utf8_lossy(&request).contains("grant_type=client_credentials") {
                match stream.read(&mut room) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&room[..read]),
                }
            }
            let known = String::from_utf8_lossy(&request).contains(&wanted);
            let (status, body) = if known {
                ("200 OK", json!({ "access_token": token("issued"), "token_type": "Bearer", "expires_in": 5 }))
            } else {
                ("401 Unauthorized", json!({ "error": "invalid_client", "error_description": "who is that" }))
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    format!("http://{address}/token")
}

/// The lines of each listener's cluster but for its address.
fn section(name: &str, issuer: &str) -> String {
    let tls = "tls: { ca: ca.pem }";
    match name {
        "TLS" => "tls: { ca: ca.pem, server_name: broker.test }".to_owned(),
        "MUTUAL" => "tls: { ca: ca.pem, cert: client.crt, key: client.key }".to_owned(),
        "PLAIN" => {
            format!(
                "{tls}, sasl: {{ mechanism: PLAIN, username: alice, password: \"${{env:KMIRROR_TEST_PASSWORD}}\" }}"
            )
        }
        "SCRAM" => {
            format!("{tls}, sasl: {{ mechanism: SCRAM-SHA-256, username: alice, password: \"${{file:password}}\" }}")
        }
        "OPEN" => {
            "sasl: { mechanism: SCRAM-SHA-512, username: alice, password: \"${command:cat open-password}\" }".to_owned()
        }
        "TOKEN" => format!("{tls}, sasl: {{ mechanism: OAUTHBEARER, token: \"${{file:token}}\" }}"),
        _ => format!(
            "{tls}, sasl: {{ mechanism: OAUTHBEARER, oauth: {{ token_endpoint: \"{issuer}\", client_id: mirror, \
             client_secret: {CLIENT_SECRET}, scope: kafka }} }}"
        ),
    }
}

/// One mirror out of each listener, and one into the broker through SCRAM over TLS.
fn configuration(secured: &Secured, folder: &Path, issuer: &str) -> String {
    let (mut clusters, mut mirrors) = (String::new(), String::new());
    for (name, ..) in LISTENERS {
        let address = secured.kafka.listener(name);
        let _ = writeln!(clusters, "  {name}: {{ bootstrap: [\"{address}\"], {} }}", section(name, issuer));
        let _ = writeln!(
            mirrors,
            "  - {{ name: secure-{name}, source: {name}, target: to, topics: {{ include: [secure-{name}] }} }}"
        );
    }
    for file in ["ca.pem", "client.crt", "client.key"] {
        std::fs::copy(secured.folder.join(file), folder.join(file)).unwrap();
    }
    write(folder, "password", &format!("{SCRAM_PASSWORD}\n"));
    write(folder, "open-password", SCRAM_PASSWORD);
    write(folder, "token", &token("alice"));
    let (from, to) = (source().bootstrap(), target().bootstrap());
    format!(
        "clusters:\n  from: {{ bootstrap: [\"{from}\"] }}\n  to: {{ bootstrap: [\"{to}\"] }}\n{clusters}mirrors:\n{mirrors}  \
         - {{ name: secure-into, source: from, target: SCRAM, topics: {{ include: [secure-into] }} }}\n"
    )
}

/// Waits until every one of so many partitions of all mirrors is mirrored to its end.
fn await_all(mirror: &Mirror, partitions: usize) {
    wait_until("all mirrors catching up", LIMIT, || {
        let output = mirror.command(&["status", "--json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let rows: Vec<_> = report["mirrors"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|mirror| mirror["partitions"].as_array().cloned().unwrap_or_default())
            .collect();
        match rows.iter().find(|row| row["lag_records"] != 0 || row["state"] != "mirroring") {
            Some(row) => Err(row.to_string()),
            None if rows.len() < partitions => Err(format!("{} of {partitions} partitions", rows.len())),
            None => Ok(()),
        }
    });
}

fn renewals(mirror: &Mirror) -> usize {
    mirror.log().matches("session renewed").count()
}

#[test]
fn the_job_under_every_listener_with_sessions_that_end_and_credentials_that_change() {
    if !real_kafka_wanted("the_job_under_every_listener_with_sessions_that_end_and_credentials_that_change") {
        return;
    }
    let (secured, driver) = (secured(), driver());
    let plain = secured.kafka.bootstrap();
    let topics: Vec<String> = LISTENERS.iter().map(|(name, ..)| format!("secure-{name}")).collect();
    let produce = |bootstrap: &str, topic: &str, seed: u64, count: u64| {
        driver.produce(bootstrap, &Produce { seed, partitions: 2, ..Produce::odd(topic, count) });
    };
    for topic in &topics {
        driver.create_topic(&plain, &TopicSpec::new(topic, 2));
        produce(&plain, topic, 1, 400);
    }
    driver.create_topic(&source().bootstrap(), &TopicSpec::new("secure-into", 2));
    let mut mirror = Mirror::between("secure", &plain, &target().bootstrap(), &["secure"], "");
    std::fs::write(&mirror.config, configuration(secured, mirror.folder(), &issuer())).unwrap();
    mirror.env.push(("KMIRROR_TEST_PASSWORD", PLAIN_PASSWORD.into()));
    let command = mirror.command(&["run", "--log-level", "trace"]);
    mirror.start_as(|_| command);
    produce(&source().bootstrap(), "secure-into", 1, 400);
    await_all(&mirror, 16);

    // Under load: while sessions end, and while password and token are replaced.
    let load = |seed: u64| {
        for topic in ["secure-SCRAM", "secure-OPEN", "secure-TOKEN", "secure-ISSUER", "secure-PLAIN"] {
            produce(&plain, topic, seed, 200);
        }
        produce(&source().bootstrap(), "secure-into", seed, 200);
    };
    let (mut seed, before) = (2, renewals(&mirror));
    let mut rounds = |until: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + LIMIT;
        while !until() {
            assert!(std::time::Instant::now() < end, "{}", mirror.log());
            load(seed);
            seed += 1;
        }
    };
    rounds(&|| renewals(&mirror) >= before + 12);
    driver.set_scram(&plain, "alice", "SCRAM-SHA-256", 8192, NEXT_PASSWORD);
    write(mirror.folder(), "password", NEXT_PASSWORD);
    write(mirror.folder(), "token", &token("somebody-else"));
    let before = renewals(&mirror);
    rounds(&|| renewals(&mirror) >= before + 12);
    // Somebody else, by the file: alice cannot log in any more once her sessions are over.
    driver.set_scram(&plain, "bob", "SCRAM-SHA-256", 4096, BOBS_PASSWORD);
    let text = std::fs::read_to_string(&mirror.config).unwrap();
    let bob = format!("username: bob, password: {BOBS_PASSWORD} }} }}");
    std::fs::write(&mirror.config, text.replace("username: alice, password: \"${file:password}\" } }", &bob)).unwrap();
    let taken_up = || mirror.log().matches("new connections are made as the configuration says now").count();
    rounds(&|| taken_up() >= 2);
    driver.set_scram(&plain, "alice", "SCRAM-SHA-256", 4096, "nobody-knows");
    let before = renewals(&mirror);
    rounds(&|| renewals(&mirror) >= before + 12);
    await_all(&mirror, 16);
    assert_eq!(mirror.log().matches("starting it anew").count(), 0);
    mirror.stop();

    let sent = |rounds: u64| 400 + 200 * (rounds - 2);
    let copied: Vec<&str> = topics.iter().map(String::as_str).collect();
    let loaded = 5 * sent(seed) + 2 * 400;
    compare(&driver.dump(&plain, &copied), &driver.dump(&target().bootstrap(), &copied))
        .assert_exactly(loaded as usize);
    let into = ["secure-into"];
    compare(&driver.dump(&source().bootstrap(), &into), &driver.dump(&plain, &into))
        .assert_exactly(sent(seed) as usize);
    no_secret_shows(&mirror);
    driver.set_scram(&plain, "alice", "SCRAM-SHA-256", 4096, SCRAM_PASSWORD);
}

/// Whatever the program has printed: the log of the run at trace, what commands say, and the configuration as it shows it.
fn no_secret_shows(mirror: &Mirror) {
    let mut printed = mirror.log();
    assert!(
        printed.contains("TRACE") && printed.contains("token_endpoint") == printed.contains("client_secret"),
        "a log at trace"
    );
    for args in [
        &["status", "--log-level", "trace"][..],
        &["check", "--log-level", "trace"],
        &["check", "--json"],
        &["config", "show"],
        &["config", "validate"],
        &["run", "--help"],
    ] {
        let output = mirror.output(args);
        printed += &String::from_utf8_lossy(&output.stdout);
        printed += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(printed.contains("<secret>"), "config show strikes them out");
    let claims = |token: String| token.split('.').nth(1).unwrap()[..20].to_owned();
    let basic = STANDARD.encode(format!("mirror:{CLIENT_SECRET}"));
    let secrets =
        [PLAIN_PASSWORD, SCRAM_PASSWORD, NEXT_PASSWORD, BOBS_PASSWORD, CLIENT_SECRET, &basic].map(str::to_owned);
    let secrets = secrets.into_iter().chain(["alice", "somebody-else", "issued"].map(token).map(claims));
    for secret in secrets {
        let line = printed.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{secret} shows");
    }
}

#[test]
fn every_mistake_says_what_to_do_on_real_kafka() {
    if !real_kafka_wanted("every_mistake_says_what_to_do_on_real_kafka") {
        return;
    }
    let secured = secured();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = &secured.folder;
    write(folder, "right", PLAIN_PASSWORD);
    let tls = "tls: { ca: ca.pem }";
    let login = |mechanism: &str, password: &str| {
        format!("sasl: {{ mechanism: {mechanism}, username: alice, password: {password} }}")
    };
    let plain_address = secured.kafka.bootstrap();
    let cases: [(&str, String, &[&str]); 10] = [
        (
            "PLAIN",
            format!("{tls}, {}", login("PLAIN", "wrong-pw")),
            &[
                "does not let in user \"alice\" by PLAIN: SASL_AUTHENTICATION_FAILED; the broker says: ",
                "are sasl.username and sasl.password those of this cluster",
            ],
        ),
        (
            "SCRAM",
            format!("{tls}, {}", login("SCRAM-SHA-256", "wrong-pw")),
            &["by SCRAM-SHA-256: SASL_AUTHENTICATION_FAILED"],
        ),
        (
            "PLAIN",
            format!("{tls}, {}", login("SCRAM-SHA-512", "wrong-pw")),
            &["UNSUPPORTED_SASL_MECHANISM: it offers PLAIN; set sasl.mechanism to one of them"],
        ),
        ("TLS", format!("{tls}, {}", login("PLAIN", "wrong-pw")), &["does not ask for SASL"]),
        ("PLAIN", tls.to_owned(), &["does this listener ask for SASL? Then set sasl"]),
        ("OPEN", String::new(), &["does this listener ask for SASL? Then set sasl"]),
        (
            "TOKEN",
            format!("{tls}, sasl: {{ mechanism: OAUTHBEARER, token: wrong-pw }}"),
            &["the token by OAUTHBEARER", "is the token of an issuer"],
        ),
        ("MUTUAL", tls.to_owned(), &["certificate of the client", "tls.cert"]),
        ("TLS", String::new(), &["is this a plaintext Kafka listener? For one of TLS set tls"]),
        ("", tls.to_owned(), &["is this a TLS listener?", "take tls out"]),
    ];
    for (listener, more, parts) in cases {
        let address = if listener.is_empty() { plain_address.clone() } else { secured.kafka.listener(listener) };
        let more = if more.is_empty() { more } else { format!(", {more}") };
        let error = runtime.block_on(Client::connect(spec(folder, &address, &more))).expect_err(&more);
        let text = error.to_string();
        assert!(error.is_unreachable_or_unauthorised(), "exit code 4: {error:?}");
        for part in parts {
            assert!(text.contains(part), "{listener} {more}: no {part:?} in {text:?}");
        }
        assert!(text.contains("cluster c: ") && text.contains(&address), "{text}");
        assert!(!text.contains("wrong-pw"), "a secret in {text}");
    }
    let right = format!(", {tls}, {}", login("PLAIN", "\"${file:right}\""));
    runtime.block_on(Client::connect(spec(folder, &secured.kafka.listener("PLAIN"), &right))).unwrap();
}
