//! Request bodies, of which never more is read than the operation takes.

use std::sync::Arc;

use axum::body::Body;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use ring::digest::{Context, SHA256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Error, Unavailable};
use super::room::Place;
use crate::access::{BodyDigest, SignatureError};

/// How much of a body that means nothing is read.
const IGNORED: usize = 64 * 1024;

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
    Kept { max: usize, budget: Arc<Semaphore>, permits: Option<OwnedSemaphorePermit> },
}

impl Payload {
    /// A body that means nothing.
    pub fn ignored(body: Body) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Ignored }
    }

    /// A body of at most `max` bytes, for each of which `budget` has a permit.
    pub fn kept(body: Body, max: usize, budget: Arc<Semaphore>) -> Self {
        Self { body, read: Vec::new(), kind: Kind::Kept { max, budget, permits: None } }
    }

    /// Reads it to its end, if that has not been done. One that is too long is refused: as a report with 413, elsewhere as
    /// nothing that can have been signed.
    pub async fn whole(&mut self) -> Result<(), Error> {
        self.read_to_end(|_| ()).await
    }

    /// Reads it to its end, as [`Payload::whole`] does, and digests it. Piece by piece as it comes, so that a long body does
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
            return Err(self.too_long());
        }
        // What was announced is not held until it comes: untouched capacity takes no memory.
        self.read.reserve_exact(announced as usize);
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Error::input("body", format!("cannot be read: {error}")))?;
            let Some(data) = frame.data_ref() else { continue };
            if self.read.len() + data.len() > max {
                return Err(self.too_long());
            }
            if let Kind::Kept { budget, permits, .. } = &mut self.kind {
                // At most `max`, as just checked, so it fits.
                let more = budget.clone().try_acquire_many_owned(data.len() as u32);
                let more = more.map_err(|_| Unavailable::ReportsHeld)?;
                match permits {
                    Some(permits) => permits.merge(more),
                    None => *permits = Some(more),
                }
            }
            each(data);
            self.read.extend_from_slice(data);
        }
        Ok(())
    }

    fn max(&self) -> usize {
        match self.kind {
            Kind::Ignored => IGNORED,
            Kind::Kept { max, .. } => max,
        }
    }

    fn too_long(&self) -> Error {
        match self.kind {
            Kind::Ignored => SignatureError::Body.into(),
            Kind::Kept { max, .. } => Error::TooLarge(max),
        }
    }

    /// As much of it as has been read.
    pub fn read(&self) -> &[u8] {
        &self.read
    }

    /// Lets go of what has been read; its permits stay taken for as long as what is returned is held.
    pub fn into_permits(self) -> Option<OwnedSemaphorePermit> {
        match self.kind {
            Kind::Ignored => None,
            Kind::Kept { permits, .. } => permits,
        }
    }

    /// Reads what is left of a body that means nothing, at most 64 KiB of it, so that the connection can be used again. What
    /// is left after that is the connection's to deal with.
    pub async fn ignore(self, place: &mut Place<'_>) -> Result<(), Unavailable> {
        // Hardly any request has one.
        if self.body.is_end_stream() { Ok(()) } else { Box::pin(place.await_body(self.read_on())).await }
    }

    async fn read_on(mut self) {
        let mut read = self.read.len();
        while !self.body.is_end_stream() && read <= IGNORED {
            match self.body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
                // The end, or a sender that has gone: neither changes the answer.
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::error::CredentialError;

    const MAX: usize = 16 * 1024 * 1024;

    fn kept(size: usize, budget: &Arc<Semaphore>) -> Payload {
        Payload::kept(Body::from(vec![b'x'; size]), MAX, budget.clone())
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_given_back() {
        let budget = Arc::new(Semaphore::new(100));
        let (mut first, mut second) = (kept(60, &budget), kept(41, &budget));
        assert_eq!(first.whole().await.map(|()| first.read().len()).unwrap(), 60);
        assert_eq!(first.whole().await.map(|()| first.read().len()).unwrap(), 60);
        assert_eq!(budget.available_permits(), 40);
        assert!(matches!(second.whole().await, Err(Error::Unavailable(Unavailable::ReportsHeld))));
        assert!(kept(40, &budget).whole().await.is_ok());
        drop(first);
        assert_eq!(budget.available_permits(), 100);
        assert!(kept(0, &budget).whole().await.is_ok());
    }

    #[tokio::test]
    async fn a_body_has_its_bound_announced_or_not() {
        let budget = Arc::new(Semaphore::new(2 * MAX));
        assert!(kept(MAX, &budget).whole().await.is_ok());
        assert!(matches!(kept(MAX + 1, &budget).whole().await, Err(Error::TooLarge(MAX))));
        let chunks = (0..17).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024 * 1024]));
        let unannounced = Body::from_stream(futures_util::stream::iter(chunks));
        assert!(matches!(Payload::kept(unannounced, MAX, budget.clone()).whole().await, Err(Error::TooLarge(_))));
        assert_eq!(budget.available_permits(), 2 * MAX);
    }

    #[tokio::test]
    async fn of_a_body_that_means_nothing_64_kib_can_be_signed() {
        let mut fits = Payload::ignored(Body::from(vec![b'x'; IGNORED]));
        let whole = ring::digest::digest(&SHA256, &vec![b'x'; IGNORED]);
        assert_eq!(fits.digest().await.unwrap(), whole.as_ref());
        assert_eq!(fits.digest().await.unwrap(), whole.as_ref());
        let mut too_long = Payload::ignored(Body::from(vec![b'x'; IGNORED + 1]));
        let refused = too_long.digest().await;
        assert!(matches!(refused, Err(Error::Credential(CredentialError::Signature(SignatureError::Body)))));
    }
}
