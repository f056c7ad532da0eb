//! The queue, with a writer that a test can block.

use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A queue whose writer sends each line to a channel.
fn queue() -> (&'static Queue, Receiver<Vec<u8>>) {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    let (sender, lines) = channel();
    queue.state().has_writer = true;
    thread::spawn(move || queue.run_writer(|line| sender.send(line.to_vec()).ok()));
    (queue, lines)
}

#[test]
fn lines_are_written_one_by_one_in_order() {
    let (queue, lines) = queue();
    for n in 0..1000 {
        queue.push(format!("{n}\n{n}!\n").as_bytes(), MAX_QUEUED_BYTES, || true);
    }
    queue.flush(TEST_TIMEOUT);
    let written: Vec<_> = lines.try_iter().collect();
    let expected: Vec<_> =
        (0..1000).flat_map(|n| [format!("{n}\n"), format!("{n}!\n")]).map(String::into_bytes).collect();
    assert_eq!(written, expected);
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_blocked_writer_costs_lines_and_blocks_no_thread() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
    queue.state().has_writer = true;
    let (release, released) = channel::<()>();
    let (begun, begins) = channel();
    thread::spawn(move || {
        queue.run_writer(|_| {
            let _ = begun.send(());
            released.recv().ok()
        });
    });
    queue.push(b"first\n", MAX_QUEUED_BYTES, || true);
    begins.recv().unwrap();
    let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
    for _ in 0..1500 {
        queue.push(&line, MAX_QUEUED_BYTES, || true);
    }
    // 1,024 of them fit, and the fatal error after them.
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 1500 - 1024);
    queue.push(b"last words\n", MAX_QUEUED_BYTES + FATAL_ERROR_BYTES, || true);
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 1500 - 1024);
    let start = Instant::now();
    queue.flush(Duration::from_millis(50));
    assert!(start.elapsed() < TEST_TIMEOUT);
    // Without a reader the rest is dropped and counted, and the queue is empty again.
    drop(release);
    queue.flush(TEST_TIMEOUT);
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 1 + 1500 + 1);
    assert_eq!(queue.state().waiting.len(), 0);
}

#[test]
fn without_a_writer_thread_lines_are_counted_as_dropped() {
    let queue = Queue::new();
    queue.push(b"a\nb\n", MAX_QUEUED_BYTES, || false);
    queue.flush(TEST_TIMEOUT);
    assert_eq!(queue.dropped.load(Ordering::Relaxed), 2);
}
