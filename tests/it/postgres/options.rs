//! The options of the database: no output has its password.

use crate::support::fixtures::Files;
use crate::support::program::{run, serve, subjobs, text};

#[test]
fn no_output_has_the_password_of_a_url() {
    let files = Files::new();
    let access = files.access();
    for url in [
        "postgres://u:hidden@127.0.0.1:1/d",
        "postgres://u:hidden@/d",
        "postgres://u:hidden@h/d?sslmode=prefer",
        "postgres://u:hid@den@h/d",
        "mysql://u:hidden@h/d",
        "u:hidden",
    ] {
        for command in ["migrate", "check"] {
            for mut command in [subjobs(&[command, "--store", url]), subjobs(&[command])] {
                let output = run(command.env("SUBJOBS_STORE", url), "");
                let said = text(&output.stdout) + &text(&output.stderr);
                assert!(!output.status.success() && !said.contains("hid"), "{said}");
            }
        }
        for more in [&["--data-dir", "d"][..], &["--demo"], &["--store-lanes", "x"], &["--help"]] {
            let output = run(serve(&["--access", &access]).args(more).env("SUBJOBS_STORE", url), "");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains("hidden") && !said.contains("den@"), "{said}");
        }
    }
}
