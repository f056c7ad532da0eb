//! Standard input, whose end tells a server for tests that the process which started it has ended.

use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tokio::sync::oneshot;

/// How many bytes are read, and dropped, at once.
const CHUNK: usize = 4096;

/// Waits for the end of standard input, if it is a pipe or a socket: then its writer has closed it, or has ended. For any other file
/// it waits for ever, because a file and `/dev/null` end at once.
pub async fn wait_for_end() {
    let (ended, end) = oneshot::channel();
    // A thread of its own, because a read blocks until the end, also while the program exits.
    let read = move || {
        read_to_end();
        // The receiver may have been dropped.
        let _ = ended.send(());
    };
    let has_writer = fstat(rustix::stdio::stdin())
        .is_ok_and(|stat| matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket));
    if has_writer {
        match thread::Builder::new().name("stdin".into()).spawn(read) {
            Ok(_) => return drop(end.await),
            Err(error) => tracing::warn!(%error, "cannot watch standard input: its end will not stop the server"),
        }
    }
    std::future::pending().await
}

/// Reads until the end or an error, and drops what was read.
fn read_to_end() {
    let mut chunk = [0; CHUNK];
    loop {
        let stdin = rustix::stdio::stdin();
        match rustix::io::read(stdin, &mut chunk) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            // The descriptor is non-blocking.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(stdin, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            },
            Err(_) => return,
        }
    }
}
