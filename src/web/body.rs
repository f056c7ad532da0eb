//! Request bodies, of which never more is read than the operation takes.

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

/// How much of a body that means nothing is read.
const MAX_IGNORED: usize = 64 * 1024;

/// A body, and as much of it as has been read.
pub struct Payload {
    body: Body,
    read: Vec<u8>,
    kind: Kind,
}

enum Kind {
    /// It means nothing, but a signature may cover it.
    Ignored,
    /// It is what the request is about.
    Buffered { max: usize, held: HeldBytes },
}

impl Payload {
    /// A body that means nothing.
    pub fn ignored(body: Body) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Ignored }
    }

    /// A body of at most `max` bytes, which are held while it is.
    pub fn buffered(body: Body, max: usize, held: HeldBytes) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Buffered { max, held } }
    }

    /// Says whose bytes these are, and those that are still to come.
    pub fn set_owner(&mut self, owner: impl FnOnce() -> Owner) -> Result<(), Unavailable> {
        match &mut self.kind {
            Kind::Ignored => Ok(()),
            Kind::Buffered { held, .. } => held.set_owner(owner()),
        }
    }

    /// Reads it to its end, if that has not been done. One that is too long is refused: as a report with 413, elsewhere as
    /// nothing that can have been signed.
    pub async fn read_all(&mut self) -> Result<(), Error> {
        self.read_to_end(|_| ()).await
    }

    /// Reads it to its end, as [`Payload::read_all`] does, and digests it. Piece by piece as it comes, so that a long body does
    /// not keep others waiting.
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
        // What was announced is not held until it comes: untouched capacity takes no memory.
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

    /// The next piece. What is held must come at a pace; for what means nothing there is a time in all.
    async fn next(&mut self, rate: &mut MinimumRate) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, Unavailable> {
        match self.kind {
            Kind::Ignored => Ok(self.body.frame().await),
            Kind::Buffered { .. } => rate.frame(&mut self.body).await,
        }
    }

    fn max(&self) -> usize {
        match self.kind {
            Kind::Ignored => MAX_IGNORED,
            Kind::Buffered { max, .. } => max,
        }
    }

    fn too_large(&self) -> Error {
        match self.kind {
            Kind::Ignored => SignatureError::Body.into(),
            Kind::Buffered { max, .. } => Error::TooLarge(max),
        }
    }

    /// As much of it as has been read.
    pub fn read(&self) -> &[u8] {
        &self.read
    }

    /// What has been read, and what holds its bytes, of a body that is kept.
    pub fn into_bytes(self) -> (Vec<u8>, Option<HeldBytes>) {
        match self.kind {
            Kind::Ignored => (self.read, None),
            Kind::Buffered { held, .. } => (self.read, Some(held)),
        }
    }

    /// Reads what is left of a body that means nothing, at most 64 KiB of it, so that the connection can be used again. What
    /// is left after that is the connection's to deal with.
    pub async fn ignore(&mut self, permit: &mut Permit) -> Result<(), Unavailable> {
        // Hardly any request has one.
        if self.body.is_end_stream() { Ok(()) } else { Box::pin(permit.await_body(self.discard_rest())).await }
    }

    async fn discard_rest(&mut self) {
        let mut read = self.read.len();
        while !self.body.is_end_stream() && read <= MAX_IGNORED {
            match self.body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
                // The end, or a sender that has gone: neither changes the answer.
                _ => return,
            }
        }
    }
}

/// Why a body cannot be read: it ends too early, or it is not framed as it should be.
fn read_error(error: axum::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let is_lost = match (error.downcast_ref::<hyper::Error>(), error.downcast_ref::<io::Error>()) {
            (Some(error), _) => error.is_incomplete_message() || error.is_closed() || error.is_canceled(),
            // Bytes that are wrong are InvalidInput or InvalidData.
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
