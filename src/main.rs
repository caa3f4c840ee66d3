//! Prints a failure, picks the exit code. Nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    match rask::cli::main() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("rask: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
