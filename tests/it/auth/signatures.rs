//! Signed requests over the network.

use jiff::{SignedDuration, Timestamp};
use reqwest::Response;
use subjobs::access::AccessSource;
use subjobs::config::Config;

use crate::support::fixtures::{
    DASHBOARD_KEY, Key, OPS, OPS_KEY, OTHER_PROJECT, PROJECT, WORKER_KEY, access_with_keys, code, record,
};
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::{Call, date};

pub(super) const NO_CREDENTIAL: &str = "neither X-Auth-Token nor a signature is given";
const REPEATED: &str = "Authorization is given more than once";
const FORM: &str = "Authorization must be SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…";
const DATE: &str = "X-Sdk-Date must be given once, as 20220307T104043Z, and be signed";
const SKEW: &str = "X-Sdk-Date must be within 15 minutes of the server's time";
const HEADER: &str = "every signed header must be given once";
pub(super) const INVALID: &str = "the access key or the signature is not valid";

pub(super) fn config() -> Config {
    Config::on_any_port(AccessSource::Text(access_with_keys()))
}

/// A server that stores five subtasks of [`PROJECT`].
pub(super) async fn server() -> Running {
    let server = Running::start(config()).await;
    let body = [
        record("1", "a b/é+%&=", "CREATE_SERVER", "RUNNING"),
        record("2", "a b/é+%&=", "DELETE_SERVER", "RUNNING"),
        record("3", "j", "DELETE_SERVER", "RUNNING"),
        record("4", "j", "REJOIN_DOMAIN", "FAILED"),
        record("5", "j", "REJOIN_DOMAIN", "FAILED"),
    ];
    assert_eq!(server.report(OPS, body.join("\n")).send().await.unwrap().status(), 200);
    server
}

pub(super) async fn counted(response: Response) -> u64 {
    assert_eq!(response.status(), 200);
    json(response).await["count"].as_u64().unwrap()
}

/// Asserts a 401 with this message, which has no secret.
pub(super) async fn refused(response: Response, reason: &str) {
    let message = assert_error(response, 401, code::CREDENTIAL).await;
    assert_eq!(message, reason);
    for key in [OPS_KEY, DASHBOARD_KEY, WORKER_KEY] {
        assert!(!message.contains(key.secret) && !message.contains(key.id), "{message}");
    }
}

#[tokio::test]
async fn a_signed_count_is_accepted() {
    let server = server().await;
    for (query, count) in [
        (&[][..], 5),
        (&[("status", "RUNNING")], 3),
        (&[("job_type", "CREATE_SERVER,REJOIN_DOMAIN")], 3),
        (&[("job_id", "a b/é+%&=")], 2),
        (&[("job_id", "a b/é+%&="), ("job_type", "DELETE_SERVER"), ("status", "RUNNING")], 1),
        (&[("status", ""), ("limit", "10"), ("limit", "2"), ("é", "")], 5),
    ] {
        let call = Call::count().query(query).sign(OPS_KEY);
        assert_eq!(counted(call.send(server.public).await).await, count, "{query:?}");
    }
    let path = |project: &str| format!("/v1/{project}/app-server-sub-jobs/actions/count");
    // The signature is valid, because the project is checked after it.
    let odd = Call::new("GET", &path("é+~*'()@%41")).sign(OPS_KEY).send(server.public).await;
    assert_error(odd, 404, code::NOT_FOUND).await;
    let odd = Call::new("GET", &path("é")).target(&path("e%CC%81")).sign(OPS_KEY).send(server.public).await;
    refused(odd, INVALID).await;
    let same = Call::count().target(&path(&PROJECT.replace('a', "%61"))).sign(OPS_KEY).send(server.public).await;
    assert_eq!(counted(same).await, 5);
}

/// A date has a resolution of one second, and a signature has no nonce. So equal requests of one second must all be accepted.
#[tokio::test]
async fn an_identical_request_is_accepted_again() {
    let server = server().await;
    let call = Call::count().sign(OPS_KEY);
    for _ in 0..3 {
        assert_eq!(counted(call.clone().send(server.public).await).await, 5);
    }
    let (one, other) = tokio::join!(call.send(server.public), call.send(server.public));
    assert_eq!((counted(one).await, counted(other).await), (5, 5));
}

#[tokio::test]
async fn a_query_is_signed_in_canonical_form() {
    let server = server().await;
    let call = Call::count().query(&[("job_id", "a b/é+%&="), ("job_type", "CREATE_SERVER"), ("status", "RUNNING")]);
    for same in [
        "status=RUNNING&job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER",
        "job_type=CREATE_SERVER&status=RUNNING&job_id=a+b/%c3%a9%2b%25%26=",
        "&job_type=CREATE%5fSERVER&&%73tatus=RUNNING&job_id=a%20b%2F%C3%A9%2B%25%26%3D&",
    ] {
        let call = call.clone().query_written(same).sign(OPS_KEY);
        assert_eq!(counted(call.send(server.public).await).await, 1, "{same}");
    }
    for other in [
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=FAILED",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&Status=RUNNING",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER",
        "job_id=a%20b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING&limit=1",
        "job_id=a%2520b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING",
        "job_id=a b%2F%C3%A9%2B%25%26%3D&job_type=CREATE_SERVER&status=RUNNING".replace(' ', "%2B").as_str(),
        "job_id=CREATE_SERVER&job_type=a%20b%2F%C3%A9%2B%25%26%3D&status=RUNNING",
    ] {
        refused(call.clone().query_written(other).sign(OPS_KEY).send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn a_change_of_a_signed_part_is_refused() {
    let server = server().await;
    let good = || Call::count().header("X-Note", "one").sign(OPS_KEY);
    assert_eq!(counted(good().send(server.public).await).await, 5);
    let later = date(Timestamp::now() + SignedDuration::from_secs(60));
    for changed in [
        good().replace("X-Note", "two"),
        good().replace("X-Note", "One"),
        good().replace("Host", "other.example"),
        good().replace("X-Sdk-Date", &later),
        good().body("{}"),
        good().target(&format!("/v1/{OTHER_PROJECT}/app-server-sub-jobs/actions/count")),
        good().query_written("status=RUNNING"),
        good().edit_authorization(|value| value.replace("AKOPS", "AKDASHBOARD")),
        good().edit_authorization(|value| value.replace("SignedHeaders=host;", "SignedHeaders=")),
        good().edit_authorization(|value| value.replace("host;x-note", "x-note;host")),
    ] {
        refused(changed.send(server.public).await, INVALID).await;
    }
    let head = Call::new("HEAD", &format!("/v1/{PROJECT}/app-server-sub-jobs/actions/count"));
    let signed_as_head = head.sign(OPS_KEY);
    assert_eq!(signed_as_head.clone().send(server.public).await.status(), 200);
}

#[tokio::test]
async fn an_unknown_key_and_a_wrong_signature_get_the_same_response() {
    let server = server().await;
    let Key { id, secret } = OPS_KEY;
    let zeros = "0".repeat(64);
    let signature = |value: &str| value.rsplit('=').next().unwrap().to_owned();
    for bad in [
        Call::count().sign(Key { id: "AKUNKNOWN", secret }),
        Call::count().sign(Key { id: "akops", secret }),
        Call::count().sign(Key { id: secret, secret: id }),
        Call::count().sign(Key { id, secret: "wrong" }),
        Call::count().sign(Key { id, secret: &secret[1..] }),
        Call::count().sign(Key { id, secret: DASHBOARD_KEY.secret }),
        Call::count().sign(OPS_KEY).edit_authorization(|value| value.replace(&signature(value), &zeros)),
        Call::count().sign(OPS_KEY).edit_authorization(|value| value[..value.len() - 1].to_owned()),
        Call::count().sign(OPS_KEY).edit_authorization(|value| format!("{value}0")),
        // A signature is compared as bytes, so upper-case digits do not match.
        Call::count()
            .sign(OPS_KEY)
            .edit_authorization(|value| value.replace(&signature(value), &signature(value).to_uppercase())),
    ] {
        refused(bad.send(server.public).await, INVALID).await;
    }
}

#[tokio::test]
async fn the_date_must_be_within_the_tolerance() {
    let server = server().await;
    let off = |seconds| Call::count().at(Timestamp::now() + SignedDuration::from_secs(seconds)).sign(OPS_KEY);
    let (near, far) = (14 * 60 + 59, 15 * 60 + 1);
    // On a busy machine seconds pass until the server reads its clock, so the offsets have slack. The unit tests have the exact
    // limits.
    let spare = 20;
    for seconds in [-near + spare, 0, near] {
        assert_eq!(counted(off(seconds).send(server.public).await).await, 5, "{seconds}");
    }
    for seconds in [-far, -86_400, far + spare, 86_400] {
        refused(off(seconds).send(server.public).await, SKEW).await;
    }
    // The date is checked before the key.
    let unknown = Key { id: "AKUNKNOWN", secret: "x" };
    refused(Call::count().at(Timestamp::UNIX_EPOCH).sign(unknown).send(server.public).await, SKEW).await;
}

#[tokio::test]
async fn the_date_must_be_present_once_and_signed() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    let now = Timestamp::now();
    let with_date = |date: &str| Call::count().replace("X-Sdk-Date", date).sign(OPS_KEY);
    for bad in [
        good().without("X-Sdk-Date"),
        good().header("X-Sdk-Date", date(now)),
        Call::count().without("X-Sdk-Date").sign(OPS_KEY),
        Call::count().without("X-Sdk-Date").sign_only(OPS_KEY, "host;x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "host"),
        Call::count().sign_only(OPS_KEY, "host;X-Sdk-Date"),
        Call::count().sign_only(OPS_KEY, "host;x-sdk-date-2"),
        with_date(""),
        with_date("now"),
        with_date(&now.to_string()),
        with_date(&now.as_second().to_string()),
        with_date(&now.strftime("%Y%m%dT%H%M%S").to_string()),
        with_date(&now.strftime("%Y%m%dT%H%M%S+0000").to_string()),
        // A browser or a proxy may send Date. It does not replace X-Sdk-Date.
        Call::count()
            .without("X-Sdk-Date")
            .header("Date", now.strftime("%a, %d %b %Y %T GMT").to_string())
            .sign(OPS_KEY),
    ] {
        refused(bad.send(server.public).await, DATE).await;
    }
}

#[tokio::test]
async fn a_malformed_signature_is_refused() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    for bad in [
        good().replace("Authorization", "SDK-HMAC-SHA256"),
        good().replace("Authorization", "SDK-HMAC-SHA256 "),
        good().edit_authorization(|value| value.replace("Access=AKOPS, ", "")),
        good().edit_authorization(|value| value.replace("AKOPS", "")),
        good().edit_authorization(|value| value.replace("SignedHeaders", "Signedheaders")),
        good().edit_authorization(|value| value.replace(", Signature=", "; Signature=")),
        good().edit_authorization(|value| format!("{value}, Signature=0")),
        good().edit_authorization(|value| format!("{value}, Region=local-1")),
        good().edit_authorization(|value| format!("{value},")),
        good().edit_authorization(|value| value.replace("AKOPS", OPS_KEY.secret).replace("Signature=", "")),
    ] {
        refused(bad.send(server.public).await, FORM).await;
    }
    for same in [
        good().edit_authorization(|value| value.replace(", ", ",")),
        good().edit_authorization(|value| value.replace(", ", "  ,   ")),
    ] {
        assert_eq!(counted(same.send(server.public).await).await, 5);
    }
}

/// A header of another scheme is ignored: alone it is no credential, and with a token the token decides.
#[tokio::test]
async fn other_authorization_schemes_are_ignored() {
    let server = server().await;
    for scheme in ["SDK-HMAC-SM3", "V11-HMAC-SHA256", "SDK-ECDSA-P256-SHA256", "sdk-hmac-sha256", "SDK-HMAC-SHA2567"] {
        let call = || Call::count().sign(OPS_KEY).edit_authorization(|value| value.replace("SDK-HMAC-SHA256", scheme));
        refused(call().send(server.public).await, NO_CREDENTIAL).await;
        assert_eq!(counted(call().header("X-Auth-Token", OPS).send(server.public).await).await, 5, "{scheme}");
        refused(call().header("X-Auth-Token", "unknown-token").send(server.public).await, "X-Auth-Token is not valid")
            .await;
    }
}

#[tokio::test]
async fn several_signatures_are_refused() {
    let server = server().await;
    let good = || Call::count().sign(OPS_KEY);
    for repeated in [
        good().sign(OPS_KEY),
        good().header("Authorization", "Bearer x"),
        good().header("Authorization", ""),
        Call::count().header("Authorization", "Basic eDp5").sign_only(OPS_KEY, "host;x-sdk-date"),
    ] {
        refused(repeated.clone().send(server.public).await, REPEATED).await;
        refused(repeated.header("X-Auth-Token", OPS).send(server.public).await, REPEATED).await;
    }
    let others = Call::count().header("Authorization", "Bearer x").header("Authorization", "Basic eDp5");
    refused(others.clone().send(server.public).await, NO_CREDENTIAL).await;
    assert_eq!(counted(others.header("X-Auth-Token", OPS).send(server.public).await).await, 5);
}

#[tokio::test]
async fn headers_are_signed_as_received() {
    let server = server().await;
    for good in [
        Call::count().header("X-Note", "é 子任务").header("User-Agent", "a;b=c,d").header("X-Empty", "").sign(OPS_KEY),
        Call::count().header("X-Note", "  two  words \t").sign(OPS_KEY),
        Call::count().header("X-Note", "\u{3000}wide\u{a0}").sign(OPS_KEY),
        Call::count().header("X-Note", b"caf\xe9, \xff\xfe").sign(OPS_KEY),
        Call::count().without("Host").sign(OPS_KEY).header("Host", "anything.example"),
        Call::count().sign_only(OPS_KEY, "x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "x-sdk-date;host"),
        Call::count()
            .sign(OPS_KEY)
            .header("X-Forwarded-For", "10.0.0.1")
            .header("X-Note", "one")
            .header("X-Note", "two"),
    ] {
        assert_eq!(counted(good.send(server.public).await).await, 5);
    }
    for bad in [
        Call::count().sign_only(OPS_KEY, "host;x-none;x-sdk-date"),
        Call::count().header("X-Note", "one").header("X-Note", "one").sign(OPS_KEY),
        Call::count().header("X-Note", "one").sign(OPS_KEY).header("x-note", "two"),
        Call::count().sign_only(OPS_KEY, "host;;x-sdk-date"),
        Call::count().sign_only(OPS_KEY, "ho st;x-sdk-date"),
    ] {
        refused(bad.send(server.public).await, HEADER).await;
    }
    let other_bytes = Call::count().header("X-Note", b"caf\xe9").sign(OPS_KEY).replace("X-Note", b"caf\xe8");
    refused(other_bytes.send(server.public).await, INVALID).await;
    // A request without Host gets 400, although its signature is valid.
    let message = assert_error(Call::count().without("Host").sign(OPS_KEY).send(server.public).await, 400, code::INPUT);
    assert_eq!(message.await, "Host is missing");
}

/// A proxy sends the whole URL in the request line. The SDK has signed the path only.
#[tokio::test]
async fn a_signed_request_in_absolute_form_is_accepted() {
    let server = server().await;
    let path = format!("/v1/{PROJECT}/app-server-sub-jobs/actions/count");
    let call = || Call::count().query(&[("status", "RUNNING")]);
    let absolute = call().target(&format!("http://subjobs.example{path}?status=RUNNING")).sign(OPS_KEY);
    assert_eq!(counted(absolute.send(server.public).await).await, 3);
    let changed = call().target(&format!("http://subjobs.example{path}?status=FAILED")).sign(OPS_KEY);
    refused(changed.send(server.public).await, INVALID).await;
}
