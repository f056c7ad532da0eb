//! A small disk for a server's data directory: a tmpfs in a mount namespace of its own, which ends with the cluster.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Cluster, Version, install};

/// The process that keeps the namespace until its standard input ends.
pub(super) struct Disk {
    holder: Child,
}

impl Disk {
    /// The command that runs a program in the namespace; its arguments follow.
    pub(super) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.id().to_string(), "--"]);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

impl Cluster {
    /// A cluster whose disk has so many mebibytes. `None`, and a line on standard error, if this process may mount no file system.
    pub(crate) fn start_on_small_disk(version: Version, mebibytes: u32, settings: &str) -> Option<Self> {
        let mut cluster = Self::prepare(version);
        let Some((user, group)) = install::user() else {
            eprintln!("SKIPPED: only root may mount a file system that another user's server can write");
            return None;
        };
        fs::create_dir(&cluster.data).unwrap();
        let script = format!(
            r#"mount -t tmpfs -o size={mebibytes}m,uid={user},gid={group},mode=700 none "$0" && echo mounted && exec cat"#
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script]).arg(&cluster.data).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut holder) = command.stderr(Stdio::null()).spawn() else { return skip() };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let _ = holder.wait();
            return skip();
        }
        cluster.disk = Some(Disk { holder });
        cluster.initialize(settings);
        Some(cluster)
    }

    /// Fills the disk with a file; the server has no space until [`Cluster::free_disk`].
    pub(crate) fn fill_disk(&self) {
        let ballast = format!("of={}", self.data.join("ballast").display());
        let mut fill = self.command("dd");
        // It fails when the disk is full.
        let ended = fill.args(["if=/dev/zero", "bs=64k", &ballast]).stderr(Stdio::null()).status().unwrap();
        assert!(!ended.success());
    }

    /// Removes that file.
    pub(crate) fn free_disk(&self) {
        assert!(self.command("rm").arg(self.data.join("ballast")).status().unwrap().success());
    }
}

fn skip<T>() -> Option<T> {
    eprintln!("SKIPPED: no file system may be mounted here");
    None
}
