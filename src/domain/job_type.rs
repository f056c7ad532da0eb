//! The kinds of job, and sets of them.

use super::Family;

/// The built-in job types, by label. Those of app servers come first: `CREATE_SERVER` to `UPGRADE_ACCESS_AGENT` are the four of
/// the page of CountSubJobs, the next twelve stand in the definition of the job detail, the last three in the SDKs only. Those
/// of image servers follow: the three of the page of CountImageSubJobs, then the others of the image operations.
const BUILT_IN: [&str; 26] = [
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
    "image:CREATE_SERVER",
    "image:CREATE_SERVER_IMAGE",
    "image:DELETE_SERVER",
    "image:BUILD_IMAGE",
    "image:GENERATE_IMAGE",
    "image:DELETE_IMAGE_BUILD_SERVER",
    "image:DELETE_IMAGE",
];

/// The prefix of the name of an image server's type in its label. No name has a colon.
const IMAGE_PREFIX: &str = "image:";

/// The numbers of the types of image servers.
const IMAGE_TYPES: std::ops::Range<u8> = 19..26;

/// A job type, as its number in the [`JobTypes`] that parsed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobType(u8);

impl JobType {
    /// The number: below [`JobTypes::MAX`] and dense.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The type with this [`JobType::index`].
    pub fn from_index(index: usize) -> Self {
        debug_assert!(index < JobTypes::MAX);
        Self(index as u8)
    }

    /// Whose type it is.
    pub fn family(self) -> Family {
        if IMAGE_TYPES.contains(&self.0) { Family::Image } else { Family::App }
    }
}

/// Every job type that this server knows, at most 64: the built-in ones and those of app servers that the operator adds.
///
/// They are kept by label: the name, with `image:` before it if it is a type of image servers.
#[derive(Debug, Clone)]
pub struct JobTypes(Vec<Box<str>>);

impl Default for JobTypes {
    /// The built-in types alone.
    fn default() -> Self {
        Self(BUILT_IN.iter().map(|&label| label.into()).collect())
    }
}

/// Why a job type cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobTypeError {
    /// A name is 1 to 64 of `A-Z`, `0-9` and `_`.
    #[error("job type {0:?} must be 1 to 64 of A-Z, 0-9 and _")]
    Name(String),
    /// There is no room for it.
    #[error("there can be at most 64 job types, of which 26 are built in")]
    TooMany,
}

impl JobTypes {
    /// The most there can be: a [`JobTypeSet`] has one bit each.
    pub const MAX: usize = 64;

    /// The built-in types and those of `added`, which are of app servers; one that is known already adds nothing.
    ///
    /// # Errors
    ///
    /// If a name is malformed, or there are more than [`Self::MAX`] types.
    pub fn new<S: AsRef<str>>(added: impl IntoIterator<Item = S>) -> Result<Self, JobTypeError> {
        let mut types = Self::default();
        for name in added {
            let name = name.as_ref();
            let valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
                return Err(JobTypeError::Name(name.into()));
            }
            if types.parse(Family::App, name).is_none() {
                if types.len() == Self::MAX {
                    return Err(JobTypeError::TooMany);
                }
                types.0.push(name.into());
            }
        }
        Ok(types)
    }

    /// The family's type of that name, in exact case; `None` if there is none.
    pub fn parse(&self, family: Family, name: &str) -> Option<JobType> {
        self.of_family(family).find(|job_type| self.name(*job_type) == name)
    }

    /// The name of a type that this list parsed. Types of different families may have one name.
    pub fn name(&self, job_type: JobType) -> &str {
        let label = self.label(job_type);
        match job_type.family() {
            Family::App => label,
            Family::Image => &label[IMAGE_PREFIX.len()..],
        }
    }

    /// The label of a type, which no other one has: `BUILD_IMAGE` of image servers is `image:BUILD_IMAGE`.
    pub fn label(&self, job_type: JobType) -> &str {
        &self.0[job_type.index()]
    }

    /// The type with that label; `None` if there is none.
    pub fn parse_label(&self, label: &str) -> Option<JobType> {
        let index = self.0.iter().position(|known| **known == *label)?;
        Some(JobType(index as u8))
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

    /// Every type of a family, in the order of their numbers.
    pub fn of_family(&self, family: Family) -> impl Iterator<Item = JobType> {
        self.iter().filter(move |job_type| job_type.family() == family)
    }
}

/// A set of job types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobTypeSet(u64);

impl JobTypeSet {
    /// The set of every type.
    pub const ALL: Self = Self(u64::MAX);

    /// The types of image servers.
    pub const IMAGE: Self = Self((1 << IMAGE_TYPES.end) - (1 << IMAGE_TYPES.start));

    /// The types of app servers.
    pub const APP: Self = Self(!Self::IMAGE.0);

    /// The types that CountImageSubJobs counts where none is named: CREATE_SERVER, CREATE_SERVER_IMAGE and DELETE_SERVER of
    /// image servers.
    pub const COUNTED_IMAGE: Self = Self(0b111 << IMAGE_TYPES.start);

    /// Every type of a family.
    pub const fn of_family(family: Family) -> Self {
        match family {
            Family::App => Self::APP,
            Family::Image => Self::IMAGE,
        }
    }

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
        assert_eq!(types.len(), 27);
        assert_eq!(types.name(types.parse(Family::App, "NEW_1").unwrap()), "NEW_1");
        assert!(types.parse(Family::App, "new_1").is_none());
        for bad in ["", "a", "A-B", "É", "image:CREATE_SERVER", &"A".repeat(65)] {
            assert_eq!(JobTypes::new([bad]).unwrap_err(), JobTypeError::Name(bad.into()));
        }
        let names = |n: usize| (0..n).map(|i| format!("T{i}")).collect::<Vec<_>>();
        assert_eq!(JobTypes::new(names(38)).unwrap().len(), 64);
        assert_eq!(JobTypes::new(names(39)).unwrap_err(), JobTypeError::TooMany);
    }

    #[test]
    fn a_set_contains_the_inserted_types() {
        let types = JobTypes::new((0..38).map(|i| format!("T{i}"))).unwrap();
        let last = types.parse(Family::App, "T37").unwrap();
        let set: JobTypeSet = [last, types.parse(Family::App, "DELETE_SERVER").unwrap(), last].into_iter().collect();
        let held: Vec<_> = (0..64).filter(|&i| set.contains(i)).collect();
        assert_eq!(held, [2, 63]);
        assert!((0..64).all(|i| JobTypeSet::ALL.contains(i)));
    }

    #[test]
    fn families_share_names_but_no_type() {
        let types = JobTypes::new(["BUILD_IMAGE", "LATER"]).unwrap();
        for family in Family::ALL {
            for job_type in types.of_family(family) {
                assert_eq!(job_type.family(), family);
                assert_eq!(types.parse(family, types.name(job_type)), Some(job_type));
                assert_eq!(types.parse_label(types.label(job_type)), Some(job_type));
                assert!(JobTypeSet::of_family(family).contains(job_type.index()));
            }
        }
        assert_eq!(types.of_family(Family::App).count() + types.of_family(Family::Image).count(), types.len());
        assert!((0..64).all(|at| JobTypeSet::APP.contains(at) != JobTypeSet::IMAGE.contains(at)));
        let names = |set: JobTypeSet| {
            let named = types.of_family(Family::Image).filter(move |job_type| set.contains(job_type.index()));
            named.map(|job_type| types.name(job_type)).collect::<Vec<_>>()
        };
        let counted = ["CREATE_SERVER", "CREATE_SERVER_IMAGE", "DELETE_SERVER"];
        let others = ["BUILD_IMAGE", "GENERATE_IMAGE", "DELETE_IMAGE_BUILD_SERVER", "DELETE_IMAGE"];
        assert_eq!(names(JobTypeSet::COUNTED_IMAGE), counted);
        assert_eq!(names(JobTypeSet::IMAGE), [&counted[..], &others].concat());
        assert_eq!(types.parse(Family::Image, "UPGRADE_ACCESS_AGENT"), None);
        assert_eq!(types.parse(Family::Image, "LATER"), None);
        assert_eq!(types.parse(Family::Image, "image:BUILD_IMAGE"), None);
        assert_eq!(types.label(types.parse(Family::Image, "BUILD_IMAGE").unwrap()), "image:BUILD_IMAGE");
        assert_eq!(types.label(types.parse(Family::App, "BUILD_IMAGE").unwrap()), "BUILD_IMAGE");
        assert_eq!(JobTypes::default().parse(Family::App, "BUILD_IMAGE"), None);
    }
}
