//! Standard output and standard error, such that neither of them can stop or slow down the program.
//!
//! [`log`] is the log's way to standard error: bounded, and never waited for. [`Stdout`] reports every byte that could not
//! be written.

pub mod log;

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, makedev};
use rustix::io::Errno;

/// Standard output without a buffer. The handle of the standard library takes a descriptor that cannot be written for success.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    /// Standard output, unless the program was started without one.
    pub fn open() -> io::Result<Self> {
        if was_closed(rustix::stdio::stdout()) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "there is no standard output"));
        }
        Ok(Self)
    }

    /// Waits until a file has what was written. Some file systems only say here that their disk is full.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(rustix::stdio::stdout()) {
            Err(error @ (Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
            // A pipe or a terminal has nothing to wait for.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A number with its noun, for people.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Whether a standard stream was closed when the program was started. The runtime of Rust puts `/dev/null` in its place, so
/// that no later file gets its number, and opens it for reading and writing; a shell's `>/dev/null` is for writing only.
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

/// Writes what the descriptor takes, and waits while a non-blocking one takes nothing.
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
