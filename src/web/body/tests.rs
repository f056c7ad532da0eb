use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;
use crate::web::budget::{ByteBudget, Limits};
use crate::web::error::CredentialError;

const MAX: usize = 16 * 1024 * 1024;

fn budget(total: usize) -> Arc<ByteBudget> {
    ByteBudget::new(Limits { total, principal: total, unverified: total, all_unverified: total })
}

fn buffered_body(body: Body, budget: &Arc<ByteBudget>) -> Payload {
    Payload::buffered(body, MAX, HeldBytes::new(budget))
}

fn buffered(size: usize, budget: &Arc<ByteBudget>) -> Payload {
    buffered_body(Body::from(vec![b'x'; size]), budget)
}

/// A body of pieces: the size of each, and the time after the previous one.
fn in_pieces(pieces: Vec<(Duration, usize)>) -> Body {
    Body::from_stream(futures_util::stream::unfold(pieces.into_iter(), |mut pieces| async {
        let (pause, size) = pieces.next()?;
        sleep(pause).await;
        Some((Ok::<_, io::Error>(vec![b'x'; size]), pieces))
    }))
}

#[tokio::test]
async fn buffered_bytes_are_bounded_and_released() {
    let budget = budget(100);
    let (mut first, mut second) = (buffered(60, &budget), buffered(41, &budget));
    assert_eq!(first.read_all().await.map(|()| first.read().len()).unwrap(), 60);
    assert_eq!(first.read_all().await.map(|()| first.read().len()).unwrap(), 60);
    assert!(matches!(second.read_all().await, Err(Error::Unavailable(Unavailable::ReportsHeld))));
    assert!(buffered(40, &budget).read_all().await.is_ok());
    let (read, held) = first.into_bytes();
    assert_eq!(read.len(), 60);
    drop(read);
    assert!(buffered(41, &budget).read_all().await.is_err());
    drop(held);
    assert!(buffered(100, &budget).read_all().await.is_ok());
    assert!(buffered(0, &budget).read_all().await.is_ok());
}

#[tokio::test]
async fn a_body_has_its_limit_with_or_without_content_length() {
    let budget = budget(2 * MAX);
    assert!(buffered(MAX, &budget).read_all().await.is_ok());
    assert!(matches!(buffered(MAX + 1, &budget).read_all().await, Err(Error::TooLarge(MAX))));
    let unannounced = in_pieces(vec![(Duration::ZERO, 1024 * 1024); 17]);
    assert!(matches!(buffered_body(unannounced, &budget).read_all().await, Err(Error::TooLarge(_))));
    assert!(buffered_body(Body::from(vec![b'x'; MAX]), &budget).read_all().await.is_ok());
}

#[tokio::test]
async fn an_ignored_signed_body_has_at_most_64_kib() {
    let mut fits = Payload::ignored(Body::from(vec![b'x'; MAX_IGNORED]));
    let whole = ring::digest::digest(&SHA256, &vec![b'x'; MAX_IGNORED]);
    assert_eq!(fits.digest().await.unwrap(), whole.as_ref());
    assert_eq!(fits.digest().await.unwrap(), whole.as_ref());
    let mut too_large = Payload::ignored(Body::from(vec![b'x'; MAX_IGNORED + 1]));
    let refused = too_large.digest().await;
    assert!(matches!(refused, Err(Error::Credential(CredentialError::Signature(SignatureError::Body)))));
}

#[tokio::test(start_paused = true)]
async fn a_buffered_body_must_arrive_at_64_kib_a_second() {
    const KIB: usize = 1024;
    let second = |seconds: u64| Duration::from_secs(seconds);
    // The pieces, whether the body is accepted, and when that is decided.
    for (pieces, is_taken, after) in [
        // A slow link, a little above the minimum rate.
        (vec![(second(1), 70 * KIB); 40], true, 40),
        // A small body has the first window.
        (vec![(second(4), KIB)], true, 4),
        (vec![(second(4), KIB), (second(2), KIB)], false, 5),
        // Single bytes.
        (vec![(Duration::from_millis(100), 1); 1000], false, 5),
        // All but the last byte in one piece.
        (vec![(second(0), MAX - 1), (second(60), 1)], false, 10),
        // A long body that becomes slower.
        (vec![(second(1), 70 * KIB), (second(1), 300 * KIB), (second(4), 20 * KIB), (second(9), KIB)], false, 10),
    ] {
        let (budget, start) = (budget(MAX), Instant::now());
        let mut payload = buffered_body(in_pieces(pieces.clone()), &budget);
        let taken = payload.read_all().await;
        assert_eq!(taken.is_ok(), is_taken, "{pieces:?}");
        assert!(is_taken || matches!(taken, Err(Error::Unavailable(Unavailable::TimedOut))));
        assert_eq!(start.elapsed().as_secs(), after, "{pieces:?}");
        drop(payload);
        assert!(buffered(MAX, &budget).read_all().await.is_ok());
    }
}
