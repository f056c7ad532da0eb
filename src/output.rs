//! Standard output and standard error. Neither can block or end the server.
//!
//! [`log`] has bounded queues of lines: the log for standard error, the access log for standard output. [`Stdout`] reports every write that fails.

pub mod log;

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, makedev};
use rustix::io::Errno;

/// Unbuffered standard output. The standard library hides the error of a closed descriptor; this reports it.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    /// Opens standard output.
    ///
    /// # Errors
    ///
    /// It was closed when the program started.
    pub fn open() -> io::Result<Self> {
        if was_closed(rustix::stdio::stdout()) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "standard output is closed"));
        }
        Ok(Self)
    }

    /// Flushes a file to its disk. Some file systems report a full disk only here.
    ///
    /// # Errors
    ///
    /// The disk is full or fails.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(rustix::stdio::stdout()) {
            Err(error @ (Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
            // A pipe or a terminal cannot be flushed.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A number with its noun in singular or plural, such as "1 token".
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Whether a standard stream was closed when the program started. Rust's runtime then opens `/dev/null` for reading and writing
/// in its place; a shell's `>/dev/null` is open for writing only.
fn was_closed(stream: BorrowedFd<'_>) -> bool {
    let is_null = |stat: Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    };
    let is_read_and_written = |flags: OFlags| flags & OFlags::RWMODE == OFlags::RDWR;
    fstat(stream).is_ok_and(is_null) && fcntl_getfl(stream).is_ok_and(is_read_and_written)
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_some(rustix::stdio::stdout(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes once; waits while a non-blocking descriptor is not writable.
fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            written => return Ok(written?),
        }
    }
}
