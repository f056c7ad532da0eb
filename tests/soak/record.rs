//! A subtask as it is reported.

/// The statuses, in the order of the numbers used here.
pub(crate) const STATUSES: [&str; 7] = ["WAITING", "RUNNING", "SUCCESS", "FAILED", "ABNORMAL", "ROLLBACK", "ABORTING"];

/// Some job types.
pub(crate) const TYPES: [&str; 5] =
    ["CREATE_SERVER", "DELETE_SERVER", "REINSTALL_OS", "REJOIN_DOMAIN", "UNINSTALL_CES_AGENT"];

/// What is reported of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its slot in the project, which has one subtask after the other.
    pub(crate) slot: u32,
    /// Which of the slot's subtasks it is.
    pub(crate) generation: u32,
    pub(crate) job: u32,
    pub(crate) job_type: u8,
    pub(crate) status: u8,
    pub(crate) version: u64,
    /// Which details it has; zero for none but perhaps the end.
    pub(crate) details: u8,
    /// When it ended, if that is said: in seconds since the beginning of 1970.
    pub(crate) end: Option<u32>,
}

impl Record {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(STATUSES[self.status as usize], "SUCCESS" | "FAILED" | "ABNORMAL")
    }

    /// Names of all the forms that the server stores in ways of their own.
    pub(crate) fn id(&self) -> String {
        let Self { slot, generation, .. } = self;
        match slot % 4 {
            0 => format!("{slot:08x}-{generation:04x}-4000-a000-2b31ed520ab1"),
            1 => format!("{slot:016x}{generation:016x}"),
            2 => format!("s{slot}.{generation}"),
            _ => format!("Teilaufgabe äöü {slot} of a name that is too long to be packed, {generation}"),
        }
    }

    /// The record as JSON.
    pub(crate) fn json(&self) -> String {
        let (id, job, version) = (self.id(), job_id(self.job), self.version);
        let (job_type, status) = (TYPES[self.job_type as usize], STATUSES[self.status as usize]);
        let mut json = format!(
            r#"{{"id":"{id}","job_id":"{job}","job_type":"{job_type}","status":"{status}","version":{version}"#
        );
        let kind = self.details;
        if kind & 1 != 0 {
            json += &format!(r#","begin_time":"2022-03-07T10:40:43.{kind:03}Z""#);
        }
        if let Some(end) = self.end {
            let end = jiff::Timestamp::from_second(end.into()).unwrap();
            json += &format!(r#","end_time":"{end}""#);
        }
        if kind & 2 != 0 {
            json += &format!(r#","job_resource_info":{{"resource_id":"r{kind}","resource_name":"a desktop"}}"#);
        }
        if kind & 4 != 0 {
            json += &format!(r#","error_code":"E{kind}","error_message":"{}""#, "no room ".repeat(kind.into()));
        }
        json + "}"
    }
}

/// The identifier of a job.
pub(crate) fn job_id(job: u32) -> String {
    match job % 2 {
        0 => format!("{job:08x}-0000-4000-a000-2b31ed520ab1"),
        _ => format!("job-{job}"),
    }
}
