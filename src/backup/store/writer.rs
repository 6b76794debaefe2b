//! An object that is written while it comes into being.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};

use super::{Store, StoreError};

/// Bytes of a part of an upload: what stores want (5 MiB at least, all of one size but the last, 10,000 at most), and a bound of what
/// is held.
pub(in crate::backup) const PART_BYTES: usize = 8 << 20;
/// The same for a folder, which takes any: what is written soon after it came is still in the processor's cache.
pub(super) const FOLDER_PART_BYTES: usize = 1 << 20;

/// Writes one object. A small one goes in one request, a larger one in parts of the same size; no more than a part is held.
///
/// Who does not come to [`Self::finish`] says [`Self::abort`]: stores keep the parts of uploads that nobody has ended, and bill for them.
pub struct StoreWriter {
    store: Store,
    path: Path,
    upload: Option<Box<dyn MultipartUpload>>,
    part_bytes: usize,
    held: Vec<Bytes>,
    held_bytes: usize,
}

impl StoreWriter {
    pub(super) fn new(store: Store, path: Path) -> Self {
        let part_bytes = if store.is_folder() { FOLDER_PART_BYTES } else { PART_BYTES };
        Self { store, path, upload: None, part_bytes, held: Vec::new(), held_bytes: 0 }
    }

    /// Takes more bytes. After an error nothing but [`Self::abort`] is left to do.
    pub async fn write(&mut self, parts: &[Bytes]) -> Result<(), StoreError> {
        for part in parts {
            let mut rest = part.clone();
            while !rest.is_empty() {
                let room = self.part_bytes - self.held_bytes;
                let piece = rest.split_to(room.min(rest.len()));
                self.held_bytes += piece.len();
                self.held.push(piece);
                if self.held_bytes == self.part_bytes {
                    self.send_part().await?;
                }
            }
        }
        Ok(())
    }

    /// The object is there, durably.
    pub async fn finish(&mut self) -> Result<(), StoreError> {
        if self.upload.is_none() {
            let payload = self.payload();
            let put = async { self.store.objects()?.put(&self.path, payload).await.map(drop).map_err(Into::into) };
            return self.store.outcome("writing", self.path.as_ref(), put.await);
        }
        if self.held_bytes > 0 {
            self.send_part().await?;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let completed = upload.complete().await.map(drop).map_err(Into::into);
        self.store.outcome("writing", self.path.as_ref(), completed)?;
        self.upload = None;
        Ok(())
    }

    /// What was written so far goes away.
    pub async fn abort(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        let Some(mut upload) = self.upload.take() else { return };
        if let Err(error) = upload.abort().await {
            tracing::warn!(place = %self.store, path = %self.path, %error, "what was written of this object is left there");
        }
    }

    fn payload(&mut self) -> PutPayload {
        self.held_bytes = 0;
        PutPayload::from_iter(self.held.drain(..))
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        if self.upload.is_none() {
            let begun = async { self.store.objects()?.put_multipart(&self.path).await.map_err(Into::into) };
            self.upload = Some(self.store.outcome("writing", self.path.as_ref(), begun.await)?);
        }
        let payload = self.payload();
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let sent = upload.put_part(payload).await.map_err(Into::into);
        self.store.outcome("writing", self.path.as_ref(), sent)
    }
}
