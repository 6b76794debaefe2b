//! `kmirror completions`: a completion script for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::args::Cli;
use super::exit::Exit;
use super::output;

/// Options of `completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kmirror completions bash > /etc/bash_completion.d/kmirror
  kmirror completions zsh > \"${fpath[1]}/_kmirror\"
  kmirror completions fish > ~/.config/fish/completions/kmirror.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kmirror", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
