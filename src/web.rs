//! What both listeners share: instrumentation, authorization, limits, bodies and error responses.

pub mod access_log;
pub mod answered;
pub mod authorize;
pub mod body;
pub mod budget;
pub mod call;
pub mod coding;
pub mod compress;
pub mod concurrency;
pub mod decode;
pub mod error;
pub mod etag;
pub mod event_stream;
pub mod faults;
pub mod host;
pub mod instrument;
pub mod media_type;
pub mod observers;
pub mod operation;
pub mod request_id;
pub mod routes;
pub mod traces;
pub mod waiters;
