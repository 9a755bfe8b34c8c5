//! `pool-daemon`, the program.

fn main() -> std::process::ExitCode {
    pool_daemon::cli::main()
}
