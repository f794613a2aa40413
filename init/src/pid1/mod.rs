//! PID 1.

use std::process::ExitCode;

/// Runs the boot and then serves until the machine is told to go down.
pub fn run() -> ExitCode {
    ExitCode::FAILURE
}
