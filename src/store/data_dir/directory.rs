//! Opens the data directory for one process, and checks its format.
//!
//! ```text
//! lock           locked by the one process that uses the directory, as the directory itself is
//! format         the format of the other files; written last
//! log-…          the log's segments
//! snapshot-…     the state at a position of the log
//! acknowledged   the commit mark
//! loading        there while files are loaded into a directory without subtasks
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::error::OpenError;
use crate::store::log::{self, Log, SystemDirectory};

/// The format that this version reads and writes.
const FORMAT: u32 = 2;

/// The format of earlier versions, which used a storage engine.
const ENGINE_FORMAT: u32 = 1;

/// Files and directories in it.
pub(super) const FORMAT_FILE: &str = "format";
const ENGINE: &str = "engine";
const LOADING: &str = "loading";

/// A directory that some file systems create.
const FOREIGN: &str = "lost+found";

/// A directory that is locked by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The directory itself, which is locked too, since an operator may remove or replace the lock file.
    directory: File,
    lock: File,
    /// The time between the last write of an earlier process and the locking, by the wall clock.
    unwritten_before: Option<Duration>,
}

impl DataDir {
    /// Locks the directory and checks its format; creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// If another process has locked it, or it cannot be used as a data directory.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written, belongs to another process, or has another format or foreign files.
    pub fn claim(path: &Path) -> Result<Self, OpenError> {
        let unusable = |cause: io::Error| OpenError::Unusable { path: path.into(), reason: cause.to_string() };
        make(path).map_err(|cause| match path.metadata() {
            Ok(there) if !there.is_dir() => {
                OpenError::Unusable { path: path.into(), reason: "is not a directory".into() }
            }
            _ => unusable(cause),
        })?;
        let directory = File::open(path).map_err(unusable)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.into() }),
            // Some network file systems lock files only.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "the directory itself cannot be locked"),
        }
        refuse_foreign_files(path)?;
        let lock = path.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(lock).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: path.into() },
            TryLockError::Error(cause) => unusable(cause),
        })?;
        let written = path.join(log::MARK).metadata().and_then(|mark| mark.modified()).ok();
        let unwritten_before = written.and_then(|written| SystemTime::now().duration_since(written).ok());
        let dir = Self { path: path.into(), directory, lock, unwritten_before };
        if !has_format(path)? {
            dir.write_format()?;
        }
        Ok(dir)
    }

    /// The same for a directory that has been used before; it is not created.
    ///
    /// # Errors
    ///
    /// Also if it does not exist or holds no data of subjobs.
    ///
    /// # Errors
    ///
    /// If it is no data directory, belongs to another process, or has another format.
    pub fn claim_used(path: &Path) -> Result<Self, OpenError> {
        refuse_unused(path)?;
        Self::claim(path)
    }

    /// Discards an unfinished load into an empty directory: half of a file is never served, and no report can have been stored
    /// meanwhile. Returns whether there was one.
    pub(super) fn discard_unfinished_load(&self) -> io::Result<bool> {
        if !is_loading(&self.path)? {
            // It may have been removed without a flush before a crash, and a power cut must not bring it back.
            flush(&self.path)?;
            return Ok(false);
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(log::is_log_file) {
                fs::remove_file(entry.path())?;
            }
        }
        Log::create(&SystemDirectory::new(&self.path))?;
        end_loading(&self.path)?;
        Ok(true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn unwritten_before(&self) -> Option<Duration> {
        self.unwritten_before
    }

    /// Whether its path still leads to it. Otherwise files that are opened by path would be those of another directory.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |found: io::Result<Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
        let ours = identity(self.directory.metadata());
        ours.is_some() && ours == identity(self.path.metadata())
    }

    /// Initializes a new directory.
    fn write_format(&self) -> Result<(), OpenError> {
        let written = Log::create(&SystemDirectory::new(&self.path)).and_then(|()| write_format_file(&self.path));
        written.map_err(|cause| OpenError::Unusable { path: self.path.clone(), reason: cause.to_string() })
    }
}

/// Whether a directory has the format of this version; false if it has none. Fails if it has another one.
pub(super) fn has_format(path: &Path) -> Result<bool, OpenError> {
    let file = path.join(FORMAT_FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(OpenError::Io { path: file, cause }),
    };
    let damaged = || OpenError::Damaged { file: file.clone(), reason: "it is not as it was written".into() };
    let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
    let format = text.strip_prefix("subjobs data format ").and_then(|rest| rest.split_once(' '));
    let format: u32 = format.and_then(|(format, _)| format.parse().ok()).ok_or_else(damaged)?;
    let unusable = |reason: String| Err(OpenError::Unusable { path: path.into(), reason });
    match format {
        _ if text != format_line(format) => Err(damaged()),
        FORMAT => Ok(true),
        _ if format > FORMAT => {
            unusable(format!("is in format {format} of a newer subjobs; this one knows formats up to {FORMAT}"))
        }
        ENGINE_FORMAT => unusable(
            "is in format 1 of an earlier subjobs: `subjobs export` of that version writes it to a file, which --load of this \
             one takes into another directory"
                .into(),
        ),
        _ => unusable(format!("is in format {format}, which no released subjobs has written")),
    }
}

/// Writes the format file; after a crash it is there whole or not at all.
pub(super) fn write_format_file(directory: &Path) -> io::Result<()> {
    let (file, draft) = (directory.join(FORMAT_FILE), directory.join("format.new"));
    let mut new = File::create(&draft)?;
    new.write_all(format_line(FORMAT).as_bytes())?;
    new.sync_all()?;
    fs::rename(&draft, file)?;
    flush(directory)
}

/// Records that files are being loaded into an empty directory.
pub(super) fn begin_loading(path: &Path) -> io::Result<()> {
    File::create(path.join(LOADING))?;
    flush(path)
}

/// Records that all of them have been loaded.
pub(super) fn end_loading(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(LOADING))?;
    flush(path)
}

/// Whether files are being loaded into a directory that was empty.
pub(super) fn is_loading(path: &Path) -> io::Result<bool> {
    path.join(LOADING).try_exists()
}

/// Makes the entries of a directory durable.
pub(super) fn flush(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // A child process that is being started shares the open files for a moment, and with them the locks.
        let _ = self.lock.unlock();
        let _ = self.directory.unlock();
    }
}

/// Refuses a directory that no server has used. One file of the data is enough for a used one: the others may be lost.
pub(super) fn refuse_unused(path: &Path) -> Result<(), OpenError> {
    let unusable = |reason: &str| OpenError::Unusable { path: path.into(), reason: reason.into() };
    if !path.is_dir() {
        return Err(unusable("is not a directory"));
    }
    let names = fs::read_dir(path).map_err(|cause| unusable(&cause.to_string()))?;
    let is_ours = |name: &OsStr| name == FORMAT_FILE || name == ENGINE || name.to_str().is_some_and(log::is_log_file);
    if names.flatten().any(|entry| is_ours(&entry.file_name())) {
        return Ok(());
    }
    Err(unusable("holds no data of subjobs"))
}

/// Refuses a directory that has files and no format: it is foreign, or its format file is lost.
pub(super) fn refuse_foreign_files(path: &Path) -> Result<(), OpenError> {
    let format = path.join(FORMAT_FILE);
    if format.exists() {
        return Ok(());
    }
    let unusable = |reason: String| OpenError::Unusable { path: path.into(), reason };
    let io = |cause| OpenError::Io { path: path.into(), cause };
    let mut has_log = false;
    for entry in fs::read_dir(path).map_err(|cause| unusable(cause.to_string()))? {
        let name = entry.map_err(|cause| unusable(cause.to_string()))?.file_name();
        let is_of_the_log = name.to_str().is_some_and(log::is_log_file);
        has_log |= is_of_the_log || name == ENGINE;
        let is_harmless = ["lock", "format.new", LOADING, FOREIGN].iter().any(|harmless| name == *harmless);
        if !is_harmless && !is_of_the_log && name != ENGINE {
            return Err(unusable("holds other files and no data of subjobs".into()));
        }
    }
    // An interrupted first start leaves no more than an empty log.
    let is_empty = !has_log || log::is_unused(&SystemDirectory::new(path)).map_err(io)? && !path.join(ENGINE).exists();
    if is_empty { Ok(()) } else { Err(OpenError::Damaged { file: format, reason: "it is gone".into() }) }
}

/// Creates a directory and its ancestors, durably.
fn make(path: &Path) -> io::Result<()> {
    let is_missing = |ancestor: &&Path| !ancestor.as_os_str().is_empty() && !ancestor.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        flush(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn format_line(format: u32) -> String {
    let text = format!("subjobs data format {format} ");
    format!("{text}{:016x}\n", xxh3_64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        DataDir::claim(path).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_is_created_and_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let claimed = DataDir::claim(&path).unwrap();
        assert_eq!(refused(&path), format!("{}: another process is using it", path.display()));
        let _held_by_a_child = (claimed.lock.try_clone().unwrap(), claimed.directory.try_clone().unwrap());
        drop(claimed);
        DataDir::claim(&path).unwrap();
    }

    #[test]
    fn a_directory_stays_locked_when_its_files_are_removed_or_it_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("data"), dir.path().join("other"));
        let claimed = DataDir::claim(&path).unwrap();
        fs::write(path.join("acknowledged"), "").unwrap();
        let assert_in_use = |path: &Path, what: &str| {
            assert!(matches!(DataDir::claim(path), Err(OpenError::InUse { .. })), "{what}");
            assert!(matches!(DataDir::claim_used(path), Err(OpenError::InUse { .. })), "{what}");
        };
        fs::remove_file(path.join("lock")).unwrap();
        assert_in_use(&path, "no lock file");
        fs::write(path.join("lock"), "another").unwrap();
        assert_in_use(&path, "another lock file");
        fs::remove_file(path.join("lock")).unwrap();
        fs::create_dir(path.join("lock")).unwrap();
        assert_in_use(&path, "a directory of that name");
        fs::remove_file(path.join("format")).unwrap();
        assert_in_use(&path, "no format");
        assert!(claimed.is_in_place());
        fs::rename(&path, &other).unwrap();
        assert_in_use(&other, "another name");
        assert!(!claimed.is_in_place());
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_in_use(&path, "a link to it");
        assert!(claimed.is_in_place());
        fs::remove_file(&path).unwrap();
        DataDir::claim(&path).unwrap();
        assert!(!claimed.is_in_place());
    }

    #[test]
    fn the_age_of_the_last_write_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DataDir::claim(dir.path()).unwrap().unwritten_before(), None);
        let ledger = File::options().write(true).open(dir.path().join("acknowledged")).unwrap();
        let hour = Duration::from_secs(3600);
        ledger.set_modified(SystemTime::now() - hour).unwrap();
        let told = DataDir::claim(dir.path()).unwrap().unwritten_before().unwrap();
        assert!((hour..hour * 2).contains(&told), "{told:?}");
        ledger.set_modified(SystemTime::now() + hour).unwrap();
        assert_eq!(DataDir::claim(dir.path()).unwrap().unwritten_before(), None);
    }

    #[test]
    fn an_unused_directory_is_distinguished_from_a_used_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let refused = || DataDir::claim_used(&path).unwrap_err().to_string();
        assert_eq!(refused(), format!("{}: is not a directory", path.display()));
        fs::create_dir(&path).unwrap();
        assert_eq!(refused(), format!("{}: holds no data of subjobs", path.display()));
        assert!(fs::read_dir(&path).unwrap().next().is_none());
        drop(DataDir::claim(&path).unwrap());
        drop(DataDir::claim_used(&path).unwrap());
        fs::create_dir(path.join("engine")).unwrap();
        fs::remove_file(path.join("format")).unwrap();
        assert!(matches!(DataDir::claim_used(&path), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn a_foreign_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refused(&file).ends_with("is not a directory"), "{}", refused(&file));
        assert!(refused(&file.join("below")).contains("Not a directory"), "{}", refused(&file.join("below")));
        assert!(refused(dir.path()).ends_with("holds other files and no data of subjobs"), "{}", refused(dir.path()));
        fs::remove_file(&file).unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        drop(DataDir::claim(dir.path()).unwrap());
        // Beside the data it does no harm.
        fs::write(&file, "").unwrap();
        DataDir::claim(dir.path()).unwrap();
    }

    #[test]
    fn a_format_is_known_newer_or_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::claim(dir.path()).unwrap());
        let file = dir.path().join("format");
        let good = fs::read(&file).unwrap();
        for (format, said) in [
            (3, "is in format 3 of a newer subjobs"),
            (1, "is in format 1 of an earlier subjobs"),
            (0, "is in format 0, which no released"),
        ] {
            fs::write(&file, format_line(format)).unwrap();
            assert!(refused(dir.path()).contains(said), "{}", refused(dir.path()));
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, bad).unwrap();
            assert!(matches!(DataDir::claim(dir.path()), Err(OpenError::Damaged { .. })), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            assert!(matches!(DataDir::claim(dir.path()), Err(OpenError::Damaged { .. })), "cut to {length}");
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(dir.path().join("engine")).unwrap();
        assert!(matches!(DataDir::claim(dir.path()), Err(OpenError::Damaged { .. })));
    }
}
