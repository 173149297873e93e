//! `cachekit serve`.

use std::path::PathBuf;

use cachekit_server::{
    Config, ENVIRONMENT_PREFIX, LogFormat, SETTINGS, Server, warn_of_unknown_variables,
};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::Failure;

/// Settings by flags; what they mean is the server's table.
pub(crate) fn command() -> Command {
    let command = Command::new("serve")
        .about("Run the server until SIGTERM or SIGINT; SIGHUP reads keys and certificate again")
        .after_help(format!(
            "Settings come from the file, then the environment ({ENVIRONMENT_PREFIX}LISTEN, …), \
             then flags; the later wins. Tenants have sections [tenants.NAME] in the file."
        ))
        .arg(config_argument());
    SETTINGS.iter().fold(command, |command, setting| {
        let range = match setting.range {
            Some((least, greatest)) => format!(", {least} to {greatest}"),
            None => String::new(),
        };
        let default = match setting.default {
            "" => "none".to_owned(),
            default => default.to_owned(),
        };
        let help = format!("{} [default: {default}{range}]", setting.about);
        let argument = Arg::new(setting.name)
            .long(setting.flag())
            .value_name("VALUE")
            .action(ArgAction::Set)
            .help(help);
        command.arg(match setting.default {
            // A switch is turned on by its name alone.
            "false" => argument.num_args(0..=1).default_missing_value("true"),
            _ => argument,
        })
    })
}

/// `--config FILE`, as all subcommands take it.
pub(crate) fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("CACHEKIT_SERVER_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with settings")
}

/// The settings that the arguments, the environment and the file make together.
pub(crate) fn config(arguments: &ArgMatches) -> Result<Config, Failure> {
    let file = arguments.get_one::<PathBuf>("config");
    let flags = SETTINGS.iter().filter_map(|setting| {
        let text = arguments.try_get_one::<String>(setting.name).ok()??;
        Some((setting.name.to_owned(), text.clone()))
    });
    Ok(Config::load(
        file.map(PathBuf::as_path),
        environment(),
        flags,
    )?)
}

/// The environment's variables that are text; the others are not ours.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Serves until a signal says to end.
pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let config = config(arguments)?;
    log_to_stderr(&config);
    warn_of_unknown_variables(environment().map(|(name, _)| name));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let server = Server::start(config).await?;
        loop {
            tokio::select! {
                _ = hang_up.recv() => server.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tokio::select! {
            stopped = server.stop() => Ok(stopped?),
            () = second(&mut terminate, &mut interrupt) => {
                Err(Failure::from("a second signal ended the drain"))
            }
        }
    })
}

async fn second(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Logs this program's own events. What libraries say below a warning stays out: it can name paths,
/// and paths hold keys.
fn log_to_stderr(config: &Config) {
    let level: LevelFilter = config
        .log_level
        .parse()
        .expect("the configuration has checked the level");
    let ours = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("cachekit", level);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(ours))
        .init();
}
