//! A data directory with a flipped bit, or without one of its files: the counts are right, or the start is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use subjobs::store::OpenError;

use crate::support::data_dirs::{Counts, SampleDir, Step, flip, for_each, is_segment, open, report_one, reports, used};
use crate::support::fixtures::Files;
use crate::support::program::{fatal_error_text, run, serve, text};
use crate::support::random::Random;

/// The results of flipped bits.
#[derive(Debug, Default)]
struct Tally {
    /// The counts were right.
    harmless: usize,
    /// Refused, with the name of the file.
    named: usize,
    /// Refused, with the name of another file.
    misnamed: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

/// The position of a bit: a file, a byte in it, a bit in the byte.
type BitPosition = (PathBuf, usize, u8);

/// Flips one bit in each copy of a directory.
fn flip_bits(sample: &SampleDir, positions: &[BitPosition]) -> Tally {
    let tally = Mutex::new(Tally::default());
    for_each(positions, |(file, at, bit)| {
        let copied = sample.copy();
        let target = copied.path.join(file);
        flip(&target, *at, *bit);
        let found = open(&copied.path);
        // An accepted directory can be used, and a refused one is unchanged.
        let expected = |counts: &Counts| *counts == sample.counts;
        let then = match &found {
            Ok(_) => {
                used(&copied.path, report_one).is_ok_and(|counts| open(&copied.path).is_ok_and(|again| again == counts))
            }
            Err(_) => {
                flip(&target, *at, *bit);
                open(&copied.path).is_ok_and(|counts| expected(&counts))
            }
        };
        let mut tally = tally.lock().unwrap();
        match &found {
            _ if !then => tally.wrong.push(format!("{} byte {at} bit {bit}: not good after {found:?}", file.display())),
            Ok(counts) if expected(counts) => tally.harmless += 1,
            Err(OpenError::Damaged { file, .. }) if *file == target => tally.named += 1,
            Err(OpenError::Damaged { file: named, .. }) => {
                let named = named.strip_prefix(&copied.path).unwrap_or(named).display();
                *tally.misnamed.entry(format!("{named} for {}", file.display())).or_default() += 1;
            }
            other => tally.wrong.push(format!("{} byte {at} bit {bit}: {other:?}", file.display())),
        }
    });
    tally.into_inner().unwrap()
}

/// Random positions: half of them anywhere except in unused space, half of them evenly among the files, because some are small.
fn positions(sample: &SampleDir, count: usize, seed: u64) -> Vec<BitPosition> {
    let mut files: Vec<(PathBuf, Vec<usize>)> = Vec::new();
    for (file, content) in sample.files() {
        let is_used = |at: &usize| content[at / 32 * 32..].iter().take(32).any(|byte| *byte != 0);
        files.push((file, (0..content.len()).filter(is_used).collect()));
    }
    files.retain(|(_, used)| !used.is_empty());
    let all: Vec<_> = files.iter().flat_map(|(file, used)| used.iter().map(move |at| (file, *at))).collect();
    let mut random = Random::new(seed);
    let mut place = |number| {
        let (mut file, mut at) = all[random.below(all.len())];
        if number % 2 == 0 {
            let (one, used) = &files[random.below(files.len())];
            (file, at) = (one, used[random.below(used.len())]);
        }
        (file.clone(), at, random.below(8) as u8)
    };
    (0..count).map(&mut place).collect()
}

/// Some thirty small reports.
fn small(seed: u64) -> Step {
    reports(seed, (0..30).map(|number| 1 + number * 7 % 5), 30)
}

/// One directory for each way in which subtasks are stored.
fn sample_dirs() -> [(&'static str, SampleDir); 3] {
    [
        ("one segment", SampleDir::new([small(1), small(2)])),
        ("two segments", SampleDir::new([small(3), Step::Split, small(4)])),
        (
            "a snapshot and a segment",
            SampleDir::new([small(5), Step::Snapshot, small(6), Step::Report(Box::new(report_one))]),
        ),
    ]
}

/// Prints the figures. Asserts that no result is wrong, that 70 % of the flips are refused with the name of the file, and that at
/// most 1 % name another file.
fn assert_tally(what: &str, flips: usize, tally: &Tally) {
    eprintln!(
        "{what}: {flips} flips: {} harmless, {} refused by name, misnamed {:?}",
        tally.harmless, tally.named, tally.misnamed
    );
    assert_eq!(tally.wrong, [""; 0], "{what}");
    assert!(tally.named * 10 >= flips * 7, "{what}: {tally:?}");
    assert!(tally.misnamed.values().sum::<usize>() * 100 <= flips, "{what}: {tally:?}");
}

#[test]
fn a_flipped_bit_never_changes_a_count() {
    for ((what, sample), flips) in sample_dirs().iter().zip([300, 300, 400]) {
        assert_tally(what, flips, &flip_bits(sample, &positions(sample, flips, 11)));
    }
}

#[test]
fn a_missing_or_empty_file_is_refused_or_unneeded() {
    for (what, sample) in sample_dirs() {
        for (file, content) in sample.files() {
            for is_gone in [true, false] {
                let copied = sample.copy();
                let target = copied.path.join(&file);
                fs::remove_file(&target).unwrap();
                if !is_gone {
                    fs::write(&target, "").unwrap();
                }
                let what = format!("{what}: {}, {}", file.display(), if is_gone { "gone" } else { "empty" });
                match open(&copied.path) {
                    Ok(counts) => {
                        assert_eq!(file.to_str(), Some("lock"), "{what}");
                        assert_eq!(counts, sample.counts, "{what}");
                    }
                    Err(OpenError::Damaged { file: named, reason }) => {
                        // The directory has no list of its segments and snapshots.
                        let is_of_chain = |file: &Path| is_segment(file) || is_snapshot(file);
                        let is_near = is_gone && is_of_chain(&file) && is_of_chain(&named);
                        assert!(is_near || target == named, "{what}: {}: {reason}", named.display());
                        fs::write(&target, content.clone()).unwrap();
                        assert_eq!(open(&copied.path).unwrap(), sample.counts, "{what}, and then there again");
                    }
                    Err(error) => panic!("{what}: {error:?}"),
                }
            }
        }
    }
}

fn is_snapshot(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("snapshot-"))
}

#[test]
fn a_stale_or_misplaced_file_is_refused_or_changes_nothing() {
    // Copies of one directory at four times.
    let steps = [
        SampleDir::new([small(7)]),
        SampleDir::new([small(7), small(8)]),
        SampleDir::new([small(7), small(8), Step::Snapshot, small(9)]),
        SampleDir::new([small(7), small(8), Step::Snapshot, small(9), Step::Snapshot, small(10)]),
    ];
    let (mut refused, mut harmless) = (0, 0);
    for (at, now) in steps.iter().enumerate() {
        for (before, then) in steps.iter().enumerate().filter(|(before, _)| *before != at) {
            for (file, content) in then.files() {
                let copied = now.copy();
                fs::write(copied.path.join(&file), &content).unwrap();
                match open(&copied.path) {
                    Ok(counts) => {
                        // A later segment has more acknowledged frames of the same log.
                        let is_right = counts == now.counts || before > at && counts == then.counts;
                        assert!(is_right, "{} of {before} in {at}", file.display());
                        harmless += 1;
                    }
                    Err(OpenError::Damaged { .. }) => refused += 1,
                    Err(error) => panic!("{} of {before} in {at}: {error:?}", file.display()),
                }
            }
        }
        // Two files are swapped.
        let files = now.files();
        for (one, other) in files.iter().zip(files.iter().skip(1)) {
            let copied = now.copy();
            fs::write(copied.path.join(&one.0), &other.1).unwrap();
            fs::write(copied.path.join(&other.0), &one.1).unwrap();
            match open(&copied.path) {
                Ok(counts) => assert!(counts == now.counts),
                Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}"),
            }
        }
    }
    assert!(refused >= 10 && harmless >= 10, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_corrupt_file_is_named_and_the_exit_code_is_3() {
    let files = Files::new();
    for (what, sample) in sample_dirs() {
        let mut refused = 0;
        for (file, content) in sample.files().into_iter().filter(|(_, content)| !content.is_empty()) {
            let copied = sample.copy();
            let target = copied.path.join(&file);
            flip(&target, content.len() / 2, 3);
            if open(&copied.path).is_ok() {
                // Zeros in the middle of the file.
                continue;
            }
            refused += 1;
            let data_dir = copied.path.to_str().unwrap();
            let output = run(&mut serve(&["--access", &files.access(), "--data-dir", data_dir]), "");
            let said = text(&output.stderr);
            let line = format!("{}: damaged: ", target.display());
            assert!(fatal_error_text(&said).starts_with(&line), "{said}");
            assert_eq!(output.status.code(), Some(3), "{said}");
        }
        assert!(refused >= 2, "{what}: {refused}");
    }
}
