//! A listener's table of operations. The router, the route labels of the metrics and the permissions come from it.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;
use http::header::ALLOW;
use memchr::memchr;

use super::compress::compressed;
use super::decode::split_at_byte;
use super::error::Error;
use crate::access::Action;
use crate::metrics::{Listener, Metrics, RouteMetrics};

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
}

impl<S: Clone + Send + Sync + 'static> Operation<S> {
    /// The same operation, whose responses of more than 1 KiB are compressed for clients that accept that.
    pub fn compressed(self) -> Self {
        Self { handler: compressed(self.handler), ..self }
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

/// Finds the metrics of a request's path template.
pub struct RouteLabels {
    paths: matchit::Router<usize>,
    known: Vec<RouteMetrics>,
    /// Whether requests of each template have a time-out.
    has_timeout: Vec<bool>,
    unknown: RouteMetrics,
}

impl RouteLabels {
    /// The labels of a table's path templates.
    pub fn new<S>(table: &[Operation<S>], listener: Listener, metrics: &Arc<Metrics>) -> Self {
        let mut labels = Self {
            paths: matchit::Router::new(),
            known: Vec::new(),
            has_timeout: Vec::new(),
            unknown: metrics.route(listener, "unknown"),
        };
        for Operation { path, is_long_poll, .. } in table {
            // It fails for a template that several rows share, which needs one label.
            if labels.paths.insert(*path, labels.known.len()).is_ok() {
                labels.known.push(metrics.route(listener, path));
                labels.has_timeout.push(!is_long_poll);
            }
        }
        labels
    }

    /// The index of the template that matches the path, if any. Unlike in the router, a placeholder matches no empty segment.
    pub fn find(&self, path: &str) -> Option<usize> {
        let found = self.paths.at(path).ok()?;
        found.params.iter().all(|(_, segment)| !segment.is_empty()).then_some(*found.value)
    }

    /// Whether the listener's time-out ends requests of the template with that index.
    pub fn has_timeout(&self, index: Option<usize>) -> bool {
        index.and_then(|index| self.has_timeout.get(index)).is_none_or(|has_timeout| *has_timeout)
    }

    /// The metrics of a template by its index, or those of unknown paths.
    pub fn metrics(&self, number: Option<usize>) -> &RouteMetrics {
        number.and_then(|number| self.known.get(number)).unwrap_or(&self.unknown)
    }
}

/// The segment of a path at its template's `{name}`, undecoded.
pub fn path_segment<'p>(template: &str, path: &'p str, name: &str) -> Option<&'p str> {
    let is_name = |segment: &str| segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name);
    // Fast path: up to the first placeholder, template and path are the same.
    if let Some(first) = memchr(b'{', template.as_bytes())
        && is_name(split_at_byte(&template[first..], b'/').0)
    {
        return path.get(first..).map(|rest| split_at_byte(rest, b'/').0);
    }
    template.split('/').zip(path.split('/')).find(|(segment, _)| is_name(segment)).map(|(_, segment)| segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, StatusCode};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    const PATHS: [&str; 5] = ["/a", "/a/{x}/b", "/a/{x}/b/{y}", "/a/{x}/b/c", "/{x}/{y}/d"];

    fn table() -> Vec<Operation<()>> {
        let row = |path| Operation {
            id: "",
            method: Method::GET,
            path,
            action: None,
            is_long_poll: false,
            handler: get(async || ""),
        };
        PATHS.into_iter().map(row).collect()
    }

    fn labels() -> RouteLabels {
        RouteLabels::new(&table(), Listener::Public, &Arc::new(Metrics::new().unwrap()))
    }

    fn label(labels: &RouteLabels, path: &str) -> &'static str {
        labels.metrics(labels.find(path)).route()
    }

    fn status(path: &str) -> StatusCode {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        runtime.block_on(router(table(), ()).oneshot(request)).unwrap().status()
    }

    #[test]
    fn labels_are_the_templates() {
        let labels = labels();
        for (path, expected) in [
            ("/a", "/a"),
            ("/a/1/b", "/a/{x}/b"),
            ("/a/1/b/2", "/a/{x}/b/{y}"),
            ("/a/1/b/c", "/a/{x}/b/c"),
            ("/1/%2F/d", "/{x}/{y}/d"),
            ("/a/1/b/2/3", "unknown"),
        ] {
            assert_eq!(label(&labels, path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_with_an_empty_segment_is_unknown() {
        let labels = labels();
        for path in ["/a//b", "/a//b/c", "/a//b/1", "/a/1/b/", "//a", "/a/", "/a/x//b", "//", "//1/d", "/1//d"] {
            assert_eq!(label(&labels, path), "unknown", "{path}");
        }
    }

    #[test]
    fn one_path_may_have_several_methods() {
        let row = |method: Method, handler| Operation {
            id: "",
            method,
            path: "/a",
            action: None,
            is_long_poll: false,
            handler,
        };
        let table = vec![row(Method::GET, get(async || "")), row(Method::PATCH, axum::routing::patch(async || ""))];
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

    proptest! {
        /// A path has a label exactly if the router finds it.
        #[test]
        fn labels_agree_with_the_router(path in prop_oneof!["(/[abcd%.]{0,2}){1,5}", "(/[abd]?){1,5}", "/a/[ab]?/b/?c?"]) {
            if labels().find(&path).is_some() {
                prop_assert_eq!(status(&path), StatusCode::OK, "{}", path);
            } else if !path.contains("//") && !path.ends_with('/') {
                prop_assert_eq!(status(&path), StatusCode::NOT_FOUND, "{}", path);
            }
        }
    }
}
