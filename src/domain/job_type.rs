//! The kinds of job, and sets of them.

/// The job types that the published API and its SDKs know; `CREATE_SERVER` to `UPGRADE_ACCESS_AGENT` are the four of the
/// operation's own page, the next twelve stand in the definition of the job detail, the last three in the SDKs only.
const BUILT_IN: [&str; 19] = [
    "CREATE_SERVER",
    "CREATE_SERVER_IMAGE",
    "DELETE_SERVER",
    "UPGRADE_ACCESS_AGENT",
    "UPDATE_FREEZE_STATUS",
    "REINSTALL_OS",
    "CHANGE_SERVER_IMAGE",
    "REJOIN_DOMAIN",
    "MIGRATE_SERVER",
    "UPDATE_SERVER_TSVI",
    "SCHEDULED_TASK",
    "COLLECT_HDA_LOG",
    "COLLECT_APS_LOG",
    "CREATE_SERVER_SNAPSHOT",
    "DELETE_SERVER_SNAPSHOT",
    "RESTORE_SERVER_SNAPSHOT",
    "BATCH_INSTALL_APP",
    "INSTALL_CES_AGENT",
    "UNINSTALL_CES_AGENT",
];

/// A job type, as its number in the [`JobTypes`] that parsed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobType(u8);

impl JobType {
    /// The number: below [`JobTypes::MAX`] and dense.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The type of which [`JobType::index`] gave this.
    pub fn from_index(index: usize) -> Self {
        debug_assert!(index < JobTypes::MAX);
        Self(index as u8)
    }
}

/// Every job type that this server knows, at most 64: the built-in ones and those the operator adds.
#[derive(Debug, Clone)]
pub struct JobTypes(Vec<Box<str>>);

impl Default for JobTypes {
    /// The built-in types alone.
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|&name| name.into()).collect())
    }
}

/// Why a job type cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobTypeError {
    /// A name is 1 to 64 of `A-Z`, `0-9` and `_`.
    #[error("job type {0:?} must be 1 to 64 of A-Z, 0-9 and _")]
    Name(String),
    /// There is no room for it.
    #[error("there can be at most 64 job types, of which 19 are built in")]
    TooMany,
}

impl JobTypes {
    /// The most there can be: a [`JobTypeSet`] has one bit each.
    pub const MAX: usize = 64;

    /// The built-in types and those of `added`; one that is known already adds nothing.
    pub fn new<S: AsRef<str>>(added: impl IntoIterator<Item = S>) -> Result<Self, JobTypeError> {
        let mut types = Self::default();
        for name in added {
            let name = name.as_ref();
            let valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
                return Err(JobTypeError::Name(name.into()));
            }
            if types.parse(name).is_none() {
                if types.len() == Self::MAX {
                    return Err(JobTypeError::TooMany);
                }
                types.0.push(name.into());
            }
        }
        Ok(types)
    }

    /// The type of that name, in exact case; `None` if there is none.
    pub fn parse(&self, name: &str) -> Option<JobType> {
        let index = self.0.iter().position(|known| **known == *name)?;
        Some(JobType(index as u8))
    }

    /// The name of a type that this list parsed.
    pub fn name(&self, job_type: JobType) -> &str {
        self.name_of(job_type.index())
    }

    /// The name of the type with that number in this list.
    pub fn name_of(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Every type, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = JobType> {
        (0..self.0.len()).map(|index| JobType(index as u8))
    }
}

/// A set of job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTypeSet(u64);

impl JobTypeSet {
    /// The set of every type.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether the type with this number is in the set.
    pub fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }
}

impl FromIterator<JobType> for JobTypeSet {
    fn from_iter<I: IntoIterator<Item = JobType>>(types: I) -> Self {
        Self(types.into_iter().fold(0, |bits, job_type| bits | 1 << job_type.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_types_are_bounded_and_checked() {
        let types = JobTypes::new(["NEW_1", "CREATE_SERVER", "NEW_1"]).unwrap();
        assert_eq!(types.len(), 20);
        assert_eq!(types.name(types.parse("NEW_1").unwrap()), "NEW_1");
        assert!(types.parse("new_1").is_none());
        for bad in ["", "a", "A-B", "É", &"A".repeat(65)] {
            assert_eq!(JobTypes::new([bad]).unwrap_err(), JobTypeError::Name(bad.into()));
        }
        let names = |n: usize| (0..n).map(|i| format!("T{i}")).collect::<Vec<_>>();
        assert_eq!(JobTypes::new(names(45)).unwrap().len(), 64);
        assert_eq!(JobTypes::new(names(46)).unwrap_err(), JobTypeError::TooMany);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let types = JobTypes::new((0..45).map(|i| format!("T{i}"))).unwrap();
        let last = types.parse("T44").unwrap();
        let set: JobTypeSet = [last, types.parse("DELETE_SERVER").unwrap(), last].into_iter().collect();
        let held: Vec<_> = (0..64).filter(|&i| set.contains(i)).collect();
        assert_eq!(held, [2, 63]);
        assert!((0..64).all(|i| JobTypeSet::ALL.contains(i)));
    }
}
