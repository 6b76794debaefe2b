//! Work on the files of a local folder, and its failures as `object_store` has them.

use std::io;

use object_store::Error;

/// Off the threads that serve others.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|done| done).map_err(failed)
}

pub(super) fn failed(source: io::Error) -> Error {
    Error::Generic { store: "LocalFileSystem", source: Box::new(source) }
}
