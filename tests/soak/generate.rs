//! Random reports.

use crate::model::{Project, Stored};
use crate::record::{Record, STATUSES, TYPES};
use crate::support::sample::Random;
use crate::time::{UnixMillis, Uptime, Window};

/// An end time in the year 2100: the subtask never expires.
const FAR_FUTURE: u32 = 4_102_444_800;

/// An end time in 2001: the subtask expires at the server's next pass.
const FAR_PAST: u32 = 1_000_000_000;

/// A subtask that may expire sooner than this is left alone.
const EXPIRY_MARGIN: UnixMillis = 2500;

/// A random report for one project, and the project's state after it, if it is applied now.
pub(crate) fn random_report(
    project: &Project,
    random: &mut Random,
    now: UnixMillis,
    up: Uptime,
) -> (Vec<Record>, Project) {
    let size = match random.below(20) {
        0..10 => 1 + random.below(5),
        10..16 => 10 + random.below(90),
        16..19 => 100 + random.below(400),
        _ => 1000,
    };
    let (mut batch, mut after) = (Vec::with_capacity(size), project.clone());
    after.newest_job += u32::from(random.below(8) == 0);
    // Some slots give no record now.
    for _ in 0..4 * size {
        if batch.len() == size {
            break;
        }
        if let Some(record) = random_record(&after, random, now, up) {
            after.apply(&[record], Window { from: now, to: now }, up);
            batch.push(record);
        }
    }
    (batch, after)
}

fn random_record(project: &Project, random: &mut Random, now: UnixMillis, up: Uptime) -> Option<Record> {
    let slot = random.below(project.slots().len());
    let Some(stored) = project.slots()[slot].filter(|stored| !stored.is_expired(now, up)) else {
        // An expired subtask, which is new to the server again, or one that never existed.
        let generation = if random.below(2) == 0 { 0 } else { now as u32 };
        let blank =
            Record { slot: slot as u32, generation, job: 0, job_type: 0, status: 0, version: 0, details: 0, end: None };
        let blank = Record { version: random.below(5) as u64, ..blank };
        return Some(modified(Stored { record: blank, end_time: None }, project, random, now));
    };
    let (old, never_expires) =
        (stored.record, stored.end_time.is_none_or(|end_time| end_time.retained_until() > now + 1_000_000_000));
    if !never_expires && (!stored.is_retained(now + EXPIRY_MARGIN) || random.below(10) > 0) {
        return None;
    }
    let (step, roll) = (1 + random.below(3) as u64, random.below(100));
    Some(match roll {
        0..10 => old,
        // A subtask that has expired would be created instead.
        10..20 if never_expires && old.version > 0 => {
            let version = old.version - step.min(old.version);
            modified(Stored { record: Record { version, ..old }, ..stored }, project, random, now)
        }
        20..25 => modified(stored, project, random, now),
        _ => modified(Stored { record: Record { version: old.version + step, ..old }, ..stored }, project, random, now),
    })
}

/// The same subtask with other fields.
fn modified(stored: Stored, project: &Project, random: &mut Random, now: UnixMillis) -> Record {
    let mut record = stored.record;
    if random.below(4) > 0 || record.job == 0 {
        record.status = random.below(STATUSES.len()) as u8;
    }
    if random.below(5) == 0 || record.job == 0 {
        record.job_type = random.below(TYPES.len()) as u8;
    }
    if random.below(10) == 0 || record.job == 0 {
        record.job = 1 + project.newest_job.saturating_sub(random.below(12) as u32);
    }
    record.details = random.below(2 * 8).saturating_sub(8) as u8;
    record.end = match random.below(20) {
        // A known end time in the far future need not be stated again.
        _ if record.has_ended() && project.never_expires && stored.end_time.is_none() => Some(FAR_FUTURE),
        0..3 => Some(FAR_FUTURE),
        _ if project.never_expires => None,
        3..6 => Some(FAR_PAST),
        6..9 => Some((now / 1000) as u32 - 2 + random.below(5) as u32),
        _ => None,
    };
    record
}
