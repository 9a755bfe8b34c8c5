//! Man pages and shell completions, made from the command line itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Generated};
use crate::error::CtlError;

/// Writes the files into `folder`, which is made where it is missing, and returns their paths.
pub(crate) fn write(what: Generated, folder: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let failed = |source: io::Error| CtlError::File {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    match what {
        Generated::Man => man(folder).map_err(failed),
        Generated::Completions => completions(folder).map_err(failed),
    }
}

fn man(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut command = Cli::command();
    // So that each part knows its whole name.
    command.build();
    let mut written = Vec::new();
    let mut parts = vec![command];
    while let Some(part) = parts.pop() {
        parts.extend(
            part.get_subcommands()
                .filter(|part| !part.is_hide_set())
                .cloned(),
        );
        written.push(clap_mangen::Man::new(part).generate_to(folder)?);
    }
    written.sort();
    Ok(written)
}

fn completions(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut command = Cli::command();
    [Shell::Bash, Shell::Zsh, Shell::Fish]
        .map(|shell| clap_complete::generate_to(shell, &mut command, "poolctl", folder))
        .into_iter()
        .collect()
}
