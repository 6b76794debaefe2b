//! Values in words: sizes, time spans, moments, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use bytesize::ByteSize;

use super::types::{HostPort, Start};

/// A size in words, as it is written in messages: `32MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string().replace(' ', "").replace(".0", "")
}

pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "is not a size; write a number and a unit, such as 64MiB".to_owned())
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "is not a time span; write a number and a unit, such as 30s".to_owned())
}

pub(super) fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => parse_rfc3339_ms(text).map(Start::Timestamp).ok_or_else(|| {
            "is neither earliest nor latest nor an RFC 3339 time such as 2026-01-31T06:00:00Z".to_owned()
        }),
    }
}

/// Milliseconds since 1970 of an RFC 3339 time with any offset from UTC; `None` for anything else.
#[must_use]
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let (local, offset_s) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            (local, parse_offset_s(offset)?)
        }
    };
    // RFC 3339 lets the letters be small and the T be a space.
    let (date, time) = local.split_once(['T', 't', ' '])?;
    let utc = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    let ms = match utc.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).ok()?,
        Err(before) => i64::try_from(before.duration().as_millis()).ok()?.checked_neg()?,
    };
    ms.checked_sub(offset_s.checked_mul(1000)?)
}

fn parse_offset_s(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
    let digits = |part: &str, max: i64| {
        let whole = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        whole.then(|| part.parse::<i64>().ok()).flatten().filter(|number| *number <= max)
    };
    Some(sign * (digits(hours, 23)? * 3600 + digits(minutes, 59)? * 60))
}

pub(super) fn parse_host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || "is not host:port, such as kafka-1.example:9092 or [::1]:9092".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(|| "lacks the port; write host:port".to_owned())?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?.to_string(),
        None => host.to_owned(),
    };
    let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if is_v6 || named { Ok(HostPort { host, port }) } else { Err(wrong()) }
}

pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    match local {
        Some(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => {
            text.parse().map_err(|_| "is not an IP address and port to listen on, such as 127.0.0.1:9644".to_owned())
        }
    }
}

/// Whether a text can be the name of a mirror: part of topic names and transactional ids.
pub fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
