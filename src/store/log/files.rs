//! The only way to files: two small traits, so that a test can be the disk.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files.
pub(in crate::store) trait Directory: Debug + Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn FileHandle>>;

    /// The same for a file that is only read. Its owner may be another user.
    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        self.open(name)
    }

    /// A file without content, whether one of that name was there or not.
    fn create(&self, name: &str) -> io::Result<Arc<dyn FileHandle>>;

    /// Renames a file, and replaces the file with the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Flushes which files there are.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(in crate::store) trait FileHandle: Debug + Send + Sync {
    /// Reads all of `bytes` at a place; fails if the file ends before.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all of `bytes` at a place; when it fails, any part may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// How many bytes it has.
    fn len(&self) -> io::Result<u64>;

    /// Cuts it off, or adds zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Flushes its content and its length.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the system.
#[derive(Debug)]
pub(in crate::store) struct SystemDirectory(PathBuf);

impl SystemDirectory {
    pub(in crate::store) fn new(path: &Path) -> Self {
        Self(path.into())
    }
}

impl Directory for SystemDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string()));
        let names: io::Result<Vec<_>> = names.collect();
        // A name that is no text is none of ours.
        Ok(names?.into_iter().flatten().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        Ok(Arc::new(File::open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl FileHandle for File {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
