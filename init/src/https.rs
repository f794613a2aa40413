//! The process that speaks HTTPS, and may do nothing else. `rescue beacon` and `rescue sources` start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match init::commands::run_https() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
