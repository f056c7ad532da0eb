//! Reports with a content coding: valid and invalid bodies, and their memory.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Response;
use subjobs::access::AccessSource;
use subjobs::config::Config;
use tokio::task::JoinSet;

use crate::ingest::reports::{accepted, array};
use crate::support::connection::{Connection, head};
use crate::support::fixtures::{
    Files, OPS, PROJECT, WORKER, WORKER_KEY, access_with_keys, code, config, outcome, record, report_path,
};
use crate::support::program::Program;
use crate::support::response::{assert_error, json};
use crate::support::server::Running;
use crate::support::signer::Call;

const MIB: usize = 1024 * 1024;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    zstd_safe::compress(&mut encoded, data, 3).unwrap();
    encoded
}

/// The names of a coding, and its encoder.
type Coding = (&'static [&'static str], fn(&[u8]) -> Vec<u8>);

const CODINGS: [Coding; 2] =
    [(&["gzip", "x-gzip", "GZip", "identity, gzip", "gzip,"], gzip), (&["zstd", "ZSTD", "zstd, identity"], zstd)];

async fn post(server: &Running, coding: &str, body: Vec<u8>) -> Response {
    server.report(WORKER, body).header("Content-Encoding", coding).send().await.unwrap()
}

#[tokio::test]
async fn a_compressed_report_equals_the_plain_one() {
    let server = Running::start(config()).await;
    let lines: Vec<_> = (0..3000).map(|n| record(&n.to_string(), "j", "CREATE_SERVER", "RUNNING")).collect();
    assert_eq!(accepted(server.report(WORKER, lines.join("\n"))).await, outcome(3000, 0, 0, 0));
    let unchanged = outcome(0, 0, 3000, 0);
    for (names, encode) in CODINGS {
        let (ndjson, json) = (encode(lines.join("\n").as_bytes()), encode(format!("[{}]", lines.join(",")).as_bytes()));
        for name in names {
            let report = server.report(WORKER, ndjson.clone()).header("Content-Encoding", *name);
            assert_eq!(accepted(report).await, unchanged, "{name}");
            assert_eq!(
                accepted(array(&server, json.clone()).header("Content-Encoding", *name)).await,
                unchanged,
                "{name}"
            );
        }
        // Several members or frames, in chunks of any size.
        let members: Vec<u8> =
            lines.chunks(700).flat_map(|lines| encode((lines.join("\n") + "\n").as_bytes())).collect();
        let token = format!("X-Auth-Token: {WORKER}");
        let coding = format!("Content-Encoding: {}", names[0]);
        let headers = ["Host: h", &token, &coding, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"];
        let mut wire = Connection::open(server.internal).await;
        wire.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
        for chunk in members.chunks(999) {
            wire.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
        }
        wire.send("0\r\n\r\n").await;
        assert_eq!(wire.response().await.json(), unchanged);
        // A body that is empty after decoding is an empty report.
        assert_eq!(json_of(post(&server, names[0], encode(b"")).await).await, outcome(0, 0, 0, 0));
    }
    assert_eq!(server.count("?status=RUNNING").await, 3000);
}

async fn json_of(response: Response) -> serde_json::Value {
    assert_eq!(response.status(), 200);
    json(response).await
}

#[tokio::test]
async fn a_body_with_an_invalid_coding_changes_nothing() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING") + "\n";
    for (names, encode) in CODINGS {
        let good = encode(line.repeat(1000).as_bytes());
        let mut flipped = good.clone();
        flipped[good.len() - 5] ^= 1;
        for (what, body) in [
            ("nothing", vec![]),
            ("all but the last byte", good[..good.len() - 1].to_vec()),
            ("its head", good[..8].to_vec()),
            ("a flipped bit", flipped),
            ("a line behind it", [&good[..], line.as_bytes()].concat()),
            ("zeros behind it", [&good[..], &[0; 512]].concat()),
            ("half of another behind it", [&good[..], &good[..9]].concat()),
            ("plain text", line.clone().into_bytes()),
        ] {
            let message = assert_error(post(&server, names[0], body).await, 400, code::INPUT).await;
            assert!(message.starts_with(&format!("body is not valid {}: ", names[0])), "{what}: {message}");
        }
        // A decoded body is parsed as a plain one.
        let message = assert_error(post(&server, names[0], encode(b"nonsense")).await, 400, code::INPUT).await;
        assert!(message.starts_with("body line 1: "), "{message}");
    }
    let message = assert_error(post(&server, "gzip", zstd(line.as_bytes())).await, 400, code::INPUT).await;
    assert_eq!(message, "body is not valid gzip: invalid gzip header");
    assert_eq!(server.count("").await, 0);
}

#[tokio::test]
async fn a_decompressed_body_has_at_most_16_mib() {
    let server = Running::start(config()).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING");
    let padded = |size: usize| {
        let mut body = format!("{line}\n").into_bytes();
        body.resize(size, b' ');
        body
    };
    for (names, encode) in CODINGS {
        assert_eq!(post(&server, names[0], encode(&padded(16 * MIB))).await.status(), 200);
        let refused = post(&server, names[0], encode(&padded(16 * MIB + 1))).await;
        let message = assert_error(refused, 413, code::TOO_LARGE).await;
        assert_eq!(message, "the body must have at most 16777216 bytes when decoded");
        let refused = post(&server, names[0], vec![b'x'; 17 * MIB + 1]).await;
        let message = assert_error(refused, 413, code::TOO_LARGE).await;
        assert_eq!(message, "the body must have at most 17825792 bytes");
    }
    // An encoded body may be longer than the plain one.
    let mut stored = GzEncoder::new(Vec::new(), Compression::none());
    stored.write_all(&padded(16 * MIB)).unwrap();
    let stored = stored.finish().unwrap();
    assert!(stored.len() > 16 * MIB);
    assert_eq!(post(&server, "gzip", stored).await.status(), 200);
    assert_eq!(server.count("").await, 1);
}

/// A small body that decodes to gigabytes needs no more memory than any other report.
#[tokio::test(flavor = "multi_thread")]
async fn decompression_bombs_are_refused_in_bounded_memory() {
    let files = Files::new();
    let program = Program::start(&["--access", &files.access()]);
    let before = program.peak_memory();
    let client = reqwest::Client::new();
    let url = format!("http://{}{}", program.internal, report_path(PROJECT));
    for (names, encode) in CODINGS {
        // 4 GiB, encoded to about 4 MiB and to about 400 KiB.
        let bomb = encode(&vec![b'\n'; 16 * MIB]).repeat(256);
        let mut reports = JoinSet::new();
        for _ in 0..8 {
            let report = client.post(&url).header("X-Auth-Token", OPS).header("Content-Type", "application/x-ndjson");
            reports.spawn(report.header("Content-Encoding", names[0]).body(bomb.clone()).send());
        }
        for refused in reports.join_all().await {
            assert_error(refused.unwrap(), 413, code::TOO_LARGE).await;
        }
    }
    let took = program.peak_memory() - before;
    // The memory of all encoded bodies, and of those that are decoded at the same time.
    let cores = std::thread::available_parallelism().unwrap().get();
    let most = 8 * 5 + cores * (16 + 9) + 32;
    assert!(took <= most * MIB, "{} MiB, and not {most}", took / MIB);
}

/// Decoded bytes count against the budget until the report ends.
#[tokio::test]
async fn decompressed_bytes_count_against_the_budget() {
    let server = Running::start(config()).await;
    let blank = vec![b' '; 16 * MIB];
    let (token, length) = (format!("X-Auth-Token: {WORKER}"), format!("Content-Length: {}", blank.len()));
    let headers = ["Host: h", &token, "Content-Type: application/x-ndjson", &length];
    // Leaves 12 MiB of the budget of the principal.
    let mut held = Vec::new();
    for part in [16 * MIB - 1; 7].into_iter().chain([4 * MIB]) {
        let mut wire = Connection::open(server.internal).await;
        wire.send(head(&format!("POST {} HTTP/1.1", report_path(PROJECT)), &headers)).await;
        wire.send(&blank[..part]).await;
        held.push(wire);
    }
    for (names, encode) in CODINGS {
        let small = encode(&blank);
        assert!(small.len() < 64 * 1024);
        let message = assert_error(post(&server, names[0], small).await, 503, code::UNAVAILABLE).await;
        assert_eq!(message, "too many bytes of reports are being held");
        assert_eq!(json_of(post(&server, names[0], encode(&blank[..MIB])).await).await, outcome(0, 0, 0, 0));
    }
    drop(held);
    server.reaches("subjobs_reports_total{outcome=\"failed\"}", 10.0).await;
    for (names, encode) in CODINGS {
        assert_eq!(json_of(post(&server, names[0], encode(&blank)).await).await, outcome(0, 0, 0, 0));
    }
}

#[tokio::test]
async fn a_signature_covers_the_compressed_body() {
    let server = Running::start(Config { access: AccessSource::Text(access_with_keys()), ..config() }).await;
    let line = record("1", "j", "CREATE_SERVER", "RUNNING");
    for (at, (names, encode)) in CODINGS.into_iter().enumerate() {
        let encoded = encode(line.as_bytes());
        let report = Call::report("application/x-ndjson", "").header("Content-Encoding", names[0]);
        let first = if at == 0 { outcome(1, 0, 0, 0) } else { outcome(0, 0, 1, 0) };
        let signed = report.clone().body(&encoded).sign(WORKER_KEY);
        for _ in 0..2 {
            // The second one is a replay.
            assert_eq!(json_of(signed.send(server.internal).await).await, first);
        }
        // The plain body signed and then encoded, and the reverse.
        for (signed, sent) in [(line.as_bytes(), &encoded[..]), (&encoded, line.as_bytes())] {
            let spoilt = report.clone().body(signed).sign(WORKER_KEY).body(sent);
            assert_error(spoilt.send(server.internal).await, 401, code::CREDENTIAL).await;
        }
        // Without a valid signature the error does not describe the coding.
        let spoilt = report.clone().body("no such coding").sign(WORKER_KEY).body("nor this");
        assert_error(spoilt.send(server.internal).await, 401, code::CREDENTIAL).await;
        let invalid = report.body("no such coding").sign(WORKER_KEY);
        assert_error(invalid.send(server.internal).await, 400, code::INPUT).await;
    }
}
