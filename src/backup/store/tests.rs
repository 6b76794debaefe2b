//! What can be told without a network: folders and memory. `proto-tests/backup` has the same over S3.

use bytes::Bytes;

use super::writer::PART_BYTES;
use super::*;
use crate::backup::Copies;

fn local() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = at(&folder.path().join("backups"));
    store.make().unwrap();
    (folder, store)
}

fn at(folder: &std::path::Path) -> Store {
    let url = format!("file://{}", folder.display());
    Store::open(&DestinationConfig { url, options: Default::default() }, "nightly").unwrap()
}

fn is_without_place<T>(outcome: Result<T, StoreError>) -> bool {
    outcome.err().is_some_and(|error| error.is_without_place())
}

/// Neither reading nor writing makes a folder that a disk may be missing from; only a first backup does, and only one level of it.
#[tokio::test]
async fn a_folder_that_is_not_there_is_no_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(&folder.path().join("backups"));
    assert!(is_without_place(store.get("x").await) && is_without_place(store.list("chains").await));
    assert!(is_without_place(store.is_there("x").await) && is_without_place(store.folders("chains").await));
    assert!(is_without_place(store.put("x", Bytes::from_static(b"1")).await));
    let mut writer = store.writer("y");
    writer.write(&[Bytes::from_static(b"1")]).await.unwrap();
    assert!(is_without_place(writer.finish().await));
    assert!(is_without_place(at(&folder.path().join("disk/backups")).make()));
    store.make().unwrap();
    store.put("x", Bytes::from_static(b"1")).await.unwrap();
    assert!(folder.path().join("backups/nightly/x").is_file());
    std::fs::rename(folder.path().join("backups"), folder.path().join("elsewhere")).unwrap();
    assert!(is_without_place(store.put("x", Bytes::from_static(b"2")).await));
    assert!(!folder.path().join("backups").exists());
}

#[tokio::test]
async fn a_writer_that_is_given_up_leaves_nothing() {
    let (folder, store) = local();
    let mut writer = store.writer("x.seg");
    writer.write(&[Bytes::from(vec![7; PART_BYTES + 1])]).await.unwrap();
    writer.abort().await;
    assert_eq!(std::fs::read_dir(folder.path().join("backups/nightly")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_swept_once_it_is_old() {
    let (folder, store) = local();
    let left = folder.path().join("backups/nightly/data/x.seg#1");
    store.put("data/x.seg", Bytes::from_static(b"1")).await.unwrap();
    std::fs::write(&left, b"half").unwrap();
    assert_eq!(store.sweep_unfinished(Duration::from_secs(3600)).await.unwrap(), 0);
    assert!(left.exists());
    assert_eq!(store.sweep_unfinished(Duration::ZERO).await.unwrap(), 1);
    assert!(!left.exists());
    assert_eq!(store.get("data/x.seg").await.unwrap(), "1");
    assert_eq!(Store::in_memory("m").sweep_unfinished(Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn a_range_that_an_object_does_not_have_is_an_error() {
    let store = Store::in_memory("m");
    store.put("x", Bytes::from_static(b"0123")).await.unwrap();
    assert_eq!(store.get_range("x", 1..3).await.unwrap(), "12");
    assert!(store.get_range("x", 1..5).await.is_err() && store.get_range("x", 9..12).await.is_err());
    #[allow(clippy::reversed_empty_ranges, reason = "a manifest may say so")]
    let turned = store.get_range("x", 3..1).await.unwrap();
    assert!(turned.is_empty());
}

/// The order of copies is that of the configuration, but for those that are known not to answer.
#[tokio::test]
async fn a_copy_that_is_away_is_asked_last() {
    let folder = tempfile::tempdir().unwrap();
    let away = at(&folder.path().join("not-mounted"));
    let there = Store::in_memory("there");
    there.put("chains/00000001/units/00000001.json", Bytes::from_static(b"1")).await.unwrap();
    let copies = Copies::new(vec![away.clone(), there.clone()]);
    let first = |copies: &Copies| copies.in_turn().next().map(ToString::to_string);
    assert_eq!(first(&copies), Some(away.to_string()));
    assert_eq!(copies.get("chains/00000001/units/00000001.json").await.unwrap(), "1");
    assert_eq!(first(&copies), Some(there.to_string()));
    assert_eq!(copies.folders("chains").await.unwrap(), ["00000001"]);
    assert_eq!(copies.objects("chains").await.unwrap().len(), 1);
    assert!(copies.is_there("chains/00000001/units/00000001.json").await.unwrap());
    assert_eq!(copies.away().len(), 1);
    assert!(copies.away()[0].detail.contains("is the disk mounted"), "{:?}", copies.away());
    // What nobody who answers has may be in the copy that is away: it is not missing.
    assert!(!copies.get("y").await.unwrap_err().is_missing());
    assert!(copies.put("y", Bytes::new()).await.is_err(), "whoever writes needs all copies");
    away.make().unwrap();
    assert!(copies.get("y").await.unwrap_err().is_missing());
    assert!(copies.away().is_empty());
}
