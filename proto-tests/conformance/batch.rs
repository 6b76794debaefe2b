//! Record batches written byte by byte, so that every rule of a broker can be broken one at a time.

use bytes::Bytes;

/// A record of a batch in the making.
#[derive(Debug, Clone)]
pub(crate) struct Rec {
    /// `None` is null.
    pub(crate) key: Option<Vec<u8>>,
    /// The value.
    pub(crate) value: Vec<u8>,
    /// Added to the batch's base timestamp, ms.
    pub(crate) timestamp_delta: i64,
}

/// A batch in the making; every field goes out as it stands here.
#[derive(Debug, Clone)]
pub(crate) struct BatchSpec {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) magic: u8,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) records_count: i32,
    pub(crate) records: Vec<Rec>,
    /// Added to every record's own offset delta.
    pub(crate) inner_offset_shift: i64,
    /// Turns a bit of the last byte after the checksum was made.
    pub(crate) corrupt: bool,
    /// The records section as it is to be, compressed by the test.
    pub(crate) payload: Option<Vec<u8>>,
}

impl BatchSpec {
    /// `count` records from a producer that is not idempotent. `tag` makes the content tell one batch from another.
    pub(crate) fn plain(tag: &str, count: i32) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let base_timestamp = i64::try_from(now).unwrap();
        let record = |n: i32| Rec {
            key: Some(format!("{tag}-{n}").into_bytes()),
            value: format!("value of {tag} {n}").into_bytes(),
            timestamp_delta: i64::from(n),
        };
        Self {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp,
            max_timestamp: base_timestamp + i64::from(count) - 1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: count,
            records: (0..count).map(record).collect(),
            inner_offset_shift: 0,
            corrupt: false,
            payload: None,
        }
    }

    /// The same from an idempotent producer.
    pub(crate) fn idempotent(tag: &str, producer: (i64, i16), sequence: i32, count: i32) -> Self {
        let (producer_id, producer_epoch) = producer;
        Self { producer_id, producer_epoch, base_sequence: sequence, ..Self::plain(tag, count) }
    }

    /// Moves all timestamps, ms.
    pub(crate) fn at(mut self, base_timestamp: i64) -> Self {
        self.max_timestamp += base_timestamp - self.base_timestamp;
        self.base_timestamp = base_timestamp;
        self
    }

    /// The uncompressed records section.
    pub(crate) fn records_section(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, record) in self.records.iter().enumerate() {
            let mut body = vec![0];
            varint(&mut body, record.timestamp_delta);
            varint(&mut body, n as i64 + self.inner_offset_shift);
            match &record.key {
                Some(key) => field(&mut body, key),
                None => varint(&mut body, -1),
            }
            field(&mut body, &record.value);
            varint(&mut body, 0);
            field(&mut out, &body);
        }
        out
    }

    /// The bytes for the wire.
    pub(crate) fn encode(&self) -> Bytes {
        let mut checked = Vec::new();
        checked.extend(self.attributes.to_be_bytes());
        checked.extend(self.last_offset_delta.to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend(self.producer_epoch.to_be_bytes());
        checked.extend(self.base_sequence.to_be_bytes());
        checked.extend(self.records_count.to_be_bytes());
        checked.extend(self.payload.clone().unwrap_or_else(|| self.records_section()));
        let crc = crc32c::crc32c(&checked);
        if self.corrupt {
            *checked.last_mut().unwrap() ^= 1;
        }
        let mut out = Vec::new();
        out.extend(self.base_offset.to_be_bytes());
        // What the length counts: leader epoch, magic and checksum (9 bytes) and all that is checked.
        out.extend((checked.len() as i32 + 9).to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        out.push(self.magic);
        out.extend(crc.to_be_bytes());
        out.extend(checked);
        out.into()
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as i64);
    out.extend(bytes);
}

/// Zigzag, seven bits a byte.
fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
