//! The store as a plan reads it.

use std::sync::RwLockReadGuard;

use crossbeam_utils::sync::ShardedLockReadGuard;

use super::counter_table::CounterTable;
use super::deltas::ProjectNumber;
use super::locks::MemoryStore;
use super::records::{Cursor, Records};
use crate::domain::{Details, ProjectId, SubJobId};
use crate::store::core::{Known, KnownDetails, Stored};
use crate::store::end_time::EndTime;
use crate::store::types::StoreError;

/// The store at one moment. No change is applied while a view exists.
#[derive(Debug)]
pub(in crate::store) struct View<'a> {
    records: RwLockReadGuard<'a, Records>,
    counters: ShardedLockReadGuard<'a, CounterTable>,
    /// Reads the details; `None` if they are in memory.
    details: Option<&'a dyn DetailsReader>,
}

/// Reads details that are not in memory.
pub(in crate::store) trait DetailsReader: std::fmt::Debug {
    /// Whether the details at a location can be read and equal these.
    fn has_details(&self, location: u64, details: &Details) -> bool;
}

/// Subtasks of one project whose retention is over.
pub(in crate::store) type Expired = (ProjectId, Vec<SubJobId>);

impl MemoryStore {
    /// The store as it is now. `details` reads the details if they are not in memory.
    pub(in crate::store) fn view<'a>(&'a self, details: Option<&'a dyn DetailsReader>) -> Result<View<'a>, StoreError> {
        Ok(View { records: self.read_records()?, counters: self.read_counters()?, details })
    }
}

impl View<'_> {
    /// Finds subtasks that ended before a moment, at most `limit` among the next `most` records from `from` on. Also returns where to
    /// continue; 0 after the last record.
    pub(in crate::store) fn ended_before(
        &self,
        moment: EndTime,
        from: u64,
        most: u32,
        limit: usize,
    ) -> (Vec<Expired>, u64) {
        let (mut expired, mut count) = (Vec::<Expired>::new(), 0);
        let next = self.records.walk(Cursor::from_u64(from), most, |project, records, places| {
            let mut ended = Records::ended_before(records, moment, places);
            ended.truncate(limit - count);
            count += ended.len();
            let last = ended.last().map(|(at, _)| *at);
            if let Some((id, _)) = self.counters.project_at(project.0).filter(|_| !ended.is_empty()) {
                expired.push((id.clone(), ended.into_iter().map(|(_, id)| id).collect()));
            }
            last.filter(|_| count == limit).map(|last| last + 1)
        });
        (expired, next.map_or(0, Cursor::to_u64))
    }
}

impl Stored for View<'_> {
    fn project(&self, id: &ProjectId) -> Option<u32> {
        self.counters.project(id).map(|number| number.0)
    }

    fn place(&self, project: u32, id: &SubJobId) -> Option<u32> {
        self.records.find(ProjectNumber(project), id, None)
    }

    fn known(&self, project: u32, place: u32) -> Option<Known<'_>> {
        let project = ProjectNumber(project);
        let (records, record) = (self.records.project(project)?, self.records.get(project, place)?);
        Some(Known {
            job_id: Some(self.counters.job_id(record.job)),
            job_type: record.key.job_type(),
            status: record.key.status(),
            version: record.version,
            end_time: record.end_time,
            is_settled: place < records.settled,
            place: Some(place),
            details: if record.details > 0 { KnownDetails::Stored(record.details) } else { KnownDetails::None },
        })
    }

    fn has_details(&self, known: &Known<'_>, details: &Details) -> bool {
        let KnownDetails::Stored(location) = known.details else { return false };
        match self.details {
            Some(reader) => reader.has_details(location, details),
            None => self.records.details(location) == Some(details),
        }
    }

    fn ids(&self, project: u32) -> Vec<SubJobId> {
        let records = self.records.project(ProjectNumber(project));
        records.map_or_else(Vec::new, |records| records.iter_from(0).map(|(_, record)| record.id).collect())
    }

    fn has_capacity(&self, project: Option<u32>, more: usize) -> bool {
        let has_places = |project| self.records.has_capacity(ProjectNumber(project), more);
        project.is_none_or(has_places) && self.counters.has_capacity(more)
    }
}
