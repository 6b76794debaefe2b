//! Sees that a file has changed, or one that it reads: written in place, replaced by a rename, or by another link, as Kubernetes does
//! it with a ConfigMap. It is looked at, not listened to: that works on every file system, and costs a few system calls a second.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another. A change of its content changes the last of them, whatever is done about its times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what the path leads to; `None` where there is nothing.
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

type Stamps = Vec<(PathBuf, Option<Stamp>)>;

/// A file and those that it reads.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    files: BTreeSet<PathBuf>,
    /// As they were when they were last read.
    read: Stamps,
    /// As they were at the last look, where that is different.
    unsettled: Option<Stamps>,
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), files: BTreeSet::new(), read: Vec::new(), unsettled: None }
    }

    fn stamps(&self) -> Stamps {
        let all = std::iter::once(&self.path).chain(&self.files);
        all.map(|path| (path.clone(), Stamp::of(path))).collect()
    }

    /// They are about to be read: from here on changes count.
    pub(super) fn about_to_read(&mut self) {
        self.read = self.stamps();
        self.unsettled = None;
    }

    /// Which files were read with it.
    pub(super) fn reads(&mut self, files: BTreeSet<PathBuf>) {
        let before = std::mem::replace(&mut self.files, files);
        // One that was not known before was read just now.
        for path in self.files.difference(&before) {
            self.read.push((path.clone(), Stamp::of(path)));
        }
        let is_known = |path: &PathBuf| *path == self.path || self.files.contains(path);
        self.read.retain(|(path, _)| is_known(path));
        self.read.sort_by(|(a, _), (b, _)| (*a != self.path, a).cmp(&(*b != self.path, b)));
    }

    /// Whether something has changed since it was read, and not any more since the last look: half of a file that is being written may
    /// be a valid one with fewer mirrors.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = self.stamps();
        if now == self.read {
            self.unsettled = None;
            return false;
        }
        let is_settled = self.unsettled.as_ref() == Some(&now);
        self.unsettled = Some(now);
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(path: &Path, files: &[&Path]) -> Watched {
        let mut watched = Watched::new(path);
        watched.about_to_read();
        watched.reads(files.iter().map(|path| (*path).to_owned()).collect());
        watched
    }

    /// Changed at the second look, and no more once it was read.
    fn assert_seen(watched: &mut Watched, how: &str) {
        assert!(!watched.has_changed(), "{how}: it may be half of it");
        assert!(watched.has_changed(), "{how}");
        watched.about_to_read();
        assert!(!watched.has_changed(), "{how}: it was read");
    }

    #[test]
    fn whatever_way_a_file_is_changed_it_is_seen_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("k.yaml"), folder.path().join("pw"));
        std::fs::write(&path, "a").unwrap();
        std::fs::write(&secret, "x").unwrap();
        let mut watched = watched(&path, &[&secret]);
        assert!(!watched.has_changed());
        std::fs::write(&path, "b").unwrap();
        assert_seen(&mut watched, "written in place, of the same size");
        std::fs::write(folder.path().join("new"), "b").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_seen(&mut watched, "renamed over it");
        std::fs::write(&secret, "y").unwrap();
        assert_seen(&mut watched, "a file that it reads");
        std::fs::remove_file(&secret).unwrap();
        assert_seen(&mut watched, "a file that it reads is gone");
    }

    #[test]
    fn a_config_map_is_swapped_by_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "a"), ("v2", "b")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("k.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/k.yaml", at("k.yaml")).unwrap();
        let mut watched = watched(&at("k.yaml"), &[]);
        assert!(!watched.has_changed());
        std::os::unix::fs::symlink("v2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_seen(&mut watched, "another link");
    }

    #[test]
    fn what_is_still_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut watched = watched(&path, &[]);
        for text in ["ab", "abc", "abcd"] {
            std::fs::write(&path, text).unwrap();
            assert!(!watched.has_changed(), "{text}");
        }
        assert!(watched.has_changed());
    }
}
