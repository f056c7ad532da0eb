//! A listener's table of operations. The router, the route labels of the metrics and the permissions come from it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Method;
use http::header::ALLOW;

use super::compress::compressed;
use super::decode::split_at_byte;
use super::error::Error;
use crate::access::Action;
use crate::shards::Shards;

/// Calls an operation without the router.
pub type DirectCall = Box<dyn Fn(Request) -> BoxFuture<'static, Result<Response, Infallible>> + Send + Sync>;

/// Makes the [`DirectCall`] of an operation with that state.
pub type Bind<S> = Box<dyn Fn(Arc<Shards<S>>) -> DirectCall + Send + Sync>;

/// One row of the table: an operation.
pub struct Operation<S> {
    /// Its `operationId` in `docs/openapi.yaml`.
    pub id: &'static str,
    /// Its method. GET includes HEAD.
    pub method: Method,
    /// Its path template, in which `{name}` stands for one non-empty segment. It is the route label of the metrics.
    pub path: &'static str,
    /// The action that its caller needs permission for, if any.
    pub action: Option<Action>,
    /// Whether its answer is waited for: the listener's time-out does not end it, and HEAD is no method of it.
    pub is_long_poll: bool,
    /// Its handler.
    pub handler: MethodRouter<S>,
    /// Makes the same handler for requests with this method itself, if nothing is layered around it.
    pub direct: Option<Bind<S>>,
}

impl<S: Clone + Send + Sync + 'static> Operation<S> {
    /// An operation that `answer` answers.
    ///
    /// # Panics
    ///
    /// Those of [`method_filter`].
    pub fn new<F, R>(
        id: &'static str,
        method: Method,
        path: &'static str,
        action: Option<Action>,
        answer: impl Fn(S, Request) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let routed = answer.clone();
        let handler = on(method_filter(&method), move |State(state): State<S>, request| routed(state, request));
        let bind = move |states: Arc<Shards<S>>| -> DirectCall {
            let answer = answer.clone();
            // One function from here to the answer, because each call in between would move the request.
            Box::new(move |request| {
                answer(states.own().clone(), request).map(|answer| Ok(answer.into_response())).boxed()
            })
        };
        Self { direct: Some(Box::new(bind)), ..Self::routed(id, method, path, action, handler) }
    }

    /// An operation that only the router calls.
    pub fn routed(
        id: &'static str,
        method: Method,
        path: &'static str,
        action: Option<Action>,
        handler: MethodRouter<S>,
    ) -> Self {
        Self { id, method, path, action, is_long_poll: false, handler, direct: None }
    }

    /// The same operation, whose responses of more than 1 KiB are compressed for clients that accept that.
    pub fn compressed(self) -> Self {
        Self { handler: compressed(self.handler), direct: None, ..self }
    }
}

/// The filter of an operation's method.
///
/// # Panics
///
/// If the method is in neither RFC 9110 nor RFC 5789. A table has no such method.
pub fn method_filter(method: &Method) -> MethodFilter {
    // Every method of these documents has a filter.
    MethodFilter::try_from(method.clone()).expect("a standard method")
}

/// The router of a table. Unknown paths and methods get the error body that all errors have.
///
/// # Panics
///
/// If two rows have the same path and method, or path templates that conflict.
pub fn router<S: Clone + Send + Sync + 'static>(table: Vec<Operation<S>>, state: S) -> Router {
    let mut by_path: Vec<(&'static str, MethodRouter<S>, bool)> = Vec::new();
    for Operation { path, handler, is_long_poll, .. } in table {
        match by_path.iter_mut().find(|(known, ..)| *known == path) {
            Some((_, methods, _)) => *methods = std::mem::take(methods).merge(handler),
            None => by_path.push((path, handler, is_long_poll)),
        }
    }
    let routes = by_path.into_iter().fold(Router::new(), |router, (path, methods, is_long_poll)| {
        let methods = match is_long_poll {
            // A handler of GET gets HEAD too, unless that has one of its own.
            true => methods.on(MethodFilter::HEAD, only_get).fallback(only_get),
            false => methods.fallback(async || Error::Method),
        };
        router.route(path, methods)
    });
    routes.fallback(async || Error::Path).with_state(state)
}

/// Answers every other method where GET is the only one.
async fn only_get() -> impl IntoResponse {
    ([(ALLOW, "GET")], Error::Method)
}

/// The segment of a path at its template's `{name}`, undecoded.
pub fn path_segment<'p>(template: &str, path: &'p str, name: &str) -> Option<&'p str> {
    let is_name = |segment: &str| segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name);
    // Fast path: up to the first placeholder, template and path are the same. It is near, so a loop finds it soonest.
    if let Some(first) = template.bytes().position(|byte| byte == b'{')
        && template[first + 1..].strip_prefix(name).is_some_and(|rest| rest.starts_with('}'))
    {
        return path.get(first..).map(|rest| split_at_byte(rest, b'/').0);
    }
    template.split('/').zip(path.split('/')).find(|(segment, _)| is_name(segment)).map(|(_, segment)| segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt as _;

    #[test]
    fn one_path_may_have_several_methods() {
        let row = |method| Operation::new("", method, "/a", None, async |(), _| "");
        let table = vec![row(Method::GET), row(Method::PATCH)];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let router = router(table, ());
        for (method, status) in [("GET", 200), ("HEAD", 200), ("PATCH", 200), ("POST", 405)] {
            let request = Request::builder().method(method).uri("/a").body(Body::empty()).unwrap();
            let response = runtime.block_on(router.clone().oneshot(request)).unwrap();
            assert_eq!(response.status().as_u16(), status, "{method}");
        }
    }

    #[test]
    fn a_segment_is_found_by_its_name() {
        let template = "/v2/{project_id}/job/{job_id}";
        assert_eq!(path_segment(template, "/v2/p%41/job/j", "project_id"), Some("p%41"));
        assert_eq!(path_segment(template, "/v2/p/job/j", "job_id"), Some("j"));
        assert_eq!(path_segment(template, "/v2/p/job/j", "job"), None);
    }
}
