//! Copies a data directory, also while a server uses it.
//!
//! `log/copy.rs` says why everything that was acknowledged before is in the copy. The copy gets its name after it has been flushed and
//! read back, so a directory of that name is always complete.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{
    FORMAT_FILE, flush, has_format, is_loading, refuse_foreign_files, refuse_unused, write_format_file,
};
use super::error::OpenError;
use super::open::SnapshotEnd;
use crate::store::log::{self, Copied, LogError, Source, SystemDirectory, Visitor};

/// How often a copy is made that is not complete when it is read back: the server has written a report again, after a write that failed.
const MAX_COPIES: u32 = 3;

/// A backup that has been made.
#[derive(Debug, Clone, Copy)]
pub struct Backup(Copied);

impl fmt::Display for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With the file of the format.
        let Copied { files, bytes, sub_jobs } = self.0;
        write!(f, "complete, {sub_jobs} subtasks, {} files, {bytes} bytes", files + 1)
    }
}

/// Copies the data directory `from` to `to`, which does not exist yet. Everything that was acknowledged before the call is in the copy;
/// of a report after it all or nothing is.
///
/// # Errors
///
/// If `from` is no data directory, is damaged, or is being loaded into; if `to` exists, has no parent directory, or cannot be written.
pub fn backup(from: &Path, to: &Path) -> Result<Backup, OpenError> {
    let unusable = |path: &Path, reason: &str| OpenError::Unusable { path: path.into(), reason: reason.into() };
    refuse_unused(from)?;
    if !has_format(from)? {
        // After this it is what an interrupted first start has left.
        refuse_foreign_files(from)?;
        return Err(unusable(from, "holds no data of subjobs"));
    }
    // Without a slash at its end, to which no suffix could be added.
    let to = &to.components().collect::<PathBuf>();
    if to.symlink_metadata().is_ok() {
        return Err(unusable(to, "exists already"));
    }
    let parent = parent_of(to);
    if !parent.is_dir() {
        return Err(unusable(parent, "is not a directory: make it before the backup"));
    }
    let is_inside = fs::canonicalize(parent).ok().zip(fs::canonicalize(from).ok());
    if is_inside.is_some_and(|(parent, from)| parent.starts_with(from)) {
        return Err(unusable(to, "is inside of the data directory"));
    }
    let draft = Draft::begin(to)?;
    let mut copies = 1;
    let copied = loop {
        refuse_loading(from)?;
        let copied = log::copy(&SystemDirectory::new(from), &SystemDirectory::new(&draft.path));
        let copied = copied.map_err(|error| explain(error, from, &draft.path))?;
        refuse_loading(from)?;
        match log::verify(&SystemDirectory::new(&draft.path), &mut Checksums) {
            Ok(()) => break copied,
            // The name is that of the original file.
            Err(error) if copies >= MAX_COPIES => return Err(OpenError::of_log(from, error)),
            Err(_) => draft.clear()?,
        }
        copies += 1;
    };
    draft.publish(to)?;
    Ok(Backup(copied))
}

/// The directory in which the copy is made.
fn parent_of(to: &Path) -> &Path {
    to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A half of a load file must not be restored. Its subtasks are acknowledged when all of them are loaded.
fn refuse_loading(from: &Path) -> Result<(), OpenError> {
    match is_loading(from) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let cause = io::Error::new(
                io::ErrorKind::ResourceBusy,
                "files are being loaded into it: try again when it is ready",
            );
            Err(OpenError::Io { path: from.into(), cause })
        }
        Err(cause) => Err(OpenError::Io { path: from.into(), cause }),
    }
}

/// An error of a copy. Only the original can be damaged, and a full disk is that of the copy.
fn explain(error: LogError, from: &Path, to: &Path) -> OpenError {
    match error {
        LogError::Io { ref cause, .. } if cause.kind() == io::ErrorKind::StorageFull => OpenError::of_log(to, error),
        error => OpenError::of_log(from, error),
    }
}

/// A copy that is not complete, under a name of its own. It is removed unless it is published.
struct Draft {
    path: PathBuf,
    /// Locked, so that two backups do not write one copy.
    _directory: File,
    is_published: bool,
}

impl Draft {
    fn begin(to: &Path) -> Result<Self, OpenError> {
        let mut name: OsString = to.as_os_str().into();
        name.push(".partial");
        let path = PathBuf::from(name);
        let io = |cause| OpenError::Io { path: path.clone(), cause };
        match fs::create_dir(&path) {
            // A backup that was killed has left it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created.map_err(io)?,
        }
        let directory = File::open(&path).map_err(io)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
            // Some network file systems lock files only.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "the directory itself cannot be locked"),
        }
        let draft = Self { path, _directory: directory, is_published: false };
        draft.clear()?;
        Ok(draft)
    }

    /// Removes what an earlier attempt has left, and nothing else.
    fn clear(&self) -> Result<(), OpenError> {
        let io = |cause| OpenError::Io { path: self.path.clone(), cause };
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            let is_ours = |name: &str| name == FORMAT_FILE || name == "format.new" || log::is_log_file(name);
            if !name.to_str().is_some_and(is_ours) {
                let reason = "holds other files".into();
                return Err(OpenError::Unusable { path: self.path.clone(), reason });
            }
            fs::remove_file(entry.path()).map_err(io)?;
        }
        Ok(())
    }

    /// Completes the copy and gives it its name.
    fn publish(mut self, to: &Path) -> Result<(), OpenError> {
        let mut publish = || {
            write_format_file(&self.path)?;
            fs::rename(&self.path, to)?;
            self.is_published = true;
            flush(parent_of(to))
        };
        publish().map_err(|cause| OpenError::Io { path: to.into(), cause })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // If this fails, the next backup of that name removes it.
        if !self.is_published && self.clear().is_ok() {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Verifies checksums only: which subtasks there are does not matter.
struct Checksums;

impl Visitor for Checksums {
    type Error = LogError;

    fn expect(&mut self, _: u64) {}

    fn frame(&mut self, _: Source<'_>, _: &[u8]) -> Result<(), LogError> {
        Ok(())
    }

    fn end_snapshot(&mut self, end: &[u8]) -> Result<u64, LogError> {
        let end = SnapshotEnd::from_bytes(end);
        end.map(|end| end.last).ok_or_else(|| LogError::corrupt("snapshot", "the snapshot is not as it was written"))
    }

    fn end(&mut self) -> Result<u64, LogError> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
