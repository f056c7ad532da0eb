//! The page, without a browser: its headers, its files, and what it says without JavaScript.

use subjobs::access::AccessSource;
use subjobs::config::Config;
use subjobs::demo::Demo;

use crate::http::overview::report_some;
use crate::support::connection::{Connection, exchange, request};
use crate::support::fixtures::{DASHBOARD, OPS, PROJECT, WORKER, code, config, record};
use crate::support::server::Running;

const FILES: [(&str, &str); 9] = [
    ("page.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml"),
    ("main.js", "text/javascript; charset=utf-8"),
    ("live.js", "text/javascript; charset=utf-8"),
    ("overview.js", "text/javascript; charset=utf-8"),
    ("table.js", "text/javascript; charset=utf-8"),
    ("chart.js", "text/javascript; charset=utf-8"),
    ("lookup.js", "text/javascript; charset=utf-8"),
    ("format.js", "text/javascript; charset=utf-8"),
];

fn get(path: &str) -> String {
    request("GET", path, "", &[])
}

#[tokio::test]
async fn the_page_and_its_files_have_strict_headers() {
    let server = Running::start(config()).await;
    let files = FILES.iter().map(|(name, media_type)| (format!("/page/{name}"), *media_type));
    for (path, media_type) in files.chain([("/".to_owned(), "text/html; charset=utf-8")]) {
        let response = exchange(server.internal, get(&path)).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(media_type)), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(response.header(name), Some(value), "{path}");
        }
        let policy: Vec<_> = response.header("content-security-policy").unwrap().split("; ").collect();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(&directive), "{path}: {policy:?}");
        }
        assert!(!policy.concat().contains("unsafe") && !policy.concat().contains("http"), "{policy:?}");
        assert_eq!(response.header("x-request-id").map(str::len), Some(32), "{path}");

        let mut connection = Connection::open(server.internal).await;
        connection.send(request("HEAD", &path, "", &["X-Request-Id: mine"])).await;
        let head = connection.response_to_head().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some(media_type)), "HEAD {path}");
        assert_eq!(head.header("x-request-id"), Some("mine"));
        assert!(connection.received().is_empty(), "HEAD {path} has a body");
    }
    exchange(server.internal, get("/page/none.js")).await.assert_error(404, code::NOT_FOUND);
}

#[tokio::test]
async fn the_page_has_no_inline_script_or_style() {
    let server = Running::start(config()).await;
    let page = exchange(server.internal, get("/")).await.text().to_owned();
    for inline in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://", "{{"] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/page/").count());
    // A browser without JavaScript would send named inputs in a URL.
    let inputs = page.split('<').filter(|tag| tag.starts_with("input") || tag.starts_with("select"));
    assert!(inputs.clone().count() > 3 && inputs.clone().all(|tag| !tag.contains(" name=")), "an input has a name");
}

#[tokio::test]
async fn the_page_shows_the_numbers_without_javascript() {
    let server = Running::start(config()).await;
    let empty = exchange(server.internal, get("/")).await.text().to_owned();
    let cells = |counts: [u64; 8]| {
        let cell = |count| if count == 0 { "<td class=\"zero\">0</td>".into() } else { format!("<td>{count}</td>") };
        counts.map(cell).concat()
    };
    let sums = |counts| format!("<th scope=\"row\">all types</th>{}", cells(counts));
    assert!(empty.contains(&sums([0; 8])), "{empty}");
    report_some(&server).await;
    let page = exchange(server.internal, get("/")).await.text().to_owned();
    for row in [
        format!("<th scope=\"row\">CREATE_SERVER</th>{}", cells([0, 2, 1, 0, 0, 0, 0, 3])),
        format!("<th scope=\"row\">REJOIN_DOMAIN</th>{}", cells([0, 0, 0, 0, 0, 0, 1, 1])),
        format!("<th scope=\"row\">image:BUILD_IMAGE</th>{}", cells([0, 0, 0, 1, 0, 0, 0, 1])),
        sums([0, 2, 1, 1, 0, 0, 1, 5]),
    ] {
        assert!(page.contains(&row), "{row}: {page}");
    }
    assert!(!page.contains("<th scope=\"row\">DELETE_SERVER"), "a type without subtasks has a row");
    assert!(page.contains("DELETE_SERVER"), "a type without subtasks is named");
}

#[tokio::test]
async fn the_public_listener_has_the_page_with_demo_only() {
    let paths = ["/", "/page/main.js", "/overview", "/overview/events"];
    let server = Running::start(config()).await;
    for path in paths {
        exchange(server.public, get(path)).await.assert_error(404, code::NOT_FOUND);
    }
    let demo = Demo::with_token("demo-token".into());
    let access = AccessSource::Text(demo.access());
    let server = Running::start(Config { demo: Some(demo), ..Config::on_any_port(access) }).await;
    for address in [server.public, server.internal] {
        for path in paths {
            let mut connection = Connection::open(address).await;
            connection.send(get(path)).await;
            assert_eq!(connection.response_to_head().await.status, 200, "{path}");
        }
    }
    // It links to nothing that the listener does not have.
    assert!(!exchange(server.public, get("/")).await.text().contains("\"/metrics\""));
    assert!(exchange(server.internal, get("/")).await.text().contains("\"/metrics\""));
}

#[tokio::test]
async fn the_internal_listener_has_the_summary_with_the_same_authorization() {
    let server = Running::start(config()).await;
    let body = record("1", "j", "CREATE_SERVER", "RUNNING");
    assert_eq!(server.report(OPS, body).send().await.unwrap().status(), 200);
    let path = format!("/subjobs/v1/{PROJECT}/summary");
    for (query, token, status) in [
        ("", OPS, 200),
        ("", DASHBOARD, 200),
        ("?job_id=j", DASHBOARD, 200),
        ("?family=image", OPS, 200),
        ("", "", 401),
        ("", "unknown-token", 401),
        ("", WORKER, 403),
        ("?family=image", DASHBOARD, 403),
        ("?family=x", OPS, 400),
    ] {
        let head = request("GET", &format!("{path}{query}"), token, &[]);
        let (public, internal) = (exchange(server.public, &head).await, exchange(server.internal, &head).await);
        assert_eq!((public.status, internal.status), (status, status), "{query} {token}");
        assert_eq!(public.text(), internal.text());
        assert_eq!(public.header("etag"), internal.header("etag"));
    }
    let nowhere = request("GET", "/subjobs/v1/nowhere/summary", OPS, &[]);
    exchange(server.internal, nowhere).await.assert_error(404, code::NOT_FOUND);
}

#[tokio::test]
async fn the_page_is_served_above_max_connections() {
    let server = Running::start(Config { max_connections: 1, ..config() }).await;
    let mut held = Connection::open(server.internal).await;
    held.send(get("/healthz")).await;
    held.response().await;
    for path in ["/", "/page/main.js", "/overview"] {
        assert_eq!(exchange(server.internal, get(path)).await.status, 200, "{path}");
    }
    exchange(server.internal, get("/overview/events")).await.assert_error(404, code::NOT_FOUND);
}
