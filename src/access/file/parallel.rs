//! Parses the chunks of a long file on several threads.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// The most threads that parse.
const MAX_THREADS: usize = 4;

/// How many parsed chunks a thread may be ahead.
const CHUNKS_AHEAD: usize = 4;

/// Parses each chunk and passes the results to `each` in the order of the chunks, until it fails.
///
/// # Errors
///
/// The error of `each`.
pub(super) fn parse_each<'c, C: Sync, P: Send>(
    chunks: &'c [C],
    parse: impl Fn(&'c C) -> P + Sync,
    mut each: impl FnMut(&'c C, P) -> Result<(), String>,
) -> Result<(), String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    // A short file is parsed sooner than a thread starts.
    if threads == 1 || chunks.len() <= CHUNKS_AHEAD {
        return chunks.iter().try_for_each(|chunk| each(chunk, parse(chunk)));
    }
    thread::scope(|scope| {
        let parse = &parse;
        let parsers: Vec<Receiver<P>> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
                scope.spawn(move || {
                    // There is no receiver any more once `each` has failed.
                    chunks.iter().skip(first).step_by(threads).map(parse).try_for_each(|parsed| sender.send(parsed))
                });
                receiver
            })
            .collect();
        for (chunk, parser) in chunks.iter().zip(parsers.iter().cycle()) {
            // A thread that panics passes that on at the end of the scope.
            let Ok(parsed) = parser.recv() else { return Err("its parser has panicked".into()) };
            each(chunk, parsed)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_chunks_until_one_is_refused() {
        for count in [0, 1, CHUNKS_AHEAD, 1000] {
            let chunks: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            let all = parse_each(
                &chunks,
                |chunk| chunk * 2,
                |chunk, parsed| {
                    seen.push((*chunk, parsed));
                    Ok(())
                },
            );
            assert_eq!(all, Ok(()));
            assert!(seen.into_iter().eq((0..count).map(|chunk| (chunk, chunk * 2))));
            let mut accepted = 0;
            let refused = parse_each(
                &chunks,
                |chunk| *chunk,
                |_, parsed| {
                    accepted += 1;
                    if parsed < 500 { Ok(()) } else { Err(parsed.to_string()) }
                },
            );
            let (expected, calls) = if count > 500 { (Err("500".to_owned()), 501) } else { (Ok(()), count) };
            assert_eq!((refused, accepted), (expected, calls));
        }
    }
}
