//! Several places that hold the same: written alike, read from whichever has it.

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;

use super::store::{Object, Put, Store, StoreError, StoreWriter};

/// The copies of an archive, at least one.
#[derive(Debug, Clone)]
pub struct Copies(Vec<Store>);

/// Writes one object to all copies at once.
pub struct CopiesWriter(Vec<StoreWriter>);

/// A copy that does not answer, and is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AwayCopy {
    /// The copy.
    pub copy: String,
    /// What it said.
    pub detail: String,
}

impl Copies {
    /// These places.
    pub fn new(stores: Vec<Store>) -> Self {
        Self(stores)
    }

    /// The places.
    pub fn stores(&self) -> &[Store] {
        &self.0
    }

    /// The places in the order in which something is to be read from them: those last that do not answer.
    pub fn in_turn(&self) -> impl Iterator<Item = &Store> {
        let is_there = |store: &&Store| store.away().is_none();
        self.0.iter().filter(is_there).chain(self.0.iter().filter(move |store| !is_there(store)))
    }

    /// The copies that do not answer, as far as they were asked.
    pub fn away(&self) -> Vec<AwayCopy> {
        let of = |store: &Store| Some(AwayCopy { copy: store.to_string(), detail: store.away()? });
        self.0.iter().filter_map(of).collect()
    }

    /// Begins an object in all copies.
    pub fn writer(&self, path: &str) -> CopiesWriter {
        CopiesWriter(self.0.iter().map(|store| store.writer(path)).collect())
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

    /// An object, from the first copy that has it. It is missing only where every copy says so.
    pub async fn get(&self, path: &str) -> Result<Bytes, StoreError> {
        let mut failed: Option<StoreError> = None;
        for store in self.in_turn() {
            match store.get(path).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if failed.as_ref().is_none_or(StoreError::is_missing) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(StoreError::NoCopy))
    }

    /// A small object, from the first copy that has it whole; where none has, what the first has.
    pub async fn first_good(&self, path: &str, is_good: impl Fn(&[u8]) -> bool) -> Result<Bytes, StoreError> {
        let (mut bad, mut failed): (Option<Bytes>, Option<StoreError>) = (None, None);
        for store in self.in_turn() {
            match store.get(path).await {
                Ok(bytes) if is_good(&bytes) => return Ok(bytes),
                Ok(bytes) => bad = bad.or(Some(bytes)),
                Err(error) if failed.as_ref().is_none_or(StoreError::is_missing) => failed = Some(error),
                Err(_) => {}
            }
        }
        bad.ok_or_else(|| failed.unwrap_or(StoreError::NoCopy))
    }

    /// What the copies answer that do, those first that did before; an error where none does.
    async fn answers<'a, T, F>(&'a self, ask: impl Fn(&'a Store) -> F) -> Result<Vec<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let (there, away): (Vec<&Store>, Vec<&Store>) = self.0.iter().partition(|store| store.away().is_none());
        let mut failed = None;
        for stores in [there, away].into_iter().filter(|stores| !stores.is_empty()) {
            let mut answers = Vec::new();
            for answer in join_all(stores.into_iter().map(&ask)).await {
                match answer {
                    Ok(answer) => answers.push(answer),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if !answers.is_empty() {
                return Ok(answers);
            }
        }
        Err(failed.unwrap_or(StoreError::NoCopy))
    }

    /// Whether any copy that answers has an object.
    pub async fn is_there(&self, path: &str) -> Result<bool, StoreError> {
        Ok(self.answers(|store| store.is_there(path)).await?.contains(&true))
    }

    /// Objects below a folder, in any copy that answers, by path.
    pub async fn objects(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let mut all: Vec<Object> = self.answers(|store| store.list(folder)).await?.concat();
        all.sort_by(|a, b| (&a.path, b.modified_ms).cmp(&(&b.path, a.modified_ms)));
        all.dedup_by(|a, b| a.path == b.path);
        Ok(all)
    }

    /// Names of the folders in a folder, in any copy that answers.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let all: BTreeSet<String> = self.answers(|store| store.folders(folder)).await?.into_iter().flatten().collect();
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

    /// Brings the copies that lack this object, the last that was written, to where the first is. Gives how many objects they lacked.
    pub async fn catch_up(&self, last: &str) -> Result<u64, StoreError> {
        let Some((first, others)) = self.0.split_first() else { return Ok(0) };
        if !first.is_there(last).await? {
            first.put_new(last, self.get(last).await?).await?;
        }
        let mut given = 0;
        for store in others {
            if store.is_there(last).await? {
                continue;
            }
            let there: BTreeSet<String> = store.list("chains").await?.into_iter().map(|object| object.path).collect();
            // By path: the segments of a chain come before its manifests, and nothing is named there before it is there.
            for object in first.list("chains").await?.into_iter().filter(|object| !there.contains(&object.path)) {
                copy(first, store, &object.path).await?;
                given += 1;
            }
        }
        Ok(given)
    }
}

/// Writes an object into another place.
pub(super) async fn copy(from: &Store, to: &Store, path: &str) -> Result<(), StoreError> {
    let mut reader = from.read(path).await?;
    let mut writer = to.writer(path);
    let copied = async {
        while let Some(piece) = reader.next().await? {
            writer.write(&[piece]).await?;
        }
        writer.finish().await
    };
    let outcome = copied.await;
    if outcome.is_err() {
        writer.abort().await;
    }
    outcome
}

impl CopiesWriter {
    /// Takes more bytes.
    pub async fn write(&mut self, parts: Vec<Bytes>) -> Result<(), StoreError> {
        if parts.is_empty() {
            return Ok(());
        }
        try_join_all(self.0.iter_mut().map(|writer| writer.write(&parts))).await.map(drop)
    }

    /// The object is there in all copies, durably. After an error what is left of it is to be given up ([`Self::abort`]).
    pub async fn finish(&mut self) -> Result<(), StoreError> {
        try_join_all(self.0.iter_mut().map(StoreWriter::finish)).await.map(drop)
    }

    /// What was written so far goes away.
    pub async fn abort(&mut self) {
        join_all(self.0.iter_mut().map(StoreWriter::abort)).await;
    }
}
