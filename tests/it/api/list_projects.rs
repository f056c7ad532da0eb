//! `GET /v3/projects`, by which an SDK finds the project id.

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{
    DASHBOARD, DASHBOARD_KEY, EXPIRED, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER, access_with_keys, code,
};
use crate::support::response::assert_error;
use crate::support::server::Running;
use crate::support::signer::Call;

/// [`access_with_keys`] with names for both projects and for one that exists only because it has a name.
fn access() -> String {
    let names = [(PROJECT, "local-1"), (OTHER_PROJECT, "local-2"), ("p3", "région 3"), ("p4", "local-2")];
    let named = names.map(|(id, name)| format!("[[project]]\nid = \"{id}\"\nname = \"{name}\"\n"));
    access_with_keys() + &named.concat()
}

fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access()))
}

fn look_up(server: &Running, token: &str, query: &str) -> RequestBuilder {
    server.client.get(format!("http://{}/v3/projects{query}", server.public)).header("X-Auth-Token", token)
}

async fn answer(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    crate::support::response::json(response).await
}

/// Asserts that a response is well-formed. Returns the ids and names of its projects.
async fn shown(response: Response) -> Vec<(String, String)> {
    let answer = answer(response).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let projects = answer["projects"].as_array().unwrap().iter();
    projects.map(|project| (text(&project["id"]), text(&project["name"]))).collect()
}

fn projects_json(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn a_project_is_found_by_its_name() {
    let server = Running::start(config()).await;
    assert_eq!(
        answer(look_up(&server, OPS, "?name=local-1").send().await.unwrap()).await,
        json!({
            "projects": [{"id": PROJECT, "name": "local-1", "enabled": true}],
            "links": {"self": "/v3/projects?name=local-1", "previous": null, "next": null},
        })
    );
    let both = [(OTHER_PROJECT, "local-2"), ("p4", "local-2")];
    let all = [(PROJECT, "local-1"), both[0], ("p3", "région 3"), both[1]];
    for (query, expected) in [
        ("", &all[..]),
        ("?", &all),
        ("?enabled=true&page=1", &all),
        ("?name=local-2", &both),
        ("?name=r%C3%A9gion+3", &[("p3", "région 3")]),
        ("?%6eame=r%C3%A9gion%203&limit=1&limit=2", &[("p3", "région 3")]),
        ("?name=local-3", &[]),
        ("?name=Local-1", &[]),
        ("?name=local", &[]),
        ("?name=", &[]),
        ("?name", &[]),
    ] {
        assert_eq!(shown(look_up(&server, OPS, query).send().await.unwrap()).await, projects_json(expected), "{query}");
    }
}

#[tokio::test]
async fn a_caller_sees_its_own_projects_only() {
    let server = Running::start(config()).await;
    let own = projects_json(&[(PROJECT, "local-1")]);
    // The list does not depend on permissions: a count is refused when it is requested.
    for token in [DASHBOARD, WORKER] {
        assert_eq!(shown(look_up(&server, token, "").send().await.unwrap()).await, own);
        assert_eq!(shown(look_up(&server, token, "?name=local-1").send().await.unwrap()).await, own);
        assert_eq!(shown(look_up(&server, token, "?name=local-2").send().await.unwrap()).await, []);
    }
}

#[tokio::test]
async fn a_signed_request_is_accepted() {
    let server = Running::start(config()).await;
    let call = |name| Call::new("GET", "/v3/projects").query(&[("name", name)]);
    let found = |key, name| call(name).sign(key);
    assert_eq!(shown(found(OPS_KEY, "région 3").send(server.public).await).await, projects_json(&[("p3", "région 3")]));
    assert_eq!(
        shown(found(DASHBOARD_KEY, "local-1").send(server.public).await).await,
        projects_json(&[(PROJECT, "local-1")])
    );
    assert_eq!(shown(found(DASHBOARD_KEY, "local-2").send(server.public).await).await, []);
    // The core of the SDK for Node sends this request.
    let with_body = call("local-1").body("{}").sign(OPS_KEY);
    assert_eq!(shown(with_body.send(server.public).await).await, projects_json(&[(PROJECT, "local-1")]));
    let changed = call("local-1").query_written("name=local-2").sign(OPS_KEY).send(server.public).await;
    assert_eq!(assert_error(changed, 401, code::CREDENTIAL).await, "the access key or the signature is not valid");
    let both = found(OPS_KEY, "local-1").header("X-Auth-Token", DASHBOARD).send(server.public).await;
    assert_error(both, 401, code::CREDENTIAL).await;
}

#[tokio::test]
async fn a_repeated_or_badly_encoded_name_is_refused() {
    let server = Running::start(config()).await;
    for query in ["?name=local-1&name=local-1", "?name=&name=local-1", "?name=local-1&%6Eame=a", "?name=%ff", "?name=%"]
    {
        let message = assert_error(look_up(&server, OPS, query).send().await.unwrap(), 400, code::INPUT).await;
        assert!(message.starts_with("name must be "), "{query}: {message}");
    }
}

#[tokio::test]
async fn list_projects_has_the_common_order_of_decisions() {
    let full = Running::start(Config { max_in_flight: 0, ..config() }).await;
    let server = Running::start(config()).await;
    let url = |server: &Running, path: &str| format!("http://{}{path}", server.public);
    let bad = "?name=a&name=b";

    // Path, method, limit, credential, inputs: each request also has all later faults.
    for path in ["/v3/projects/", "/v3/projects/p3", "/v3", "/v3/Projects", "//v3/projects", "/v3/auth/domains"] {
        let answer = full.client.post(url(&full, &format!("{path}{bad}"))).send().await.unwrap();
        assert_error(answer, 404, code::NOT_FOUND).await;
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = full.client.request(method.parse().unwrap(), url(&full, &format!("/v3/projects{bad}")));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.headers()["allow"], "GET,HEAD");
        assert_error(answer, 405, code::METHOD).await;
    }
    let overloaded = full.client.get(url(&full, &format!("/v3/projects{bad}"))).send().await.unwrap();
    assert_eq!(assert_error(overloaded, 503, code::UNAVAILABLE).await, "the service is overloaded");
    let unknown = server.client.get(url(&server, &format!("/v3/projects{bad}"))).send().await.unwrap();
    assert_eq!(assert_error(unknown, 401, code::CREDENTIAL).await, "neither X-Auth-Token nor a signature is given");
    for (token, reason) in [("unknown-token", "is not valid"), (EXPIRED, "has expired"), ("", "is empty")] {
        let answer = look_up(&server, token, bad).send().await.unwrap();
        assert_eq!(assert_error(answer, 401, code::CREDENTIAL).await, format!("X-Auth-Token {reason}"));
    }
    let unsigned = Call::new("GET", "/v3/projects").query(&[("name", "local-1")]).sign(Key { secret: "x", ..OPS_KEY });
    assert_error(unsigned.send(server.public).await, 401, code::CREDENTIAL).await;
    let no_host = Call::new("GET", "/v3/projects").query_written("name=%").without("Host").header("X-Auth-Token", OPS);
    assert_eq!(assert_error(no_host.send(server.public).await, 400, code::INPUT).await, "Host is missing");
    // The internal listener does not have this path.
    let internal = server.client.get(format!("http://{}/v3/projects", server.internal)).send().await.unwrap();
    assert_error(internal, 404, code::NOT_FOUND).await;
}

#[tokio::test]
async fn responses_have_the_request_id_and_are_counted() {
    let server = Running::start(config()).await;
    let ask = async |id: &str| look_up(&server, OPS, "?name=local-1").header("X-Request-Id", id).send().await.unwrap();
    assert_eq!(ask("id-of-the-caller").await.headers()["x-request-id"], "id-of-the-caller");
    let new = ask("not fit").await.headers()["x-request-id"].clone();
    assert!(new.len() == 32 && new.as_bytes().iter().all(u8::is_ascii_hexdigit), "{new:?}");
    let head = server.client.head(format!("http://{}/v3/projects", server.public)).header("X-Auth-Token", OPS);
    let head = head.send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(!head.headers()["x-request-id"].is_empty());
    assert_eq!(head.bytes().await.unwrap(), "");
    let series = |method: &str| {
        format!(
            "subjobs_http_requests_total{{listener=\"public\",method=\"{method}\",route=\"/v3/projects\",status=\"200\"}}"
        )
    };
    assert_eq!(server.metric(&series("GET")).await, Some(2.0));
    assert_eq!(server.metric(&series("HEAD")).await, Some(1.0));
}

#[tokio::test]
async fn without_configured_names_the_list_is_empty() {
    let server = Running::start(crate::support::fixtures::config()).await;
    assert_eq!(shown(look_up(&server, OPS, "").send().await.unwrap()).await, []);
    assert_eq!(shown(look_up(&server, OPS, &format!("?name={PROJECT}")).send().await.unwrap()).await, []);
}

/// A project exists if it has a name, even if it is not in the list of projects.
#[tokio::test]
async fn a_named_project_exists_for_counts() {
    let server = Running::start(config()).await;
    let count = async |project: &str| {
        let answer = server.client.get(server.count_url(project, "")).header("X-Auth-Token", OPS);
        answer.send().await.unwrap().status().as_u16()
    };
    assert_eq!((count("p3").await, count(PROJECT).await, count("p5").await), (200, 200, 404));
}

#[tokio::test]
async fn a_reload_applies_new_names() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("access.toml");
    std::fs::write(&path, access()).unwrap();
    let server = Running::start(Config::on_any_port(AccessSource::File(path.clone()))).await;
    std::fs::write(&path, access().replace("local-1", "local-9")).unwrap();
    server.access.reload().unwrap();
    assert_eq!(shown(look_up(&server, OPS, "?name=local-1").send().await.unwrap()).await, []);
    let renamed = look_up(&server, OPS, "?name=local-9").send().await.unwrap();
    assert_eq!(shown(renamed).await, projects_json(&[(PROJECT, "local-9")]));
}
