//! Parquet: a folder for each topic, in it a file, or several of bounded size, for each partition.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};

use super::whole::WholeFile;
use super::{Row, Sink};
use crate::backup::BackupError;

/// Keys, values, headers and what goes with them that are held before they are written as a row group: what bounds memory. One
/// record more, whatever its size, and as much again while it is encoded at most.
pub const ROW_GROUP_BYTES: usize = 32 << 20;
/// A file that has grown to this is ended behind its row group, and another begun.
pub const PART_BYTES: usize = 512 << 20;

/// What a row takes beside its bytes, and a header.
const ROW_OVERHEAD_BYTES: usize = 64;
const HEADER_OVERHEAD_BYTES: usize = 64;
/// Values that are handed over at a time.
const BATCH_ROWS: usize = 1024;

const SCHEMA: &str = "
message kafka_record {
  REQUIRED BYTE_ARRAY topic (STRING);
  REQUIRED INT32 partition;
  REQUIRED INT64 offset;
  OPTIONAL INT64 timestamp (TIMESTAMP(MILLIS,true));
  REQUIRED BYTE_ARRAY timestamp_type (STRING);
  OPTIONAL BYTE_ARRAY key;
  OPTIONAL BYTE_ARRAY value;
  REQUIRED GROUP headers (LIST) {
    REPEATED GROUP list {
      REQUIRED GROUP element {
        REQUIRED BYTE_ARRAY key (STRING);
        OPTIONAL BYTE_ARRAY value;
      }
    }
  }
  OPTIONAL INT32 leader_epoch;
}";

/// Writes records into a folder.
#[derive(Debug)]
pub struct ParquetFolder {
    folder: PathBuf,
    schema: Arc<Type>,
    properties: Arc<WriterProperties>,
    row_group_bytes: usize,
    part_bytes: usize,
    open: Option<Part>,
    written: Vec<PathBuf>,
}

/// A file that is being written.
#[derive(Debug)]
struct Part {
    topic: String,
    partition: i32,
    writer: SerializedFileWriter<WholeFile>,
    rows: Rows,
}

impl ParquetFolder {
    /// Into a folder that is empty, or not there yet.
    ///
    /// # Errors
    /// It holds something, or cannot be made.
    pub fn create(folder: &Path) -> Result<Self, BackupError> {
        Self::bounded(folder, ROW_GROUP_BYTES, PART_BYTES)
    }

    pub(super) fn bounded(folder: &Path, row_group_bytes: usize, part_bytes: usize) -> Result<Self, BackupError> {
        let failed = |error: io::Error| named(folder, &error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        if std::fs::read_dir(folder).map_err(failed)?.next().is_some() {
            return Err(failed(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it holds something already; records of two exports would be mixed: name an empty folder, or one that is not there",
            )));
        }
        Ok(Self {
            folder: folder.to_owned(),
            schema: Arc::new(parse_message_type(SCHEMA).map_err(encoding)?),
            properties: Arc::new(properties()?),
            row_group_bytes,
            part_bytes,
            open: None,
            written: Vec::new(),
        })
    }

    fn begin(&self, row: &Row<'_>) -> Result<Part, BackupError> {
        let folder = self.folder.join(row.topic);
        std::fs::create_dir_all(&folder).map_err(|error| named(&folder, &error))?;
        let name = format!("{:05}-{:020}", row.partition, row.record.offset);
        // A topic that was deleted and made again has two logs, and offsets of both begin at 0.
        let names = std::iter::once(format!("{name}.parquet")).chain((2..).map(|n| format!("{name}.{n}.parquet")));
        let free = names.map(|name| folder.join(name)).find(|path| !path.exists()).unwrap_or(folder);
        let file = WholeFile::create(&free)?;
        let writer = SerializedFileWriter::new(file, Arc::clone(&self.schema), Arc::clone(&self.properties));
        Ok(Part {
            topic: row.topic.to_owned(),
            partition: row.partition,
            writer: writer.map_err(encoding)?,
            rows: Rows::default(),
        })
    }
}

impl Sink for ParquetFolder {
    fn put(&mut self, row: &Row<'_>) -> Result<(), BackupError> {
        if self.open.is_none() {
            self.open = Some(self.begin(row)?);
        }
        let Some(part) = &mut self.open else { return Ok(()) };
        part.rows.push(row);
        if part.rows.bytes >= self.row_group_bytes {
            part.write_group()?;
            if part.writer.bytes_written() >= self.part_bytes {
                self.end_log()?;
            }
        }
        Ok(())
    }

    fn end_log(&mut self) -> Result<(), BackupError> {
        let Some(mut part) = self.open.take() else { return Ok(()) };
        part.write_group()?;
        let file = part.writer.into_inner().map_err(encoding)?;
        self.written.push(file.finish()?);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<PathBuf>, BackupError> {
        self.end_log()?;
        // What Hadoop's committers leave behind, and those who wait for an export look for: all files are there.
        WholeFile::create(&self.folder.join("_SUCCESS"))?.finish()?;
        Ok(self.written)
    }
}

fn properties() -> Result<WriterProperties, BackupError> {
    let no_dictionary = [vec!["value".to_owned()], header_column("value")];
    let builder = WriterProperties::builder()
        .set_created_by(concat!("kmirror version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(encoding)?));
    // Payload: hardly a value comes twice, and the least of them says nothing.
    let builder = no_dictionary.into_iter().map(ColumnPath::new).fold(builder, |builder, column| {
        let builder = builder.set_column_dictionary_enabled(column.clone(), false);
        builder.set_column_statistics_enabled(column, EnabledStatistics::None)
    });
    Ok(builder.build())
}

fn header_column(name: &str) -> Vec<String> {
    ["headers", "list", "element", name].map(str::to_owned).to_vec()
}

fn encoding(error: ParquetError) -> BackupError {
    BackupError::Output(io::Error::other(error))
}

fn named(path: &Path, error: &io::Error) -> BackupError {
    BackupError::Output(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl Part {
    /// Writes what is held as a row group, column by column.
    fn write_group(&mut self) -> Result<(), BackupError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.offsets.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(encoding)?;
        rows.write(&self.topic, self.partition, &mut group).map_err(encoding)?;
        group.close().map_err(encoding)?;
        Ok(())
    }
}

/// Rows that wait, by column.
#[derive(Debug, Default)]
struct Rows {
    bytes: usize,
    offsets: Vec<i64>,
    timestamps: Optional<i64>,
    /// Whether the broker set it.
    log_append_time: Vec<bool>,
    keys: Blobs,
    values: Blobs,
    header_keys: Blobs,
    header_values: Blobs,
    leader_epochs: Optional<i32>,
}

/// Numbers, some of which are not known.
#[derive(Debug, Default)]
struct Optional<T> {
    known: Vec<T>,
    levels: Vec<i16>,
}

impl<T: PartialEq + From<i8>> Optional<T> {
    /// −1 is Kafka's way to say that there is none.
    fn push(&mut self, value: T) {
        let is_known = value != T::from(-1);
        self.levels.push(i16::from(is_known));
        self.known.extend(is_known.then_some(value));
    }
}

/// Byte strings, one behind the other: records keep the buffer alive that they were read into.
#[derive(Debug, Default)]
struct Blobs {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// How much of the way down the schema there is.
    definitions: Vec<i16>,
    /// 0 where a row begins.
    repetitions: Vec<i16>,
}

impl Blobs {
    fn push(&mut self, value: Option<&[u8]>, definition: i16, repetition: i16) {
        if let Some(value) = value {
            self.bytes.extend_from_slice(value);
            self.ends.push(self.bytes.len());
        }
        self.definitions.push(definition);
        self.repetitions.push(repetition);
    }

    /// `max_definition`: that of a value that is there.
    fn write(
        self,
        group: &mut SerializedRowGroupWriter<'_, WholeFile>,
        (max_definition, is_repeated): (i16, bool),
    ) -> Result<(), ParquetError> {
        let bytes = Bytes::from(self.bytes);
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut places = begins.zip(self.ends.iter().copied());
        let Some(mut column) = group.next_column()? else { return Err(too_few()) };
        let mut from = 0;
        while from < self.definitions.len() {
            let next = (from + BATCH_ROWS).min(self.definitions.len());
            let rest = self.repetitions.get(next..).unwrap_or_default();
            let to = next + rest.iter().take_while(|repetition| **repetition > 0).count();
            let definitions = self.definitions.get(from..to).unwrap_or_default();
            let there = definitions.iter().filter(|definition| **definition == max_definition).count();
            let values: Vec<ByteArray> =
                places.by_ref().take(there).map(|(from, to)| ByteArray::from(bytes.slice(from..to))).collect();
            let repetitions = self.repetitions.get(from..to).filter(|_| is_repeated);
            column.typed::<ByteArrayType>().write_batch(&values, Some(definitions), repetitions)?;
            from = to;
        }
        column.close()
    }
}

fn too_few() -> ParquetError {
    ParquetError::General("the schema has fewer columns than are written".to_owned())
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, WholeFile>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Err(too_few()) };
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

/// The same value in every row.
fn write_constant<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, WholeFile>,
    value: &T::T,
    rows: usize,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Err(too_few()) };
    let values = vec![value.clone(); rows.min(BATCH_ROWS)];
    for from in (0..rows).step_by(BATCH_ROWS) {
        let some = values.get(..(rows - from).min(BATCH_ROWS)).unwrap_or_default();
        column.typed::<T>().write_batch(some, None, None)?;
    }
    column.close()
}

impl Rows {
    fn push(&mut self, row: &Row<'_>) {
        let record = row.record;
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.log_append_time.push(row.header.is_log_append_time());
        self.leader_epochs.push(row.header.partition_leader_epoch);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        self.keys.push(key, i16::from(key.is_some()), 0);
        self.values.push(value, i16::from(value.is_some()), 0);
        self.bytes += ROW_OVERHEAD_BYTES + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        if record.headers.is_empty() {
            self.header_keys.push(None, 0, 0);
            self.header_values.push(None, 0, 0);
        }
        for (number, (key, value)) in record.headers.iter().enumerate() {
            let repetition = i16::from(number > 0);
            // Kafka's own clients read what is no UTF-8 in the same way.
            self.header_keys.push(Some(String::from_utf8_lossy(key).as_bytes()), 1, repetition);
            self.header_values.push(value.as_deref(), 1 + i16::from(value.is_some()), repetition);
            self.bytes += HEADER_OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len);
        }
    }

    /// In the order of the schema.
    fn write(
        self,
        topic: &str,
        partition: i32,
        group: &mut SerializedRowGroupWriter<'_, WholeFile>,
    ) -> Result<(), ParquetError> {
        let rows = self.offsets.len();
        write_constant::<ByteArrayType>(group, &ByteArray::from(topic), rows)?;
        write_constant::<Int32Type>(group, &partition, rows)?;
        write_column::<Int64Type>(group, &self.offsets, None)?;
        write_column::<Int64Type>(group, &self.timestamps.known, Some(&self.timestamps.levels))?;
        write_timestamp_types(group, &self.log_append_time)?;
        self.keys.write(group, (1, false))?;
        self.values.write(group, (1, false))?;
        self.header_keys.write(group, (1, true))?;
        self.header_values.write(group, (2, true))?;
        write_column::<Int32Type>(group, &self.leader_epochs.known, Some(&self.leader_epochs.levels))
    }
}

/// As `message.timestamp.type` has them.
fn write_timestamp_types(
    group: &mut SerializedRowGroupWriter<'_, WholeFile>,
    log_append_time: &[bool],
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Err(too_few()) };
    let names = [ByteArray::from("CreateTime"), ByteArray::from("LogAppendTime")];
    for some in log_append_time.chunks(BATCH_ROWS) {
        let values: Vec<ByteArray> = some.iter().map(|append| names[usize::from(*append)].clone()).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
    }
    column.close()
}
