//! The numbers that the database gives to job types, which all replicas share.

use std::sync::atomic::{AtomicI16, Ordering};

use tokio_postgres::Client;

use super::error::{ConnectError, ReadError};
use crate::domain::{JobType, JobTypeSet, JobTypes};
use crate::store::data_dir::unknown_job_type;

/// The types that subtasks have. A row of one stripe may be negative.
const WITH_SUB_JOBS: &str = "SELECT DISTINCT job_type FROM project_tally GROUP BY project, job_type \
    HAVING sum(s0 + s1 + s2 + s3 + s4 + s5 + s6) > 0";

/// The number of each job type.
#[derive(Debug)]
pub(super) struct TypeNumbers {
    /// By the index of the type.
    numbers: Vec<i16>,
    /// The types by number.
    types: Vec<Option<JobType>>,
    /// The highest number that another server has added and that was logged.
    logged: AtomicI16,
}

impl TypeNumbers {
    /// Reads the numbers, after adding those of new types.
    ///
    /// # Errors
    ///
    /// If subtasks have types that this server does not know, or the database cannot be read or written.
    pub(super) async fn read(client: &mut Client, job_types: &JobTypes) -> Result<Self, ConnectError> {
        let failed = |error| ConnectError::of(&error);
        let labels: Vec<&str> = job_types.iter().map(|job_type| job_types.label(job_type)).collect();
        let transaction = client.transaction().await.map_err(failed)?;
        // Another replica may be adding types.
        transaction.batch_execute("LOCK TABLE job_type IN SHARE ROW EXCLUSIVE MODE").await.map_err(failed)?;
        let add = "INSERT INTO job_type (no, name) \
            SELECT (SELECT coalesce(max(no), 0) FROM job_type) + row_number() OVER (), name \
            FROM unnest($1::text[]) AS new(name) WHERE name NOT IN (SELECT name FROM job_type)";
        transaction.execute(add, &[&labels]).await.map_err(failed)?;
        let rows = transaction.query("SELECT no, name FROM job_type", &[]).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let used = client.query(WITH_SUB_JOBS, &[]).await.map_err(failed)?;
        let used = used.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i16>, _>>().map_err(failed)?;
        let mut known = Self { numbers: vec![0; job_types.len()], types: Vec::new(), logged: AtomicI16::new(0) };
        for row in rows {
            let (number, label): (i16, &str) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            let at = usize::try_from(number).map_err(|_| ConnectError::Unusable("a job type has no number".into()))?;
            let Some(job_type) = job_types.parse_label(label) else {
                // A type without subtasks does no harm.
                if used.contains(&number) {
                    return Err(ConnectError::Unusable(unknown_job_type(label)));
                }
                continue;
            };
            known.numbers[job_type.index()] = number;
            known.types.resize(known.types.len().max(at + 1), None);
            known.types[at] = Some(job_type);
        }
        Ok(known)
    }

    pub(super) fn number(&self, job_type: JobType) -> i16 {
        self.numbers[job_type.index()]
    }

    /// `None` if another replica has added it.
    pub(super) fn job_type(&self, number: i16) -> Option<JobType> {
        self.types.get(usize::try_from(number).ok()?).copied().flatten()
    }

    /// Logs that another server has added a type, once for each.
    pub(super) fn log_unknown(&self, number: i16) {
        if self.logged.fetch_max(number, Ordering::Relaxed) < number {
            tracing::error!(error = %ReadError::UnknownType(number), "counts get 503");
        }
    }

    /// The numbers of a set's types.
    pub(super) fn of_set(&self, set: JobTypeSet) -> Vec<i16> {
        let all = self.numbers.iter().enumerate();
        all.filter(|(index, _)| set.contains(*index)).map(|(_, number)| *number).collect()
    }
}
