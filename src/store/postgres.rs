//! A store in a PostgreSQL database, which any number of replicas share.

mod check;
mod connect;
mod error;
mod migrate;
mod schema;
mod target;
mod url;

pub use self::check::{StoreCheck, check_database};
pub use self::migrate::{MigrateError, Migrated, migrate};
pub use self::target::{Target, TargetError};
pub use self::url::{StoreUrl, StoreUrlError};
