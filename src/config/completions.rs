//! The options of `completions`.

use clap::{Args, ValueEnum};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsFlags {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// A shell with completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}
