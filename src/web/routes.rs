//! What a listener's application knows of its path templates: metrics, time-outs, and operations that need no router.

use std::sync::Arc;

use axum::Router;
use http::Method;
use memchr::memmem;

use super::operation::{DirectCall, Operation, router};
use crate::metrics::{Listener, Metrics, RouteMetrics};
use crate::shards::Shards;

/// The operations of a listener, by path.
pub struct Routes {
    /// Answers every request that has a path template.
    pub router: Router,
    paths: matchit::Router<usize>,
    /// Finds `//`.
    empty_segment: memmem::Finder<'static>,
    known: Vec<Route>,
    unknown: RouteMetrics,
}

/// A path template.
struct Route {
    metrics: RouteMetrics,
    has_timeout: bool,
    /// Its operations that can be called without the router.
    direct: Vec<(Method, DirectCall)>,
}

impl Routes {
    /// The routes of a table, whose operations get that state.
    ///
    /// # Panics
    ///
    /// Those of [`router`].
    pub fn new<T: Clone + Send + Sync + 'static>(
        table: Vec<Operation<Arc<T>>>,
        state: &T,
        listener: Listener,
        metrics: &Metrics,
    ) -> Self {
        // Each request counts a reference to the state.
        let copy = || Arc::new(state.clone());
        let states = Arc::new(Shards::from_fn(|_| copy()));
        let (mut paths, mut known) = (matchit::Router::new(), Vec::<Route>::new());
        for Operation { path, method, is_long_poll, direct, .. } in &table {
            // It fails for a template that several rows share, which needs one label.
            if paths.insert(*path, known.len()).is_ok() {
                let (metrics, has_timeout) = (metrics.route(listener, path), !is_long_poll);
                known.push(Route { metrics, has_timeout, direct: Vec::new() });
            }
            let route = paths.at(path).ok().and_then(|found| known.get_mut(*found.value));
            if let (Some(route), Some(bind)) = (route, direct) {
                route.direct.push((method.clone(), bind(states.clone())));
            }
        }
        let (empty_segment, unknown) = (memmem::Finder::new(b"//"), metrics.route(listener, "unknown"));
        Self { router: router(table, copy()), paths, empty_segment, known, unknown }
    }

    /// The index of the template that matches the path, if any. Unlike in the router, a placeholder matches no empty segment.
    pub fn find(&self, path: &str) -> Option<usize> {
        // No template but `/` has an empty segment.
        let has_empty_segment =
            self.empty_segment.find(path.as_bytes()).is_some() || (path.ends_with('/') && path != "/");
        if has_empty_segment { None } else { self.paths.at(path).ok().map(|found| *found.value) }
    }

    /// The operation with that template and method, if it can be called without the router.
    pub fn direct(&self, index: Option<usize>, method: &Method) -> Option<&DirectCall> {
        let route = self.known.get(index?)?;
        route.direct.iter().find(|(known, _)| known == method).map(|(_, call)| call)
    }

    /// Whether the listener's time-out ends requests of the template with that index.
    pub fn has_timeout(&self, index: Option<usize>) -> bool {
        self.route(index).is_none_or(|route| route.has_timeout)
    }

    /// The metrics of a template by its index, or those of unknown paths.
    pub fn metrics(&self, index: Option<usize>) -> &RouteMetrics {
        self.route(index).map_or(&self.unknown, |route| &route.metrics)
    }

    fn route(&self, index: Option<usize>) -> Option<&Route> {
        index.and_then(|index| self.known.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::{Request, StatusCode};
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    const PATHS: [&str; 5] = ["/a", "/a/{x}/b", "/a/{x}/b/{y}", "/a/{x}/b/c", "/{x}/{y}/d"];

    fn table() -> Vec<Operation<Arc<()>>> {
        PATHS.into_iter().map(|path| Operation::new("", Method::GET, path, None, async |_, _| "")).collect()
    }

    fn routes() -> Routes {
        Routes::new(table(), &(), Listener::Public, &Metrics::new().unwrap())
    }

    fn label(routes: &Routes, path: &str) -> &'static str {
        routes.metrics(routes.find(path)).route()
    }

    fn status(path: &str) -> StatusCode {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        runtime.block_on(router(table(), Arc::default()).oneshot(request)).unwrap().status()
    }

    #[test]
    fn labels_are_the_templates() {
        let routes = routes();
        for (path, expected) in [
            ("/a", "/a"),
            ("/a/1/b", "/a/{x}/b"),
            ("/a/1/b/2", "/a/{x}/b/{y}"),
            ("/a/1/b/c", "/a/{x}/b/c"),
            ("/1/%2F/d", "/{x}/{y}/d"),
            ("/a/1/b/2/3", "unknown"),
        ] {
            assert_eq!(label(&routes, path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_with_an_empty_segment_is_unknown() {
        let routes = routes();
        for path in ["/a//b", "/a//b/c", "/a//b/1", "/a/1/b/", "//a", "/a/", "/a/x//b", "//", "//1/d", "/1//d"] {
            assert_eq!(label(&routes, path), "unknown", "{path}");
        }
    }

    proptest! {
        /// A path has a label exactly if the router finds it.
        #[test]
        fn labels_agree_with_the_router(path in prop_oneof!["(/[abcd%.]{0,2}){1,5}", "(/[abd]?){1,5}", "/a/[ab]?/b/?c?"]) {
            if routes().find(&path).is_some() {
                prop_assert_eq!(status(&path), StatusCode::OK, "{}", path);
            } else if !path.contains("//") && !path.ends_with('/') {
                prop_assert_eq!(status(&path), StatusCode::NOT_FOUND, "{}", path);
            }
        }
    }
}
