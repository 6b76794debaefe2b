//! Produce, encoded by hand: batches go out as they came in, header patched aside, payload as a slice of the response
//! that brought it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use uuid::Uuid;

use super::connection::Connection;
use super::error::ClientError;
use super::frame::{Cursor, Malformed, OutFrame};
use super::retry::Tries;
use super::{Cluster, TopicPartition};

/// zstd needs v7 (KIP-110).
const MIN_VERSION: i16 = 7;
/// v9: flexible.
const FLEXIBLE: i16 = 9;
/// v13: topics by id (KIP-516).
const BY_ID: i16 = 13;

/// One batch for one partition. A partition may appear once per request: the broker would silently take the last.
#[derive(Debug, Clone)]
pub struct ProduceEntry {
    /// Topic name.
    pub topic: String,
    /// Topic id; nil where the cluster has none.
    pub topic_id: Uuid,
    /// Partition number.
    pub partition: i32,
    /// The batch's header, rewritten (61 bytes, up to and with the record count).
    pub header: [u8; 61],
    /// Everything behind the header.
    pub payload: Bytes,
}

impl ProduceEntry {
    fn topic_key(&self) -> (&str, Uuid) {
        (&self.topic, self.topic_id)
    }
}

/// The answer for one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceResult {
    /// Error code, 0 where appended (or a duplicate).
    pub error: i16,
    /// Offset of the first record; −1 with an error.
    pub base_offset: i64,
    /// On a topic with create time this is −1 for an append and the time of the first append for a duplicate, ms.
    pub log_append_time_ms: i64,
    /// The broker's own words; empty where there are none.
    pub message: String,
}

impl Connection {
    /// The produce version that this connection speaks.
    pub fn produce_version(&self) -> Result<i16, ClientError> {
        self.version(ApiKey::Produce, MIN_VERSION, BY_ID)
    }
}

/// Encodes a request with acks=all. `version` as negotiated; entries of one topic need not stand together.
///
/// Layout: `ProduceRequest.json` of Kafka; the chunks are meta data, header and payload in turn.
pub fn encode_produce(version: i16, timeout_ms: i32, mut entries: Vec<ProduceEntry>) -> OutFrame {
    let flexible = version >= FLEXIBLE;
    // Stable, so that the entries of a topic stay in their order.
    entries.sort_by(|a, b| a.topic_key().cmp(&b.topic_key()));
    let topics = || entries.chunk_by(|a, b| a.topic_key() == b.topic_key());
    let mut out = Writer { meta: BytesMut::with_capacity(1024), chunks: Vec::new(), flexible };
    out.null_string();
    out.meta.put_i16(-1);
    out.meta.put_i32(timeout_ms);
    out.array(topics().count());
    for entries in topics() {
        let Some((name, id)) = entries.first().map(ProduceEntry::topic_key) else { continue };
        if version >= BY_ID {
            out.meta.put_u128(id.as_u128());
        } else {
            out.string(name);
        }
        out.array(entries.len());
        for entry in entries {
            out.meta.put_i32(entry.partition);
            out.length(entry.header.len() + entry.payload.len());
            out.meta.put_slice(&entry.header);
            out.chunk(entry.payload.clone());
            out.tags();
        }
        out.tags();
    }
    out.tags();
    OutFrame {
        api: ApiKey::Produce,
        version,
        flexible_request: flexible,
        flexible_response: flexible,
        chunks: out.finish(),
        max_wait_ms: u64::try_from(timeout_ms).unwrap_or(0),
    }
}

struct Writer {
    meta: BytesMut,
    chunks: Vec<Bytes>,
    flexible: bool,
}

impl Writer {
    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.meta.put_u8((value as u8) | 0x80);
            value >>= 7;
        }
        self.meta.put_u8(value as u8);
    }

    fn length(&mut self, length: usize) {
        // Frames are far below 2 GiB: the memory budget bounds them.
        let length = u32::try_from(length).unwrap_or(u32::MAX - 1);
        if self.flexible { self.unsigned_varint(length + 1) } else { self.meta.put_u32(length) }
    }

    fn array(&mut self, length: usize) {
        self.length(length);
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.length(text.len());
        } else {
            self.meta.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        }
        self.meta.put_slice(text.as_bytes());
    }

    fn null_string(&mut self) {
        if self.flexible { self.meta.put_u8(0) } else { self.meta.put_i16(-1) }
    }

    fn tags(&mut self) {
        if self.flexible {
            self.meta.put_u8(0);
        }
    }

    fn chunk(&mut self, payload: Bytes) {
        let meta = self.meta.split().freeze();
        self.chunks.extend([meta, payload]);
    }

    fn finish(mut self) -> std::collections::VecDeque<Bytes> {
        self.chunks.push(self.meta.freeze());
        self.chunks.into()
    }
}

/// Reads a response into the order of `keys` (topic, topic id, partition), one result each.
pub fn parse_produce(
    cluster: &str,
    version: i16,
    body: Bytes,
    keys: &[(String, Uuid, i32)],
) -> Result<Vec<ProduceResult>, ClientError> {
    let malformed = |detail: String| ClientError::Protocol {
        cluster: cluster.to_owned(),
        address: "target".to_owned(),
        api: "Produce",
        detail,
    };
    let mut found = parse(version, body).map_err(|e| malformed(e.to_string()))?;
    keys.iter()
        .map(|(topic, id, partition)| {
            let name = if version >= BY_ID { Named::Id(*id) } else { Named::Name(topic.clone()) };
            found.remove(&(name, *partition)).ok_or_else(|| malformed(format!("no answer for {topic}:{partition}")))
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Name(String),
    Id(Uuid),
}

fn parse(version: i16, body: Bytes) -> Result<BTreeMap<(Named, i32), ProduceResult>, Malformed> {
    let mut cursor = Cursor::new(body, version >= FLEXIBLE);
    let mut found = BTreeMap::new();
    for _ in 0..cursor.array_len()?.unwrap_or(0) {
        let by_id = version >= BY_ID;
        let id = if by_id { cursor.uuid()? } else { Uuid::nil() };
        let name = if by_id { String::new() } else { cursor.topic_name()? };
        for _ in 0..cursor.array_len()?.unwrap_or(0) {
            let (partition, result) = parse_partition(version, &mut cursor)?;
            let key = if by_id { Named::Id(id) } else { Named::Name(name.clone()) };
            found.insert((key, partition), result);
        }
        cursor.skip_tags()?;
    }
    Ok(found)
}

fn parse_partition(version: i16, cursor: &mut Cursor) -> Result<(i32, ProduceResult), Malformed> {
    let partition = cursor.i32()?;
    let error = cursor.i16()?;
    let base_offset = cursor.i64()?;
    let log_append_time_ms = cursor.i64()?;
    let _log_start_offset = cursor.i64()?;
    let mut message = String::new();
    // v8: what is wrong with which record (KIP-467).
    if version >= 8 {
        for _ in 0..cursor.array_len()?.unwrap_or(0) {
            let _batch_index = cursor.i32()?;
            let words = cursor.string()?.unwrap_or_default();
            if message.is_empty() {
                message = words;
            }
            cursor.skip_tags()?;
        }
        let words = cursor.string()?.unwrap_or_default();
        if !words.is_empty() {
            message = words;
        }
    }
    cursor.skip_tags()?;
    Ok((partition, ProduceResult { error, base_offset, log_append_time_ms, message }))
}

/// What a single append brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Offset of the first record.
    pub base_offset: i64,
}

const APPEND_TIMEOUT_MS: i32 = 30_000;
/// Lane of single appends (state and control).
const APPEND_LANE: u16 = 800;
/// Lanes of [`Cluster::append_parts`]: a broker answers a connection's next append once this one is replicated.
const PART_LANES: std::ops::Range<u16> = 810..814;
const HEADER_BYTES: usize = 61;

/// Appends one whole batch to a partition: one try, acks=all.
pub async fn append_batch(cluster: &Cluster, tp: &TopicPartition, batch: Bytes) -> Result<AppendOutcome, ClientError> {
    let header = batch.get(..HEADER_BYTES).and_then(|h| h.try_into().ok());
    let header = header.ok_or_else(|| ClientError::Encode {
        cluster: cluster.name().to_owned(),
        api: "Produce",
        version: BY_ID,
        detail: format!("a batch of {} bytes", batch.len()),
    })?;
    append_once(cluster, tp, header, batch.slice(HEADER_BYTES..), APPEND_LANE).await
}

async fn append_once(
    cluster: &Cluster,
    tp: &TopicPartition,
    header: [u8; HEADER_BYTES],
    payload: Bytes,
    lane: u16,
) -> Result<AppendOutcome, ClientError> {
    let leader = cluster.leader_of(&tp.topic, tp.partition)?;
    let connection = cluster.connection(leader, lane).await?;
    let version = connection.produce_version()?.min(if tp.topic_id.is_nil() { BY_ID - 1 } else { BY_ID });
    let entry =
        ProduceEntry { topic: tp.topic.clone(), topic_id: tp.topic_id, partition: tp.partition, header, payload };
    let keys = [(tp.topic.clone(), tp.topic_id, tp.partition)];
    let body = connection.submit(encode_produce(version, APPEND_TIMEOUT_MS, vec![entry]), None).await?;
    let results = parse_produce(cluster.name(), version, body, &keys)?;
    match results.first() {
        Some(result) if result.error == 0 => Ok(AppendOutcome { base_offset: result.base_offset }),
        Some(result) => Err(cluster.api_error_with("Produce", result.error, &tp.to_string(), Some(&result.message))),
        None => Err(cluster.api_error("Produce", -1, &tp.to_string())),
    }
}

impl Cluster {
    /// Appends a batch, given as header and records section, under a producer id and sequence of its own: tried again byte for byte until
    /// it is in, which the leader tells by the sequence, or for good refused.
    pub async fn append_parts(
        &self,
        tp: &TopicPartition,
        header: [u8; HEADER_BYTES],
        payload: Bytes,
    ) -> Result<AppendOutcome, ClientError> {
        let lane = PART_LANES.start + tp.partition.unsigned_abs() as u16 % (PART_LANES.end - PART_LANES.start);
        let mut tries = Tries::new();
        loop {
            match append_once(self, tp, header, payload.clone(), lane).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => tries.again(self, error, &[tp.topic.as_str()]).await?,
            }
        }
    }

    /// Appends a batch that means the same when it lands twice: tried again until it is in, or for good refused.
    pub async fn append_plain(&self, tp: &TopicPartition, batch: Bytes) -> Result<AppendOutcome, ClientError> {
        let mut tries = Tries::new();
        loop {
            match append_batch(self, tp, batch.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => tries.again(self, error, &[tp.topic.as_str()]).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    use super::super::frame::Chunks;
    use super::super::goldens;
    use super::*;

    fn entry(topic: &str, id: u128, partition: i32, payload: &'static [u8]) -> ProduceEntry {
        ProduceEntry {
            topic: topic.to_owned(),
            topic_id: Uuid::from_u128(id),
            partition,
            header: [partition as u8; 61],
            payload: Bytes::from_static(payload),
        }
    }

    /// A batch of the goldens for one of the two topics in them.
    fn golden_entry(topic: &str, partition: i32, batch: &str) -> ProduceEntry {
        let batch = Bytes::from(goldens::batch(batch));
        let header = batch[..HEADER_BYTES].try_into().unwrap();
        let payload = batch.slice(HEADER_BYTES..);
        ProduceEntry { topic: topic.to_owned(), topic_id: goldens::topic_id(topic), partition, header, payload }
    }

    #[test]
    fn a_request_is_the_one_that_kafka_writes() {
        for version in MIN_VERSION..=BY_ID {
            let entries = vec![
                golden_entry("beta", 1, "stamped_lz4"),
                golden_entry("alpha", 0, "stamped_none"),
                golden_entry("alpha", 3, "stamped_zstd"),
            ];
            let frame = goldens::on_the_wire(encode_produce(version, APPEND_TIMEOUT_MS, entries));
            assert_eq!(frame, goldens::wire(&format!("produce_request_v{version}")), "v{version}");
        }
    }

    #[test]
    fn an_answer_that_kafka_writes_is_read() {
        for version in MIN_VERSION..=BY_ID {
            let body = goldens::body(&format!("produce_response_v{version}"), version >= FLEXIBLE);
            let key = |topic: &str, partition| (topic.to_owned(), goldens::topic_id(topic), partition);
            let keys = [key("alpha", 3), key("beta", 1), key("alpha", 0)];
            let refused = if version >= 8 { "as a whole" } else { "" };
            let expected = [(87, -1, -1, refused), (6, -1, 1_700_000_000_123, ""), (0, 1 << 40, -1, "")].map(
                |(error, base_offset, log_append_time_ms, message)| ProduceResult {
                    error,
                    base_offset,
                    log_append_time_ms,
                    message: message.to_owned(),
                },
            );
            assert_eq!(parse_produce("c", version, body, &keys).unwrap(), expected, "v{version}");
        }
    }

    fn body(frame: OutFrame) -> Bytes {
        let mut chunks = Chunks(frame.chunks);
        chunks.copy_to_bytes(chunks.remaining())
    }

    #[test]
    fn every_version_decodes_to_what_was_meant() {
        for version in MIN_VERSION..=BY_ID {
            let entries = vec![entry("b", 2, 0, b"x"), entry("a", 1, 1, b""), entry("b", 2, 7, &[9; 300])];
            let mut bytes = body(encode_produce(version, 1234, entries));
            let request = ProduceRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "v{version}: {} bytes too many", bytes.len());
            assert_eq!((request.acks, request.timeout_ms, request.topic_data.len()), (-1, 1234, 2));
            let b = &request.topic_data[1];
            if version >= BY_ID {
                assert_eq!(b.topic_id, Uuid::from_u128(2));
            } else {
                assert_eq!(b.name.as_str(), "b");
            }
            let records = b.partition_data[1].records.as_ref().unwrap();
            assert_eq!((b.partition_data[1].index, records.len()), (7, 361));
            assert_eq!((&records[..61], &records[61..]), (&[7u8; 61][..], &[9u8; 300][..]));
        }
    }

    #[test]
    fn answers_come_in_the_order_of_the_entries() {
        for version in MIN_VERSION..=BY_ID {
            let part = |index, error, base| {
                PartitionProduceResponse::default().with_index(index).with_error_code(error).with_base_offset(base)
            };
            let mut topics = vec![
                TopicProduceResponse::default().with_partition_responses(vec![part(0, 0, 5), part(1, 47, -1)]),
                TopicProduceResponse::default().with_partition_responses(vec![part(0, 0, 9)]),
            ];
            for (topic, (name, id)) in topics.iter_mut().zip([("b", 2), ("a", 1)]) {
                if version >= BY_ID {
                    topic.topic_id = Uuid::from_u128(id);
                } else {
                    topic.name = TopicName(StrBytes::from_static_str(name));
                }
            }
            let mut bytes = Vec::new();
            ProduceResponse::default().with_responses(topics).encode(&mut bytes, version).unwrap();
            let key = |topic: &str, id, partition| (topic.to_owned(), Uuid::from_u128(id), partition);
            let keys = [key("a", 1, 0), key("b", 2, 1), key("b", 2, 0)];
            let results = parse_produce("c", version, bytes.clone().into(), &keys).unwrap();
            let got: Vec<(i16, i64)> = results.iter().map(|r| (r.error, r.base_offset)).collect();
            assert_eq!(got, [(0, 9), (47, -1), (0, 5)], "v{version}");
            let missing = parse_produce("c", version, bytes.clone().into(), &[key("a", 1, 3)]).unwrap_err();
            assert!(missing.to_string().contains("no answer for a:3"));
            // Every truncation is an error, never a panic.
            for end in 0..bytes.len() - 8 {
                let cut = Bytes::copy_from_slice(&bytes[..end]);
                let _ = parse_produce("c", version, cut, &keys);
            }
        }
    }
}
