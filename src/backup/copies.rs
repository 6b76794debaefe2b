//! Several places that hold the same: written alike, read from whichever has it.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use super::store::{Object, Put, Store, StoreError, StoreWriter};

/// The copies of an archive, at least one.
#[derive(Debug, Clone)]
pub struct Copies(Vec<Store>);

/// Writes one object to all copies at once.
pub struct CopiesWriter(Vec<StoreWriter>);

impl Copies {
    /// These places.
    pub fn new(stores: Vec<Store>) -> Self {
        Self(stores)
    }

    /// The places.
    pub fn stores(&self) -> &[Store] {
        &self.0
    }

    /// Begins an object in all copies.
    pub async fn writer(&self, path: &str) -> Result<CopiesWriter, StoreError> {
        Ok(CopiesWriter(try_join_all(self.0.iter().map(|store| store.writer(path))).await?))
    }

    /// Creates an object where none is yet. It is the first copy that decides between two writers.
    pub async fn put_new(&self, path: &str, bytes: Bytes) -> Result<Put, StoreError> {
        let mut put = Put::Created;
        for (number, store) in self.0.iter().enumerate() {
            match store.put_new(path, bytes.clone()).await? {
                Put::Created => {}
                // Ours, and only the answer was lost; or of a call that died between two copies.
                Put::AlreadyThere if store.get(path).await? == bytes => {}
                Put::AlreadyThere if number == 0 => return Ok(Put::AlreadyThere),
                Put::AlreadyThere => put = Put::AlreadyThere,
            }
        }
        Ok(put)
    }

    /// Writes an object, whatever was there.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        try_join_all(self.0.iter().map(|store| store.put(path, bytes.clone()))).await.map(drop)
    }

    /// An object, from the first copy that has it.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let mut missing = None;
        for store in &self.0 {
            match store.get(path).await {
                Err(error) if error.is_missing() => missing = missing.or(Some(error)),
                outcome => return outcome,
            }
        }
        Err(missing.unwrap_or_else(StoreError::no_copy))
    }

    /// A small object, from the first copy that has it whole; where none has, what the first has.
    pub async fn first_good(&self, path: &str, is_good: impl Fn(&[u8]) -> bool) -> Result<Bytes, StoreError> {
        let (mut bad, mut failed) = (None, None);
        for store in &self.0 {
            match store.get(path).await {
                Ok(bytes) if is_good(&bytes) => return Ok(bytes),
                Ok(bytes) => bad = bad.or(Some(bytes)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        bad.ok_or_else(|| failed.unwrap_or_else(StoreError::no_copy))
    }

    /// Whether any copy has an object.
    pub async fn is_there(&self, path: &str) -> Result<bool, StoreError> {
        let found = try_join_all(self.0.iter().map(|store| store.is_there(path))).await?;
        Ok(found.contains(&true))
    }

    /// Objects below a folder, in any copy, by path.
    pub async fn objects(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let mut all: Vec<Object> = try_join_all(self.0.iter().map(|store| store.list(folder))).await?.concat();
        all.sort_by(|a, b| (&a.path, b.modified_ms).cmp(&(&b.path, a.modified_ms)));
        all.dedup_by(|a, b| a.path == b.path);
        Ok(all)
    }

    /// Names of the folders in a folder, in any copy.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let all = try_join_all(self.0.iter().map(|store| store.folders(folder))).await?;
        let all: BTreeSet<String> = all.into_iter().flatten().collect();
        Ok(all.into_iter().collect())
    }

    /// Deletes an object in all copies; it need not be there.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        try_join_all(self.0.iter().map(|store| store.delete(path))).await.map(drop)
    }

    /// Deletes all objects below a folder but one.
    pub async fn delete_all(&self, folder: &str, but: &str) -> Result<(), StoreError> {
        for object in self.objects(folder).await?.into_iter().filter(|object| object.path != but) {
            self.delete(&object.path).await?;
        }
        Ok(())
    }

    /// Gives an object to the copies that lack it.
    pub async fn level(&self, path: &str) -> Result<(), StoreError> {
        for store in &self.0 {
            if !store.is_there(path).await? {
                store.put_new(path, self.get(path).await?).await?;
            }
        }
        Ok(())
    }
}

impl CopiesWriter {
    /// Takes more bytes.
    pub async fn write(&mut self, parts: Vec<Bytes>) -> Result<(), StoreError> {
        if parts.is_empty() {
            return Ok(());
        }
        try_join_all(self.0.iter_mut().map(|writer| writer.write(&parts))).await.map(drop)
    }

    /// The object is there in all copies, durably.
    pub async fn finish(self) -> Result<(), StoreError> {
        try_join_all(self.0.into_iter().map(StoreWriter::finish)).await.map(drop)
    }

    /// What was written so far goes away.
    pub async fn abort(self) {
        join_all(self.0.into_iter().map(StoreWriter::abort)).await;
    }
}
