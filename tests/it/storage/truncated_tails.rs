//! The newest segment is truncated, or ends in other bytes. A start with acknowledged reports missing is refused. An unacknowledged
//! report is whole or absent.

use std::fs;
use std::path::{Path, PathBuf};

use subjobs::domain::ProjectId;
use subjobs::store::{OpenError, Store};

use crate::support::data_dirs::{Copied, SampleDir, Step, batch, for_each, open, report_one, reports, used};
use crate::support::fixtures::{Files, PROJECT};
use crate::support::program::{Program, fatal_error_text, run, serve, text};
use crate::support::random::Random;

/// A directory with acknowledged reports only, and one more report that a crash may leave in part at the end of the newest segment.
struct Torn {
    sample: SampleDir,
    /// The path of the newest segment in the directory.
    segment: PathBuf,
    /// The acknowledged bytes of the segment.
    acknowledged: Vec<u8>,
    /// The bytes of the report after them.
    last: Vec<u8>,
    /// The directory in which that report is acknowledged, too.
    whole: SampleDir,
}

impl Torn {
    fn new(sample: SampleDir) -> Self {
        let (copied, segment) = (sample.copy(), sample.newest_segment());
        let counts = used(&copied.path, last_report).unwrap();
        let whole = SampleDir::of(copied, counts);
        let acknowledged = fs::read(sample.path.join(&segment)).unwrap();
        let last = fs::read(whole.path.join(&segment)).unwrap().split_off(acknowledged.len());
        assert!(last.len() > 4096, "{}", last.len());
        Self { sample, segment, acknowledged, last, whole }
    }

    /// All reports are in one segment.
    fn in_a_segment() -> Self {
        Self::new(SampleDir::new([small()]))
    }

    /// The newest segment has no acknowledged report.
    fn in_a_new_segment() -> Self {
        Self::new(SampleDir::new([small(), Step::Snapshot]))
    }

    /// A copy of the directory with these bytes after the acknowledged ones.
    fn with(&self, end: &[u8]) -> Copied {
        let copied = self.sample.copy();
        fs::write(copied.path.join(&self.segment), [&self.acknowledged, end].concat()).unwrap();
        copied
    }

    /// Asserts that a start truncates an incomplete report, and that the directory can be used afterwards.
    fn assert_healed(&self, end: &[u8], how: &str) {
        let copied = self.with(end);
        assert_eq!(open(&copied.path).unwrap_or_else(|error| panic!("{how}: {error}")), self.sample.counts, "{how}");
        let counts = used(&copied.path, report_one).unwrap();
        assert_eq!(counts[0].1, self.sample.counts[0].1 + 1, "{how}");
        assert_eq!(open(&copied.path).unwrap(), counts, "{how}");
    }
}

/// Some thirty reports.
fn small() -> Step {
    reports(1, (0..30).map(|number| 1 + number * 7 % 5), 30)
}

/// A report of several pages.
fn last_report(store: &Store) {
    store.report(&ProjectId::parse(PROJECT).unwrap(), batch(&mut Random::new(2), 80, 30)).unwrap();
}

fn assert_names(path: &Path, file: &Path, how: &str) {
    match open(path) {
        Err(OpenError::Damaged { file: named, .. }) => assert_eq!(named, file, "{how}"),
        other => panic!("{how}: {other:?}"),
    }
}

#[test]
fn a_log_truncated_within_acknowledged_reports_is_refused() {
    for torn in [Torn::in_a_segment(), Torn::in_a_new_segment()] {
        let whole = [torn.acknowledged, torn.last].concat();
        let cuts: Vec<_> = (whole.len() - 4096..=whole.len()).collect();
        for_each(&cuts, |cut| {
            let copied = torn.whole.copy();
            let segment = copied.path.join(&torn.segment);
            for zeros in [0, 5000] {
                let bytes = [&whole[..*cut], &vec![0; zeros]].concat();
                fs::write(&segment, &bytes).unwrap();
                if *cut == whole.len() || whole[*cut..].iter().all(|byte| *byte == 0) && zeros > 0 {
                    return assert_eq!(open(&copied.path).unwrap(), torn.whole.counts);
                }
                assert_names(&copied.path, &segment, &format!("cut at {cut}, then {zeros} zeros"));
                assert_eq!(fs::read(&segment).unwrap(), bytes, "cut at {cut}: not as it was");
            }
        });
    }
}

#[test]
fn an_unacknowledged_report_truncated_at_any_byte_is_dropped() {
    let torn = Torn::in_a_segment();
    let cuts: Vec<_> = (torn.last.len() - 4096..torn.last.len()).collect();
    for_each(&cuts, |cut| {
        let copied = torn.with(&torn.last[..*cut]);
        assert_eq!(open(&copied.path).unwrap(), torn.sample.counts, "cut at {cut}");
    });
    assert_eq!(open(&torn.with(&torn.last).path).unwrap(), torn.whole.counts);
}

#[test]
fn a_torn_write_is_truncated_at_the_start() {
    for torn in [Torn::in_a_segment(), Torn::in_a_new_segment()] {
        for cut in [1, 12, 13, 14, 40, 4096, torn.last.len() - 1] {
            torn.assert_healed(&torn.last[..cut], &format!("cut at {cut}"));
            let zeros = [&torn.last[..cut], &[0; 10_000]].concat();
            torn.assert_healed(&zeros, &format!("cut at {cut}, then zeros"));
        }
        // Sectors reach the disk in any order or not at all. A missing one may have zeros or old bytes.
        let seeds: Vec<_> = (0..150).collect();
        for_each(&seeds, |seed| {
            let mut random = Random::new(*seed);
            let (mut end, length) = (torn.last.clone(), if seed % 2 == 0 { 512 } else { 16 });
            let sectors = end.len().div_ceil(length);
            let missing = random.below(sectors);
            for (number, sector) in end.chunks_mut(length).enumerate() {
                if number == missing || random.below(4) == 0 {
                    let before = if seed % 3 == 0 { random.next() as u8 } else { 0 };
                    sector.fill(before);
                }
            }
            torn.assert_healed(&end, &format!("seed {seed}"));
        });
    }
}

#[test]
fn the_program_refuses_lost_reports_and_truncates_torn_writes() {
    let (files, torn) = (Files::new(), Torn::in_a_segment());
    let copied = torn.with(&torn.last[..5000]);
    let args = ["--access", &files.access(), "--data-dir", copied.path.to_str().unwrap()];
    let program = Program::start(&args);
    assert_eq!(program.count(""), torn.sample.counts[0].1);
    program.await_log("a report that a crash cut short has been dropped");
    drop(program);

    let segment = copied.path.join(&torn.segment);
    for less in [1, 100, 1000] {
        fs::write(&segment, &torn.acknowledged[..torn.acknowledged.len() - less]).unwrap();
        let output = run(&mut serve(&args), "");
        let said = text(&output.stderr);
        assert!(fatal_error_text(&said).starts_with(&format!("{}: damaged: ", segment.display())), "{said}");
        assert_eq!(output.status.code(), Some(3), "{said}");
    }
}
