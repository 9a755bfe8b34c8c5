//! Where programs are found: installed, or unpacked from Debian's packages into the target folder.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::programs::Program;
use crate::command::output;
use crate::debian;

/// The bytes that an executable file of the system begins with.
const ELF: &[u8] = b"\x7fELF";

/// The folders in which commands and their libraries are looked for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// For commands.
    pub(super) path: OsString,
    /// For libraries, past the system's own.
    pub(super) libraries: Option<OsString>,
}

impl Place {
    /// What the environment says.
    fn installed() -> Self {
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            libraries: None,
        }
    }

    /// Where `program` has all that it needs, or why it cannot run here.
    pub(super) fn of(program: &Program, target: &Path) -> Result<Self, String> {
        let installed = Self::installed();
        let Some(missing) = installed.missing(program) else {
            return Ok(installed);
        };
        if program.packages.is_empty() {
            return Err(format!("{missing} is not installed"));
        }
        let unpacked = fetch(program, target)
            .map_err(|why| format!("{missing} is not installed, and not to be had: {why}"))?;
        match unpacked.missing(program) {
            None => Ok(unpacked),
            Some(missing) => Err(format!("{missing} is in none of its packages")),
        }
    }

    fn missing(&self, program: &Program) -> Option<&'static str> {
        let absent = |name: &&&str| self.find(name).is_none();
        program.needs.iter().find(absent).copied()
    }

    /// The file of a command.
    fn find(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    }

    /// Sets a command's environment so that it finds them.
    pub(super) fn show_to(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
    }

    /// The loader says whether it would load `library` into each command that `program` needs: it
    /// does not into one that is linked statically, or that runs with another user's rights.
    pub(super) fn loads(&self, program: &Program, library: &Path) -> Result<(), String> {
        for name in program.needs {
            let file = self.find(name).ok_or_else(|| format!("no {name}"))?;
            // What is a script is run by a program that looks at its own memory.
            if !is_elf(&file) {
                continue;
            }
            let mut command = Command::new(&file);
            self.show_to(&mut command);
            command
                .arg("--version")
                .env("LD_TRACE_LOADED_OBJECTS", "1")
                .env("LD_PRELOAD", library)
                .stdin(Stdio::null());
            let told = output(&mut command).map_err(|error| format!("{error:#}"))?;
            if !told.contains(&*library.to_string_lossy()) {
                return Err(format!("the library is not loaded into {name}"));
            }
        }
        Ok(())
    }
}

fn is_elf(file: &Path) -> bool {
    let mut start = [0; ELF.len()];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == ELF
}

/// Unpacks the packages of a program into the target folder.
fn fetch(program: &Program, target: &Path) -> Result<Place, String> {
    let folder = target.join("preload/packages").join(program.name);
    let root = debian::unpack(&folder, program.packages).map_err(|error| format!("{error:#}"))?;
    let mut path = root.join("usr/bin").into_os_string();
    path.push(":");
    path.push(Place::installed().path);
    let machine = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    Ok(Place {
        path,
        libraries: Some(root.join(machine).into_os_string()),
    })
}
