//! The process that sends the beacon: it speaks HTTPS, and may do nothing else. `rescue beacon` starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match init::commands::send_beacon() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("not sent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
