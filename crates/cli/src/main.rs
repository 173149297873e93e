//! The `cachekit` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cachekit_cli::run(std::env::args_os(), None))
}
