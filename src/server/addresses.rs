//! Tells the process that started the server where it listens: one line of JSON, on standard output or in a file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::ServerError;
use super::error::system_error;
use crate::ephemeral::{Ephemeral, Tokens};
use crate::output::Stdout;

/// How long the start waits for the line to be printed.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);

/// The addresses of a server, and who is told.
#[derive(Debug)]
pub(super) struct Announcement {
    line: String,
    file: Option<PathBuf>,
    is_printed: bool,
}

/// The line.
#[derive(Serialize)]
struct Addresses<'a> {
    public: String,
    internal: String,
    #[serde(flatten)]
    tokens: Option<&'a Tokens>,
}

impl Announcement {
    /// Removes a file that an earlier server has left, so that its addresses are not taken for those of this one.
    pub(super) fn prepare(
        (public, internal): (String, String),
        ephemeral: Option<&Ephemeral>,
        file: Option<PathBuf>,
    ) -> Result<Self, ServerError> {
        let addresses = Addresses { public, internal, tokens: ephemeral.and_then(Ephemeral::tokens) };
        let line = serde_json::to_string(&addresses).map_err(|error| ServerError::System(error.to_string()))? + "\n";
        let announcement = Self { line, file, is_printed: ephemeral.is_some() };
        announcement.in_file(remove)?;
        Ok(announcement)
    }

    /// Writes the file, and prints the line. A reader of either can connect at once. Fails if neither can be written.
    pub(super) fn publish(&self) -> Result<(), ServerError> {
        self.in_file(|path| replace(path, self.line.as_bytes()))?;
        if !self.is_printed {
            return Ok(());
        }
        let (line, (sender, printed)) = (self.line.clone(), channel());
        // On its own thread, because standard output may block: the one that reads it may do so later.
        // One that was closed cannot be told from the `/dev/null` that many parents give, and some of them choose addresses and token.
        let print = move || Stdout::open().map_or(Ok(()), |mut out| out.write_all(line.as_bytes()));
        let thread = thread::Builder::new().name("stdout".into());
        thread.spawn(move || drop(sender.send(print()))).map_err(system_error)?;
        match printed.recv_timeout(PRINT_TIMEOUT) {
            // The addresses are lost, and with them the server.
            Ok(Err(error)) if self.file.is_none() => {
                Err(ServerError::System(format!("cannot write the addresses to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Removes the file, because nothing listens any more, unless it has the addresses of another server.
    pub(super) fn withdraw(&self) {
        let is_ours = |path: &Path| fs::read(path).is_ok_and(|text| text == self.line.as_bytes());
        if let Err(error) = self.in_file(|path| if is_ours(path) { remove(path) } else { Ok(()) }) {
            tracing::warn!(%error, "the addresses of a server that has ended are still in the file");
        }
    }

    fn in_file(&self, change: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ServerError> {
        match &self.file {
            Some(path) => change(path).map_err(|cause| ServerError::AddressesFile { path: path.clone(), cause }),
            None => Ok(()),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Writes a file under a temporary name and renames it, so that no reader sees a part of it. Only its owner may read it, because it
/// may have a token.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    // An earlier draft may have another mode.
    remove(draft)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?.write_all(bytes)?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_absent_before_the_server_is_ready_and_after_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses.json");
        fs::write(&path, "of an earlier server").unwrap();
        let urls = || ("http://a".to_owned(), "http://b".to_owned());
        let announcement = Announcement::prepare(urls(), None, Some(path.clone())).unwrap();
        assert!(!path.exists());
        announcement.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"public\":\"http://a\",\"internal\":\"http://b\"}\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        announcement.withdraw();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(&path, "of the next server").unwrap();
        announcement.withdraw();
        assert!(path.exists());

        let unwritable = Announcement::prepare(urls(), None, Some(dir.path().join("absent/file"))).unwrap();
        assert!(unwritable.publish().unwrap_err().to_string().contains("absent/file: No such file"));
    }
}
