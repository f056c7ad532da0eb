//! Exports all subtasks of a database, as they are at one moment.

use tokio_postgres::{Row, Transaction};

use super::columns;
use super::connect::{Purpose, connect};
use super::error::DatabaseError;
use super::target::Target;
use crate::domain::{JobId, JobTypes, ProjectId, SubJob, SubJobId};
use crate::store::data_dir::{decode_details, unknown_job_type};

/// How many subtasks are read at once.
const SLICE: i32 = 4096;

/// The subtasks of a project in the order of their first reports.
const SUB_JOBS: &str = "\
    SELECT s.id, t.job_id, j.name, s.status, s.version, s.details FROM sub_job s \
    JOIN job_tally t ON t.project = s.project AND t.job = s.job AND t.job_type = s.job_type \
    JOIN job_type j ON j.no = s.job_type \
    WHERE s.project = $1 ORDER BY s.seq";

/// Calls `each` with every subtask of a database, project by project, in the order of their first reports. Calls `progress` with the
/// number of subtasks so far and in all. Reports go on meanwhile, and are not exported.
///
/// # Errors
///
/// If the database cannot be used or reached, a subtask has an unknown job type, no job or cannot be decoded, or `each` fails.
pub async fn export_database<E: From<DatabaseError>>(
    target: &Target,
    job_types: &JobTypes,
    mut each: impl FnMut(&ProjectId, SubJob) -> Result<(), E>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(), E> {
    let mut connection = connect(target, Purpose::Whole).await.map_err(DatabaseError::from)?;
    let failed = DatabaseError::from;
    let builder = connection.client.build_transaction();
    let snapshot = builder.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).read_only(true);
    let transaction = snapshot.start().await.map_err(failed)?;
    let all = transaction.query_one("SELECT count(*) FROM sub_job", &[]).await.map_err(failed)?;
    let all = all.try_get::<_, i64>(0).map_err(failed)? as u64;
    let mut done = 0;
    for (number, project) in projects(&transaction).await? {
        let portal = transaction.bind(SUB_JOBS, &[&number]).await.map_err(failed)?;
        loop {
            let rows = transaction.query_portal(&portal, SLICE).await.map_err(failed)?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                done += 1;
                each(&project, decode(row, &project, job_types)?)?;
            }
            progress(done, all);
        }
    }
    if done == all {
        Ok(())
    } else {
        let reason = format!("{done} of {all} subtasks were written: for the others a job or a project is missing");
        Err(DatabaseError::Failed(reason).into())
    }
}

/// The projects by their numbers, in the order of their identifiers.
async fn projects(transaction: &Transaction<'_>) -> Result<Vec<(i64, ProjectId)>, DatabaseError> {
    let rows = transaction.query("SELECT no, id FROM project ORDER BY id", &[]).await?;
    let decode = |row: &Row| {
        let id: &str = row.try_get(1)?;
        let parsed = ProjectId::parse(id);
        let id = parsed
            .map_err(|_| DatabaseError::Failed(format!("a project has an identifier that is invalid: {id:?}")))?;
        Ok((row.try_get(0)?, id))
    };
    rows.iter().map(decode).collect()
}

fn decode(row: &Row, project: &ProjectId, job_types: &JobTypes) -> Result<SubJob, DatabaseError> {
    let (id, job_id, label): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (status, version): (i16, i64) = (row.try_get(3)?, row.try_get(4)?);
    let details: Option<&[u8]> = row.try_get(5)?;
    let job_type = job_types.parse_label(label);
    let job_type = job_type.ok_or_else(|| DatabaseError::Unusable(unknown_job_type(label)))?;
    let invalid = || DatabaseError::Failed(format!("the subtask {id:?} of {project:?} cannot be decoded"));
    Ok(SubJob {
        id: SubJobId::parse(id).map_err(|_| invalid())?,
        job_id: JobId::parse(job_id).map_err(|_| invalid())?,
        job_type,
        status: columns::status(status).ok_or_else(invalid)?,
        version: columns::version(version).ok_or_else(invalid)?,
        details: details.map(decode_details).transpose().map_err(|_| invalid())?.map(Box::new),
    })
}
