//! Reads files that the operator names, with limits on size and time. Devices, sockets and directories are refused.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// The time limit for reading a pipe to its end.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a regular file of at most `max` bytes.
pub(crate) fn read_file(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let file = open(path, FileType::is_file)?;
    let before = file.metadata().map_err(reason)?;
    if before.len() > max as u64 {
        return Err(too_large(max));
    }
    let mut bytes = Vec::new();
    (&file).take(max as u64 + 1).read_to_end(&mut bytes).map_err(reason)?;
    let after = file.metadata().map_err(reason)?;
    if bytes.len() > max {
        Err(too_large(max))
    } else if (before.len(), before.modified().ok()) != (after.len(), after.modified().ok()) {
        Err("it changed while it was being read".into())
    } else {
        Ok(bytes)
    }
}

/// As [`read_file`], but the path may also be a pipe, such as a shell's `<(command)`. Reads it until its writers close it.
pub(crate) fn read_file_or_pipe(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_fifo() => read_pipe(&open(path, FileType::is_fifo)?, max),
        _ => read_file(path, max),
    }
}

fn read_pipe(mut pipe: &File, max: usize) -> Result<Vec<u8>, String> {
    let (mut bytes, mut buffer, end) = (Vec::new(), [0; 64 * 1024], Instant::now() + PIPE_TIMEOUT);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        // A read returns 0 also while no writer has opened the pipe yet; poll distinguishes that from the end.
        let ready =
            poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout)).map_err(|errno| reason(errno.into()));
        if ready? == 0 {
            return Err(format!("it is a pipe whose writer did not close it within {} s", PIPE_TIMEOUT.as_secs()));
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(length) if bytes.len() + length > max => return Err(too_large(max)),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(reason(error)),
        }
    }
}

/// Opens a file of an accepted type without blocking.
fn open(path: &Path, is_readable: impl Fn(&FileType) -> bool) -> Result<File, String> {
    let check = |metadata: std::fs::Metadata| match metadata.file_type() {
        kind if is_readable(&kind) => Ok(()),
        kind => Err(format!("it is {}, not a regular file", kind_name(kind))),
    };
    // Checked before opening, because opening a device can have effects, and after, because the path may lead elsewhere by then.
    check(std::fs::metadata(path).map_err(|error| open_error(path, error))?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(reason)?;
    check(file.metadata().map_err(reason)?)?;
    Ok(file)
}

fn open_error(path: &Path, error: io::Error) -> String {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let about = if is_link && error.kind() == io::ErrorKind::NotFound { "target of the link: " } else { "" };
    format!("{about}{error}")
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "a file of an unknown type",
    }
}

fn reason(error: io::Error) -> String {
    error.to_string()
}

fn too_large(max: usize) -> String {
    match max / 1024 {
        kib if kib < 1024 => format!("it is larger than {kib} KiB"),
        kib => format!("it is larger than {} MiB", kib / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const MAX: usize = 2048;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("good"), "text").unwrap();
        std::fs::write(path("full"), [b'x'; MAX]).unwrap();
        std::fs::write(path("large"), [b'x'; MAX + 1]).unwrap();
        File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (link, to) in [("link", "good"), ("dangling", "none"), ("loop", "loop")] {
            std::os::unix::fs::symlink(to, path(link)).unwrap();
        }
        let zero = std::path::PathBuf::from("/dev/zero");
        for (path, what) in [
            (path("good"), Ok(4)),
            (path("link"), Ok(4)),
            (path("full"), Ok(MAX)),
            (path("large"), Err("it is larger than 2 KiB")),
            (path("sparse"), Err("it is larger than 2 KiB")),
            (path("pipe"), Err("it is a pipe, not a regular file")),
            (path("socket"), Err("it is a socket, not a regular file")),
            (path("."), Err("it is a directory, not a regular file")),
            (zero, Err("it is a device, not a regular file")),
            (path("none"), Err("No such file")),
            (path("dangling"), Err("target of the link: No such file")),
            (path("loop"), Err("symbolic link")),
        ] {
            match (read_file(&path, MAX), what) {
                (Ok(bytes), Ok(length)) => assert_eq!(bytes.len(), length),
                (Err(error), Err(reason)) => assert!(error.contains(reason), "{error}"),
                (read, what) => panic!("{}: {read:?}, {what:?}", path.display()),
            }
        }
    }

    #[test]
    fn a_pipe_is_read_to_its_end_within_a_time_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = read_file_or_pipe(&path, MAX).unwrap_err();
        assert!(error.contains("within 5 s"), "{error}");
        let write = |bytes: usize| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
                // The write fails when the reader stops at its limit.
                let _ = io::Write::write_all(&mut pipe, &vec![b'x'; bytes]);
            })
        };
        for (bytes, read) in [(MAX, Ok(MAX)), (MAX + 1, Err("it is larger than 2 KiB".to_owned()))] {
            let writer = write(bytes);
            assert_eq!(read_file_or_pipe(&path, MAX).map(|bytes| bytes.len()), read);
            writer.join().unwrap();
        }
    }
}
