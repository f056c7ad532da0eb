//! StreamSummary, an operation of our own: `GET /subjobs/v1/{project_id}/events`, the summary as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::Internal;
use super::summary::authorize_reader;
use crate::api::Api;
use crate::api::query::{self, scope_action};
use crate::api::summary::Summary;
use crate::domain::{CountFilter, ProjectId};
use crate::web::call::Call;
use crate::web::error::Error;
use crate::web::event_stream::event_stream;
use crate::web::waiters::Waiter;

/// The template of its path.
pub(super) const PATH: &str = "/subjobs/v1/{project_id}/events";

/// The shortest time between two events of a stream.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// The longest silence of a stream, after which a comment keeps gateways and readers from taking it for dead.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// How often it is decided again whether the caller may read this.
const AUTHORIZE_INTERVAL: Duration = Duration::from_secs(60);

/// Answers with a stream: the summary now, unless the caller has it, and after changes, until the server drains.
pub(super) async fn events(State(internal): State<Arc<Internal>>, request: Request) -> Result<Response, Error> {
    let api = internal.api.clone();
    let call = authorize_reader(&api, PATH, request).await?;
    let call = call.with_input(|call| query::summary(call.query(), &api.job_types))?;
    let (mut call, filter) = call.in_existing_project()?;
    let waiter = api.waiters.try_acquire()?;
    call.prepare_to_wait();
    let known = last_event_id(call.headers());
    let (sender, receiver) = mpsc::channel(1);
    let stream = Stream { api, call, filter, known, sender, _waiter: waiter };
    tokio::spawn(async move {
        let receiver_gone = stream.sender.clone();
        tokio::select! {
            () = receiver_gone.closed() => {}
            _ = stream.run() => {}
        }
    });
    Ok(event_stream(receiver))
}

/// The revision of the last event that the caller has seen.
fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// One caller's stream.
struct Stream {
    api: Arc<Api>,
    call: Call<ProjectId>,
    filter: CountFilter,
    /// The revision that the caller has.
    known: Option<u64>,
    sender: mpsc::Sender<Bytes>,
    _waiter: Waiter,
}

impl Stream {
    /// Sends events until something ends the stream: the caller, a lost permission, a broken store, the drain.
    async fn run(mut self) -> Option<()> {
        let mut watch = self.api.store.watch(&self.call.project, None);
        let mut comment_at = Instant::now() + COMMENT_INTERVAL;
        let mut authorize_at = Instant::now() + AUTHORIZE_INTERVAL;
        loop {
            if authorize_at <= Instant::now() {
                let (access, action) = (self.api.access.load(), scope_action(self.call.uri()));
                self.call.authorize_again(Arc::clone(&access), action).await.ok()?;
                authorize_at = Instant::now() + AUTHORIZE_INTERVAL;
            }
            if self.send_news().await? {
                comment_at = Instant::now() + COMMENT_INTERVAL;
                sleep(EVENT_INTERVAL).await;
            } else if comment_at <= Instant::now() {
                self.sender.send(Bytes::from_static(b":\n\n")).await.ok()?;
                comment_at = Instant::now() + COMMENT_INTERVAL;
            }
            match timeout_at(comment_at.min(authorize_at), watch.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return None,
            }
        }
    }

    /// Sends the summary if the caller does not have it; whether it was sent.
    async fn send_news(&mut self) -> Option<bool> {
        let Api { store, job_types, .. } = &*self.api;
        let summary = Summary::read(store, job_types, &self.call.project, &self.filter).await.ok()?;
        let revision = summary.revision;
        if self.known == Some(revision) {
            return Some(false);
        }
        let event = format!("event: summary\nid: {revision}\ndata: {}\n\n", summary.to_json());
        self.sender.send(event.into()).await.ok()?;
        self.known = Some(revision);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::access::{AccessHandle, AccessSource, Token};
    use crate::domain::JobTypes;
    use crate::internal::ReportLimits;
    use crate::metrics::Metrics;
    use crate::overview::Overview;
    use crate::readiness::{Phase, Readiness};
    use crate::store::Store;
    use crate::web::concurrency::ConcurrencyLimit;
    use crate::web::waiters::Waiters;

    fn access(token: &str) -> String {
        let digest = Token::new(token.as_bytes()).unwrap().digest();
        format!(
            "[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n\
             tokens = [{{ sha256 = \"{digest}\" }}]\n"
        )
    }

    async fn text(body: &mut Body) -> Option<String> {
        let frame = body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_has_comments_and_ends_when_permission_is_lost() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, access("token")).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let source = AccessSource::File(file.path().into());
        let access_handle = AccessHandle::open(source, Vec::new(), metrics.identity().unwrap()).unwrap();
        let (job_types, readiness) = (Arc::new(JobTypes::default()), Arc::<Readiness>::default());
        let store = Arc::new(Store::in_memory(job_types.len()));
        let overview = Overview::new(store.clone(), metrics.clone(), readiness.clone(), job_types.clone());
        let api = Arc::new(Api {
            store,
            access: Arc::new(access_handle),
            job_types,
            readiness,
            limit: Arc::new(ConcurrencyLimit::new(1)),
            waiters: Arc::new(Waiters::new(1)),
            overview: Arc::new(overview),
        });
        api.readiness.enter(Phase::Ready);
        let report_limits = Arc::new(ReportLimits::new(Duration::ZERO));
        let internal = Arc::new(Internal { api: api.clone(), metrics, report_limits, reports: Arc::default() });
        let request = Request::get("/subjobs/v1/p/events").header("x-auth-token", "token").header("host", "h");
        let response = events(State(internal), request.body(Body::empty()).unwrap()).await.unwrap();

        let (start, mut body) = (Instant::now(), response.into_body());
        assert!(text(&mut body).await.unwrap().starts_with("event: summary\nid: 0\ndata: {"));
        for n in 1..=3 {
            assert_eq!(text(&mut body).await.as_deref(), Some(":\n\n"));
            assert_eq!(start.elapsed().as_secs(), n * COMMENT_INTERVAL.as_secs());
        }
        std::fs::write(&file, access("other")).unwrap();
        api.access.reload().unwrap();
        assert_eq!(text(&mut body).await, None);
        assert_eq!(start.elapsed().as_secs(), AUTHORIZE_INTERVAL.as_secs());
        // The ended task has released everything.
        tokio::task::yield_now().await;
        assert_eq!(api.waiters.waiting(), 0);
    }
}
