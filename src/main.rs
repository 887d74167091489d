use std::process::ExitCode;

fn main() -> ExitCode {
    zero::cli::run()
}
