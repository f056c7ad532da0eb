//! A store in a PostgreSQL database, which any number of replicas share.

mod check;
mod connect;
mod error;
mod export;
mod migrate;
mod schema;
mod target;
mod url;

pub use self::check::{StoreCheck, check_database};
pub use self::error::DatabaseError;
pub use self::export::export_database;
pub use self::migrate::{Migrated, migrate};
pub use self::target::{Target, TargetError};
pub use self::url::{StoreUrl, StoreUrlError};
