//! One place where archives lie, through `object_store`: a local folder, S3 and what speaks like it, Google Cloud Storage, Azure.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
};
use url::Url;

use crate::config::DestinationConfig;

/// Bytes of a part of an upload: what S3 takes (5 MiB at least, 10,000 parts), and a bound of what is held.
const PART_BYTES: usize = 8 << 20;
/// How long a request is tried: a store that is away for longer fails the pass, and the next one goes on from the last manifest.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// A folder of an archive in one place. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    name: Arc<str>,
    inner: Arc<dyn ObjectStore>,
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

/// Why a place could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened as it is configured.
    #[error("destination {place}: {detail}")]
    Config {
        /// URL.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// A request failed.
    #[error("destination {place}: {operation} of {path}: {source}")]
    Failed {
        /// URL.
        place: String,
        /// What was asked for.
        operation: &'static str,
        /// Of which object.
        path: String,
        /// Why.
        source: Box<Error>,
    },
    /// There is no place at all.
    #[error("the archive has no destination")]
    NoCopy,
}

impl StoreError {
    /// Whether the object is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if matches!(**source, Error::NotFound { .. }))
    }

    /// Whether the place does not let us in, or does not answer.
    pub fn is_unreachable_or_unauthorised(&self) -> bool {
        let Self::Failed { source, .. } = self else { return false };
        matches!(**source, Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::Generic { .. })
    }

    pub(super) fn no_copy() -> Self {
        Self::NoCopy
    }
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
    /// The folder of an archive at a destination.
    pub fn open(to: &DestinationConfig, archive: &str) -> Result<Self, StoreError> {
        let wrong = |detail: String| StoreError::Config { place: to.url.clone(), detail };
        let url = Url::parse(&to.url).map_err(|error| wrong(error.to_string()))?;
        // What is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = open_url(&url, to).map_err(&wrong)?;
        let folder = match url.scheme() {
            "file" => archive.to_owned(),
            _ => format!("{}/{archive}", url.path().trim_matches('/')),
        };
        let folder = Path::parse(folder.trim_start_matches('/')).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { name: to.url.as_str().into(), inner: Arc::new(PrefixStore::new(base, folder)) })
    }

    /// A place in memory.
    pub fn in_memory(name: &str) -> Self {
        Self { name: name.into(), inner: Arc::new(InMemory::new()) }
    }

    fn failed(&self, operation: &'static str, path: &str) -> impl FnOnce(Error) -> StoreError {
        let (place, path) = (self.name.to_string(), path.to_owned());
        move |source| StoreError::Failed { place, operation, path, source: Box::new(source) }
    }

    /// Creates an object where none is yet.
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put, StoreError> {
        match self.inner.put_opts(&Path::from(path), bytes.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(Put::Created),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::AlreadyThere),
            Err(error) => Err(self.failed("creation", path)(error)),
        }
    }

    /// Writes an object, whatever was there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.put(&Path::from(path), bytes.into()).await.map(drop).map_err(self.failed("writing", path))
    }

    /// An object.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let found = self.inner.get(&Path::from(path)).await.map_err(self.failed("reading", path))?;
        found.bytes().await.map_err(self.failed("reading", path))
    }

    /// A part of an object.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(&Path::from(path), range).await.map_err(self.failed("reading", path))
    }

    /// Whether an object is there.
    pub async fn is_there(&self, path: &str) -> Result<bool, StoreError> {
        match self.inner.head(&Path::from(path)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("looking", path)(error)),
        }
    }

    /// Objects below a folder, by path.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let listed = self.inner.list(Some(&Path::from(folder)));
        let listed: Vec<_> = listed.try_collect().await.map_err(self.failed("listing", folder))?;
        let object = |meta: object_store::ObjectMeta| Object {
            path: meta.location.to_string(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        };
        let mut objects: Vec<Object> = listed.into_iter().map(object).collect();
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// Names of the folders in a folder.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.inner.list_with_delimiter(Some(&Path::from(folder))).await;
        let listed = listed.map_err(self.failed("listing", folder))?;
        Ok(listed.common_prefixes.iter().filter_map(|path| Some(path.filename()?.to_owned())).collect())
    }

    /// Deletes an object; it need not be there.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.inner.delete(&Path::from(path)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("deletion", path)(error)),
        }
    }

    /// Begins an object that comes piece by piece.
    pub async fn writer(&self, path: &str) -> Result<StoreWriter, StoreError> {
        let (store, path) = (self.clone(), path.to_owned());
        Ok(StoreWriter { store, path, upload: None, held: Vec::new(), held_bytes: 0 })
    }
}

fn open_url(url: &Url, to: &DestinationConfig) -> Result<Arc<dyn ObjectStore>, String> {
    let text = |error: Error| error.to_string();
    let retry = RetryConfig { retry_timeout: RETRY_LIMIT, ..RetryConfig::default() };
    let client = ClientOptions::new().with_timeout(Duration::from_secs(60));
    let key = |error: Error| format!("options: {error}");
    Ok(match url.scheme() {
        "file" => {
            let folder = url.to_file_path().map_err(|()| "no path of this machine".to_owned())?;
            std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            Arc::new(
                LocalFileSystem::new_with_prefix(folder).map_err(text)?.with_fsync(true).with_automatic_cleanup(true),
            )
        }
        "memory" => Arc::new(InMemory::new()),
        "s3" => {
            let mut builder = AmazonS3Builder::from_env().with_url(to.url.clone()).with_retry(retry);
            builder = builder.with_client_options(client);
            for (name, value) in &to.options {
                builder = builder.with_config(name.parse().map_err(key)?, value);
            }
            Arc::new(builder.build().map_err(text)?)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(to.url.clone()).with_retry(retry);
            builder = builder.with_client_options(client);
            for (name, value) in &to.options {
                builder = builder.with_config(name.parse().map_err(key)?, value);
            }
            Arc::new(builder.build().map_err(text)?)
        }
        "az" | "abfs" | "abfss" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(to.url.clone()).with_retry(retry);
            builder = builder.with_client_options(client);
            for (name, value) in &to.options {
                builder = builder.with_config(name.parse().map_err(key)?, value);
            }
            Arc::new(builder.build().map_err(text)?)
        }
        "hdfs" => return Err("this kmirror was built without HDFS".to_owned()),
        other => return Err(format!("no store for {other}://")),
    })
}

/// Writes one object. Small ones go in one request, larger ones in parts; no more than a part is held.
pub struct StoreWriter {
    store: Store,
    path: String,
    upload: Option<Box<dyn MultipartUpload>>,
    held: Vec<Bytes>,
    held_bytes: usize,
}

impl StoreWriter {
    /// Takes more bytes.
    pub async fn write(&mut self, parts: &[Bytes]) -> Result<(), StoreError> {
        for part in parts {
            self.held.push(part.clone());
            self.held_bytes += part.len();
        }
        if self.held_bytes < PART_BYTES {
            return Ok(());
        }
        let failed = self.store.failed("writing", &self.path);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let upload = self.store.inner.put_multipart(&Path::from(self.path.as_str())).await;
                self.upload.insert(upload.map_err(self.store.failed("writing", &self.path))?)
            }
        };
        self.held_bytes = 0;
        upload.put_part(PutPayload::from_iter(self.held.drain(..))).await.map_err(failed)
    }

    /// The object is there, durably.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let payload = PutPayload::from_iter(self.held.drain(..));
        let failed = self.store.failed("writing", &self.path);
        let Some(upload) = &mut self.upload else {
            return self.store.inner.put(&Path::from(self.path.as_str()), payload).await.map(drop).map_err(failed);
        };
        if payload.content_length() > 0 {
            upload.put_part(payload).await.map_err(self.store.failed("writing", &self.path))?;
        }
        upload.complete().await.map(drop).map_err(failed)
    }

    /// What was written so far goes away.
    pub async fn abort(mut self) {
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(place = %self.store, path = self.path, %error, "what was written of this object is left there");
        }
    }
}
