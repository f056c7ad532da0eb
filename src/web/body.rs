//! Reading of request bodies, never more than the operation takes.

use axum::body::Body;
use http_body::Body as _;
use http_body_util::BodyExt as _;

/// How much of a body that means nothing is read, so that the connection can be used again.
const IGNORED: usize = 64 * 1024;

/// Reads a body that means nothing, at most 64 KiB of it. What is left is the connection's to deal with.
pub async fn ignore(mut body: Body) {
    let mut read = 0;
    while !body.is_end_stream() && read <= IGNORED {
        match body.frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
            // The end, or a sender that has gone: neither changes the answer.
            _ => return,
        }
    }
}
