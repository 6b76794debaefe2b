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
    Request { host, ..Request::get(path) }.send(port)
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    /// Lines, each with its end.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a str,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, host: "localhost", headers: "", body: "" }
    }

    pub(crate) fn send(self, port: u16) -> Result<Answer, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        self.send_over(stream)
    }

    /// Over a connection that is there.
    pub(crate) fn send_over(self, stream: impl Read + Write) -> Result<Answer, String> {
        let Self { path, .. } = self;
        let text = self.asked(stream).map_err(|error| format!("{path}: {error}"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: {text}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Ok(Answer {
            status: status.ok_or_else(|| format!("{path}: {head}"))?,
            headers: lines.filter_map(header).collect(),
            body: body.to_owned(),
        })
    }

    fn asked(self, mut stream: impl Read + Write) -> std::io::Result<String> {
        let Self { method, path, host, headers, body } = self;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )?;
        stream.flush()?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        // Some keep the connection, whatever they were asked.
        while !is_whole(&answer) {
            match stream.read(&mut buffer)? {
                0 => break,
                read => answer.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// Whether all is there that its head announces.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let length = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= head + 4 + length)
}
