//! Clusters that are not open to everybody: TLS, SASL, and what is said where they fail.

mod certs;
mod faults;
mod hostile;
mod real;
mod rights;
mod sync;

use std::path::Path;

use kmirror::client::{ClientError, Cluster, ClusterSpec};
use kmirror::config::{Config, SystemEnv};

/// A cluster `c` at this address, with further lines of its section; paths are in `folder`.
fn spec(folder: &Path, address: &str, more: &str) -> ClusterSpec {
    let text = format!(
        "clusters:\n  c: {{ bootstrap: [\"{address}\"]{more} }}\n  other: {{ bootstrap: [\"other:1\"] }}\n\
         mirrors: [{{ name: m, source: c, target: other, topics: {{ include: [x] }} }}]\n"
    );
    let config = Config::parse(&text, "k.yaml", &SystemEnv { folder: folder.to_owned() });
    ClusterSpec::of(&config.unwrap_or_else(|errors| panic!("{text}\n{errors}")).clusters["c"], "test".to_owned())
}

/// With this `tls` section.
async fn connect(folder: &Path, address: &str, tls: &str) -> Result<Cluster, ClientError> {
    Cluster::connect(spec(folder, address, &format!(", tls: {tls}"))).await
}
