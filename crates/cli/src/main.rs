//! The `cachekit` command.

mod doctor;
mod inspect;
mod keygen;
mod keys;
mod serve;
mod text;

use std::io;
use std::process::ExitCode;

use clap::{Command, crate_version};

/// What a subcommand ends with that has looked at something and found it not well.
const NOT_WELL: u8 = 3;

fn main() -> ExitCode {
    let command = Command::new("cachekit")
        .about("The self-hosted CacheKit server and the tools around caches")
        .version(crate_version!())
        .after_help(
            "Exit status: 0 done; 1 it could not be done; 2 wrong usage; 3 inspect or doctor did \
             their work and found something that is not well.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(keys::command())
        .subcommand(doctor::command())
        .subcommand(inspect::command())
        .subcommand(keygen::command());
    let done = match command.get_matches().subcommand() {
        Some(("serve", arguments)) => serve::run(arguments).map(|()| ExitCode::SUCCESS),
        Some(("keys", arguments)) => keys::run(arguments).map(|()| ExitCode::SUCCESS),
        Some(("doctor", arguments)) => doctor::run(arguments),
        Some(("inspect", arguments)) => inspect::run(arguments),
        Some(("keygen", _)) => keygen::run().map(|()| ExitCode::SUCCESS),
        _ => unreachable!("a subcommand is required"),
    };
    match done {
        Ok(code) => code,
        // Whoever reads has seen enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cachekit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &Failure) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What a subcommand ends with when it fails: a line for people.
type Failure = Box<dyn std::error::Error>;
