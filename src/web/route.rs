//! A listener's table of routes: from it come the router and the names in the metrics.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, any};
use memchr::memchr;

use super::error::Error;
use crate::metrics::{Listener, Metrics, RouteMetrics};

/// One route: the path as the router writes it, and what answers.
pub struct Route<S> {
    /// `{name}`, at most once, stands for one segment, which is not empty.
    pub path: &'static str,
    /// By method.
    pub methods: MethodRouter<S>,
}

/// The router of a table. Unknown paths and methods are answered as every other error is.
pub fn router<S: Clone + Send + Sync + 'static>(table: Vec<Route<S>>, state: S) -> Router {
    let mut router = Router::new();
    for Route { path, methods } in table {
        // The router takes an empty segment for a `{name}`, save at the end; here it is no such path.
        if path.contains("}/") {
            router = router.route(&without_names(path), any(async || Error::Path));
        }
        router = router.route(path, methods.fallback(async || Error::Method));
    }
    router.fallback(async || Error::Path).with_state(state)
}

/// The path with nothing where its one `{name}` stands.
fn without_names(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// The metrics of every route of a table, found by a request's path.
#[derive(Debug)]
pub struct RouteNames {
    known: Vec<(Pattern, RouteMetrics)>,
    other: RouteMetrics,
}

impl RouteNames {
    /// The names of a table's routes.
    pub fn new<S>(table: &[Route<S>], listener: Listener, metrics: &Arc<Metrics>) -> Self {
        let known = table.iter().map(|route| (Pattern::new(route.path), metrics.route(listener, route.path)));
        Self { known: known.collect(), other: metrics.route(listener, "unknown") }
    }

    /// The number of the route that a path leads to.
    pub fn find(&self, path: &str) -> usize {
        self.known.iter().position(|(route, _)| route.matches(path)).unwrap_or(self.unknown())
    }

    /// The number of what is no route.
    pub fn unknown(&self) -> usize {
        self.known.len()
    }

    /// The metrics of a route by its number, `unknown` if it leads nowhere.
    pub fn metrics(&self, number: usize) -> &RouteMetrics {
        self.known.get(number).map_or(&self.other, |(_, metrics)| metrics)
    }
}

/// A route's path, taken apart once: what stands before its placeholder and, if it has one, what stands behind.
#[derive(Debug)]
struct Pattern {
    before: &'static str,
    behind: Option<&'static str>,
}

impl Pattern {
    fn new(route: &'static str) -> Self {
        let (before, placeholder) = route.split_once('{').map_or((route, None), |(before, rest)| (before, Some(rest)));
        Self { before, behind: placeholder.and_then(|rest| rest.split_once('}')).map(|(_, behind)| behind) }
    }

    /// Whether the router would send `path` to the route.
    fn matches(&self, path: &str) -> bool {
        let Some(behind) = self.behind else { return path == self.before };
        let segment = path.strip_prefix(self.before).and_then(|rest| rest.strip_suffix(behind));
        segment.is_some_and(|segment| !segment.is_empty() && memchr(b'/', segment.as_bytes()).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, StatusCode};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    fn table() -> Vec<Route<()>> {
        ["/a", "/a/{x}/b", "/a/{x}/b/c"].into_iter().map(|path| Route { path, methods: get(async || "") }).collect()
    }

    fn status(path: &str) -> StatusCode {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        runtime.block_on(router(table(), ()).oneshot(request)).unwrap().status()
    }

    #[test]
    fn an_empty_segment_is_no_such_path() {
        for path in ["/a//b", "/a//b/c", "//a", "/a/", "/a/x//b", "/a/x/b/", "//"] {
            assert_eq!(status(path), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(status("/a/x/b"), StatusCode::OK);
    }

    proptest! {
        /// A name in the metrics is never that of another route than the one that answers.
        #[test]
        fn names_agree_with_the_router(path in prop_oneof!["(/[abc%.]{0,2}){1,5}", "(/[ab]?){1,5}", "/a/[ab]?/b/?c?"]) {
            let named = table().iter().any(|route| Pattern::new(route.path).matches(&path));
            prop_assert_eq!(status(&path) == StatusCode::OK, named, "{}", path);
        }
    }
}
