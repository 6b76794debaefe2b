//! What is said when TLS fails: with TLS in front of an embedded broker, and every mistake there is.

use std::path::Path;
use std::sync::{Arc, Mutex};

use kmirror::broker::{Cluster as Broker, ClusterOptions};
use kmirror::client::ClientError;

use super::certs::{Authority, Identity, front, server, write};
use super::{connect, spec};

struct Stage {
    _broker: Broker,
    plain: String,
    folder: tempfile::TempDir,
    authority: Authority,
}

async fn stage() -> Stage {
    let broker = Broker::start(ClusterOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("the right one");
    write(folder.path(), "ca.pem", &authority.pem);
    Stage { plain: broker.bootstrap()[0].clone(), _broker: broker, folder, authority }
}

impl Stage {
    async fn front(&self, identity: &Identity, clients_of: Option<&Authority>) -> String {
        let config = server(identity, clients_of);
        front(move || Arc::clone(&config), self.plain.clone()).await.to_string()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The error of a connection with this `tls` section.
    async fn refused(&self, address: &str, tls: &str) -> String {
        let error = connect(self.folder(), address, tls).await.expect_err(tls);
        assert!(error.is_unreachable_or_unauthorised(), "exit code 4: {error:?}");
        let text = error.to_string();
        assert!(text.contains("cluster c: ") && text.contains(address), "cluster and broker: {text}");
        text
    }
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}

/// The first frame shows that the handshake is through; what the cluster then tells of its brokers is not of TLS.
#[tokio::test]
async fn every_fault_of_a_brokers_certificate_says_what_to_do() {
    let stage = stage().await;
    let local = ["127.0.0.1"];
    let right = stage.front(&stage.authority.issue(&local), None).await;
    connect(stage.folder(), &right, "{ ca: ca.pem }").await.unwrap();

    let expired = stage.front(&stage.authority.issue_expired(&local), None).await;
    let text = stage.refused(&expired, "{ ca: ca.pem }").await;
    holds(&text, &["the broker's certificate has expired", "have it renewed"]);

    let elsewhere = stage.front(&stage.authority.issue(&["kafka.example.org"]), None).await;
    let text = stage.refused(&elsewhere, "{ ca: ca.pem }").await;
    holds(&text, &["certificate is for another host", "kafka.example.org", "set tls.server_name"]);
    connect(stage.folder(), &elsewhere, "{ ca: ca.pem, server_name: kafka.example.org }").await.unwrap();

    let stranger = stage.front(&Authority::new("a stranger").issue(&local), None).await;
    let text = stage.refused(&stranger, "{ ca: ca.pem }").await;
    holds(&text, &["an authority that is not trusted", "set tls.ca"]);
    let text = stage.refused(&right, "{}").await;
    holds(&text, &["an authority that is not trusted", "set tls.ca"]);

    let text = stage.refused(&stage.plain, "{ ca: ca.pem }").await;
    holds(&text, &["is this a TLS listener?", "take tls out"]);
}

#[tokio::test]
async fn a_tls_listener_under_a_plain_configuration_is_named() {
    let stage = stage().await;
    let right = stage.front(&stage.authority.issue(&["127.0.0.1"]), None).await;
    let error = kmirror::client::Cluster::connect(spec(stage.folder(), &right, "")).await.unwrap_err();
    holds(&error.to_string(), &["is this a plaintext Kafka listener? For one of TLS set tls"]);
}

#[tokio::test]
async fn every_fault_of_the_clients_certificate_says_what_to_do() {
    let stage = stage().await;
    let mutual = stage.front(&stage.authority.issue(&["127.0.0.1"]), Some(&stage.authority)).await;
    stage.authority.issue(&["good"]).write(stage.folder(), "good");
    stage.authority.issue_expired(&["late"]).write(stage.folder(), "late");
    Authority::new("a stranger").issue(&["strange"]).write(stage.folder(), "strange");
    let with = |name: &str| format!("{{ ca: ca.pem, cert: {name}.crt, key: {name}.key }}");
    connect(stage.folder(), &mutual, &with("good")).await.unwrap();

    holds(&stage.refused(&mutual, "{ ca: ca.pem }").await, &["certificate of the client", "tls.cert"]);
    holds(&stage.refused(&mutual, &with("late")).await, &["tls.cert"]);
    holds(&stage.refused(&mutual, &with("strange")).await, &["tls.cert"]);

    let text = stage.refused(&mutual, "{ ca: ca.pem, cert: good.crt, key: strange.key }").await;
    holds(&text, &["tls.key: the key in", "strange.key is not that of the certificate in", "good.crt"]);
    let text = stage.refused(&mutual, "{ ca: ca.pem, cert: good.key, key: good.key }").await;
    holds(&text, &["tls.cert", "good.key holds no certificate in PEM"]);
    let text = stage.refused(&mutual, "{ ca: ca.pem, cert: good.crt, key: good.crt }").await;
    holds(&text, &["tls.key", "good.crt holds no private key"]);
    let text = stage.refused(&mutual, "{ ca: gone.pem }").await;
    holds(&text, &["tls.ca", "gone.pem cannot be read"]);
}

/// The listener trusts the old authority, then the new one alone; connections that are there stay.
#[tokio::test]
async fn replaced_files_serve_the_next_connection() {
    let stage = stage().await;
    let (old, new) = (Authority::new("old clients"), Authority::new("new clients"));
    let identity = stage.authority.issue(&["127.0.0.1"]);
    let current = Arc::new(Mutex::new(server(&identity, Some(&old))));
    let asked = Arc::clone(&current);
    let address = front(move || Arc::clone(&asked.lock().unwrap()), stage.plain.clone()).await.to_string();
    old.issue(&["me"]).write(stage.folder(), "me");
    let cluster = connect(stage.folder(), &address, "{ ca: ca.pem, cert: me.crt, key: me.key }").await.unwrap();
    // The brokers that the cluster names are not behind TLS; the bootstrap address is node -1.
    let first = cluster.connection(-1, 1).await.unwrap();

    *current.lock().unwrap() = server(&identity, Some(&new));
    let refused: ClientError = cluster.connection(-1, 2).await.unwrap_err();
    holds(&refused.to_string(), &["tls.cert"]);
    // Half of a rotation: what could last is used, and that is refused still.
    let replaced = new.issue(&["me"]);
    write(stage.folder(), "me.crt", &replaced.cert);
    assert!(cluster.connection(-1, 2).await.is_err());
    write(stage.folder(), "me.key", &replaced.key);
    cluster.connection(-1, 2).await.unwrap();
    let same = cluster.connection(-1, 1).await.unwrap();
    assert_eq!(format!("{first:?}"), format!("{same:?}"), "the first connection lives on");
}
