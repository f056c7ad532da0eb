//! The options of TLS: which go together, which files are refused, and the health check.

use std::process::Command;

use subjobs::tls::TlsFiles;

use crate::support::fixtures::Files;
use crate::support::program::{Program, fatal_error_text, run, serve, subjobs, text};
use crate::support::tls::{Certificates, internal_options, options};

/// Starts `serve` with these options and variables. Returns its exit code and last words.
fn refused(args: &[String], variables: &[(&str, &str)]) -> (i32, String) {
    let files = Files::new();
    let access = files.access();
    let args: Vec<_> = ["--access", &access].into_iter().chain(args.iter().map(String::as_str)).collect();
    let output = run(serve(&args).envs(variables.iter().copied()), "");
    (output.status.code().unwrap(), fatal_error_text(&text(&output.stderr)))
}

#[test]
fn options_without_those_that_they_need_are_named() {
    for prefix in ["", "internal-"] {
        let flag = |name: &str| format!("--{prefix}tls-{name}");
        let variable = |name: &str| format!("SUBJOBS_{prefix}TLS_{name}").to_uppercase().replace('-', "_");
        let both = |name: &str| format!("{} ({})", flag(name), variable(name));
        for (given, said) in [
            (&["cert"][..], format!("{} needs {}: give both", both("cert"), both("key"))),
            (&["key"], format!("{} needs {}: give both", both("key"), both("cert"))),
            (
                &["client-ca"],
                format!("{} needs {} and {}: give all three", both("client-ca"), both("cert"), both("key")),
            ),
            (&["cert", "client-ca"], format!("{} needs {}: give both", both("cert"), both("key"))),
            (&["client-ca", "key"], format!("{} needs {}: give both", both("key"), both("cert"))),
        ] {
            let args: Vec<_> = given.iter().flat_map(|name| [flag(name), "some.pem".into()]).collect();
            assert_eq!(refused(&args, &[]), (2, said.clone()));
            let names: Vec<_> = given.iter().map(|name| variable(name)).collect();
            let variables: Vec<_> = names.iter().map(|name| (name.as_str(), "some.pem")).collect();
            assert_eq!(refused(&[], &variables), (2, said));
        }
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let certificates = Certificates::new();
    let [good, other] = ["good", "other"].map(|name| certificates.issue_for_mutual(name));
    let files = Files::new();
    let certificate = std::fs::read_to_string(&good.certificate).unwrap();
    let encrypted = files.path("encrypted.key");
    let openssl = ["pkcs8", "-topk8", "-passout", "pass:secret", "-in"];
    let status = Command::new("openssl").args(openssl).arg(&good.key).arg("-out").arg(&encrypted).status();
    assert!(status.unwrap().success());
    files.put("empty", "");
    files.put("text", "no certificate\n");
    files.put("cut", &certificate[..certificate.len() / 2]);
    files.put("damaged", &certificate.replace('M', "!"));
    files.put("no-certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    files.put("large", &"x".repeat(1024 * 1024 + 1));

    type Put = fn(TlsFiles, std::path::PathBuf) -> TlsFiles;
    let cert: Put = |files, path| TlsFiles { certificate: path, ..files };
    let key: Put = |files, path| TlsFiles { key: path, ..files };
    let ca: Put = |files, path| TlsFiles { client_ca: Some(path), ..files };
    for (put, path, reason) in [
        (cert, files.path("absent"), "No such file or directory (os error 2)"),
        (key, files.path("absent"), "No such file or directory (os error 2)"),
        (ca, files.path("absent"), "No such file or directory (os error 2)"),
        (cert, files.path("."), "it is a directory, not a regular file"),
        (key, "/dev/null".into(), "it is a device, not a regular file"),
        (cert, files.path("large"), "it is larger than 1 MiB"),
        (cert, files.path("empty"), "it has no certificate in PEM"),
        (cert, files.path("text"), "it has no certificate in PEM"),
        (ca, files.path("text"), "it has no certificate in PEM"),
        (cert, good.key.clone(), "it has no certificate in PEM"),
        (cert, files.path("cut"), ""),
        (cert, files.path("damaged"), ""),
        (cert, files.path("no-certificate"), "not a certificate"),
        (ca, files.path("no-certificate"), ""),
        (key, files.path("text"), "it has no private key in PEM without a password"),
        (key, good.certificate.clone(), "it has no private key in PEM without a password"),
        (key, encrypted, "it has no private key in PEM without a password"),
        (key, other.key, "it is not the key of the first certificate in "),
    ] {
        let files = put(good.clone(), path.clone());
        for args in [options(&files), internal_options(&files)] {
            let (code, said) = refused(&args, &[]);
            let rest = said.strip_prefix(&format!("{}: ", path.display())).unwrap_or_else(|| panic!("{said}"));
            assert!(code == 2 && rest.starts_with(reason), "{code} {said}");
        }
    }
}

#[test]
fn certificate_and_key_may_be_in_one_file() {
    let certificates = Certificates::new();
    let issued = certificates.issue("one");
    let files = Files::new();
    let both = [&issued.key, &issued.certificate].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let both = files.put("both.pem", &both);
    Program::start(&["--access", &files.access(), "--tls-cert", &both, "--tls-key", &both]);
}

/// The exit code and the error of a health check.
fn healthcheck(program: &Program, more: &[String]) -> (i32, String) {
    let address = program.internal.to_string();
    let mut command = subjobs(&["healthcheck", "--internal-listen", &address]);
    let output = run(command.args(more), "");
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn the_health_check_uses_tls_if_the_listener_does() {
    let certificates = Certificates::new();
    let files = Files::new();
    for mutual in [false, true] {
        let own = if mutual { certificates.issue_for_mutual("own") } else { certificates.issue("own") };
        let args = internal_options(&own);
        let access = files.access();
        let serve: Vec<_> = ["--access", &access].into_iter().chain(args.iter().map(String::as_str)).collect();
        let program = Program::start(&serve);
        let without = healthcheck(&program, &[]);
        assert_eq!(without, (1, "subjobs: not ready: HTTP/1.1 400\n".into()));
        assert_eq!(healthcheck(&program, &args), (0, String::new()));
        // The files may have been replaced since the server read them.
        certificates.issue("own");
        assert_eq!(healthcheck(&program, &args), (0, String::new()));
        let without_ca = healthcheck(&program, &args[..4]);
        assert_eq!(without_ca.0, i32::from(mutual), "{}", without_ca.1);
        assert_eq!(healthcheck(&program, &args[..2]).0, 1, "a certificate without a key");
    }
}
