//! Loads files of subtasks before the server is ready: one JSON object a line, each with its `project_id`.

mod last_records;
mod source;
mod summary;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::domain::{JobTypes, ProjectId, SubJob};
use crate::progress::Progress;
use crate::store::{OpenError, Store, StoreError, StoreKind};

use self::last_records::LastRecords;
use self::source::Source;
pub use self::summary::{Summary, summarize};

/// The most bytes of a line. A record has at most some tens of KiB, so a longer line means another kind of file.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// How many records are read before they are stored.
const BATCH_RECORDS: usize = 8192;

/// The pause after the database has not answered.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why files of subtasks cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// A line breaks a rule.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The path of the file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// The rule.
        reason: String,
    },
    /// The store refuses the subtasks.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The server stops before all files are loaded.
    #[error("cancelled")]
    Cancelled,
}

/// Loads the files in their order and shows the progress. Stops at the first bad line, and soon after `cancelled` becomes true. While a
/// database does not answer, waits for it. The caller must not serve a partly loaded store.
///
/// # Errors
///
/// A file cannot be read, a line breaks a rule, the store refuses the subtasks, or the load was cancelled.
pub fn load(files: &[PathBuf], store: &Store, job_types: &JobTypes, cancelled: &AtomicBool) -> Result<(), LoadError> {
    if files.is_empty() {
        return Ok(());
    }
    if store.begin_load()? {
        // What is loaded is discarded unless the load ends, so each file is read once.
        let (sources, mut last) = (files.iter().map(|path| Source::read_once(path)), LastRecords::default());
        sources.into_iter().try_for_each(|source| load_source(&source, &mut last, store, job_types, cancelled))?;
        store.end_load()?;
        return Ok(());
    }
    // The store keeps what is loaded before a bad line or an interruption.
    let sources: Vec<_> = files.iter().map(Source::read_again).collect::<Result<_, _>>()?;
    let mut last = LastRecords::read(&sources, job_types, cancelled)?;
    sources.iter().try_for_each(|source| load_source(source, &mut last, store, job_types, cancelled))
}

fn load_source(
    source: &Source<'_>,
    last: &mut LastRecords,
    store: &Store,
    job_types: &JobTypes,
    cancelled: &AtomicBool,
) -> Result<(), LoadError> {
    let mut progress = Progress::of_file(source.path);
    let mut batches: HashMap<ProjectId, Vec<SubJob>> = HashMap::new();
    let mut batched = 0;
    source.for_each_record(job_types, |project, sub_job, bytes| {
        progress.add(bytes);
        let Some(sub_job) = last.take(&project, sub_job) else { return Ok(()) };
        match batches.get_mut(&project) {
            Some(batch) => batch.push(sub_job),
            None => drop(batches.insert(project, vec![sub_job])),
        }
        batched += 1;
        if batched < BATCH_RECORDS {
            return Ok(());
        }
        batched = 0;
        store_batches(&mut batches, store, cancelled)
    })?;
    store_batches(&mut batches, store, cancelled)?;
    progress.finish();
    Ok(())
}

fn store_batches(
    batches: &mut HashMap<ProjectId, Vec<SubJob>>,
    store: &Store,
    cancelled: &AtomicBool,
) -> Result<(), LoadError> {
    let is_repeated = store.kind() == StoreKind::Postgres;
    let mut logged = false;
    while !cancelled.load(Ordering::Relaxed) {
        if !is_repeated {
            store.load(batches.drain())?;
            return Ok(());
        }
        // A batch that was stored although its answer was lost is unchanged the next time.
        match store.load(batches.iter().map(|(project, batch)| (project.clone(), batch.clone()))) {
            Ok(_) => {
                batches.clear();
                return Ok(());
            }
            Err(StoreError::Unavailable) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!("the load waits for the database");
                }
                thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(LoadError::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CountFilter;
    use futures_util::FutureExt as _;
    use std::io::Write as _;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn line(id: usize, status: &str) -> String {
        format!(r#"{{"project_id":"p","id":"{id}","job_id":"j","job_type":"CREATE_SERVER","status":"{status}"}}"#)
    }

    fn load_all(files: &[&tempfile::NamedTempFile]) -> Result<u64, LoadError> {
        let (types, store) = (JobTypes::default(), Store::in_memory(JobTypes::default().len()));
        let files: Vec<_> = files.iter().map(|file| file.path().to_owned()).collect();
        load(&files, &store, &types, &AtomicBool::new(false))?;
        Ok(store.count(&ProjectId::parse("p").unwrap(), &CountFilter::default()).now_or_never().unwrap()?)
    }

    #[test]
    fn files_are_loaded_line_by_line() {
        let many: String = (0..2 * BATCH_RECORDS + 1).map(|id| line(id, "RUNNING") + "\n").collect();
        let again = format!("\n  \r\n{}\r\n{}", line(0, "FAILED"), line(99_999, "FAILED"));
        assert_eq!(load_all(&[&file(many.as_bytes()), &file(again.as_bytes())]).unwrap(), 2 * BATCH_RECORDS as u64 + 2);
        assert_eq!(load_all(&[&file(b"")]).unwrap(), 0);
        for (text, expected) in
            [("\u{feff}".to_owned() + &line(1, "FAILED"), 1), ("\u{feff}".into(), 0), ("\u{feff}\n".into(), 0)]
        {
            assert_eq!(load_all(&[&file(text.as_bytes())]).unwrap(), expected, "{text}");
        }
        let summary = summarize(file(many.as_bytes()).path(), &JobTypes::default()).unwrap();
        assert_eq!(summary.records, 2 * BATCH_RECORDS as u64 + 1);
    }

    #[test]
    fn a_bad_line_is_named_with_its_file() {
        let good = line(1, "RUNNING");
        let long = format!("{good}\n{}{good}", " ".repeat(MAX_LINE_BYTES));
        for (text, number, reason) in [
            (format!("{good}\n\n{}", line(2, "DONE")), 3, "status must be one of"),
            (format!("{good}\n{}", &good[..20]), 2, "EOF while parsing"),
            (format!("[{good}]"), 1, "must be a JSON object"),
            (long, 2, "the line has more than 1 MiB"),
            (format!("\u{feff}\u{feff}{good}"), 1, "expected value"),
            (format!("{good}\n\u{feff}{good}"), 2, "expected value"),
        ] {
            let file = file(text.as_bytes());
            let error = load_all(&[&file]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}:{number}: ", file.path().display())), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        assert!(load_all(&[&file(b"\xff\n")]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = PathBuf::from("/nowhere/at/all");
        let once = Source::read_once(&missing).for_each_record(&JobTypes::default(), |_, _, _| Ok(()));
        for error in [once.unwrap_err(), Source::read_again(&missing).unwrap_err()] {
            assert!(error.to_string().starts_with("/nowhere/at/all: No such file"), "{error}");
        }
    }

    #[test]
    fn a_cancelled_load_stops() {
        let many: String = (0..BATCH_RECORDS).map(|id| line(id, "RUNNING") + "\n").collect();
        let file = file(many.as_bytes());
        let stopped = load(
            &[file.path().to_owned()],
            &Store::in_memory(JobTypes::default().len()),
            &JobTypes::default(),
            &AtomicBool::new(true),
        );
        assert!(matches!(stopped, Err(LoadError::Cancelled)));
    }
}
