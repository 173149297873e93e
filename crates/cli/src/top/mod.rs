//! `cachekit top`.

mod endpoint;
mod exposition;
mod names;
mod rates;
mod screen;
mod show;
mod snapshot;

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::signal::unix::{SignalKind, signal};

use self::endpoint::{Endpoint, TOKEN_VARIABLE};
use self::rates::Rates;
use self::screen::{Keys, Screen};
use crate::text::plain;
use crate::{DONE, Failure, tell};

pub(crate) fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("top")
        .about("Watch what a running server or program does: calls, hits, times and errors, from its metrics")
        .after_help(format!(
            "Figures are of the time between two readings. In a terminal they are drawn again and again; \
             q or Ctrl-C ends it. The server shows metrics to its own machine, at its admin_listen address, \
             and to whoever has the token of {TOKEN_VARIABLE}."
        ))
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .help("The endpoint, as in https://localhost:8443; /metrics where it names no path"),
        )
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("SECONDS")
                .default_value("2")
                .value_parser(interval)
                .help("Time between two readings, 0.1 to 3600"),
        )
        .arg(switch("once", "Print one set of figures and end"))
        .arg(switch("json", "Print JSON, one object per line"))
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds from 0.1 to 3600".to_owned()),
    }
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<u8, Failure> {
    let url: &String = arguments.get_one("url").expect("it is required");
    let token = env::var(TOKEN_VARIABLE)
        .ok()
        .filter(|token| !token.is_empty());
    let watch = Watch {
        endpoint: Endpoint::new(url, token.as_deref())?,
        url,
        interval: *arguments.get_one("interval").expect("it has a default"),
        once: arguments.get_flag("once"),
        json: arguments.get_flag("json"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(watch.run())?;
    Ok(DONE)
}

/// What is asked for.
struct Watch<'a> {
    endpoint: Endpoint,
    url: &'a str,
    interval: Duration,
    once: bool,
    json: bool,
}

impl Watch<'_> {
    /// Runs until the user ends it.
    async fn run(&self) -> Result<(), Failure> {
        let screen = match self.once || self.json {
            true => None,
            false => Screen::enter()?,
        };
        let Some(screen) = screen else {
            return self.watch(None).await;
        };
        // A signal must not leave the terminal as it is now.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut keys = Keys::take()?;
        tokio::select! {
            done = self.watch(Some(&screen)) => done,
            () = keys.quit() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }

    async fn watch(&self, screen: Option<&Screen>) -> Result<(), Failure> {
        let title = format!(
            "{}   every {} s, q ends",
            plain(self.url),
            self.interval.as_secs_f64()
        );
        if let Some(screen) = screen {
            screen.draw(&title)?;
        }
        let mut before = self.endpoint.snapshot().await?;
        loop {
            tokio::time::sleep(self.interval).await;
            let text = match self.endpoint.snapshot().await {
                Ok(now) => {
                    let rates = Rates::between(&before, &now);
                    before = now;
                    self.shown(&rates)
                }
                Err(error) if self.once => return Err(error.into()),
                // It may be starting anew.
                Err(error) if screen.is_none() => {
                    tell(format_args!("cachekit: {error}"));
                    continue;
                }
                Err(error) => error,
            };
            match screen {
                Some(screen) => screen.draw(&format!("{title}\n\n{text}"))?,
                None => {
                    let mut out = io::stdout().lock();
                    writeln!(out, "{text}")?;
                    out.flush()?;
                }
            }
            if self.once {
                return Ok(());
            }
        }
    }

    fn shown(&self, rates: &Rates) -> String {
        match self.json {
            true => show::json(rates).to_string(),
            false => show::text(rates),
        }
    }
}
