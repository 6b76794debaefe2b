//! From the configuration to an archive: its places, its keys.

use std::sync::Arc;

use super::BackupError;
use super::archive::Archive;
use super::copies::Copies;
use super::fetch::Segments;
use super::keeper::Keeper;
use super::seal::{Keyring, PublicKey, Signer};
use super::store::Store;
use crate::client::{Cluster, ClusterSpec};
use crate::config::{BackupConfig, Config};

/// The archive of a backup.
pub fn open_archive(backup: &BackupConfig) -> Result<Archive, BackupError> {
    let stores = backup.to.iter().map(|to| Store::open(to, &backup.name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Archive::new(&backup.name, Copies::new(stores)))
}

/// Its segments, with the keys that they are sealed with.
pub async fn open_segments(backup: &BackupConfig, archive: &Archive) -> Result<Segments, BackupError> {
    Ok(Segments::new(archive.copies().clone(), keyring(backup).await?.map(Arc::new)))
}

async fn keyring(backup: &BackupConfig) -> Result<Option<Keyring>, BackupError> {
    let Some(encryption) = &backup.encryption else { return Ok(None) };
    let ring = Keyring::load(&encryption.key, &encryption.old_keys).await?;
    Ok(Some(ring.with_unsealed(encryption.accept_unsealed)))
}

async fn signer(backup: &BackupConfig) -> Result<Option<Signer>, BackupError> {
    let Some(signing) = &backup.signing else { return Ok(None) };
    Ok(Some(Signer::load(&signing.key).await?))
}

/// The key that manifests must be signed with, where they are to be signed.
pub async fn trusted_key(backup: &BackupConfig) -> Result<Option<PublicKey>, BackupError> {
    Ok(signer(backup).await?.map(|signer| signer.public_key()))
}

/// Connects to a cluster of the configuration, as a client that calls itself `kmirror.<name>`.
pub async fn open_cluster(config: &Config, cluster: &str, name: &str) -> Result<Cluster, BackupError> {
    let Some(found) = config.clusters.get(cluster) else {
        let detail = format!("cluster {cluster} is not in the configuration");
        return Err(BackupError::Unexpected { backup: name.to_owned(), detail });
    };
    Ok(Cluster::connect(ClusterSpec::of(found, found.client_id_for(name))).await?)
}

impl Keeper {
    /// Connects to the cluster of a backup and opens its archive.
    pub async fn connect(config: &Config, backup: &BackupConfig) -> Result<Self, BackupError> {
        let archive = open_archive(backup)?;
        let guards = (keyring(backup).await?, signer(backup).await?.map(Arc::new));
        let cluster = open_cluster(config, &backup.cluster, &format!("backup.{}", backup.name)).await?;
        Ok(Self::new(backup.clone(), cluster, archive, guards))
    }
}
