//! Signed requests that come through a gateway which replaces Host.

use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{OPS_KEY, access_with_keys, code};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::Call;

fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access_with_keys()))
}

async fn count_status(server: &Running, call: Call) -> u16 {
    let answer = call.send(server.public).await;
    match answer.status().as_u16() {
        200 => assert_eq!(json(answer).await["count"], 0),
        _ => {
            let message = assert_error(answer, 401, code::CREDENTIAL).await;
            assert_eq!(message, "the access key or the signature is not valid");
            return 401;
        }
    }
    200
}

#[tokio::test]
async fn signatures_are_valid_behind_a_gateway_that_replaces_host() {
    let sign = |host: &str| Call::count().replace("Host", host).sign(OPS_KEY).replace("Host", "127.0.0.1:8080");
    let public_hosts = vec!["jobs.example.com".parse().unwrap(), "jobs.example.com:8443".parse().unwrap()];
    let server = Running::start(Config { public_hosts, ..config() }).await;
    for good in ["jobs.example.com", "jobs.example.com:8443"] {
        assert_eq!(count_status(&server, sign(good)).await, 200, "{good}");
        let report = Call::report("application/json", "[]").replace("Host", good).sign(OPS_KEY).replace("Host", "a");
        assert_eq!(report.send(server.internal).await.status(), 200);
    }
    assert_eq!(count_status(&server, Call::count().sign(OPS_KEY)).await, 200);
    for bad in ["example.com", "jobs.example.com:443", "JOBS.example.com"] {
        assert_eq!(count_status(&server, sign(bad)).await, 401, "{bad}");
    }
    server.access.reload().unwrap();
    assert_eq!(count_status(&server, sign("jobs.example.com")).await, 200, "a reload keeps the names");
    let without = Running::start(config()).await;
    assert_eq!(count_status(&without, sign("jobs.example.com")).await, 401);
}
