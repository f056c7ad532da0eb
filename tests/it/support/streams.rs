//! Standard streams that cannot be written, and observations of a program without its log.

use std::fs::{self, File};
use std::io::PipeReader;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::wait::{TEST_DEADLINE, until};

/// A kind of stream that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// The descriptor is closed.
    Closed,
    /// /dev/full, as a disk without space.
    Full,
    /// A pipe whose reader has closed it.
    NoReader,
    /// A full pipe without reads.
    Stuck,
    /// The same, in non-blocking mode.
    StuckNonBlocking,
    /// A descriptor that is open for reading only.
    ReadOnly,
}

/// Every kind.
pub(crate) const UNWRITABLE: [Unwritable; 6] = [
    Unwritable::Closed,
    Unwritable::Full,
    Unwritable::NoReader,
    Unwritable::Stuck,
    Unwritable::StuckNonBlocking,
    Unwritable::ReadOnly,
];

/// Sets such a stream as descriptor 1 or 2 of a command. The returned reader must live as long as the program.
pub(crate) fn give(command: &mut Command, fd: u8, broken: Unwritable) -> (Command, Option<PipeReader>) {
    let mut command = match broken {
        Unwritable::Closed => within_shell(command, &format!("exec \"$0\" \"$@\" {fd}>&-")),
        _ => within_shell(command, "exec \"$0\" \"$@\""),
    };
    let (stream, reader) = match broken {
        Unwritable::Closed => return (command, None),
        Unwritable::Full => (Stdio::from(File::options().write(true).open("/dev/full").unwrap()), None),
        Unwritable::ReadOnly => (Stdio::from(File::open("/dev/null").unwrap()), None),
        Unwritable::NoReader => (Stdio::from(std::io::pipe().unwrap().1), None),
        Unwritable::Stuck | Unwritable::StuckNonBlocking => {
            let (reader, writer) = std::io::pipe().unwrap();
            let flags = fcntl_getfl(&writer).unwrap();
            fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
            while rustix::io::write(&writer, &[b' '; 4096]).is_ok() {}
            while rustix::io::write(&writer, b" ").is_ok() {}
            if broken == Unwritable::Stuck {
                fcntl_setfl(&writer, flags).unwrap();
            }
            (Stdio::from(writer), Some(reader))
        }
    };
    match fd {
        1 => command.stdout(stream),
        _ => command.stderr(stream),
    };
    (command, reader)
}

/// Starts the same command, with its environment, from a shell.
fn within_shell(command: &Command, script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// The exit code of a program that ends by itself.
pub(crate) fn exit_code(child: &mut Child) -> i32 {
    let end = Instant::now() + TEST_DEADLINE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status.code().unwrap_or_else(|| panic!("{status:?}")),
            None if Instant::now() < end => std::thread::sleep(std::time::Duration::from_millis(2)),
            None => {
                let _ = child.kill();
                panic!("the program does not end");
            }
        }
    }
}

/// The public and the internal address of a program, found without its log.
pub(crate) fn addresses(child: &Child) -> [SocketAddr; 2] {
    until("both listeners are there", || {
        let mut sockets: Vec<_> = fs::read_dir(format!("/proc/{}/fd", child.id()))
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let fd: u32 = entry.file_name().to_str()?.parse().ok()?;
                let target = fs::read_link(entry.path()).ok()?;
                let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
                Some((fd, inode))
            })
            .collect();
        sockets.sort_unstable();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let listening = |inode: &str| {
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| {
                let is_it = fields.get(3) == Some(&"0A") && fields.get(9) == Some(&inode);
                let port = is_it.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok())??;
                Some(SocketAddr::from(([127, 0, 0, 1], port)))
            })
        };
        let found: Vec<_> = sockets.iter().filter_map(|(_, inode)| listening(inode)).collect();
        <[SocketAddr; 2]>::try_from(found).ok()
    })
}
