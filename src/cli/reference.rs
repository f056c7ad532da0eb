//! Completions for shells, and the manual page. Both are made from the options.

use std::io::{self, Write};

use clap::{Command, CommandFactory as _};
use clap_complete::aot;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use crate::config::{Cli, Shell};

/// The exit codes of the program and their meanings.
const EXIT_CODES: [(&str, &str); 4] = [
    ("0", "a normal end"),
    ("1", "a port or a data directory in use, a disk that fails at the start, a crash, a second signal"),
    ("2", "an invalid option, access file, load file or data directory, or a database that the program cannot use"),
    ("3", "a data directory that is damaged"),
];

/// Prints the completions for a shell.
///
/// # Errors
///
/// `out` cannot be written.
pub fn completions(shell: Shell, mut out: impl Write) -> io::Result<()> {
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut text = Vec::new();
    aot::generate(shell, &mut Cli::command(), "subjobs", &mut text);
    out.write_all(&text)
}

/// Prints the manual page, with every command and its options.
///
/// # Errors
///
/// `out` cannot be written.
pub fn manual(mut out: impl Write) -> io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    let mut text = Vec::new();
    let page = Man::new(cli.clone());
    // The page has no date of its own, so that the same version always prints the same page.
    writeln!(text, ".TH SUBJOBS 1 \"\" \"subjobs {}\"", env!("CARGO_PKG_VERSION"))?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_options_section(&mut text)?;
    for command in cli.get_subcommands() {
        render_command(command, &mut text)?;
    }
    render_exit_codes(&mut text)?;
    out.write_all(&text)
}

/// A section about one command: what it does, how it is called, and its options.
fn render_command(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let arguments: String = command.get_positionals().map(|argument| format!(" {argument}")).collect();
    let mut section = Roff::new();
    section.control("SH", [name.to_uppercase().as_str()]);
    section.text([roman(about)]);
    section.control("PP", []);
    section.text([bold(name), roman(" [options]"), roman(arguments)]);
    section.to_writer(out)?;
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    // Without the heading, because all options of the command are in its own section.
    let options = String::from_utf8_lossy(&options);
    if let Some(first) = options.find(".TP") {
        out.extend_from_slice(options[first..].as_bytes());
    }
    Ok(())
}

fn render_exit_codes(out: &mut Vec<u8>) -> io::Result<()> {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        section.control("TP", []);
        section.text([bold(code)]);
        section.text([roman(meaning)]);
    }
    section.to_writer(out)
}
