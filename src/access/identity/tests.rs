//! The client and its cache against a service that sends a chosen response, over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A service that sends the same response to every request, and counts requests and connections.
struct Service {
    url: String,
    calls: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Service {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v3", listener.local_addr().unwrap());
        let (calls, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counted, opened) = (calls.clone(), connections.clone());
        let answer: Arc<[u8]> = answer.into().into();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                let (counted, answer) = (counted.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                        if head.ends_with(b"\r\n\r\n") {
                            let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
                            assert!(text.starts_with("GET /v3/auth/tokens?nocatalog HTTP/1.1\r\n"), "{text}");
                            assert!(text.contains("x-auth-token: t") && text.contains("x-subject-token: t"), "{text}");
                            counted.fetch_add(1, Ordering::SeqCst);
                            let _ = socket.write_all(&answer).await;
                        }
                    }
                });
            }
        });
        Self { url, calls, connections }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn identity(&self, cache: Duration) -> IdentityService {
        let settings = Settings { url: self.url.clone(), cache, timeout: Duration::from_millis(500), ca: None };
        IdentityService::new(settings, IdentityMetrics::new(&prometheus::Registry::new()).unwrap()).unwrap()
    }
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn good(expires_at: &str, scope: &str) -> String {
    response(
        "200 OK",
        &format!(
            r#"{{"token":{{"expires_at":"{expires_at}","user":{{"id":"u","name":"n"}},"methods":["password"]{scope}}}}}"#
        ),
    )
}

const SCOPED: &str =
    r#","project":{"id":"p","name":"x"},"roles":[{"id":"1","name":"reader"},{"id":"2","name":"other"}]"#;

async fn ask(identity: &IdentityService, token: &str) -> Result<Arc<ValidatedToken>, IdentityError> {
    let token = Token::new(token.as_bytes()).unwrap();
    identity.validate(token, token.digest()).await
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_accepted_token_is_validated_once() {
    let service = Service::start(good("2126-01-01T00:00:00.000000Z", SCOPED)).await;
    let identity = service.identity(MINUTE);
    let asked = futures_util::future::join_all((0..50).map(|_| ask(&identity, "t1"))).await;
    for validated in asked {
        let validated = validated.unwrap();
        assert_eq!(validated.project, Some(ProjectId::parse("p").unwrap()));
        assert_eq!((validated.user.as_str(), &validated.roles[..]), ("u", &["reader".into(), "other".into()][..]));
    }
    assert_eq!(service.calls(), 1);
    ask(&identity, "t2").await.unwrap();
    assert_eq!(service.calls(), 2);
    assert_eq!(service.connections.load(Ordering::SeqCst), 1, "the connection is used again");
}

#[tokio::test]
async fn the_cache_time_ends_with_the_token() {
    let service = Service::start(good("2126-01-01T00:00:00Z", SCOPED)).await;
    let unremembering = service.identity(Duration::ZERO);
    for calls in 1..=3 {
        ask(&unremembering, "t").await.unwrap();
        assert_eq!(service.calls(), calls);
    }
    let soon = (jiff::Timestamp::now() + Duration::from_millis(1200)).to_string();
    let service = Service::start(good(&soon, SCOPED)).await;
    let identity = service.identity(MINUTE);
    let validated = ask(&identity, "t").await.unwrap();
    assert!(validated.ttl <= Duration::from_millis(1200));
    let service = Service::start(good("2020-01-01T00:00:00Z", SCOPED)).await;
    assert_eq!(ask(&service.identity(MINUTE), "t").await.unwrap_err(), IdentityError::Refused);
}

#[tokio::test]
async fn a_refused_token_is_cached() {
    for status in ["401 Unauthorized", "404 Not Found"] {
        let service = Service::start(response(status, "{}")).await;
        let identity = service.identity(MINUTE);
        for _ in 0..3 {
            assert_eq!(ask(&identity, "t").await.unwrap_err(), IdentityError::Refused);
        }
        assert_eq!(service.calls(), 1);
    }
}

#[tokio::test]
async fn any_other_response_is_neither_trusted_nor_cached() {
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    for answer in [
        response("500 Internal Server Error", ""),
        response("403 Forbidden", ""),
        response("201 Created", ""),
        "HTTP/1.1 302 Found\r\nLocation: /v3/auth/tokens\r\nContent-Length: 0\r\n\r\n".into(),
        response("200 OK", "{}"),
        response("200 OK", "nonsense"),
        response("200 OK", &huge),
        good("tomorrow", SCOPED),
        good("2126-01-01T00:00:00Z", r#","project":{"id":"a/b"}"#),
        "nonsense".into(),
        // A service without a response: the client times out.
        String::new(),
    ] {
        let service = Service::start(answer.clone()).await;
        let identity = service.identity(MINUTE);
        for calls in 1..=2 {
            let rejected = ask(&identity, "t").await.unwrap_err();
            assert_eq!(rejected, IdentityError::Unavailable, "{}", &answer[..answer.len().min(200)]);
            assert_eq!(service.calls(), calls);
        }
    }
    let unreachable =
        Service { url: "http://127.0.0.1:1/v3".into(), calls: Arc::default(), connections: Arc::default() };
    assert_eq!(ask(&unreachable.identity(MINUTE), "t").await.unwrap_err(), IdentityError::Unavailable);
}

#[tokio::test]
async fn roles_map_to_permissions_and_a_token_without_project_has_none() {
    use crate::access::{Action, Denied};
    let allow = |action: &str| {
        toml::from_str::<crate::access::policy::Policy>(&format!(
            "[[Statement]]\nEffect = \"Allow\"\nAction = [\"{action}\"]"
        ))
        .unwrap()
    };
    let count_only = Permissions::from_policy(&allow("*:count*"));
    let roles = Roles(HashMap::from([("reader".into(), count_only), ("admin".into(), Permissions::ACCOUNT)]));
    let project = ProjectId::parse("p").unwrap();
    let other = ProjectId::parse("q").unwrap();
    let scoped = Service::start(good("2126-01-01T00:00:00Z", SCOPED)).await;
    let principal = ask(&scoped.identity(MINUTE), "t").await.unwrap().principal(&roles);
    assert_eq!(principal.authorize(Some(&project), Action::CountSubJobs), Ok(()));
    assert_eq!(principal.authorize(Some(&project), Action::ReportSubJobs), Err(Denied::Action(Action::ReportSubJobs)));
    assert_eq!(principal.authorize(Some(&other), Action::CountSubJobs), Err(Denied::Project));
    let nothing = ask(&scoped.identity(MINUTE), "t").await.unwrap().principal(&Roles::default());
    assert_eq!(nothing.authorize(Some(&project), Action::CountSubJobs), Err(Denied::Action(Action::CountSubJobs)));
    for scope in ["", r#","domain":{"id":"d"},"roles":[{"id":"1","name":"admin"}]"#] {
        let service = Service::start(good("2126-01-01T00:00:00Z", scope)).await;
        let principal = ask(&service.identity(MINUTE), "t").await.unwrap().principal(&roles);
        for action in Action::ALL {
            assert_eq!(principal.authorize(Some(&project), action), Err(Denied::Project), "{scope}");
        }
    }
}

#[tokio::test]
async fn a_token_may_expire_at_any_moment_of_rfc_3339() {
    for expires_at in [
        "9999-12-31T23:59:59.999999999Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-23:59",
        "2126-01-01T00:00:00.123456789012Z",
        "2126-01-01t00:00:00z",
        "2126-01-01T00:00:00-00:00",
        "2126-12-31T23:59:60Z",
    ] {
        let service = Service::start(good(expires_at, SCOPED)).await;
        let validated = ask(&service.identity(MINUTE), "t").await.unwrap();
        assert_eq!(validated.ttl, MINUTE, "{expires_at}");
    }
}

#[test]
fn a_json_error_has_its_kind_and_position() {
    let about = |text: &str| describe_json_error(&serde_json::from_str::<TokenResponse>(text).err().unwrap());
    assert_eq!(about(r#"{"token":"s3cret"}"#), "unexpected structure: line 1, column 17");
    assert_eq!(about("{\n\"token\":{"), "unexpected end: line 2, column 9");
    assert_eq!(about("s3cret"), "not JSON: line 1, column 1");
}
