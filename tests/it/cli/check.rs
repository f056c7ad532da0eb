//! `subjobs check`: its output about access files and load files.

use std::fmt::Write as _;
use std::process::Command;

use subjobs::tls::TlsFiles;

use crate::support::fixtures::{Files, PROJECT, access_with_keys, load_line};
use crate::support::program::{run, subjobs, text};
use crate::support::snapshot::assert_snapshot;
use crate::support::tls::{Certificates, internal_options, options};

#[test]
fn check_prints_the_content_or_the_error_of_each_file() {
    let files = Files::new();
    let records = [("1", PROJECT), ("2", PROJECT), ("1", "p2"), ("1", PROJECT)];
    let records = records.map(|(id, project)| load_line(project, id, "CREATE_SERVER", "RUNNING"));
    let identity = "[identity]\nurl = \"http://127.0.0.1:1\"\n[identity.roles]\nadmin = \"account\"\n";
    files.put("keys.toml", &(access_with_keys() + identity));
    files.put("bad.toml", "x");
    files.put("unknown_field.toml", "projects = []\nprojets = []\n");
    files.put("four.ndjson", &records.join("\n"));
    files.put("new_type.ndjson", &load_line(PROJECT, "1", "NEW", "RUNNING"));
    files.put("bad.ndjson", &format!("{}\n\nx", records[0]));
    let mut said = String::new();
    for (args, code) in [
        ("--access access.toml", 0),
        ("--access keys.toml", 0),
        ("--load four.ndjson", 0),
        ("--access access.toml --load new_type.ndjson --job-type NEW", 0),
        ("--access bad.toml --load new_type.ndjson --load bad.ndjson", 2),
        ("--access unknown_field.toml", 2),
        ("--load nowhere.ndjson", 2),
        ("", 2),
    ] {
        let output = run(subjobs(&["check"]).args(args.split_whitespace()).current_dir(files.path("")), "");
        assert_eq!(output.status.code(), Some(code), "{args}");
        writeln!(said, "# check {args}\n{}{}", text(&output.stdout), text(&output.stderr)).unwrap();
    }
    assert_snapshot("check", &said);
}

#[test]
fn check_reads_environment_variables() {
    let files = Files::new();
    let bad = files.put("bad.toml", "x");
    let by_environment = run(subjobs(&["check"]).env("SUBJOBS_ACCESS", &bad), "");
    assert_eq!(by_environment.status.code(), Some(2));
}

#[test]
fn check_reads_the_certificates_of_both_listeners() {
    let (files, certificates) = (Files::new(), Certificates::new());
    let [good, other] = ["good", "other"].map(|name| certificates.issue(name));
    let mutual = certificates.issue_for_mutual("mutual");
    let foreign = TlsFiles { key: other.key.clone(), ..good.clone() };
    let absent = TlsFiles { certificate: files.path("absent"), ..good.clone() };
    let without_authority = TlsFiles { client_ca: Some(good.key.clone()), ..good.clone() };
    let said = |args: &[String]| {
        let output = run(subjobs(&["check"]).args(args), "");
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let name = |files: &TlsFiles| files.certificate.display().to_string();
    let verdict = |files: &TlsFiles| format!("{}: good, a certificate and its key, valid until 20", name(files));
    let (code, lines) = said(&[options(&good), internal_options(&mutual)].concat());
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!((code, lines.len()), (0, 2), "{lines:?}");
    assert!(lines[0].starts_with(&verdict(&good)) && lines[0].ends_with('Z'), "{lines:?}");
    assert!(
        lines[1].starts_with(&verdict(&mutual)) && lines[1].ends_with("Z; clients need a certificate"),
        "{lines:?}"
    );
    let key = |files: &TlsFiles| files.key.display().to_string();
    for (args, reason) in [
        (options(&foreign), format!("{}: it is not the key of the first certificate in {}", key(&other), name(&good))),
        (internal_options(&absent), format!("{}: No such file or directory (os error 2)", name(&absent))),
        (options(&without_authority), format!("{}: it has no certificate in PEM", key(&good))),
        (
            options(&good)[..2].to_vec(),
            "--tls-cert (SUBJOBS_TLS_CERT) needs --tls-key (SUBJOBS_TLS_KEY): give both".into(),
        ),
    ] {
        assert_eq!(said(&args), (2, reason + "\n"), "{args:?}");
    }
    // A good certificate does not hide another file's error, nor that one the certificate.
    let both = [options(&good), vec!["--access".into(), files.put("bad.toml", "x")]].concat();
    let (code, lines) = said(&both);
    assert!(code == 2 && lines.contains("bad.toml: line 1") && lines.contains(&verdict(&good)), "{lines}");
    let key_file = key(&good);
    let variables = [("SUBJOBS_TLS_CERT", name(&other)), ("SUBJOBS_TLS_KEY", key_file)];
    let output = run(subjobs(&["check"]).envs(variables), "");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
}

#[test]
fn check_refuses_an_expired_certificate() {
    let (files, certificates) = (Files::new(), Certificates::new());
    let good = certificates.issue("good");
    let expired = TlsFiles { certificate: files.path("expired.pem"), ..good };
    let openssl = |args: &[&str]| {
        let output = run(Command::new("openssl").args(args), "");
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let (key, request) = (expired.key.to_str().unwrap(), files.arg("request.pem"));
    openssl(&["req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", &request]);
    let out = expired.certificate.to_str().unwrap();
    // A certificate with an extension has version 3.
    let extensions = files.put("extensions", "subjectAltName=DNS:localhost\n");
    openssl(&["x509", "-req", "-in", &request, "-signkey", key, "-days", "-1", "-extfile", &extensions, "-out", out]);
    let output = run(subjobs(&["check"]).args(options(&expired)), "");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(2), format!("{out}: the certificate has expired\n"))
    );
}
