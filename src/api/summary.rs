//! GetSummary, an operation of our own: `GET /subjobs/v1/{project_id}/summary`, all counts of a project or job at one moment.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, ETAG};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use super::json::APPLICATION_JSON;
use super::{Api, query};
use crate::domain::{CountFilter, JobType, JobTypes, ProjectId, Status};
use crate::store::{Store, StoreError};
use crate::web::call::Call;
use crate::web::error::Error;
use crate::web::etag::is_in_if_none_match;

/// Answers with the counts by status and type, or with 304 if the caller has them.
///
/// # Errors
///
/// 400, 404 or 503, as every operation on a project.
pub async fn get_summary(api: Arc<Api>, call: Call<ProjectId>) -> Result<Response, Error> {
    let call = call.with_input(|call| query::summary(call.query(), &api.job_types))?;
    let (mut call, filter) = call.in_existing_project()?;
    call.ignore_body().await?;
    let summary = Summary::read(&api.store, &api.job_types, &call.project, &filter).await?;
    let tag = summary.tag(&filter);
    if is_in_if_none_match(call.headers(), &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    Ok(([(CONTENT_TYPE, APPLICATION_JSON)], [(ETAG, tag)], summary.to_json()).into_response())
}

/// The counts of a project or job by type and status, all of one moment.
#[derive(Debug)]
pub struct Summary<'a> {
    /// The project's revision at that moment.
    pub revision: u64,
    /// In the order of types and statuses, without zeros.
    counts: Vec<(JobType, Status, u64)>,
    job_types: &'a JobTypes,
}

impl<'a> Summary<'a> {
    /// Reads the counts that match the types and the job of a filter.
    ///
    /// # Errors
    ///
    /// If the store is broken.
    pub async fn read(
        store: &Store,
        job_types: &'a JobTypes,
        project: &ProjectId,
        filter: &CountFilter,
    ) -> Result<Self, StoreError> {
        let mut summary = store.summary(project, filter.job_id.as_ref()).await?;
        summary.counts.retain(|(job_type, ..)| filter.job_types.contains(job_type.index()));
        Ok(Self { revision: summary.revision, counts: summary.counts, job_types })
    }

    /// The entity tag of the counts with this filter: strong, since a revision and a filter have one text.
    fn tag(&self, filter: &CountFilter) -> String {
        let filter = format!("{:?} {:?}", filter.job_types, filter.job_id);
        format!("\"{}-{:016x}\"", self.revision, xxh3_64(filter.as_bytes()))
    }

    /// The JSON object, on one line.
    pub fn to_json(&self) -> String {
        // Neither numbers nor names of types can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("revision", &self.revision)?;
        map.serialize_entry("total", &self.counts.iter().map(|(.., count)| count).sum::<u64>())?;
        map.serialize_entry("by_status", &ByStatus(&self.counts))?;
        map.serialize_entry("by_type", &ByType(self))?;
        map.end()
    }
}

/// The counts of all types together, in the published order of statuses.
struct ByStatus<'a>(&'a [(JobType, Status, u64)]);

impl Serialize for ByStatus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sum = |of| self.0.iter().filter(|(_, status, _)| *status == of).map(|(.., count)| count).sum::<u64>();
        let sums = Status::ALL.into_iter().map(|status| (status.as_str(), sum(status)));
        serializer.collect_map(sums.filter(|(_, count)| *count > 0))
    }
}

/// The counts of each type by status.
struct ByType<'a>(&'a Summary<'a>);

impl Serialize for ByType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Summary { counts, job_types, .. } = self.0;
        let types = counts.chunk_by(|one, next| one.0 == next.0);
        serializer.collect_map(types.map(|counts| (job_types.name(counts[0].0), ByStatus(counts))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Family;

    #[test]
    fn zeros_are_omitted_and_sums_agree() {
        let job_types = JobTypes::default();
        let of = |name| job_types.parse(Family::App, name).unwrap();
        let counts = vec![
            (of("CREATE_SERVER"), Status::Waiting, 1),
            (of("CREATE_SERVER"), Status::Failed, 2),
            (of("DELETE_SERVER"), Status::Waiting, 4),
        ];
        let summary = Summary { revision: 9, counts, job_types: &job_types };
        assert_eq!(
            summary.to_json(),
            r#"{"revision":9,"total":7,"by_status":{"WAITING":5,"FAILED":2},"by_type":{"CREATE_SERVER":{"WAITING":1,"FAILED":2},"DELETE_SERVER":{"WAITING":4}}}"#
        );
        let empty = Summary { revision: 0, counts: Vec::new(), job_types: &job_types };
        assert_eq!(empty.to_json(), r#"{"revision":0,"total":0,"by_status":{},"by_type":{}}"#);
    }
}
