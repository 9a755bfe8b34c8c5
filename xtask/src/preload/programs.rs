//! The real programs that run over the library, and what each does.
//!
//! What a program does is a script, which runs with the library preloaded into its shell and into
//! all that it starts. A script prints what it found, never how long it took or where: both runs
//! must print the same.

/// A program, and its work.
#[derive(Debug)]
pub(super) struct Program {
    /// Its name, for `--only`.
    pub(super) name: &'static str,
    /// What it does here.
    pub(super) work: &'static str,
    /// The commands without which there is nothing to run.
    pub(super) needs: &'static [&'static str],
    /// Debian's packages that have them, where they can be fetched without being installed.
    pub(super) packages: &'static [&'static str],
    /// Whether it is part of the short run.
    pub(super) is_short: bool,
    /// The script.
    pub(super) script: &'static str,
}

/// What each script begins with.
pub(super) const PRELUDE: &str = include_str!("scripts/prelude.sh");

macro_rules! program {
    (
        $name:literal, $is_short:literal, $script:literal,
        [$($need:literal),*], [$($package:literal),*], $work:literal
    ) => {
        Program {
            name: $name,
            work: $work,
            needs: &[$($need),*],
            packages: &[$($package),*],
            is_short: $is_short,
            script: include_str!(concat!("scripts/", $script)),
        }
    };
}

/// All of them, the quick ones first.
pub(super) const PROGRAMS: &[Program] = &[
    program!(
        "bash",
        true,
        "bash.sh",
        ["bash", "awk", "sort"],
        [],
        "arrays, subshells, pipes, background jobs, a coprocess"
    ),
    program!(
        "grep",
        true,
        "grep.sh",
        ["grep", "awk", "sed"],
        [],
        "patterns, the empty one among them, over one big file and a tree"
    ),
    program!(
        "python",
        true,
        "python.sh",
        ["python3"],
        [],
        "process pools by fork and spawn, JSON, threads, ctypes; PYTHONMALLOC=malloc"
    ),
    program!(
        "git",
        true,
        "git.sh",
        ["git", "split"],
        [],
        "add, commit, merge, gc --aggressive, fsck, log, clone"
    ),
    program!(
        "cc",
        true,
        "cc.sh",
        ["cc", "c++", "ld"],
        [],
        "a generated C file at -O2 and by LTO, C++ templates, the examples of the header"
    ),
    program!(
        "sqlite",
        true,
        "sqlite.sh",
        ["sqlite3"],
        [],
        "inserts, indexes, joins, vacuum, integrity check, dump and load"
    ),
    program!(
        "perl",
        false,
        "perl.sh",
        ["perl"],
        [],
        "hashes, sorting, regular expressions, forks"
    ),
    program!(
        "sort",
        false,
        "sort.sh",
        ["sort", "split"],
        [],
        "parallel, by keys, in memory and by files"
    ),
    program!(
        "archives",
        false,
        "archives.sh",
        ["tar", "xz", "zstd", "gzip"],
        [],
        "tar with xz and zstd on two threads each, there and back"
    ),
    program!(
        "find",
        false,
        "find.sh",
        ["find", "xargs"],
        [],
        "a tree of files, searched, and handed to processes in parallel"
    ),
    program!(
        "redis",
        false,
        "redis.sh",
        ["redis-server", "redis-cli", "redis-benchmark"],
        [
            "redis-server",
            "redis-tools",
            "liblzf1",
            "libjemalloc2",
            "libatomic1"
        ],
        "redis-benchmark, 4 types by pipe, a script, a save by fork, reload, INFO"
    ),
];
