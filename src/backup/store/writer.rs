//! An object that is written while it comes into being.

use std::path::PathBuf;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};

use super::direct::FolderFile;
use super::local::{blocking, failed};
use super::{Store, StoreError, Trouble};

/// Bytes of a part of an upload: what stores want (5 MiB at least, all of one size but the last, 10,000 at most), and a bound of what
/// is held.
pub(in crate::backup) const PART_BYTES: usize = 8 << 20;
/// The same for a folder, which takes any: what is written soon after it came is still in the processor's cache.
const FOLDER_PART_BYTES: usize = 1 << 20;

/// Writes one object. A small one goes in one request, a larger one in parts of the same size; no more than a part is held.
///
/// Who does not come to [`Self::finish`] says [`Self::abort`]: stores keep the parts of uploads that nobody has ended, and bill for them.
pub struct StoreWriter {
    store: Store,
    path: Path,
    /// Where it lies, in a folder.
    file_path: Option<PathBuf>,
    upload: Option<Upload>,
    held: Vec<Bytes>,
    held_bytes: usize,
}

/// A large object, of which the first part is written.
enum Upload {
    /// In a store.
    Parts(Box<dyn MultipartUpload>),
    /// In a folder; `None` once a write has failed.
    File(Option<FolderFile>),
}

impl StoreWriter {
    pub(super) fn new(store: Store, path: Path) -> Self {
        let file_path = store.file_path(&path);
        Self { store, path, file_path, upload: None, held: Vec::new(), held_bytes: 0 }
    }

    /// Takes more bytes. After an error nothing but [`Self::abort`] is left to do.
    pub async fn write(&mut self, parts: &[Bytes]) -> Result<(), StoreError> {
        let part_bytes = if self.file_path.is_some() { FOLDER_PART_BYTES } else { PART_BYTES };
        for part in parts {
            let mut rest = part.clone();
            while !rest.is_empty() {
                let room = part_bytes - self.held_bytes;
                let piece = rest.split_to(room.min(rest.len()));
                self.held_bytes += piece.len();
                self.held.push(piece);
                if self.held_bytes == part_bytes {
                    self.send_part().await?;
                }
            }
        }
        Ok(())
    }

    /// The object is there, durably.
    pub async fn finish(&mut self) -> Result<(), StoreError> {
        if self.upload.is_none() {
            let payload = PutPayload::from_iter(self.take());
            let put = async { self.store.objects()?.put(&self.path, payload).await.map(drop).map_err(Into::into) };
            return self.store.outcome("writing", self.path.as_ref(), put.await);
        }
        if self.held_bytes > 0 {
            self.send_part().await?;
        }
        let completed = match &mut self.upload {
            Some(Upload::Parts(upload)) => upload.complete().await.map(drop).map_err(Trouble::from),
            Some(Upload::File(file)) => match file.take() {
                Some(file) => blocking(move || file.finish()).await.map_err(Trouble::from),
                None => Ok(()),
            },
            None => Ok(()),
        };
        self.store.outcome("writing", self.path.as_ref(), completed)?;
        self.upload = None;
        Ok(())
    }

    /// What was written so far goes away.
    pub async fn abort(&mut self) {
        drop(self.take());
        let aborted = match self.upload.take() {
            Some(Upload::Parts(mut upload)) => upload.abort().await.map_err(Trouble::from),
            Some(Upload::File(Some(file))) => blocking(move || file.abort()).await.map_err(Trouble::from),
            Some(Upload::File(None)) | None => return,
        };
        if let Err(error) = self.store.outcome("clearing away", self.path.as_ref(), aborted) {
            tracing::warn!(place = %self.store, path = %self.path, %error, "what was written of this object is left there");
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        let sent = self.begin_and_send().await;
        self.store.outcome("writing", self.path.as_ref(), sent)
    }

    async fn begin_and_send(&mut self) -> Result<(), Trouble> {
        let pieces = self.take();
        if self.upload.is_none() {
            let objects = self.store.objects()?;
            self.upload = Some(match self.file_path.clone() {
                Some(path) => Upload::File(Some(blocking(move || FolderFile::create(path)).await?)),
                None => Upload::Parts(objects.put_multipart(&self.path).await?),
            });
        }
        match &mut self.upload {
            Some(Upload::Parts(upload)) => Ok(upload.put_part(PutPayload::from_iter(pieces)).await?),
            Some(Upload::File(file)) => {
                let Some(mut open) = file.take() else { return Ok(()) };
                let (open, written) = blocking(move || {
                    let written = open.write(&pieces);
                    Ok((open, written))
                })
                .await?;
                *file = Some(open);
                Ok(written.map_err(failed)?)
            }
            None => Ok(()),
        }
    }
}
