//! The locked rows of a transaction, as a plan reads them.

use std::collections::HashMap;

use super::job_hash::JobHash;
use crate::domain::{Details, JobId, JobType, ProjectId, Status, SubJob, SubJobId, Version};
use crate::store::core::{Known, KnownDetails, Stored};
use crate::store::data_dir::details_to_bytes;
use crate::store::end_time::EndTime;

/// A row of `sub_job`.
#[derive(Debug)]
pub(super) struct LockedRow {
    pub(super) job: JobHash,
    pub(super) job_type: JobType,
    pub(super) status: Status,
    pub(super) version: Version,
    pub(super) seq: i64,
    pub(super) end_time: Option<EndTime>,
    /// How many bytes its details have; `None`: it has no details.
    pub(super) details_length: Option<i32>,
    /// Its details, read only if a record may have the same ones.
    pub(super) details: Option<Vec<u8>>,
}

/// All rows that the changes of a transaction concern. No other transaction changes them.
#[derive(Debug, Default)]
pub(super) struct Locked {
    /// The projects' numbers in the database. A plan sees their positions.
    pub(super) projects: Vec<(ProjectId, i64)>,
    pub(super) rows: Vec<LockedRow>,
    /// The positions of the rows, by the position of the project and the identifier.
    pub(super) places: HashMap<(u32, SubJobId), usize>,
    /// The jobs that the changes name.
    pub(super) jobs: HashMap<JobHash, JobId>,
}

impl Locked {
    /// Adds a row that is locked.
    pub(super) fn add(&mut self, key: (u32, SubJobId), row: LockedRow) {
        self.places.insert(key, self.rows.len());
        self.rows.push(row);
    }

    /// The row of a subtask.
    pub(super) fn row(&self, project: u32, id: &SubJobId) -> Option<&LockedRow> {
        self.rows.get(*self.places.get(&(project, id.clone()))?)
    }

    /// The position of the row that differs from a record at most in its details, which have as many bytes as the record's.
    pub(super) fn place_to_compare(&self, project: u32, record: &SubJob) -> Option<usize> {
        let place = *self.places.get(&(project, record.id.clone()))?;
        let row = self.rows.get(place)?;
        let length = row.details_length?;
        let is_alike = (row.version, row.status, row.job_type) == (record.version, record.status, record.job_type)
            && row.job == JobHash::of(&record.job_id);
        let details = record.details.as_deref().filter(|_| is_alike)?;
        (details_to_bytes(details).len() == length as usize).then_some(place)
    }

    /// The position and the number of a project.
    pub(super) fn project_number(&self, id: &ProjectId) -> Option<(u32, i64)> {
        let at = self.projects.iter().position(|(known, _)| known == id)?;
        Some((at as u32, self.projects[at].1))
    }
}

impl Stored for Locked {
    fn project(&self, id: &ProjectId) -> Option<u32> {
        self.project_number(id).map(|(at, _)| at)
    }

    fn place(&self, project: u32, id: &SubJobId) -> Option<u32> {
        self.places.get(&(project, id.clone())).map(|place| *place as u32)
    }

    fn known(&self, _: u32, place: u32) -> Option<Known<'_>> {
        let row = self.rows.get(place as usize)?;
        Some(Known {
            job_id: self.jobs.get(&row.job),
            job_type: row.job_type,
            status: row.status,
            version: row.version,
            end_time: row.end_time,
            // A load stores a subtask once.
            is_settled: true,
            place: None,
            details: match row.details_length {
                Some(_) => KnownDetails::Stored(place.into()),
                None => KnownDetails::None,
            },
        })
    }

    fn has_details(&self, known: &Known<'_>, details: &Details) -> bool {
        let KnownDetails::Stored(place) = known.details else { return false };
        // Those that were not read have another length.
        self.rows.get(place as usize).and_then(|row| row.details.as_deref()) == Some(&*details_to_bytes(details))
    }

    fn ids(&self, project: u32) -> Vec<SubJobId> {
        let mut places: Vec<_> = self.places.iter().filter(|((of, _), _)| *of == project).collect();
        places.sort_unstable_by_key(|(_, place)| self.rows[**place].seq);
        places.into_iter().map(|((_, id), _)| id.clone()).collect()
    }

    fn has_capacity(&self, _: Option<u32>, _: usize) -> bool {
        true
    }
}
