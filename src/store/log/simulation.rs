//! A simulated disk for tests: a crash drops unflushed writes, or keeps any part of them in any order, and calls fail. A seed decides
//! everything.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use super::files::{Directory, FileHandle};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A pseudo-random generator: a seed always gives the same numbers.
#[derive(Debug)]
pub(in crate::store) struct Random(pub(in crate::store) u64);

impl Random {
    pub(in crate::store) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(in crate::store) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times` calls on average; never for zero.
    pub(in crate::store) fn one_in(&mut self, times: usize) -> bool {
        times > 0 && self.below(times) == 0
    }
}

/// The bytes of a file as programs read them, and as they are on the disk.
#[derive(Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// For each page that was written since the last flush, its versions.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
    lengths: Vec<usize>,
}

fn page(bytes: &[u8], number: usize) -> Vec<u8> {
    let (from, mut page) = (bytes.get(number * PAGE..).unwrap_or_default(), vec![0; PAGE]);
    let length = from.len().min(PAGE);
    page[..length].copy_from_slice(&from[..length]);
    page
}

/// Truncates the bytes or appends zeros, many in one call, because single steps are slow in a debug build.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    while bytes.len() < len {
        bytes.extend_from_slice(&[0; PAGE][..PAGE.min(len - bytes.len())]);
    }
    bytes.truncate(len);
}

impl Inode {
    fn note_pages(&mut self, from: usize, to: usize) {
        for number in from / PAGE..to.div_ceil(PAGE) {
            let version = page(&self.current, number);
            self.dirty.entry(number).or_default().push(version);
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if end > self.current.len() {
            resize(&mut self.current, end);
            self.lengths.push(end);
        }
        self.current[at..end].copy_from_slice(bytes);
        self.note_pages(at, end);
    }

    fn set_len(&mut self, len: usize) {
        let old = self.current.len();
        resize(&mut self.current, len);
        self.lengths.push(len);
        self.note_pages(len.min(old) / PAGE * PAGE, len.max(old));
    }

    fn put(&mut self, number: usize, page: &[u8]) {
        if self.durable.len() < (number + 1) * PAGE {
            resize(&mut self.durable, (number + 1) * PAGE);
        }
        self.durable[number * PAGE..(number + 1) * PAGE].copy_from_slice(page);
    }

    fn sync(&mut self) {
        for (number, versions) in std::mem::take(&mut self.dirty) {
            self.put(number, &versions[versions.len() - 1]);
        }
        self.lengths.clear();
        resize(&mut self.durable, self.current.len());
    }

    /// Writes some unflushed pages to the disk, and drops the others.
    fn lose(&mut self, random: &mut Random) {
        let mut len = self.durable.len();
        for (number, versions) in std::mem::take(&mut self.dirty) {
            let mut on_disk = page(&self.durable, number);
            for version in &versions {
                match random.below(4) {
                    0 => {}
                    1 => on_disk.clone_from(version),
                    // Sectors reach the disk in any order or not at all.
                    2 => {
                        for at in (0..PAGE).step_by(SECTOR) {
                            if random.one_in(2) {
                                on_disk[at..at + SECTOR].copy_from_slice(&version[at..at + SECTOR]);
                            }
                        }
                    }
                    _ => {
                        let cut = random.below(PAGE + 1);
                        on_disk[..cut].copy_from_slice(&version[..cut]);
                    }
                }
            }
            self.put(number, &on_disk);
        }
        let lengths = std::mem::take(&mut self.lengths);
        if !lengths.is_empty() && !random.one_in(3) {
            len = lengths[random.below(lengths.len())];
        }
        resize(&mut self.durable, len);
    }
}

/// The changes of file names since the last flush of the directory.
#[derive(Debug, Clone)]
enum Step {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

fn take(names: &mut BTreeMap<String, usize>, step: &Step) {
    match step {
        Step::Create(name, inode) => drop(names.insert(name.clone(), *inode)),
        Step::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Step::Remove(name) => drop(names.remove(name)),
    }
}

#[derive(Debug)]
struct State {
    inodes: Vec<Inode>,
    current: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    steps: Vec<Step>,
    random: Random,
    /// One in this number of calls fails; none for zero.
    fails: usize,
    /// Whether writes fail because the disk is full.
    is_full: bool,
    failures: usize,
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        if self.random.one_in(self.fails) {
            self.failures += 1;
            return Err(io::Error::other("a simulated fault"));
        }
        Ok(())
    }

    fn inode(&mut self, name: &str) -> io::Result<usize> {
        self.current.get(name).copied().ok_or(ErrorKind::NotFound.into())
    }
}

/// A directory on the simulated disk.
#[derive(Debug, Clone)]
pub(in crate::store) struct Simulation(Arc<Mutex<State>>);

#[derive(Debug)]
struct SimulatedFile {
    disk: Simulation,
    inode: usize,
}

impl Simulation {
    pub(in crate::store) fn new(seed: u64) -> Self {
        let (inodes, current, durable) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let (steps, random) = (Vec::new(), Random(seed));
        let state = State { inodes, current, durable, steps, random, fails: 0, is_full: false, failures: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(in crate::store) fn fail_one_in(&self, calls: usize) {
        self.0.lock().unwrap().fails = calls;
    }

    pub(in crate::store) fn fill(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }

    pub(in crate::store) fn failures(&self) -> usize {
        self.0.lock().unwrap().failures
    }

    /// A power cut and a restart: any part of the unflushed writes is on the disk.
    pub(in crate::store) fn cut_power(&self) {
        let state = &mut *self.0.lock().unwrap();
        for inode in &mut state.inodes {
            inode.lose(&mut state.random);
            inode.current = inode.durable.clone();
        }
        for step in std::mem::take(&mut state.steps) {
            if state.random.one_in(2) {
                take(&mut state.durable, &step);
            }
        }
        state.current = state.durable.clone();
    }

    /// Flips one random bit of a file. Returns its position.
    pub(in crate::store) fn flip_a_bit(&self, random: &mut Random) -> String {
        let state = &mut *self.0.lock().unwrap();
        let files: Vec<_> =
            state.current.iter().filter(|(_, inode)| !state.inodes[**inode].current.is_empty()).collect();
        let (name, &inode) = files[random.below(files.len())];
        let inode = &mut state.inodes[inode];
        let at = random.below(inode.current.len());
        inode.current[at] ^= 1 << random.below(8);
        format!("{name} byte {at}")
    }
}

impl Directory for Simulation {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().current.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        let inode = self.0.lock().unwrap().inode(name)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn FileHandle>> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        let inode = match state.current.get(name) {
            Some(&inode) => inode,
            None => {
                state.inodes.push(Inode::default());
                let (name, inode) = (name.to_owned(), state.inodes.len() - 1);
                state.current.insert(name.clone(), inode);
                state.steps.push(Step::Create(name, inode));
                inode
            }
        };
        state.inodes[inode].set_len(0);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        state.inode(from)?;
        let step = Step::Rename(from.into(), to.into());
        take(&mut state.current, &step);
        state.steps.push(step);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        state.inode(name)?;
        let step = Step::Remove(name.into());
        take(&mut state.current, &step);
        state.steps.push(step);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.call()?;
        for step in std::mem::take(&mut state.steps) {
            take(&mut state.durable, &step);
        }
        Ok(())
    }
}

impl FileHandle for SimulatedFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.0.lock().unwrap();
        let content = state.inodes[self.inode].current.get(at as usize..).unwrap_or_default();
        let content = content.get(..bytes.len()).ok_or(ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(content);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let state = &mut *self.disk.0.lock().unwrap();
        let inode = &mut state.inodes[self.inode];
        let is_longer = at as usize + bytes.len() > inode.current.len();
        let fault = if state.is_full && is_longer { Some(ErrorKind::StorageFull.into()) } else { None };
        let fault = fault.or_else(|| {
            let is_full = state.random.one_in(2);
            let fails = state.random.one_in(state.fails);
            fails.then(|| if is_full { ErrorKind::StorageFull.into() } else { io::Error::other("a simulated fault") })
        });
        let Some(fault) = fault else {
            inode.write(bytes, at as usize);
            return Ok(());
        };
        state.failures += 1;
        inode.write(&bytes[..state.random.below(bytes.len() + 1)], at as usize);
        Err(fault)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().inodes[self.inode].current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        state.call()?;
        state.inodes[self.inode].set_len(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.0.lock().unwrap();
        if let Err(fault) = state.call() {
            // After a failed flush the system marks the pages as clean.
            state.inodes[self.inode].lose(&mut state.random);
            return Err(fault);
        }
        state.inodes[self.inode].sync();
        Ok(())
    }
}
