//! What a running mirror serves over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// The section of a configuration, to stand behind its mirrors.
pub(crate) fn section(port: u16) -> String {
    format!("http: {{ listen: \"127.0.0.1:{port}\" }}\n")
}

/// The value of a gauge of one partition.
pub(crate) fn gauge(port: u16, name: &str, topic: &str, partition: i32) -> Result<f64, String> {
    gauge_of(port, name, &format!("topic=\"{topic}\",partition=\"{partition}\"}} "))
}

/// The value of a gauge of a mirror as a whole.
pub(crate) fn mirror_gauge(port: u16, name: &str, mirror: &str) -> Result<f64, String> {
    gauge_of(port, name, &format!("{{mirror=\"{mirror}\"}} "))
}

/// The value of a series by all of its labels, braces and the space behind them included.
pub(crate) fn gauge_of(port: u16, name: &str, labels: &str) -> Result<f64, String> {
    let text = get(port, "/metrics", "kmirror")?.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(labels));
    let (_, value) = line.ok_or_else(|| format!("no {name} with {labels} in {text}"))?;
    value.parse().map_err(|error| format!("{value}: {error}"))
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(there, _)| there == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks for a path under the name of a host. The body must not be chunked, but for what ends with its connection.
pub(crate) fn get(port: u16, path: &str, host: &str) -> Result<Answer, String> {
    let text = asked(port, path, host).map_err(|error| format!("{path}: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: {text}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Ok(Answer {
        status: status.ok_or_else(|| format!("{path}: {head}"))?,
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    })
}

fn asked(port: u16, path: &str, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
