//! A small disk for the program's data.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::fixtures::Files;
use crate::support::program::{Program, serve};

/// A small file system in a mount namespace of its own. It ends with the test.
pub(crate) struct SmallDisk {
    /// The process that keeps the namespace until its standard input ends.
    holder: Child,
    is_user: bool,
    at: PathBuf,
}

impl SmallDisk {
    /// Returns `None` and prints a message if the test may not mount a file system.
    pub(crate) fn new(files: &Files, mebibytes: u32) -> Option<Self> {
        let at = files.path("disk");
        fs::create_dir(&at).unwrap();
        let script = format!(r#"mount -t tmpfs -o size={mebibytes}m none "$0" && echo mounted && exec cat"#);
        for (is_user, flags) in [(false, "-m"), (true, "-Urm")] {
            let mut command = Command::new("unshare");
            command.args([flags, "sh", "-c", &script]).arg(&at).stdin(Stdio::piped()).stdout(Stdio::piped());
            let Ok(mut holder) = command.stderr(Stdio::null()).spawn() else { continue };
            let mut said = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
            if said == "mounted\n" {
                return Some(Self { holder, is_user, at });
            }
            holder.wait().unwrap();
        }
        eprintln!("SKIPPED: no file system may be mounted here, neither by root nor in a user namespace");
        None
    }

    /// Makes it read-only.
    pub(crate) fn protect(&self) {
        let remount = self.enter("mount").args(["-o", "remount,ro"]).arg(&self.at).status().unwrap();
        assert!(remount.success());
    }

    /// A command in the namespace of the disk.
    fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        if self.is_user {
            command.args(["-U", "--preserve-credentials"]);
        }
        command.args(["-m", "-t", &self.holder.id().to_string(), "--"]).arg(program);
        command
    }

    /// The command that serves from the disk.
    pub(crate) fn serve(&self, files: &Files) -> Command {
        let program = serve(&["--access", &files.access(), "--data-dir", self.at.join("data").to_str().unwrap()]);
        let mut command = self.enter(program.get_program());
        command.args(program.get_args()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    pub(crate) fn start(&self, files: &Files) -> Program {
        let program = Program::begin_with(&mut self.serve(files));
        program.await_log("ready");
        program
    }

    /// Fills this number of MiB, or all the space.
    pub(crate) fn take(&self, mebibytes: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        // The command ends with an error when the disk is full.
        let _ = (0..mebibytes * 16).try_for_each(|_| ballast.write_all(&[1; 64 * 1024]));
    }

    pub(crate) fn free_space(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// The path of the file that fills the disk, seen from outside the namespace.
    fn ballast(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside).join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // The process may have ended.
        let _ = self.holder.wait();
    }
}
