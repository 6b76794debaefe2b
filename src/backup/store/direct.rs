//! A large object of a local folder, written past the page cache where the system lets us: whoever backs up terabytes next to a broker
//! pushes nothing out of the cache that the broker reads from, and the copy into it is the larger half of what a write costs.
//!
//! Written under another name, made durable, and then given its own, as `object_store` does it with all else: whatever kills the writer,
//! there is the whole object or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::MmapMut;

/// Bytes of a write.
const WRITE_BYTES: usize = 1 << 20;
/// What place, length and memory of a write are a multiple of, as the disk wants it. Pages are, and so is mapped memory.
const ALIGNED_BYTES: usize = 4096;
/// Names that are tried for an object that is not whole yet: others are those of writers that were killed.
const NAMES_MAX: u32 = 1000;

/// An object that comes into being.
#[derive(Debug)]
pub(super) struct FolderFile {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    /// The same file, past the cache; `None` where the file system does not have that.
    direct: Option<File>,
    memory: MmapMut,
    /// What stands in the memory.
    held: usize,
    /// Where it belongs.
    at: u64,
}

impl FolderFile {
    /// Begins an object; folders above it are made where they are missing.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            make_folders(folder)?;
        }
        let (unfinished, file) = create_unfinished(&path)?;
        let (direct, memory) = (open_direct(&unfinished), MmapMut::map_anon(WRITE_BYTES)?);
        Ok(Self { path, unfinished, file, direct, memory, held: 0, at: 0 })
    }

    /// Takes more bytes.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(WRITE_BYTES - self.held));
                self.memory[self.held..self.held + now.len()].copy_from_slice(now);
                self.held += now.len();
                rest = later;
                if self.held == WRITE_BYTES {
                    self.write_out(WRITE_BYTES)?;
                }
            }
        }
        Ok(())
    }

    /// Everything is on the disk, under its name.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let bytes = self.at + self.held as u64;
        let whole = self.held.next_multiple_of(ALIGNED_BYTES);
        self.memory[self.held..whole].fill(0);
        self.write_out(whole)?;
        self.file.set_len(bytes)?;
        self.file.sync_all()?;
        fs::rename(&self.unfinished, &self.path)?;
        sync_folder(&self.path)
    }

    /// Nothing is left of it.
    pub(super) fn abort(self) -> io::Result<()> {
        fs::remove_file(&self.unfinished)
    }

    fn write_out(&mut self, bytes: usize) -> io::Result<()> {
        let memory = &self.memory[..bytes];
        let past = self.direct.as_ref().map(|direct| write_at(direct, memory, self.at));
        match past {
            Some(Ok(())) => {}
            // A disk with larger sectors than this knows of: the cache takes everything.
            Some(Err(error)) if error.kind() == ErrorKind::InvalidInput => {
                self.direct = None;
                write_at(&self.file, memory, self.at)?;
            }
            Some(Err(error)) => return Err(error),
            None => write_at(&self.file, memory, self.at)?,
        }
        self.at += self.held as u64;
        self.held = 0;
        Ok(())
    }
}

fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Under the name that the sweep of unfinished writes knows: the object's, `#` and a number.
fn create_unfinished(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((name.into(), file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> Option<File> {
    None
}

/// Makes folders so that they are there after a power cut.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    match fs::create_dir(folder) {
        // Of another writer, who has not come to its synchronisation yet, perhaps.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    sync_folder(folder)
}

/// Makes the name of a file or folder durable.
fn sync_folder(named: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = named.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(bytes: usize) -> Bytes {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    /// Sizes around those of a write and of a sector, in pieces that fit neither; with the disk's cache and past it.
    #[test]
    fn every_byte_is_there_and_none_more() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [1, ALIGNED_BYTES - 1, ALIGNED_BYTES, WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1, 3_000_001] {
            for past_cache in [true, false] {
                let path = folder.path().join(format!("a/b/{bytes}-{past_cache}"));
                let mut file = FolderFile::create(path.clone()).unwrap();
                if !past_cache {
                    file.direct = None;
                }
                let all = pattern(bytes);
                let pieces: Vec<Bytes> = all.chunks(70_001).map(Bytes::copy_from_slice).collect();
                file.write(&pieces).unwrap();
                assert!(!path.exists(), "it has its name once it is whole");
                file.finish().unwrap();
                assert!(fs::read(&path).unwrap() == all, "{bytes} bytes, past the cache: {past_cache}");
            }
        }
        let names = fs::read_dir(folder.path().join("a/b")).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().contains('#')));
    }

    #[test]
    fn what_a_killed_writer_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.seg");
        fs::write(folder.path().join("x.seg#1"), b"half").unwrap();
        let mut file = FolderFile::create(path.clone()).unwrap();
        file.write(&[pattern(10)]).unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), pattern(10));
        assert_eq!(fs::read(folder.path().join("x.seg#1")).unwrap(), b"half");
    }
}
