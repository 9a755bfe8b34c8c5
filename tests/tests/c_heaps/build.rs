//! Builds programs in C with the header of the library, once a run of the tests.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use pool_core::sync::{Mutex, lock};

use crate::library::Library;

/// Why there is no program: no compiler is installed.
#[derive(Debug, Clone)]
pub(crate) struct NoCompiler(pub(crate) String);

/// What was built so far, by where its source is.
static BUILT: Mutex<BTreeMap<PathBuf, Result<PathBuf, NoCompiler>>> = Mutex::new(BTreeMap::new());

/// A program of `tests/c`.
pub(crate) fn case_program(name: &str) -> Result<PathBuf, NoCompiler> {
    program(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("c/{name}.c")))
}

/// An example of the library's.
pub(crate) fn example(name: &str) -> Result<PathBuf, NoCompiler> {
    program(&of_library(&format!("examples/{name}.c")))
}

/// A file of the library's package.
fn of_library(file: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join("../allocator/c").join(file)
}

/// The program of `source`, linked with the library that is tested, built when first asked for.
fn program(source: &Path) -> Result<PathBuf, NoCompiler> {
    let mut built = lock(&BUILT);
    if let Some(known) = built.get(source) {
        return known.clone();
    }
    let made = build(source);
    built.insert(source.to_owned(), made.clone());
    made
}

fn build(source: &Path) -> Result<PathBuf, NoCompiler> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_heaps");
    fs::create_dir_all(&folder).expect("a folder for the programs");
    let name = source.file_stem().expect("a source has a name");
    let target = folder.join(name);
    // Another run of the tests may use the old file at this moment: it is replaced as a whole.
    let fresh = target.with_extension(std::process::id().to_string());
    let library = Library::under_test().path.as_ref();
    let library = library.expect("the C library has no heaps of a pool");
    let place = library.parent().expect("a library lies in a folder");
    let named = env::var_os("CC").filter(|named| !named.is_empty());
    let mut command = Command::new(named.unwrap_or_else(|| OsString::from("cc")));
    command.args(["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    command.args(["-fno-builtin", "-pthread", "-I"]);
    command.arg(of_library("include"));
    command.arg("-o").arg(&fresh).arg(source).arg(library);
    command.arg(format!("-Wl,-rpath,{}", place.display()));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(NoCompiler("no C compiler is installed".to_owned()));
        }
        Err(error) => panic!("{command:?}: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    fs::rename(&fresh, &target).expect("the program is put in its place");
    Ok(target)
}
