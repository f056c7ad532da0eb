//! A reading as JSON, with or without the history.

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use super::history::{History, SAMPLE_INTERVAL};
use super::{Overview, Rates, Reading};
use crate::domain::{JobTypes, Status};
use crate::store::StoreKind;

/// A reading as JSON.
#[derive(Debug)]
pub struct OverviewJson {
    at: String,
    /// Everything that the object has after its moment, without its braces.
    state: String,
    history: String,
    /// The number of the last sample in the history.
    pub sample: u64,
}

impl OverviewJson {
    pub(super) fn new(reading: &Reading, history: &History, overview: &Overview) -> Self {
        let state = text(&StateFields::new(reading, overview));
        Self {
            at: format!("{:.3}", reading.at),
            state: state.strip_prefix('{').and_then(|state| state.strip_suffix('}')).unwrap_or_default().to_owned(),
            history: text(&HistoryFields(history)),
            sample: history.count(),
        }
    }

    /// The whole object.
    pub fn to_bytes(&self) -> Bytes {
        let Self { at, state, history, .. } = self;
        format!("{{\"at\":\"{at}\",{state},\"history\":{history}}}").into()
    }

    /// The object without its history.
    pub fn without_history(&self) -> Bytes {
        let Self { at, state, .. } = self;
        format!("{{\"at\":\"{at}\",{state}}}").into()
    }

    /// A hash of all but the moment: readings of the same state have the same.
    pub fn tag(&self) -> u64 {
        xxh3_64(format!("{}{}", self.state, self.history).as_bytes())
    }
}

fn text(value: &impl Serialize) -> String {
    // Neither numbers nor names can fail to be written.
    serde_json::to_string(value).unwrap_or_default()
}

/// The name of a kind of store in JSON.
fn kind(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Memory => "memory",
        StoreKind::DataDir => "data_dir",
        StoreKind::Postgres => "postgres",
    }
}

#[derive(serde::Serialize)]
struct StateFields<'a> {
    version: &'static str,
    started_at: String,
    store: &'static str,
    state: &'static str,
    reason: Option<String>,
    reports_storable: bool,
    drift: u64,
    verifications: u64,
    last_report_at: Option<String>,
    total: Option<u64>,
    by_status: Option<ByStatus>,
    by_type: Option<ByType<'a>>,
    types_without_subtasks: Vec<&'a str>,
    rates: Rates,
    refusals: Refusals<'a>,
}

impl<'a> StateFields<'a> {
    fn new(reading: &'a Reading, overview: &'a Overview) -> Self {
        let last_report = jiff::Timestamp::from_second(reading.activity.last_report).ok();
        let totals = reading.totals.as_deref();
        let types = &*overview.job_types;
        let is_empty = |counts: &[u64; Status::COUNT]| counts.iter().all(|count| *count == 0);
        let empty = types.iter().zip(totals.unwrap_or_default()).filter(|(_, counts)| is_empty(counts));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: format!("{:.3}", overview.started_at),
            store: kind(overview.store_kind()),
            state: reading.state.as_str(),
            reason: reading.state.reason(),
            reports_storable: reading.takes_reports,
            drift: reading.drift,
            verifications: reading.activity.verifications,
            last_report_at: last_report.filter(|at| at.as_second() > 0).map(|at| at.to_string()),
            total: reading.by_status().map(|counts| counts.iter().sum()),
            by_status: reading.by_status().map(|counts| ByStatus { counts, has_zeros: true }),
            by_type: totals.map(|totals| ByType { totals, types }),
            types_without_subtasks: empty.map(|(job_type, _)| types.label(job_type)).collect(),
            rates: reading.rates,
            refusals: Refusals(&reading.activity.refusals),
        }
    }
}

/// Counts by status, in the published order.
struct ByStatus {
    counts: [u64; Status::COUNT],
    has_zeros: bool,
}

impl Serialize for ByStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = Status::ALL.into_iter().zip(self.counts).filter(|(_, count)| self.has_zeros || *count > 0);
        serializer.collect_map(counts.map(|(status, count)| (status.as_str(), count)))
    }
}

/// The counts of each type that has subtasks, without zeros.
struct ByType<'a> {
    totals: &'a [[u64; Status::COUNT]],
    types: &'a JobTypes,
}

impl Serialize for ByType<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let types = self.types.iter().zip(self.totals).filter(|(_, counts)| counts.iter().any(|count| *count > 0));
        let counts = |counts: &[u64; Status::COUNT]| ByStatus { counts: *counts, has_zeros: false };
        serializer.collect_map(types.map(|(job_type, totals)| (self.types.label(job_type), counts(totals))))
    }
}

/// The refusals since the start, without zeros.
struct Refusals<'a>(&'a [(String, u64)]);

impl Serialize for Refusals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.0.iter().filter(|(_, count)| *count > 0);
        serializer.collect_map(counts.map(|(reason, count)| (reason, count)))
    }
}

/// The samples as a list for each line, oldest first. A number that is not known is `null`.
struct HistoryFields<'a>(&'a History);

impl Serialize for HistoryFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("interval_seconds", &SAMPLE_INTERVAL.as_secs())?;
        map.serialize_entry("by_status", &StatusLines(self.0))?;
        map.serialize_entry("rates", &RateLines(self.0))?;
        map.end()
    }
}

struct StatusLines<'a>(&'a History);

impl Serialize for StatusLines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |status: Status| {
            let counts = self.0.samples().map(|(sample, _)| sample.by_status.map(|counts| counts[status as usize]));
            counts.collect::<Vec<_>>()
        };
        serializer.collect_map(Status::ALL.into_iter().map(|status| (status.as_str(), line(status))))
    }
}

struct RateLines<'a>(&'a History);

impl Serialize for RateLines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = |of: fn(&Rates) -> f64| self.0.samples().map(|(_, rates)| of(rates)).collect::<Vec<_>>();
        serializer.collect_map([
            ("reports", line(|rates| rates.reports)),
            ("counts", line(|rates| rates.counts)),
            ("requests", line(|rates| rates.requests)),
            ("refusals", line(|rates| rates.refusals)),
        ])
    }
}
