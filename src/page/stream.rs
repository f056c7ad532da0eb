//! StreamOverview: `GET /overview/events`, the numbers of the page as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::api::Api;
use crate::overview::Published;
use crate::web::error::Error;
use crate::web::event_stream::event_stream;

/// The longest silence of a stream. After it the same numbers are sent again, so that the page knows that they are still right.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Answers with a stream: the overview now and after changes, until the server drains.
pub(super) async fn events(api: Arc<Api>) -> Result<Response, Error> {
    let readings = api.overview.follow()?;
    let (sender, events) = mpsc::channel(1);
    tokio::spawn(async move {
        let receiver_gone = sender.clone();
        tokio::select! {
            () = receiver_gone.closed() => {}
            _ = send(readings, sender) => {}
        }
    });
    Ok(event_stream(events))
}

/// Sends events until the caller is gone or the server drains. The history is sent with each new sample only.
async fn send(mut readings: watch::Receiver<Option<Published>>, sender: mpsc::Sender<Bytes>) -> Option<()> {
    let (mut tag, mut sample, mut sent) = (None, None, Instant::now());
    loop {
        readings.changed().await.ok()?;
        let reading = readings.borrow_and_update().clone()?;
        if tag != Some(reading.tag) || reading.is_last || sent.elapsed() >= MAX_SILENCE {
            let json = if sample == Some(reading.sample) { &reading.json_without_history } else { &reading.json };
            sender.send(event(json)).await.ok()?;
            (tag, sample, sent) = (Some(reading.tag), Some(reading.sample), Instant::now());
        }
        if reading.is_last {
            return None;
        }
    }
}

fn event(json: &[u8]) -> Bytes {
    [b"event: overview\ndata: ", json, b"\n\n"].concat().into()
}
