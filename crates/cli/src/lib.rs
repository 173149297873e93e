//! The `cachekit` command as a function: what this package's program calls, and the Python package's.
//!
//! The feature `server`, on by default, brings `serve` and `keys`. Without it the two say where they
//! are to be had.

pub mod application;
mod doctor;
mod inspect;
mod keygen;
#[cfg(feature = "server")]
mod server;
#[cfg(not(feature = "server"))]
#[path = "elsewhere.rs"]
mod server;
mod text;
mod top;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{ArgMatches, Command, crate_version};

use self::application::Import;

/// Exit status: it is done.
const DONE: u8 = 0;
/// Exit status: it could not be done.
const FAILED: u8 = 1;
/// Exit status: something was looked at and found not well.
const NOT_WELL: u8 = 3;

/// What a subcommand ends with that could not do its work: a line for people.
type Failure = Box<dyn std::error::Error>;

/// Runs the command line, the program's name first, and returns its exit status: 0 done, 1 it could
/// not be done, 2 wrong usage, 3 `inspect` or `doctor` found something that is not well.
///
/// It reads the environment and writes to the process's own standard streams. A reader that has seen
/// enough and has closed its end, as `head` does, is no error.
///
/// With `import`, `doctor` looks into programs as well.
pub fn run(arguments: impl IntoIterator<Item = OsString>, import: Option<Import<'_>>) -> u8 {
    let done = match command(import.is_some()).try_get_matches_from(arguments) {
        Ok(matches) => dispatch(&matches, import),
        Err(usage) => match (u8::try_from(usage.exit_code()), usage.print()) {
            // Help and the version are usage as well: what was asked for.
            (Ok(DONE), Err(error)) => Err(error.into()),
            (status, _) => Ok(status.unwrap_or(FAILED)),
        },
    };
    let done = done.and_then(|status| {
        io::stdout().flush()?;
        Ok(status)
    });
    match done {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => DONE,
        Err(error) => {
            tell(format_args!("cachekit: {error}"));
            FAILED
        }
    }
}

fn command(imports: bool) -> Command {
    let command = Command::new("cachekit")
        .about("The tools around caches, and the self-hosted CacheKit server")
        .version(crate_version!())
        .after_help(
            "Exit status: 0 done; 1 it could not be done; 2 wrong usage; 3 inspect or doctor did \
             their work and found something that is not well.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(doctor::command(imports))
        .subcommand(inspect::command())
        .subcommand(top::command())
        .subcommand(keygen::command());
    server::commands()
        .into_iter()
        .fold(command, Command::subcommand)
}

fn dispatch(matches: &ArgMatches, import: Option<Import<'_>>) -> Result<u8, Failure> {
    let (name, arguments) = matches.subcommand().expect("a subcommand is required");
    match name {
        "doctor" => doctor::run(arguments, import),
        "inspect" => inspect::run(arguments),
        "top" => top::run(arguments),
        "keygen" => keygen::run(),
        _ => server::run(name, arguments),
    }
}

/// Writes a line for people to standard error. Where nobody can read it there is nobody to tell.
fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn is_broken_pipe(error: &Failure) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
