//! Manual pages and completions of shells, made from the options themselves. Only in a build that makes a package
//! (`images/package`): what is shipped has no code for it.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// Writes `NAME.1`, one page more for each subcommand, and the completions of bash, zsh and fish into `folder`.
pub fn write(mut program: Command, folder: &Path) -> std::io::Result<()> {
    let name = program.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut program, &name, folder)?;
    }
    clap_mangen::generate_to(program, folder)
}
