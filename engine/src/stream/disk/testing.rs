//! A volume in memory that can fail, fill up and lose its power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::volume::{Volume, VolumeFile};

/// See the module. Cheap to clone: clones are the same volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestVolume {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    folders: BTreeSet<PathBuf>,
    /// What is open or named now.
    names: BTreeMap<PathBuf, usize>,
    /// What a power cut leaves: names as of the last sync of their folder.
    synced_names: BTreeMap<PathBuf, usize>,
    files: Vec<File>,
    /// Bytes that all files together may have; `None`: any number.
    limit_bytes: Option<usize>,
    /// Calls that change something before all of them fail; `None`: none fails.
    calls_left: Option<usize>,
    /// Syncs of files fail.
    fails_syncs: bool,
    /// Calls that changed something.
    calls: usize,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug)]
struct OpenFile {
    volume: TestVolume,
    at: usize,
}

impl TestVolume {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of this lock panics")
    }

    /// All calls wait for as long as what it gives is kept.
    pub(super) fn hold(&self) -> impl Sized + '_ {
        self.disk()
    }

    /// Takes the power away: names and bytes that were not synced are lost, but for `torn` bytes of each file's tail.
    pub(crate) fn cut_power(&self, torn: usize) {
        let mut disk = self.disk();
        disk.calls_left = None;
        disk.names = disk.synced_names.clone();
        for file in &mut disk.files {
            let kept = file.bytes.len().min(file.synced.len() + torn);
            if file.bytes.len() > file.synced.len() {
                file.bytes.truncate(kept);
            } else {
                file.bytes.clone_from(&file.synced);
            }
            file.synced.clone_from(&file.bytes);
        }
    }

    /// Lets so many changes succeed, and all later ones fail.
    pub(crate) fn fail_after(&self, calls: Option<usize>) {
        self.disk().calls_left = calls;
    }

    /// Lets syncs of files fail, and nothing else.
    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.disk().fails_syncs = fail;
    }

    /// Changes that were made.
    pub(crate) fn calls(&self) -> usize {
        self.disk().calls
    }

    /// Bytes that there may be.
    pub(crate) fn limit(&self, bytes: Option<usize>) {
        self.disk().limit_bytes = bytes;
    }

    /// Files that there are.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// A file's bytes, to look at and to damage.
    pub(crate) fn edit<T>(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut disk = self.disk();
        let at = disk.names[path];
        let result = edit(&mut disk.files[at].bytes);
        disk.files[at].synced = disk.files[at].bytes.clone();
        result
    }
}

impl Disk {
    fn change(&mut self) -> io::Result<()> {
        self.calls += 1;
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the disk failed, as it was told to")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn within<'a>(names: &'a BTreeMap<PathBuf, usize>, folder: &'a Path) -> impl Iterator<Item = (&'a PathBuf, usize)> {
        names.iter().filter(move |(path, _)| path.parent() == Some(folder)).map(|(path, at)| (path, *at))
    }
}

impl Volume for TestVolume {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.disk().folders.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let names = Disk::within(&disk.names, path).filter_map(|(path, _)| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn VolumeFile>> {
        let mut disk = self.disk();
        let at = match disk.find(path) {
            Ok(at) => at,
            Err(_) if create => {
                disk.change()?;
                disk.files.push(File::default());
                let at = disk.files.len() - 1;
                disk.names.insert(path.to_owned(), at);
                at
            }
            Err(error) => return Err(error),
        };
        Ok(Arc::new(OpenFile { volume: self.clone(), at }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        let at = disk.find(from)?;
        disk.names.remove(from);
        disk.names.insert(to.to_owned(), at);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.find(path)?;
        disk.change()?;
        disk.names.remove(path);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        disk.names.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        let now: Vec<_> = Disk::within(&disk.names, path).map(|(path, at)| (path.clone(), at)).collect();
        disk.synced_names.retain(|name, _| name.parent() != Some(path));
        disk.synced_names.extend(now);
        Ok(())
    }
}

impl VolumeFile for OpenFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.volume.disk().files[self.at].bytes.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let disk = self.volume.disk();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let bytes = disk.files[self.at].bytes.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    /// Half of what does not fit is written, as disks do.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut disk = self.volume.disk();
        let failed = disk.change();
        let used: usize = disk.files.iter().map(|file| file.bytes.len()).sum();
        let limit = disk.limit_bytes;
        let file = &mut disk.files[self.at].bytes;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let grows = (at + bytes.len()).saturating_sub(file.len());
        let full = limit.is_some_and(|limit| used + grows > limit);
        let written = if full || failed.is_err() { bytes.len() / 2 } else { bytes.len() };
        file.resize(file.len().max(at + written), 0);
        file[at..at + written].copy_from_slice(&bytes[..written]);
        failed?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.volume.disk();
        disk.change()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        disk.files[self.at].bytes.resize(length, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.volume.disk();
        disk.change()?;
        if disk.fails_syncs {
            return Err(io::Error::other("the disk could not write, as it was told to"));
        }
        let file = &mut disk.files[self.at];
        file.synced = file.bytes.clone();
        Ok(())
    }
}
