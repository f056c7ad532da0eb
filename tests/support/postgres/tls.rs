//! Certificates of a test, and a server that has one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Cluster, run};

/// An authority that signs certificates of servers.
pub(crate) struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut request = request(name, dir.path(), "ca");
        run(request
            .args(["-x509", "-addext", "basicConstraints=critical,CA:TRUE", "-out"])
            .arg(dir.path().join("ca.pem")));
        Self { dir }
    }

    /// The certificate of the authority itself.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The certificate and the key of a server with this name, as `DNS:host` or `IP:address`.
    pub(crate) fn sign(&self, name: &str) -> [String; 2] {
        let dir = self.dir.path();
        let mut request = request("a server", dir, "server");
        request.args([
            "-x509",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            &format!("subjectAltName={name}"),
        ]);
        request.arg("-CA").arg(dir.join("ca.pem")).arg("-CAkey").arg(dir.join("ca.key"));
        run(request.arg("-out").arg(dir.join("server.pem")));
        ["server.pem", "server.key"].map(|file| std::fs::read_to_string(dir.join(file)).unwrap())
    }
}

/// A new key, and a request for its certificate.
fn request(subject: &str, dir: &Path, name: &str) -> Command {
    let mut request = Command::new("openssl");
    request.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"]);
    request.arg(format!("/CN={subject}")).arg("-keyout").arg(dir.join(format!("{name}.key")));
    request
}

impl Cluster {
    /// Lets the server encrypt connections, with a certificate for `name`.
    pub(crate) fn use_certificate(&mut self, authority: &Authority, name: &str) {
        for (file, content) in ["server.crt", "server.key"].into_iter().zip(authority.sign(name)) {
            self.write(file, &content);
        }
        self.configure("ssl = on");
        self.stop();
        self.restart();
    }
}
