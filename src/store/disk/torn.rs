//! Journals without the ends that are not to count.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::journals::Cut;

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// Journals that have been written anew without their ends, before the engine sees them: it takes some of what a power cut
/// leaves for damage. The ends are put back when this goes, unless that is [`TornOff::confirm`]ed.
#[derive(Debug, Default)]
pub(super) struct TornOff(Vec<Torn>);

#[derive(Debug)]
struct Torn {
    path: PathBuf,
    at: u64,
    /// How long it was.
    length: u64,
    /// What stood there, without zeros at its end.
    bytes: Vec<u8>,
}

impl TornOff {
    pub(super) fn cut(cuts: Vec<Cut>) -> io::Result<Self> {
        let mut torn_off = Self::default();
        for Cut { file: path, at } in cuts {
            let mut file = File::open(&path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(at))?;
            let bytes = without_zeros(&mut file)?;
            write_anew(&mut file, &path, at)?;
            torn_off.0.push(Torn { path, at, length, bytes });
        }
        Ok(torn_off)
    }

    /// Nothing acknowledged has stood there. The files that have lost something.
    pub(super) fn confirm(mut self) -> Vec<PathBuf> {
        let torn = std::mem::take(&mut self.0).into_iter();
        torn.filter(|torn| !torn.bytes.is_empty()).map(|torn| torn.path).collect()
    }

    /// The first file that has lost something.
    pub(super) fn path(&self) -> Option<&Path> {
        self.0.iter().find(|torn| !torn.bytes.is_empty()).map(|torn| &*torn.path)
    }
}

impl Drop for TornOff {
    fn drop(&mut self) {
        for Torn { path, at, length, bytes } in &self.0 {
            let put_back = || {
                let file = OpenOptions::new().write(true).open(path)?;
                file.write_all_at(bytes, *at)?;
                file.set_len(*length)
            };
            if let Err(error) = put_back() {
                tracing::error!(%error, file = %path.display(), "its damaged end could not be put back");
            }
        }
    }
}

/// Reads to the end, but for zeros there, of which there may be many.
fn without_zeros(file: &mut File) -> io::Result<Vec<u8>> {
    let (mut bytes, mut zeros, mut chunk) = (Vec::new(), 0, vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        let Some(last) = chunk[..read].iter().rposition(|byte| *byte != 0) else {
            if read == 0 {
                return Ok(bytes);
            }
            zeros += read;
            continue;
        };
        bytes.resize(bytes.len() + zeros, 0);
        bytes.extend_from_slice(&chunk[..=last]);
        zeros = read - last - 1;
    }
}

/// Puts a new file with the same beginning in the place of a file, flushed. Whoever still writes to the old one writes to
/// nothing. Not by the system's own copying, which may let both share what is on the disk.
fn write_anew(file: &mut File, path: &Path, length: u64) -> io::Result<()> {
    let draft = path.with_file_name("journal.new");
    let write = |file: &mut File| {
        let mut new = File::create(&draft)?;
        let (mut left, mut chunk) = (length, vec![0; CHUNK]);
        file.seek(SeekFrom::Start(0))?;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            file.read_exact(&mut chunk[..part])?;
            new.write_all(&chunk[..part])?;
            left -= part as u64;
        }
        new.sync_all()?;
        std::fs::rename(&draft, path)
    };
    if let Err(error) = write(file) {
        // It may not be there, and nobody looks at it.
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_put_back_unless_that_was_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        let mut content = b"wholetorn".to_vec();
        content.resize(CHUNK + 7, 0);
        content.push(1);
        content.resize(3 * CHUNK, 0);
        std::fs::write(&path, &content).unwrap();
        let cut = || TornOff::cut(vec![Cut { file: path.clone(), at: 5 }]).unwrap();
        let torn_off = cut();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(torn_off.0[0].bytes.len(), CHUNK + 3);
        drop(torn_off);
        assert_eq!(std::fs::read(&path).unwrap(), content);
        assert_eq!(cut().confirm(), std::slice::from_ref(&path));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }
}
