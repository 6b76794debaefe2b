//! TLS and SASL: what is taken, and each mistake by its words.

use super::super::parse;
use super::*;

fn with(more: &str) -> String {
    one_mirror("  topics: { include: [x] }\n").replacen("h:1]", &format!("h:1], {more}"), 1)
}

fn env() -> TestEnv {
    TestEnv { vars: HashMap::from([("PASSWORD", "hunter2")]), files: HashMap::from([("pw", "hunter2\n")]) }
}

fn cluster(more: &str) -> ClusterConfig {
    Config::parse(&with(more), "k.yaml", &env()).unwrap_or_else(|errors| panic!("{more}: {errors}")).clusters["a"]
        .clone()
}

#[test]
fn tls_alone_is_the_systems_authorities() {
    for more in ["tls: {}", "tls:"] {
        assert_eq!(cluster(more).tls, Some(TlsConfig::default()), "{more}");
    }
    let tls = cluster("tls: { ca: ca.pem, cert: me.crt, key: me.key, server_name: b.example.org }").tls.unwrap();
    assert_eq!(tls.identity, Some(("me.crt".into(), "me.key".into())));
    assert_eq!((tls.ca, tls.server_name.as_deref()), (Some("ca.pem".into()), Some("b.example.org")));
    assert_eq!(cluster("client_id: me").tls, None);
}

#[test]
fn every_mechanism_has_what_it_needs() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for password in ["hunter2", "${env:PASSWORD}", "${file:pw}", "${command:pass show kafka}"] {
            let more = format!("sasl: {{ mechanism: {mechanism}, username: me, password: \"{password}\" }}");
            let sasl = cluster(&more).sasl.unwrap();
            assert_eq!(sasl.mechanism(), mechanism);
            assert!(!format!("{sasl:?}").contains("hunter2"), "{sasl:?}");
        }
    }
    let token = cluster("sasl: { mechanism: OAUTHBEARER, token: \"${command:print-a-token}\" }").sasl.unwrap();
    assert!(matches!(token, SaslConfig::OauthBearer(TokenSource::Token(_))), "{token:?}");
    let oauth = "{ token_endpoint: https://login.example.org/token, client_id: me, client_secret: \"${file:pw}\" }";
    let issued = cluster(&format!("sasl: {{ mechanism: OAUTHBEARER, oauth: {oauth} }}")).sasl.unwrap();
    assert!(matches!(issued, SaslConfig::OauthBearer(TokenSource::Endpoint(_))), "{issued:?}");
    let signed = cluster("sasl: { mechanism: OAUTHBEARER, msk_iam: { region: eu-central-1 } }").sasl.unwrap();
    assert_eq!(signed, SaslConfig::OauthBearer(TokenSource::MskIam { region: "eu-central-1".to_owned() }));
}

#[test]
fn every_mistake_is_told_without_the_secret() {
    let login = "username: me, password: hunter2";
    let oauth = |url: &str| {
        format!(
            "sasl: {{ mechanism: OAUTHBEARER, oauth: {{ token_endpoint: \"{url}\", client_id: me, client_secret: hunter2 }} }}"
        )
    };
    let cases = [
        ("tls: { cert: me.crt }".to_owned(), "tls.cert needs key as well"),
        ("tls: { key: me.key }".to_owned(), "tls.key needs cert as well"),
        ("tls: { server_name: \"a b\" }".to_owned(), "tls.server_name \"a b\" is not a host name"),
        (format!("sasl: {{ {login} }}"), "sasl.mechanism is missing"),
        (format!("sasl: {{ mechanism: GSSAPI, {login} }}"), "(Kerberos) is not supported"),
        (
            format!("sasl: {{ mechanism: AWS_MSK_IAM, {login} }}"),
            "write mechanism: OAUTHBEARER, and msk_iam: { region: … }",
        ),
        (format!("sasl: {{ mechanism: plain, {login} }}"), "is none of PLAIN, SCRAM-SHA-256"),
        ("sasl: { mechanism: PLAIN, username: me }".to_owned(), "needs username and password for PLAIN"),
        (format!("sasl: {{ mechanism: PLAIN, {login}, token: hunter2 }}"), "sasl.token is for OAUTHBEARER alone"),
        (
            format!("sasl: {{ mechanism: OAUTHBEARER, {login}, token: hunter2 }}"),
            "sasl.username is of no use to OAUTHBEARER",
        ),
        (
            "sasl: { mechanism: OAUTHBEARER }".to_owned(),
            "exactly one of token, oauth and msk_iam for OAUTHBEARER, not none",
        ),
        (
            "sasl: { mechanism: OAUTHBEARER, token: hunter2, msk_iam: { region: eu-central-1 } }".to_owned(),
            "not token and msk_iam",
        ),
        ("sasl: { mechanism: OAUTHBEARER, msk_iam: {} }".to_owned(), "sasl.msk_iam.region is missing"),
        ("sasl: { mechanism: OAUTHBEARER, msk_iam: { region: \"a/b\" } }".to_owned(), "region \"a/b\" is not"),
        (
            format!("sasl: {{ mechanism: PLAIN, {login}, msk_iam: {{ region: eu-central-1 }} }}"),
            "sasl.msk_iam is for OAUTHBEARER alone",
        ),
        (oauth("http://login.example.org/token"), "must begin with https://"),
        (oauth("https://me:hunter2@login.example.org/token"), "holds a user or a password"),
        (
            "sasl: { mechanism: PLAIN, username: me, password: \"${file:gone}\" }".to_owned(),
            "the file gone cannot be read",
        ),
        ("sasl: { mechanism: PLAIN, username: me, password: \"\" }".to_owned(), "sasl.password is empty"),
        ("client_id: \"${command:hostname}\"".to_owned(), "serves for the secrets of a cluster alone"),
    ];
    for (more, message) in cases {
        let all = faults_in(&with(&more), &env()).join("\n");
        assert!(all.contains(message), "{more}: no {message:?} in {all}");
        assert!(!all.contains("hunter2"), "{more}: a secret in {all}");
    }
    // On loopback there is nobody to read it.
    cluster(&oauth("http://127.0.0.1:8080/token"));
}

#[test]
fn shown_configurations_hold_no_secret() {
    let more = "sasl: { mechanism: PLAIN, username: me, password: hunter2 }";
    let shown = parse(&with(more), "k.yaml", &env()).unwrap().written.shown;
    let shown = serde_yaml::to_string(&shown).unwrap();
    assert!(shown.contains("<secret>") && !shown.contains("hunter2"), "{shown}");
}
