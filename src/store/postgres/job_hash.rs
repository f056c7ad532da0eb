//! The key of a job in the database: the first 16 bytes of the SHA-256 of its identifier, as a `uuid`.

use bytes::BytesMut;
use ring::digest::{SHA256, digest};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::domain::JobId;

/// The key of a job. That two jobs of a project share one is refused by the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobHash([u8; 16]);

type BoxError = Box<dyn std::error::Error + Sync + Send>;

impl JobHash {
    pub(super) fn of(id: &JobId) -> Self {
        let digest = digest(&SHA256, id.to_string().as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        Self(bytes)
    }

    /// The lowest key of the range with that number, of `ranges` many equal ones.
    pub(super) fn start_of_range(number: u32, ranges: u32) -> Self {
        let start = u64::from(number) * (1 << 32) / u64::from(ranges.max(1));
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&(start as u32).to_be_bytes());
        Self(bytes)
    }

    pub(super) const HIGHEST: Self = Self([0xff; 16]);
}

impl ToSql for JobHash {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);

    to_sql_checked!();
}

impl FromSql<'_> for JobHash {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, BoxError> {
        Ok(Self(raw.try_into()?))
    }

    accepts!(UUID);
}
