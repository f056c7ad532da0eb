//! What both listeners share: how a request is instrumented, authorized and read, and how an error is answered.

pub mod authorize;
pub mod body;
pub mod budget;
pub mod call;
pub mod compress;
pub mod concurrency;
pub mod decode;
pub mod error;
pub mod host;
pub mod instrument;
pub mod operation;
pub mod request_id;
