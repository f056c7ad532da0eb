//! What the server counts: projects, jobs, subtasks, and the filter of a count.
//!
//! Every type here is valid by construction and knows nothing of HTTP, of stores or of files.

mod clock;
mod family;
mod filter;
mod ids;
mod job_status;
mod job_type;
mod packed;
mod project_id;
mod status;
mod sub_job;
mod time_range;
mod timestamp;
mod wait_condition;

pub use clock::{Clock, SettableClock};
pub use family::{Family, UnknownFamily};
pub use filter::{CountFilter, JobFilter, MAX_COUNT};
pub use ids::{IdError, JobId, SubJobId};
pub use job_status::{JobStatus, StatusCounts, UnknownJobStatus};
pub use job_type::{JobType, JobTypeError, JobTypeSet, JobTypes};
pub use project_id::{ProjectId, ProjectIdError};
pub use status::{Status, StatusSet, UnknownStatus};
pub use sub_job::{Details, SubJob, Version, VersionError};
pub use time_range::TimeRange;
pub use timestamp::{NotRfc3339, Timestamp};
pub use wait_condition::{Comparison, Operator, WaitCondition};
