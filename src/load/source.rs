//! Where records come from: a file, or what was read from a pipe.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::{LoadError, MAX_LINE_BYTES};
use crate::domain::{JobTypes, ProjectId, SubJob};
use crate::record;

/// How many bytes are read at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A load file, which may be read several times.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    /// The bytes of a pipe, which can be read from the system only once.
    content: Option<Vec<u8>>,
}

impl<'a> Source<'a> {
    /// A file that is read once.
    pub(super) fn read_once(path: &'a Path) -> Self {
        Self { path, content: None }
    }

    /// A file that is read several times: a pipe is kept in memory.
    ///
    /// # Errors
    ///
    /// The pipe cannot be read.
    pub(super) fn read_again(path: &'a PathBuf) -> Result<Self, LoadError> {
        let content = match path.is_file() {
            true => None,
            false => Some(std::fs::read(path).map_err(|cause| LoadError::File { path: path.clone(), cause })?),
        };
        Ok(Self { path, content })
    }

    fn open(&self) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(match &self.content {
            Some(content) => Box::new(Cursor::new(content)),
            None => Box::new(BufReader::with_capacity(BUFFER_BYTES, File::open(self.path)?)),
        })
    }

    /// Calls `each` with every subtask, its project, and the bytes read since the last call.
    ///
    /// # Errors
    ///
    /// The file cannot be read, a line breaks a rule, or `each` fails.
    pub(super) fn for_each_record(
        &self,
        job_types: &JobTypes,
        mut each: impl FnMut(ProjectId, SubJob, u64) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let path = self.path;
        let io_error = |cause| LoadError::File { path: path.into(), cause };
        let mut file = self.open().map_err(io_error)?;
        let (mut line, mut number, mut bytes) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let length = (&mut file).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line).map_err(io_error)?;
            if length == 0 {
                return Ok(());
            }
            number += 1;
            bytes += length as u64;
            let line_error = |reason| LoadError::Line { path: path.into(), line: number, reason };
            if length > MAX_LINE_BYTES {
                return Err(line_error("the line has more than 1 MiB".into()));
            }
            let line = if number == 1 { record::without_bom(&line) } else { &line };
            if !record::is_blank(line) {
                let (project, sub_job) = record::from_load_line(line, job_types).map_err(line_error)?;
                each(project, sub_job, std::mem::take(&mut bytes))?;
            }
        }
    }
}
