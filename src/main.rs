//! Arguments, command, exit code.

fn main() -> std::process::ExitCode {
    oca::cli::main()
}
