//! What both listeners share: how a request is observed, admitted and read, and how an error is answered.

pub mod admit;
pub mod body;
pub mod budget;
pub mod decode;
pub mod error;
pub mod host;
pub mod observe;
pub mod request_id;
pub mod room;
pub mod route;
