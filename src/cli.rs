//! The commands other than `serve`: `token`, `check`, `export`, `backup`, `migrate`, `healthcheck`, `completions` and `man`.

mod healthcheck;
mod reference;

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

pub use self::healthcheck::healthcheck;
use crate::access::{Access, Token, random_token};
pub use crate::config::connect_address;
use crate::config::{
    BackupFlags, CheckFlags, ConfigError, ExportFlags, ExportSource, MigrateFlags, StoreFlags, export_source,
    job_types, store_target,
};
use crate::load;
use crate::progress::Progress;
use crate::record;
use crate::store::{self, DataDir, DatabaseError, OpenError};
use crate::tls::{self, TlsFiles};
pub use reference::{completions, manual};

/// The most bytes of a token on standard input: more than a request head may have.
const MAX_TOKEN_BYTES: u64 = 256 * 1024;

/// Prints a new token, then its line for the access file.
///
/// # Errors
///
/// The system has no random bytes, or `out` cannot be written.
pub fn new_token(mut out: impl Write) -> io::Result<()> {
    let token = random_token()?;
    writeln!(out, "{token}")?;
    print_hash(token.as_bytes(), out)
}

/// Reads a token up to the end of the line and prints its line for the access file.
///
/// # Errors
///
/// The token is empty or cannot be in a header, or reading or writing fails.
pub fn hash_token(input: impl Read, out: impl Write) -> io::Result<()> {
    let mut token = Vec::new();
    input.take(MAX_TOKEN_BYTES).read_to_end(&mut token)?;
    let end = token.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(token.len());
    match unsendable(&token[..end]) {
        Some(reason) => Err(io::Error::new(io::ErrorKind::InvalidInput, reason)),
        None => print_hash(&token[..end], out),
    }
}

/// Why no request can have a token in its header: the hash of such a token would never match.
fn unsendable(token: &[u8]) -> Option<&'static str> {
    if token.starts_with(b"\xef\xbb\xbf") {
        return Some("the token begins with a byte order mark: save it without");
    }
    // The HTTP layer removes it from a header's value.
    if token.trim_ascii() != token {
        return Some("the token begins or ends with white space");
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    token.iter().any(is_control).then_some("the token has a control character")
}

fn print_hash(token: &[u8], mut out: impl Write) -> io::Result<()> {
    let token = Token::new(token).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the token is empty"))?;
    writeln!(out, "tokens = [{{ sha256 = \"{}\" }}]", token.digest())
}

/// Checks every named file and the database, and prints their errors, or what they have. Returns whether all are good.
///
/// # Errors
///
/// `out` cannot be written.
pub fn check(flags: &CheckFlags, mut out: impl Write) -> io::Result<bool> {
    let job_types = match job_types(&flags.types.added) {
        Ok(job_types) => job_types,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    let certificates = match certificates(flags) {
        Ok(certificates) => certificates,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    if flags.access.is_none() && flags.load.is_empty() && flags.store.store.is_none() && certificates.is_empty() {
        writeln!(out, "nothing to check: give --access FILE, --load FILE, --tls-cert FILE or --store URL")?;
        return Ok(false);
    }
    let mut all_good = true;
    let access = flags.access.iter().map(|path| {
        let checked = Access::read(path).map(|access| access.summary().to_string());
        (path, checked.map_err(|error| error.to_string()))
    });
    let loads = flags.load.iter().map(|path| {
        let checked = load::summarize(path, &job_types).map(|summary| summary.to_string());
        (path, checked.map_err(|error| error.to_string()))
    });
    let certificates = certificates.iter().map(|files| {
        let checked = tls::check(files).map(|summary| summary.to_string());
        (&files.certificate, checked.map_err(|error| error.to_string()))
    });
    for (path, checked) in access.chain(loads).chain(certificates) {
        all_good &= checked.is_ok();
        match checked {
            Ok(summary) => writeln!(out, "{}: good, {summary}", path.display())?,
            Err(error) => writeln!(out, "{error}")?,
        }
    }
    Ok(check_store(&flags.store, flags.repair, out)? && all_good)
}

/// The certificates of the listeners that have one.
fn certificates(flags: &CheckFlags) -> Result<Vec<TlsFiles>, ConfigError> {
    let both = [flags.tls.clone().files()?, flags.internal_tls.clone().files()?];
    Ok(both.into_iter().flatten().collect())
}

/// Checks the database of `--store`, if there is one, after it is repaired if that is wanted. Returns whether it is good.
fn check_store(flags: &StoreFlags, is_repaired: bool, mut out: impl Write) -> io::Result<bool> {
    let target = match store_target(flags) {
        Ok(None) => return Ok(true),
        Ok(Some(target)) => target,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    let runtime = runtime()?;
    if is_repaired {
        match runtime.block_on(store::repair_database(&target)) {
            Ok(repaired) => writeln!(out, "{}: {repaired}", target.url())?,
            Err(reason) => {
                writeln!(out, "{}: not repaired: {reason}", target.url())?;
                return Ok(false);
            }
        }
    }
    match runtime.block_on(store::check_database(&target)) {
        Ok(found) => {
            let verdict = if found.is_good() { "good, " } else { "" };
            writeln!(out, "{}: {verdict}{found}", target.url())?;
            Ok(found.is_good())
        }
        Err(reason) => {
            writeln!(out, "{}: {reason}", target.url())?;
            Ok(false)
        }
    }
}

/// A runtime for one command.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Why a migration fails.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The options cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no `--store`.
    #[error("there is no database: give --store URL")]
    NoStore,
    /// The database cannot be migrated.
    #[error("{url}: {cause}")]
    Store {
        /// The database, without a password.
        url: String,
        /// What is wrong.
        cause: DatabaseError,
    },
    /// The output cannot be written, or the system refuses a runtime.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Makes or upgrades the schema of a database, and prints the versions.
///
/// # Errors
///
/// The options are invalid, the database cannot be migrated, or `out` cannot be written.
pub fn migrate(flags: &MigrateFlags, mut out: impl Write) -> Result<(), MigrationError> {
    let target = store_target(&flags.store)?.ok_or(MigrationError::NoStore)?;
    let migrated = runtime()?.block_on(store::migrate(&target));
    let migrated = migrated.map_err(|cause| MigrationError::Store { url: target.url().to_string(), cause })?;
    Ok(writeln!(out, "{}: {migrated}", target.url())?)
}

/// Why an export fails.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The options cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] DatabaseError),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Writes every subtask of a data directory or a database as a line of a load file.
///
/// # Errors
///
/// The options are invalid, the data directory or the database cannot be read, or `out` cannot be written.
pub fn export(flags: &ExportFlags, out: impl Write) -> Result<(), ExportError> {
    let job_types = job_types(&flags.types.added)?;
    let source = export_source(flags)?;
    let name = match &source {
        ExportSource::DataDir(path) => path.display().to_string(),
        ExportSource::Store(target) => target.url().to_string(),
    };
    let (mut out, mut progress) = (BufWriter::new(out), Progress::of_export(name.as_ref()));
    let each = |project: &_, sub_job| Ok(record::to_load_line(project, &sub_job, &job_types, &mut out)?);
    let on_progress = |done, all| progress.set_position(done, all);
    let exported: Result<(), ExportError> = match source {
        ExportSource::DataDir(path) => store::export(DataDir::claim_used(&path)?, &job_types, each, on_progress),
        ExportSource::Store(target) => {
            runtime()?.block_on(store::export_database(&target, &job_types, each, on_progress))
        }
    };
    exported?;
    progress.finish();
    Ok(out.flush()?)
}

/// Copies a data directory, also while a server uses it, and prints what the copy has.
///
/// # Errors
///
/// The directory cannot be copied, or `out` cannot be written.
pub fn backup(flags: &BackupFlags, mut out: impl Write) -> Result<(), ExportError> {
    let made = store::backup(&flags.data_dir, &flags.to)?;
    // The name without a slash at its end.
    let to: PathBuf = flags.to.components().collect();
    Ok(writeln!(out, "{}: {made}", to.display())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cli, Command};
    use clap::Parser as _;

    fn checked(flags: &str) -> (bool, String) {
        let line = format!("subjobs check {flags}");
        let Command::Check(flags) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else { panic!() };
        let mut out = Vec::new();
        (check(&flags, &mut out).unwrap(), String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn the_printed_line_accepts_the_new_token() {
        let mut out = Vec::new();
        new_token(&mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let (token, line) = out.trim_end().split_once('\n').unwrap();
        let file = format!("[[principal]]\nname = \"a\"\nkind = \"account\"\nprojects = [\"*\"]\n{line}");
        let access = Access::parse(&file).unwrap();
        assert!(access.authenticate(Token::new(token.as_bytes()).unwrap()).await.is_ok());
    }

    #[test]
    fn a_token_is_hashed_without_its_line_end() {
        let hash = |input: &str| {
            let mut out = Vec::new();
            hash_token(input.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap()).map_err(|e| e.to_string())
        };
        let line = "tokens = [{ sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }]\n";
        for input in ["abc", "abc\n", "abc\r\n"] {
            assert_eq!(hash(input).as_deref(), Ok(line));
        }
        assert_eq!(hash("\n"), Err("the token is empty".into()));
        for (input, reason) in [
            (" abc\n", "white space"),
            ("abc \n", "white space"),
            ("\tabc", "white space"),
            ("abc\t\r\n", "white space"),
            (" \n", "white space"),
            ("\u{feff}abc", "byte order mark"),
            ("a\0b\0c\0", "control character"),
            ("a\u{7f}", "control character"),
        ] {
            let said = hash(input).unwrap_err();
            assert!(said.contains(reason) && !said.contains("abc"), "{input:?}: {said}");
        }
        for input in ["a b\tc", "clé", "a\u{feff}"] {
            assert!(hash(input).is_ok(), "{input:?}");
        }
    }

    #[test]
    fn every_file_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let line = r#"{"project_id":"p","id":"1","job_id":"j","job_type":"NEW","status":"RUNNING"}"#;
        let (good, bad, load) = (path("good", "[identity]\nurl = \"http://a\""), path("bad", "a"), path("load", line));
        assert_eq!(
            checked(&format!("--access {good} --load {load} --job-type NEW")),
            (
                true,
                format!(
                    "{good}: good, 0 principals, 0 tokens, 0 access keys, any project, an identity service\n\
                     {load}: good, 1 subtask of 1 job in 1 project\n"
                )
            )
        );
        let (is_good, said) = checked(&format!("--access {bad} --load {load} --load {load}"));
        assert!(!is_good);
        assert!(said.contains(&format!("{bad}: line 1: ")), "{said}");
        assert_eq!(
            said.matches(&format!("{load}:1: job_type \"NEW\" is not a known job type; --job-type adds one")).count(),
            2,
            "{said}"
        );
        assert!(!checked("").0);
    }
}
