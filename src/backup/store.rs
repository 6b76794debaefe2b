//! One place where archives lie, through `object_store`: a local folder, S3 and what speaks like it, Google Cloud Storage, Azure, and
//! with the feature of that name HDFS.
//!
//! A place that does not answer is remembered for a while: whoever has another copy asks that one first.

mod direct;
mod error;
mod local;
mod pieces;
mod place;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error, GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode};
use url::Url;

pub use error::{StoreError, StoreErrorKind};
use pieces::pieces_of;
pub use writer::StoreWriter;

use crate::config::DestinationConfig;

/// For how long a place that did not answer is asked last.
const AWAY_FOR: Duration = Duration::from_secs(300);
/// The most that an object may have that is read whole: manifests, and those of the largest clusters have less.
const WHOLE_BYTES_MAX: u64 = 512 << 20;

/// A folder of an archive in one place. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    name: Arc<str>,
    place: Arc<Place>,
    /// What no message may hold.
    secrets: Arc<[String]>,
    away: Arc<Mutex<Option<Away>>>,
}

enum Place {
    Ready(Arc<dyn ObjectStore>),
    /// A folder of this machine, which may not be there: a disk that is not mounted.
    Folder {
        folder: PathBuf,
        archive: Path,
        opened: OnceLock<Arc<dyn ObjectStore>>,
    },
}

/// Since when a place has not answered, and how.
#[derive(Debug, Clone)]
struct Away {
    since: Instant,
    detail: String,
}

/// Why a request came to nothing.
enum Trouble {
    Store(Error),
    NoFolder(PathBuf),
    TooLarge(u64),
    Cut,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// What a conditional write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there now.
    Created,
    /// It was there already, and is as it was.
    AlreadyThere,
}

/// An object, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Path below the archive's folder.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was written, ms.
    pub modified_ms: i64,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.name).finish()
    }
}

impl Store {
    /// The folder of an archive at a destination. Nothing is made or asked yet.
    pub fn open(to: &DestinationConfig, archive: &str) -> Result<Self, StoreError> {
        let wrong = |detail: String| StoreError::Config { place: to.url.clone(), detail };
        let url = Url::parse(&to.url).map_err(|error| wrong(error.to_string()))?;
        let path = |text: &str| Path::parse(text).map_err(|error| wrong(error.to_string()));
        let place = if url.scheme() == "file" {
            let folder = place::folder_of(&url).map_err(wrong)?;
            Place::Folder { folder, archive: path(archive)?, opened: OnceLock::new() }
        } else {
            let base = place::open_url(&url, to).map_err(&wrong)?;
            let folder = format!("{}/{archive}", url.path().trim_matches('/'));
            Place::Ready(Arc::new(PrefixStore::new(base, path(folder.trim_start_matches('/'))?)))
        };
        let is_secret = |key: &str| {
            let key = key.to_ascii_lowercase();
            ["secret", "token", "password", "sas", "_key"].iter().any(|word| key.contains(word))
        };
        let secrets = to.options.iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| value.clone()).collect();
        Ok(Self { secrets, ..Self::of(&to.url, place) })
    }

    /// A place in memory.
    pub fn in_memory(name: &str) -> Self {
        Self::of(name, Place::Ready(Arc::new(InMemory::new())))
    }

    fn of(name: &str, place: Place) -> Self {
        Self { name: name.into(), place: Arc::new(place), secrets: Arc::default(), away: Arc::default() }
    }

    fn objects(&self) -> Result<&Arc<dyn ObjectStore>, Trouble> {
        match &*self.place {
            Place::Ready(objects) => Ok(objects),
            Place::Folder { folder, .. } if !folder.is_dir() => Err(Trouble::NoFolder(folder.clone())),
            Place::Folder { folder, archive, opened } => {
                if let Some(objects) = opened.get() {
                    return Ok(objects);
                }
                let within = PrefixStore::new(place::open_folder(folder)?, archive.clone());
                Ok(opened.get_or_init(|| Arc::new(within)))
            }
        }
    }

    /// Makes the folder of a first backup, in one that is there.
    pub fn make(&self) -> Result<(), StoreError> {
        let Place::Folder { folder, .. } = &*self.place else { return Ok(()) };
        if folder.is_dir() {
            return Ok(());
        }
        if !folder.parent().is_some_and(std::path::Path::is_dir) {
            return self.outcome("creation", "the folder", Err(Trouble::NoFolder(folder.clone())));
        }
        let made = place::make_folder(folder).map_err(|error| local::failed(error).into());
        self.outcome("creation", "the folder", made)
    }

    /// Why this place is asked last, where it does not answer.
    pub fn away(&self) -> Option<String> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.as_ref().filter(|away| away.since.elapsed() < AWAY_FOR).map(|away| away.detail.clone())
    }

    /// The outcome of a request in words, and what it says about the place.
    fn outcome<T>(&self, operation: &'static str, path: &str, outcome: Result<T, Trouble>) -> Result<T, StoreError> {
        let failed = |kind, detail| StoreError::Failed {
            place: self.name.to_string(),
            operation,
            path: path.to_owned(),
            kind,
            detail,
        };
        let error = match outcome {
            Ok(value) => {
                self.note(None);
                return Ok(value);
            }
            Err(Trouble::Store(error)) => {
                let (kind, detail) = error::classify(&error, &self.secrets);
                failed(kind, detail)
            }
            Err(Trouble::NoFolder(folder)) => failed(
                StoreErrorKind::NoPlace,
                format!(
                    "there is no folder {}: is the disk mounted? A first backup makes it where the folder above it is there",
                    folder.display()
                ),
            ),
            Err(Trouble::TooLarge(bytes)) => failed(
                StoreErrorKind::Other,
                format!("it has {bytes} bytes, and {WHOLE_BYTES_MAX} at most are expected"),
            ),
            Err(Trouble::Cut) => failed(StoreErrorKind::Other, "it ends before what was to be read".to_owned()),
        };
        if error.is_of_the_place() {
            self.note(Some(&error));
        } else {
            self.note(None);
        }
        Err(error)
    }

    /// Says it once when a place goes away, and once when it is back.
    fn note(&self, error: Option<&StoreError>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &mut *away) {
            (None, None) => {}
            (None, Some(_)) => {
                tracing::info!(place = %self, "this destination answers again");
                *away = None;
            }
            (Some(error), Some(known)) => *known = Away { since: Instant::now(), detail: error.to_string() },
            (Some(error), None) => {
                tracing::warn!(place = %self, %error, "this destination does not serve: it is passed over where another copy will do");
                *away = Some(Away { since: Instant::now(), detail: error.to_string() });
            }
        }
    }

    /// Creates an object where none is yet.
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let at = Path::from(path);
        let put = async {
            match self.objects()?.put_opts(&at, bytes.into(), PutMode::Create.into()).await {
                Ok(_) => Ok(Put::Created),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::AlreadyThere),
                // HDFS refuses at its rename, and its client passes the name of Java's exception on.
                Err(error) if error.to_string().contains("FileAlreadyExistsException") => Ok(Put::AlreadyThere),
                Err(error) => Err(error.into()),
            }
        };
        self.outcome("creation", path, put.await)
    }

    /// Writes an object, whatever was there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let at = Path::from(path);
        let put = async { self.objects()?.put(&at, bytes.into()).await.map(drop).map_err(Trouble::from) };
        self.outcome("writing", path, put.await)
    }

    /// An object that is known to be small.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let at = Path::from(path);
        let get = async {
            let found = self.objects()?.get_opts(&at, GetOptions::default()).await?;
            // What a stranger has put there need not fit into memory.
            if found.meta.size > WHOLE_BYTES_MAX {
                return Err(Trouble::TooLarge(found.meta.size));
            }
            Ok(found.bytes().await?)
        };
        self.outcome("reading", path, get.await)
    }

    /// Exactly this part of an object.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let at = Path::from(path);
        let get = async {
            let bytes = self.objects()?.get_range(&at, range).await?;
            if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(Trouble::Cut) }
        };
        self.outcome("reading", path, get.await)
    }

    /// An object piece by piece.
    pub async fn read(&self, path: &str) -> Result<StoreReader, StoreError> {
        let at = Path::from(path);
        let get = async { Ok(self.objects()?.get_opts(&at, GetOptions::default()).await?) };
        let found = self.outcome("reading", path, get.await)?;
        let (store, path, bytes) = (self.clone(), path.to_owned(), found.meta.size);
        let stream = match found.payload {
            GetResultPayload::File(file, _) => pieces_of(file),
            GetResultPayload::Stream(stream) => stream,
        };
        Ok(StoreReader { store, path, bytes, stream })
    }

    /// Whether an object is there.
    pub async fn is_there(&self, path: &str) -> Result<bool, StoreError> {
        let at = Path::from(path);
        let head = async { self.objects()?.head(&at).await.map_err(Trouble::from) };
        match self.outcome("looking", path, head.await) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a place that is there has this object, the label of an archive: without a body an answer does not tell a missing bucket from
    /// a missing object.
    pub async fn is_begun(&self, label: &str) -> Result<bool, StoreError> {
        if self.is_there(label).await? {
            return Ok(true);
        }
        self.folders("").await.map(|_| false)
    }

    /// Objects below a folder, by path.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let at = Path::from(folder);
        let list = async { Ok(self.objects()?.list(Some(&at)).try_collect::<Vec<_>>().await?) };
        let object = |meta: object_store::ObjectMeta| Object {
            path: meta.location.to_string(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        };
        let mut objects: Vec<Object> = self.outcome("listing", folder, list.await)?.into_iter().map(object).collect();
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// Names of the folders in a folder.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let at = Path::from(folder);
        let list = async { Ok(self.objects()?.list_with_delimiter(Some(&at)).await?) };
        match self.outcome("listing", folder, list.await) {
            Ok(found) => {
                Ok(found.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect())
            }
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; it need not be there.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        let at = Path::from(path);
        let delete = async { self.objects()?.delete(&at).await.map_err(Trouble::from) };
        match self.outcome("deletion", path, delete.await) {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    /// Where an object lies, in a folder.
    fn file_path(&self, path: &Path) -> Option<PathBuf> {
        let Place::Folder { folder, archive, .. } = &*self.place else { return None };
        Some([folder.as_path(), archive.as_ref().as_ref(), path.as_ref().as_ref()].iter().collect())
    }

    /// Begins an object that comes piece by piece.
    pub fn writer(&self, path: &str) -> StoreWriter {
        StoreWriter::new(self.clone(), Path::from(path))
    }

    /// Removes what writers left that were killed, if nobody has touched it for so long; gives the number of files. Does nothing but in
    /// a local folder: rules of the bucket do it for multipart uploads that nobody has ended.
    pub async fn sweep_unfinished(&self, older_than: Duration) -> Result<u64, StoreError> {
        let Place::Folder { folder, archive, .. } = &*self.place else { return Ok(0) };
        let folder = folder.join(archive.as_ref());
        let swept = local::blocking(move || sweep::sweep(&folder, older_than)).await;
        self.outcome("sweeping", "the folder", swept.map_err(Trouble::from))
    }
}

/// Reads one object from its front.
pub struct StoreReader {
    store: Store,
    path: String,
    bytes: u64,
    stream: BoxStream<'static, Result<Bytes, Error>>,
}

impl StoreReader {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let next = self.stream.next().await.transpose().map_err(Trouble::from);
        self.store.outcome("reading", &self.path, next)
    }
}
