//! What a running mirror serves over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

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
    let text = get(port, "/metrics").map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(labels));
    let (_, value) = line.ok_or_else(|| format!("no {name} with {labels} in {text}"))?;
    value.parse().map_err(|error| format!("{value}: {error}"))
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: kmirror\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
