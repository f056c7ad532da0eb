//! Reads request bodies, up to the limit of the operation.

mod minimum_rate;

use std::io;

use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use ring::digest::{Context, SHA256};

use self::minimum_rate::MinimumRate;
use super::budget::{HeldBytes, Owner};
use super::concurrency::Permit;
use super::error::{Error, Unavailable};
use crate::access::{BodyDigest, SignatureError};

/// The most bytes that are read of a body that the operation ignores.
const MAX_IGNORED: usize = 64 * 1024;

/// A body, and the bytes of it that have been read.
pub struct Payload {
    body: Body,
    read: Vec<u8>,
    kind: Kind,
}

enum Kind {
    /// The operation ignores it, but a signature may cover it.
    Ignored,
    /// The operation needs it, and it is so small that the limit of requests bounds the bytes of all.
    Small { max: usize },
    /// The operation needs it.
    Buffered { max: usize, held: HeldBytes },
}

impl Payload {
    /// A body that the operation ignores.
    pub fn ignored(body: Body) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Ignored }
    }

    /// A body of at most `max` bytes, which nothing counts.
    pub fn small(body: Body, max: usize) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Small { max } }
    }

    /// A body of at most `max` bytes, which `held` counts.
    pub fn buffered(body: Body, max: usize, held: HeldBytes) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Buffered { max, held } }
    }

    /// Sets the owner of the bytes, those included that are yet to come.
    ///
    /// # Errors
    ///
    /// 503 if they exceed a limit of the owner.
    pub fn set_owner(&mut self, owner: impl FnOnce() -> Owner) -> Result<(), Unavailable> {
        match &mut self.kind {
            Kind::Ignored | Kind::Small { .. } => Ok(()),
            Kind::Buffered { held, .. } => held.set_owner(owner()),
        }
    }

    /// Reads the rest of it. A body that is too large is refused: with 413 if the operation needs it, else as one that cannot have
    /// been signed.
    ///
    /// # Errors
    ///
    /// 413 or 401 for a body that is too large, 400 for one that ends early, 503 for one that comes too slowly or exceeds a limit.
    pub async fn read_all(&mut self) -> Result<(), Error> {
        self.read_to_end(|_| ()).await
    }

    /// Reads the rest of it, as [`Payload::read_all`] does, and hashes it frame by frame, so that a long body blocks no other task.
    ///
    /// # Errors
    ///
    /// Those of [`Payload::read_all`].
    pub async fn digest(&mut self) -> Result<BodyDigest, Error> {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.read);
        self.read_to_end(|data| digest.update(data)).await?;
        let digest = digest.finish();
        let mut bytes = BodyDigest::default();
        bytes.copy_from_slice(digest.as_ref());
        Ok(bytes)
    }

    async fn read_to_end(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let max = self.max();
        let announced = self.body.size_hint().lower();
        if announced > max as u64 {
            return Err(self.too_large());
        }
        // Capacity that is not written to takes no memory, so it is not counted yet.
        self.read.reserve_exact(announced as usize);
        let mut rate = MinimumRate::begin();
        while let Some(frame) = self.next(&mut rate).await? {
            let frame = frame.map_err(read_error)?;
            let Some(data) = frame.data_ref() else { continue };
            if self.read.len() + data.len() > max {
                return Err(self.too_large());
            }
            if let Kind::Buffered { held, .. } = &mut self.kind {
                held.add(data.len())?;
            }
            rate.add(data.len());
            each(data);
            self.read.extend_from_slice(data);
        }
        Ok(())
    }

    /// The next frame. A buffered body must come at the minimum rate; for any other the caller has a time-out.
    async fn next(&mut self, rate: &mut MinimumRate) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Unavailable> {
        match self.kind {
            Kind::Ignored | Kind::Small { .. } => Ok(self.body.frame().await),
            Kind::Buffered { .. } => rate.frame(&mut self.body).await,
        }
    }

    fn max(&self) -> usize {
        match self.kind {
            Kind::Ignored => MAX_IGNORED,
            Kind::Small { max } | Kind::Buffered { max, .. } => max,
        }
    }

    fn too_large(&self) -> Error {
        match self.kind {
            Kind::Ignored => SignatureError::Body.into(),
            Kind::Small { max } | Kind::Buffered { max, .. } => Error::TooLarge(max),
        }
    }

    /// The bytes that have been read.
    pub fn read(&self) -> &[u8] {
        &self.read
    }

    /// The bytes that have been read, and what counts them if the body is buffered.
    pub fn into_bytes(self) -> (Vec<u8>, Option<HeldBytes>) {
        match self.kind {
            Kind::Ignored | Kind::Small { .. } => (self.read, None),
            Kind::Buffered { held, .. } => (self.read, Some(held)),
        }
    }

    /// Reads and drops the rest of an ignored body, at most 64 KiB, so that the connection can be reused. The HTTP layer deals with
    /// the rest of a longer one.
    ///
    /// # Errors
    ///
    /// 503 if the body takes too long, or too many bodies are awaited.
    pub async fn ignore(&mut self, permit: &mut Permit) -> Result<(), Unavailable> {
        // Fast path: hardly any request has a body.
        if self.body.is_end_stream() { Ok(()) } else { Box::pin(permit.await_body(self.discard_rest())).await }
    }

    async fn discard_rest(&mut self) {
        let mut read = self.read.len();
        while !self.body.is_end_stream() && read <= MAX_IGNORED {
            match self.body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
                // The end, or a lost connection: neither changes the response.
                _ => return,
            }
        }
    }
}

/// The error for a body that ends too early or is framed wrongly.
fn read_error(error: axum::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let is_lost = match (error.downcast_ref::<hyper::Error>(), error.downcast_ref::<io::Error>()) {
            (Some(error), _) => error.is_incomplete_message() || error.is_closed() || error.is_canceled(),
            // InvalidInput and InvalidData are wrong bytes, not a lost connection.
            (_, Some(error)) => !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData),
            _ => false,
        };
        if is_lost {
            return Error::IncompleteBody;
        }
        cause = error.source();
    }
    Error::input("body", format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
