//! Frames: a request as chunks that are written without being joined, response headers, and a cursor that never
//! reads past its end nor allocates from a length on the wire.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

/// Kafka's own limit, bytes (`Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_MAX: usize = 249;

/// A request body, ready but for its size and header, which the connection puts in front.
#[derive(Debug)]
pub struct OutFrame {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    /// Whether headers end in tagged fields (request header v2).
    pub(crate) flexible_request: bool,
    pub(crate) flexible_response: bool,
    pub(crate) chunks: VecDeque<Bytes>,
    /// How long the broker may take on purpose (long poll), ms.
    pub(crate) max_wait_ms: u64,
}

impl OutFrame {
    /// Bytes of the body.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole frame as it goes on the wire.
    pub(crate) fn into_wire(mut self, correlation_id: i32, client_id: &str) -> Chunks {
        let mut head = BytesMut::with_capacity(16 + client_id.len());
        let header_bytes = 2 + 2 + 4 + 2 + client_id.len() + usize::from(self.flexible_request);
        head.put_i32(i32::try_from(header_bytes + self.len()).unwrap_or(i32::MAX));
        head.put_i16(self.api as i16);
        head.put_i16(self.version);
        head.put_i32(correlation_id);
        head.put_i16(i16::try_from(client_id.len()).unwrap_or(i16::MAX));
        head.put_slice(client_id.as_bytes());
        if self.flexible_request {
            head.put_u8(0);
        }
        self.chunks.push_front(head.freeze());
        Chunks(self.chunks)
    }
}

/// Chunks that are written vectored, one after another.
#[derive(Debug)]
pub(crate) struct Chunks(pub(crate) VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.iter().find(|c| !c.is_empty()).map_or(&[], |c| c.as_ref())
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, chunk) in dst.iter_mut().zip(self.0.iter().filter(|c| !c.is_empty())) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut cnt: usize) {
        while cnt > 0 {
            let Some(front) = self.0.front_mut() else { return };
            if front.len() > cnt {
                front.advance(cnt);
                return;
            }
            cnt -= front.len();
            self.0.pop_front();
        }
    }
}

/// What is wrong with bytes of a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// Reads primitive types of the protocol off a buffer; slices of it share the buffer.
#[derive(Debug)]
pub(crate) struct Cursor {
    bytes: Bytes,
    total: usize,
    /// KIP-482: compact lengths and tagged fields.
    flexible: bool,
}

type Read<T> = Result<T, Malformed>;

impl Cursor {
    pub(crate) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { total: bytes.len(), bytes, flexible }
    }

    pub(crate) fn fail<T>(&self, what: &'static str) -> Read<T> {
        Err(Malformed { what, at: self.total - self.bytes.len() })
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn skip(&mut self, count: usize) -> Read<()> {
        self.need(count)?;
        self.bytes.advance(count);
        Ok(())
    }

    fn need(&self, count: usize) -> Read<()> {
        if self.bytes.len() < count { self.fail("response ends too early") } else { Ok(()) }
    }

    pub(crate) fn i8(&mut self) -> Read<i8> {
        self.need(1)?;
        Ok(self.bytes.get_i8())
    }

    pub(crate) fn i16(&mut self) -> Read<i16> {
        self.need(2)?;
        Ok(self.bytes.get_i16())
    }

    pub(crate) fn i32(&mut self) -> Read<i32> {
        self.need(4)?;
        Ok(self.bytes.get_i32())
    }

    pub(crate) fn i64(&mut self) -> Read<i64> {
        self.need(8)?;
        Ok(self.bytes.get_i64())
    }

    pub(crate) fn uuid(&mut self) -> Read<uuid::Uuid> {
        self.need(16)?;
        Ok(uuid::Uuid::from_u128(self.bytes.get_u128()))
    }

    pub(crate) fn unsigned_varint(&mut self) -> Read<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.i8()?.cast_unsigned();
            if shift == 28 && byte > 0x0f {
                return self.fail("varint too long");
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.fail("varint too long")
    }

    /// A length that may be null; never more than what is left, as every element takes a byte at least.
    pub(crate) fn array_len(&mut self) -> Read<Option<usize>> {
        let len = if self.flexible { i64::from(self.unsigned_varint()?) - 1 } else { i64::from(self.i32()?) };
        self.checked_len(len)
    }

    fn checked_len(&self, len: i64) -> Read<Option<usize>> {
        match usize::try_from(len) {
            Ok(len) if len <= self.bytes.len() => Ok(Some(len)),
            Ok(_) => self.fail("length beyond the response"),
            Err(_) if len == -1 => Ok(None),
            Err(_) => self.fail("negative length"),
        }
    }

    pub(crate) fn bytes(&mut self) -> Read<Option<Bytes>> {
        let len = self.array_len()?;
        Ok(len.map(|len| self.bytes.split_to(len)))
    }

    /// A string, looked at and not copied: its length, where it is not null.
    pub(crate) fn skip_string(&mut self) -> Read<Option<usize>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let len = text.len();
        self.bytes.advance(len);
        Ok(Some(len))
    }

    pub(crate) fn string(&mut self) -> Read<Option<String>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let text = text.to_owned();
        self.bytes.advance(text.len());
        Ok(Some(text))
    }

    /// The string that begins here, behind its length.
    fn text(&mut self) -> Read<Option<&str>> {
        let len = if self.flexible { i64::from(self.unsigned_varint()?) - 1 } else { i64::from(self.i16()?) };
        let Some(len) = self.checked_len(len)? else { return Ok(None) };
        match std::str::from_utf8(&self.bytes[..len]) {
            Ok(text) => Ok(Some(text)),
            Err(_) => self.fail("string is not UTF-8"),
        }
    }

    /// A topic's name. It is copied for every partition, so that one without bounds would make a response many times larger
    /// in memory than on the wire.
    pub(crate) fn topic_name(&mut self) -> Read<String> {
        let name = self.string()?.unwrap_or_default();
        if name.len() > TOPIC_NAME_MAX { self.fail("topic name too long") } else { Ok(name) }
    }

    /// Tagged fields, each given to `visit` with its tag; unknown ones are passed over.
    pub(crate) fn tags(&mut self, mut visit: impl FnMut(u32, &mut Cursor) -> Read<()>) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            self.need(len)?;
            // Positions count from the beginning of the response in there, too.
            let total = self.total - self.bytes.len() + len;
            let mut field = Cursor { bytes: self.bytes.split_to(len), total, flexible: true };
            visit(tag, &mut field)?;
        }
        Ok(())
    }

    pub(crate) fn skip_tags(&mut self) -> Read<()> {
        self.tags(|_, _| Ok(()))
    }

    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }
}

/// Splits a response into its correlation id and its body. ApiVersions never has a flexible header (KIP-511).
pub(crate) fn split_response(frame: Bytes, flexible: bool) -> Read<(i32, Bytes)> {
    let mut cursor = Cursor::new(frame, flexible);
    let correlation_id = cursor.i32()?;
    cursor.skip_tags()?;
    Ok((correlation_id, cursor.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_advance_over_boundaries() {
        let mut chunks = Chunks([Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"de")].into());
        assert_eq!(chunks.remaining(), 5);
        chunks.advance(2);
        assert_eq!(chunks.chunk(), b"c");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(chunks.chunks_vectored(&mut slices), 2);
        chunks.advance(2);
        assert_eq!(chunks.chunk(), b"e");
        chunks.advance(1);
        assert!(!chunks.has_remaining());
    }

    #[test]
    fn lengths_beyond_the_response_are_refused_before_anything_is_allocated() {
        let mut cursor = Cursor::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]), false);
        assert_eq!(cursor.array_len().unwrap_err().what, "length beyond the response");
        let mut cursor = Cursor::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]), true);
        assert_eq!(cursor.array_len().unwrap_err().what, "varint too long");
        let mut cursor = Cursor::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]), false);
        assert_eq!(cursor.array_len().unwrap_err().what, "negative length");
        let mut cursor = Cursor::new(Bytes::from_static(&[1]), false);
        assert_eq!(cursor.i64().unwrap_err(), Malformed { what: "response ends too early", at: 0 });
    }

    #[test]
    fn a_topic_name_is_no_longer_than_kafka_allows() {
        let named = |len: u16| Bytes::from([&len.to_be_bytes()[..], &vec![b't'; usize::from(len)]].concat());
        assert_eq!(Cursor::new(named(249), false).topic_name().unwrap().len(), 249);
        assert_eq!(Cursor::new(named(250), false).topic_name().unwrap_err().what, "topic name too long");
    }

    #[test]
    fn a_flexible_response_header_loses_its_tags() {
        let frame = Bytes::from_static(&[0, 0, 0, 7, 1, 5, 2, 0xaa, 0xbb, 42]);
        let (id, body) = split_response(frame, true).unwrap();
        assert_eq!((id, body.as_ref()), (7, &[42u8][..]));
    }
}
