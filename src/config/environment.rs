//! Environment variables as options: an empty one counts as unset, an unknown one is warned about.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _, ValueEnum as _};

use super::flags::{Cli, LogFormat};
use crate::bounded_read::read_file_or_pipe;

/// The prefix of every variable that sets an option.
const PREFIX: &str = "SUBJOBS_";

/// What the name of a variable ends in that has the path of a file with a secret.
const FILE_SUFFIX: &str = "_FILE";

/// The most bytes of a file with a secret.
const MAX_SECRET_FILE: usize = 4096;

/// The most letters in which a mistyped name may differ from a known one.
const MAX_TYPO_DISTANCE: usize = 2;

/// A command line that cannot be used, or one that asks for help.
#[derive(Debug)]
pub struct UsageError {
    /// The error of clap. It names the variable if the value came from one.
    pub error: clap::Error,
    /// The log format that the command line or the environment asks for.
    pub log_format: Option<LogFormat>,
    /// Whether the command has a log.
    pub has_log: bool,
    /// Whether the command is `healthcheck`.
    pub is_healthcheck: bool,
}

impl UsageError {
    /// The error as one line, without the usage.
    pub fn one_line_message(&self) -> String {
        let text = self.error.render().to_string();
        let reason = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<_> = reason.strip_prefix("error: ").unwrap_or(reason).split_whitespace().collect();
        words.join(" ")
    }
}

/// Parses the command line and the environment of this process.
///
/// # Errors
///
/// If they cannot be parsed, or ask for help.
pub fn read_command_line() -> Result<Cli, UsageError> {
    let args: Vec<OsString> = std::env::args_os().collect();
    parse(&args, |_| false).map_err(|error| {
        let is_one_of = |names: &[&str]| args.get(1).is_some_and(|command| names.iter().any(|name| command == name));
        UsageError {
            error: name_variable(error, &args),
            log_format: requested_log_format(&args),
            has_log: is_one_of(&["serve", "export"]),
            is_healthcheck: is_one_of(&["healthcheck"]),
        }
    })
}

/// Whether a service manager has started the process and wants messages, as sd_notify(3) describes.
pub fn has_service_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Parses a command line. Empty variables and those for which `skip` is true count as unset.
fn parse(args: &[OsString], skip: impl Fn(&OsStr) -> bool) -> Result<Cli, clap::Error> {
    let is_unset = |name: &OsStr| skip(name) || std::env::var_os(name).is_none_or(|value| value.is_empty());
    let mut command = Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_env() {
            Some(name) if std::env::var_os(name).is_some() && is_unset(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
    });
    let mut args = args.to_vec();
    add_secrets_of_files(&mut args, is_unset)?;
    let matches = command.try_get_matches_from_mut(args)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Whether a file may have the value of an option in place of its variable: a secret that no flag of the help sets.
fn has_file_variable(arg: &Arg) -> bool {
    arg.is_hide_set() && arg.is_hide_env_values_set()
}

/// Adds the flags of secrets that files have to the flags of a command. A flag and a variable have precedence.
fn add_secrets_of_files(args: &mut Vec<OsString>, is_unset: impl Fn(&OsStr) -> bool) -> Result<(), clap::Error> {
    let cli = Cli::command();
    let asked = args.get(1).and_then(|command| command.to_str());
    let Some(command) = asked.and_then(|asked| cli.find_subcommand(asked)) else { return Ok(()) };
    for arg in command.get_arguments().filter(|arg| has_file_variable(arg)) {
        let (Some(name), Some(option)) = (arg.get_env(), arg.get_long()) else { continue };
        let flag = format!("--{option}");
        let is_given = args.iter().any(|arg| arg.to_string_lossy().split('=').next() == Some(&*flag));
        if is_unset(name)
            && !is_given
            && let Some(secret) = read_secret(name)
        {
            let secret = secret.map_err(|error| clap::Error::raw(ErrorKind::Io, error))?;
            args.push(format!("{flag}={secret}").into());
        }
    }
    Ok(())
}

/// The secret in the first line of the file that a variable names, if there is that variable. An error names both.
fn read_secret(variable: &OsStr) -> Option<Result<String, String>> {
    let mut name = variable.to_owned();
    name.push(FILE_SUFFIX);
    let path = PathBuf::from(std::env::var_os(&name).filter(|path| !path.is_empty())?);
    let text = read_file_or_pipe(&path, MAX_SECRET_FILE)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
    let secret = text.and_then(|text| match text.lines().next() {
        None | Some("") => Err("the first line is empty".to_owned()),
        Some(line) => Ok(line.to_owned()),
    });
    Some(secret.map_err(|error| format!("{}: {}: {error}\n", name.display(), path.display())))
}

/// Replaces the option in an error by its variable, if the value came from the variable.
fn name_variable(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(variable) = variable_of(option) else { return error };
    // If the variable is at fault, parsing without it gives no error, or a different one.
    let is_same = |other: clap::Error| {
        other.kind() == error.kind() && other.get(ContextKind::InvalidArg) == error.get(ContextKind::InvalidArg)
    };
    let is_from_variable = std::env::var_os(&variable).is_some_and(|value| !value.is_empty())
        && !parse(args, |name| name == variable.as_str()).is_err_and(is_same);
    if is_from_variable && matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The variable of an option, which is written as in clap's errors (`--listen <ADDR>`).
fn variable_of(option: &str) -> Option<String> {
    let mut cli = Cli::command();
    // `Arg::to_string` needs a built command.
    cli.build();
    let mut args = cli.get_subcommands().flat_map(Command::get_arguments);
    let arg = args.find(|arg| arg.to_string() == option)?;
    arg.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// The log format that an unusable command line asks for.
fn requested_log_format(args: &[OsString]) -> Option<LogFormat> {
    let flag = args.iter().enumerate().find_map(|(at, arg)| match arg.to_str()? {
        "--log-format" => args.get(at + 1)?.to_str().map(str::to_owned),
        arg => arg.strip_prefix("--log-format=").map(str::to_owned),
    });
    let value = flag.or_else(|| std::env::var("SUBJOBS_LOG_FORMAT").ok())?;
    LogFormat::from_str(&value, false).ok()
}

/// A variable that looks like an option and that no option reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// The name as it is in the environment.
    pub name: String,
    /// The most similar name of an option.
    pub nearest: String,
}

impl UnknownVariable {
    /// Logs a warning that names the variable and the nearest option's.
    pub fn warn(&self) {
        let Self { name, nearest } = self;
        tracing::warn!(name, nearest, "unknown environment variable: no option reads it");
    }
}

/// The variables of this process that look like options and that no option reads.
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let variables = std::env::vars_os();
    let with_value = variables.filter(|(_, value)| !value.is_empty());
    find_unknown(with_value.map(|(name, _)| name.to_string_lossy().into_owned()))
}

fn find_unknown(names: impl Iterator<Item = String>) -> Vec<UnknownVariable> {
    let cli = Cli::command();
    let args: Vec<_> = cli.get_subcommands().flat_map(Command::get_arguments).collect();
    let variable = |arg: &&Arg| arg.get_env()?.to_str().map(str::to_owned);
    let of_files = args.iter().filter(|arg| has_file_variable(arg)).filter_map(variable);
    let readable: Vec<_> =
        args.iter().filter_map(variable).chain(of_files.map(|name| format!("{name}{FILE_SUFFIX}"))).collect();
    let known: Vec<_> = readable.iter().map(String::as_str).filter(|name| name.starts_with(PREFIX)).collect();
    let mut unknown: Vec<_> = names
        .filter(|name| !known.contains(&name.as_str()))
        .filter_map(|name| {
            let upper = name.to_uppercase();
            let distance = |known: &&&str| strsim::osa_distance(&upper, known);
            let nearest = known.iter().min_by_key(distance)?;
            let is_ours = upper.starts_with(PREFIX) || distance(&nearest) <= MAX_TYPO_DISTANCE;
            (is_ours && !is_set_by_kubernetes(&name)).then(|| UnknownVariable { name, nearest: (*nearest).into() })
        })
        .collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// Whether Kubernetes sets the variable: every container has some for each service, also for one named `subjobs` or `subjobs-…`.
fn is_set_by_kubernetes(name: &str) -> bool {
    let ends_with_port = name.strip_suffix("_PORT").is_some();
    let has_port_number = name.split("_PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    ends_with_port || has_port_number || name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_among(names: &[&str]) -> Vec<(String, String)> {
        let found = find_unknown(names.iter().map(|name| (*name).to_owned()));
        found.into_iter().map(|found| (found.name, found.nearest)).collect()
    }

    #[test]
    fn a_mistyped_variable_is_reported_with_the_most_similar_name() {
        for (typo, nearest) in [
            ("SUBJOBS_DATADIR", "SUBJOBS_DATA_DIR"),
            ("SUBJOBS_DATA_DIRECTORY", "SUBJOBS_DATA_DIR"),
            ("SUBJOBS_ACESS", "SUBJOBS_ACCESS"),
            ("SUBJOBS_LISTNE", "SUBJOBS_LISTEN"),
            ("SUBJOB_DATA_DIR", "SUBJOBS_DATA_DIR"),
            ("subjobs_data_dir", "SUBJOBS_DATA_DIR"),
            ("SUBJOBS_MAX_INFLIGHT", "SUBJOBS_MAX_IN_FLIGHT"),
        ] {
            assert_eq!(unknown_among(&[typo]), [(typo.to_owned(), nearest.to_owned())]);
        }
    }

    #[test]
    fn known_and_foreign_variables_are_not_reported() {
        for name in [
            "SUBJOBS_LISTEN",
            "SUBJOBS_DEMO_TOKEN",
            "SUBJOBS_DEMO_TOKEN_FILE",
            "RUST_LOG",
            "PATH",
            "RUST_LOGS",
            "SUBJOBS_SERVICE_HOST",
            "SUBJOBS_SERVICE_PORT_HTTP",
            "SUBJOBS_PORT",
            "SUBJOBS_PORT_8080_TCP",
            "SUBJOBS_INTERNAL_PORT_9090_TCP_ADDR",
        ] {
            assert_eq!(unknown_among(&[name]), [], "{name}");
        }
    }

    #[test]
    fn the_log_format_is_found_in_an_unusable_command_line() {
        let format = |args: &str| {
            let args: Vec<_> = args.split(' ').map(OsString::from).collect();
            requested_log_format(&args)
        };
        assert_eq!(format("subjobs serve --log-format json --x"), Some(LogFormat::Json));
        assert_eq!(format("subjobs serve --log-format=text"), Some(LogFormat::Text));
        assert_eq!(format("subjobs serve --log-format"), None);
        assert_eq!(format("subjobs serve --log-format xml"), None);
    }
}
