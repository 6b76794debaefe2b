//! From a URL and its options to a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ClientOptions, Error, ObjectStore, RetryConfig};
use url::Url;

use crate::config::DestinationConfig;

/// How long a request is tried: a store that is away for longer fails the pass, and the next one goes on from the last manifest.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// A store behind a network, or in memory.
pub(super) fn open_url(url: &Url, to: &DestinationConfig) -> Result<Arc<dyn ObjectStore>, String> {
    // What is installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = |error: Error| error.to_string();
    let retry = RetryConfig { retry_timeout: RETRY_LIMIT, ..RetryConfig::default() };
    let client = ClientOptions::new().with_timeout(Duration::from_secs(60));
    let key = |error: Error| format!("options: {error}");
    Ok(match url.scheme() {
        "memory" => Arc::new(InMemory::new()),
        "s3" => {
            let mut builder = AmazonS3Builder::from_env().with_url(to.url.clone()).with_retry(retry);
            builder = builder.with_client_options(client);
            for (name, value) in &to.options {
                builder = builder.with_config(name.parse().map_err(key)?, value);
            }
            // Options may say otherwise, and two writers of one archive must not both believe that they were first.
            Arc::new(builder.with_conditional_put(S3ConditionalPut::ETagMatch).build().map_err(text)?)
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
        "hdfs" => hdfs(url, to)?,
        other => return Err(format!("no store for {other}://")),
    })
}

#[cfg(feature = "hdfs")]
fn hdfs(url: &Url, to: &DestinationConfig) -> Result<Arc<dyn ObjectStore>, String> {
    use hdfs_native_object_store::HdfsObjectStoreBuilder;
    const FAMILIES: [&str; 4] = ["dfs.", "fs.", "hadoop.", "ipc."];
    // Hadoop's own keys bear the names of services, so that only their families are known.
    if let Some(key) = to.options.keys().find(|key| !FAMILIES.iter().any(|family| key.starts_with(family))) {
        return Err(format!("the option {key} is unknown; Hadoop's begin with {FAMILIES:?}"));
    }
    let keys = to.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let name_node = url[..url::Position::BeforePath].to_owned();
    let builder = HdfsObjectStoreBuilder::new().with_url(name_node).with_config(keys);
    Ok(Arc::new(builder.build().map_err(|error| error.to_string())?))
}

#[cfg(not(feature = "hdfs"))]
fn hdfs(_: &Url, _: &DestinationConfig) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this build of kmirror is without HDFS: build it with the cargo feature hdfs".to_owned())
}

/// A folder of this machine, where it is there.
pub(super) fn open_folder(folder: &Path) -> Result<Arc<dyn ObjectStore>, Error> {
    let files = LocalFileSystem::new_with_prefix(folder)?;
    Ok(Arc::new(files.with_fsync(true).with_automatic_cleanup(true)))
}

/// Makes a folder in one that is there. What it would stand in may be a disk that is not mounted: that one is not made.
pub(super) fn make_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    // It is there after a power cut only if the one that names it was synchronised.
    #[cfg(unix)]
    if let Some(parent) = folder.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The folder of a `file://` URL.
pub(super) fn folder_of(url: &Url) -> Result<PathBuf, String> {
    url.to_file_path().map_err(|()| "no path of this machine".to_owned())
}
