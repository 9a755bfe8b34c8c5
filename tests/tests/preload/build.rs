//! Builds the programs of `tests/c` with the system's compilers, once a run of the tests.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use pool_core::sync::{Mutex, lock};

/// What is built, and with which words of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Product {
    /// A program of cases.
    Program(&'static str),
    /// A library that a program opens or is linked with.
    Module(&'static str),
    /// The malloc of `broken.c`, with that bug, or with none.
    Broken(Option<&'static str>),
}

/// Why something is not there: no compiler of that language is installed.
#[derive(Debug, Clone)]
pub(crate) struct NoCompiler(pub(crate) String);

/// What was built so far.
static BUILT: Mutex<BTreeMap<Product, Result<PathBuf, NoCompiler>>> = Mutex::new(BTreeMap::new());

impl Product {
    /// The file of it, built when first asked for. What does not compile fails the test.
    pub(crate) fn path(&self) -> Result<PathBuf, NoCompiler> {
        if let Some(library) = self.needs() {
            library.path()?;
        }
        let mut built = lock(&BUILT);
        if let Some(known) = built.get(self) {
            return known.clone();
        }
        let made = self.build();
        built.insert(self.clone(), made.clone());
        made
    }

    /// The folder of what is built. Modules lie beside the programs that are linked with them.
    pub(crate) fn folder() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload")
    }

    fn build(&self) -> Result<PathBuf, NoCompiler> {
        let folder = Self::folder();
        fs::create_dir_all(&folder).expect("a folder for the programs");
        let target = folder.join(self.file());
        // Another run of the tests may use the old file at this moment: it is replaced as a whole.
        let fresh = folder.join(format!("{}.{}", self.file(), std::process::id()));
        let mut command = self.compiler();
        command.arg("-o").arg(&fresh).arg(self.source());
        command.args(["-O2", "-g", "-w", "-fno-builtin", "-pthread"]);
        match self {
            Self::Program(_) => {
                if let Some(library) = self.needs() {
                    command.arg(folder.join(library.file()));
                    command.arg("-Wl,-rpath,$ORIGIN");
                }
                command.args(["-ldl", "-lrt"]);
            }
            Self::Module(name) => {
                command.args(["-shared", "-fPIC"]);
                command.arg(format!("-Wl,-soname,{name}.so"));
            }
            Self::Broken(bug) => {
                command.args(["-shared", "-fPIC"]);
                command.args(bug.map(|bug| format!("-D{bug}")));
            }
        }
        let program = command.get_program().to_owned();
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(NoCompiler(format!("no {program:?} is installed")));
            }
            Err(error) => panic!("{program:?}: {error}"),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}\n{errors}");
        fs::rename(&fresh, &target).expect("the program is put in its place");
        Ok(target)
    }

    /// The library that it is linked with, and finds beside it.
    fn needs(&self) -> Option<Self> {
        (*self == Self::Program("linked")).then_some(Self::Module("early"))
    }

    fn file(&self) -> String {
        match self {
            Self::Program(name) => (*name).to_owned(),
            Self::Module(name) => format!("{name}.so"),
            Self::Broken(None) => "sound.so".to_owned(),
            Self::Broken(Some(bug)) => format!("{}.so", bug.to_lowercase()),
        }
    }

    fn source(&self) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
        match self {
            Self::Program(name) | Self::Module(name) => {
                let of_c = folder.join(format!("{name}.c"));
                if of_c.exists() {
                    of_c
                } else {
                    folder.join(format!("{name}.cc"))
                }
            }
            Self::Broken(_) => folder.join("broken.c"),
        }
    }

    fn compiler(&self) -> Command {
        let is_c = self.source().extension().is_some_and(|end| end == "c");
        let (variable, usual, standard) = if is_c {
            ("CC", "cc", "-std=gnu11")
        } else {
            ("CXX", "c++", "-std=gnu++17")
        };
        let named = env::var_os(variable).filter(|named| !named.is_empty());
        let mut command = Command::new(named.unwrap_or_else(|| OsString::from(usual)));
        command.arg(standard);
        command
    }
}
