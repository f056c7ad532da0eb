//! The log on a simulated disk, with thousands of seeds: no fault loses an acknowledged change. An unacknowledged one is applied as a
//! whole or not at all.
//!
//! `SUBJOBS_TEST_SEEDS=1000000 cargo test --release --lib store::log` runs a million seeds, `SUBJOBS_TEST_SEED=7` runs one,
//! and both run so many from that one on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::simulation::{Random, Simulation};
use super::*;

/// The number of seeds, and the first one.
const SEEDS: (&str, &str) = ("SUBJOBS_TEST_SEEDS", "SUBJOBS_TEST_SEED");

/// Seeds that found a bug. The others begin at 0.
const KNOWN_SEEDS: [u64; 1] = [319_510];

type State = BTreeMap<u8, u32>;

/// The changes of one frame: keys get values or are removed.
type Change = Vec<(u8, Option<u32>)>;

fn encode(change: &Change, out: &mut Vec<u8>) {
    for (key, value) in change {
        out.push(*key);
        out.push(value.is_some().into());
        out.extend_from_slice(&value.unwrap_or_default().to_le_bytes());
    }
}

fn decode(payload: &[u8]) -> Change {
    let one = |bytes: &[u8]| {
        let value = u32::from_le_bytes(bytes[2..6].try_into().unwrap());
        (bytes[0], (bytes[1] == 1).then_some(value))
    };
    assert_eq!(payload.len() % 6, 0);
    payload.chunks(6).map(one).collect()
}

fn apply(state: &mut State, change: &Change) {
    for (key, value) in change {
        match value {
            Some(value) => drop(state.insert(*key, *value)),
            None => drop(state.remove(key)),
        }
    }
}

#[derive(Default)]
struct Reader(State);

impl Visitor for Reader {
    type Error = LogError;

    fn expect(&mut self, _: u64) {}

    fn end_snapshot(&mut self, end: &[u8]) -> Result<u64, LogError> {
        Ok(u64::from_le_bytes(end.try_into().unwrap()))
    }

    fn frame(&mut self, source: Source<'_>, payload: &[u8]) -> Result<(), LogError> {
        let mut again = vec![0; payload.len()];
        source.file.read_at(&mut again, source.at).unwrap();
        assert_eq!(again, payload);
        apply(&mut self.0, &decode(payload));
        Ok(())
    }

    fn end(&mut self) -> Result<u64, LogError> {
        Ok(self.0.len() as u64)
    }
}

/// A program that uses the log, and its expectations.
struct World {
    disk: Simulation,
    directory: Arc<dyn Directory>,
    random: Random,
    /// The acknowledged values.
    state: State,
    /// The refused changes since then: one of them may be present after a crash.
    in_doubt: Vec<Change>,
    log: Option<Log>,
    /// The running snapshot and its next key.
    snapshot: Option<(SnapshotWriter, Cut, u16)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Simulation::new(seed);
        let directory: Arc<dyn Directory> = Arc::new(disk.clone());
        Log::create(&*directory).unwrap();
        let random = Random(seed ^ 0x5ee_d000);
        let mut world =
            Self { disk, directory, random, state: State::new(), in_doubt: Vec::new(), log: None, snapshot: None };
        world.start();
        world
    }

    fn start(&mut self) {
        let mut reader = Reader::default();
        let fails = self.random.one_in(4);
        self.disk.fail_one_in(if fails { 10 } else { 0 });
        let mut recovered = recover(&self.directory, &mut reader);
        if fails && matches!(recovered, Err(LogError::Io { .. })) {
            // The process crashes, or the power fails.
            if self.random.one_in(2) {
                self.disk.cut_power();
            }
            self.disk.fail_one_in(0);
            reader = Reader::default();
            recovered = recover(&self.directory, &mut reader);
        }
        let mut log = recovered.unwrap_or_else(|error| panic!("what was acknowledged is refused: {error}")).log;
        log.set_segment_bytes(100 + self.random.below(2000) as u64);
        let is_explained = self.in_doubt.iter().chain([&Change::new()]).any(|change| {
            let mut with = self.state.clone();
            apply(&mut with, change);
            with == reader.0
        });
        assert!(is_explained, "{:?} is not {:?}, with or without one of {:?}", reader.0, self.state, self.in_doubt);
        (self.state, self.in_doubt, self.log, self.snapshot) = (reader.0, Vec::new(), Some(log), None);
        let fails = if self.random.one_in(2) { 20 + self.random.below(100) } else { 0 };
        self.disk.fail_one_in(fails);
    }

    fn append(&mut self) {
        let Some(log) = &mut self.log else { return };
        let length = if self.random.one_in(10) { self.random.below(500) } else { 1 + self.random.below(20) };
        let random = &mut self.random;
        let one = |_| (random.next() as u8, (!random.one_in(3)).then_some(random.next() as u32));
        let change: Change = (0..length).map(one).collect();
        let mut after = self.state.clone();
        apply(&mut after, &change);
        let mut frame = FrameBuffer::default();
        encode(&change, frame.payload());
        match log.append(&mut frame, after.len() as u64) {
            Ok(_) => (self.state, self.in_doubt) = (after, Vec::new()),
            Err(AppendError::SealedBefore) => {}
            Err(_) => self.in_doubt.push(change),
        }
    }

    /// Begins a snapshot, continues it, or ends it.
    fn take_snapshot(&mut self) {
        let Some(log) = &mut self.log else { return };
        let Some((mut writer, cut, next)) = self.snapshot.take() else {
            if let Ok(cut) = log.rotate()
                && let Ok(writer) = SnapshotWriter::create(&*self.directory, cut)
            {
                self.snapshot = Some((writer, cut, 0));
            }
            return;
        };
        if next < 256 {
            let end = next + 1 + self.random.below(120) as u16;
            let slice = self.state.range(next as u8..).take_while(|(key, _)| u16::from(**key) < end);
            let slice: Change = slice.map(|(key, value)| (*key, Some(*value))).collect();
            let mut frame = SnapshotWriter::frame();
            encode(&slice, frame.payload());
            match writer.append(&mut frame) {
                Ok(()) => self.snapshot = Some((writer, cut, end)),
                Err(_) => SnapshotWriter::discard(&*self.directory, cut),
            }
        } else {
            let published =
                writer.finish(&log.last().to_le_bytes()).map_err(LogError::io("")).and_then(|mut reader| {
                    reader.read(|_, _| Ok::<_, LogError>(()))?;
                    let published = reader.publish(&*self.directory);
                    published.and_then(|()| reader.remove_older(&*self.directory)).map_err(LogError::io(""))
                });
            if published.is_err() {
                SnapshotWriter::discard(&*self.directory, cut);
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0 => {
                self.log = None;
                self.start();
            }
            1 | 2 => {
                self.log = None;
                self.disk.cut_power();
                self.start();
            }
            3 => self.disk.fill(true),
            4..7 => self.disk.fill(false),
            7 => drop(self.log.as_mut().map(Log::rotate)),
            8..18 => self.take_snapshot(),
            18..20 => drop(self.log.as_mut().map(|log| log.flush_mark_after(Duration::ZERO))),
            _ => self.append(),
        }
    }
}

/// Runs one seed. Returns the number of failed calls.
fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    for _ in 0..20 + world.random.below(80) {
        world.step();
    }
    world.disk.fail_one_in(0);
    world.disk.fill(false);
    let failures = world.disk.failures();
    world.log = None;
    if world.random.one_in(2) {
        world.disk.cut_power();
    }
    world.start();
    // Everything is on the disk now. One bit flips.
    let flipped = world.disk.flip_a_bit(&mut world.random);
    let mut reader = Reader::default();
    if recover(&world.directory, &mut reader).is_ok() {
        assert_eq!(reader.0, world.state, "{flipped}");
    }
    failures
}

#[test]
fn no_disk_fault_loses_or_changes_an_acknowledged_change() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let (seeds, first) = (number(SEEDS.0), number(SEEDS.1));
    if let (None, Some(seed)) = (seeds, first) {
        run(seed);
        return;
    }
    let (seeds, first) = (seeds.unwrap_or(2000), first.unwrap_or(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = |thread: u64| {
        let run = |seed| {
            let done = std::panic::catch_unwind(|| run(seed));
            done.unwrap_or_else(|_| panic!("seed {seed}: run it alone with {}={seed}", SEEDS.1))
        };
        (first..first + seeds).chain(KNOWN_SEEDS).filter(|seed| seed % threads == thread).map(run).sum::<usize>()
    };
    let failures: usize = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        running.into_iter().map(|running| running.join().unwrap()).sum()
    });
    assert!(failures as u64 > seeds, "hardly any call has failed: {failures}");
}

/// A log of three frames that set the same key, so that any of them gives one subtask; the last is acknowledged with `sub_jobs`.
fn three_frames(sub_jobs: u64) -> Arc<dyn Directory> {
    let directory: Arc<dyn Directory> = Arc::new(Simulation::new(0));
    Log::create(&*directory).unwrap();
    let mut log = recover(&directory, &mut Reader::default()).unwrap().log;
    for (value, sub_jobs) in [(0, 1), (1, 1), (2, sub_jobs)] {
        let mut frame = FrameBuffer::default();
        encode(&vec![(7, Some(value))], frame.payload());
        log.append(&mut frame, sub_jobs).unwrap();
    }
    directory
}

fn is_corrupt(directory: &Arc<dyn Directory>) -> bool {
    matches!(recover(directory, &mut Reader::default()), Err(LogError::Corrupt { .. }))
}

#[test]
fn repeated_missing_and_misplaced_frames_are_refused() {
    const FRAME: usize = frame::HEADER + 6;
    let offset = |frame: usize| segment::HEADER + (frame * FRAME) as u64;
    assert!(!is_corrupt(&three_frames(1)));
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let directory = three_frames(1);
        let file = directory.open(&names::segment(0)).unwrap();
        let mut bytes = [0; FRAME];
        file.read_at(&mut bytes, offset(from)).unwrap();
        file.write_at(&bytes, offset(to)).unwrap();
        assert!(is_corrupt(&directory), "frame {from} over frame {to}");
    }
}

#[test]
fn a_number_of_subtasks_that_differs_from_the_commit_mark_is_refused() {
    for (sub_jobs, corrupt) in [(1, false), (0, true), (2, true)] {
        assert_eq!(is_corrupt(&three_frames(sub_jobs)), corrupt, "{sub_jobs}");
    }
}
