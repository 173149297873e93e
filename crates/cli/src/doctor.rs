//! `cachekit doctor`.

use std::env;
use std::fmt;
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cachekit::backends::{Detail, Health};
use cachekit::diagnosis::{Chosen, Diagnosis};
use cachekit::settings::{CACHEKITIO, FILE, MEMCACHED, PROCESS};
use clap::{Arg, ArgAction, ArgMatches, Command};
use rustix::fs::{Access, access};
use serde_json::{Value, json};

use crate::application::{Application, Function, Import};
use crate::text::{plain, table};
use crate::{DONE, Failure, NOT_WELL};

/// With `--app` where programs can be imported.
pub(crate) fn command(imports: bool) -> Command {
    let app = Arg::new("app")
        .long("app")
        .value_name("MODULE")
        .help("Import this Python module, as in shop.web, and show the functions that it caches");
    Command::new("doctor")
        .about("Say what the environment makes of a program: its backend, its settings, and whether they work")
        .after_help(
            "It reads the variables of its own process, so run it as the program runs: same user, same \
             variables. Secrets are not shown. Exit status: 0 all is well, 3 something is not.",
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON"),
        )
        .args(imports.then_some(app))
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Ok,
    /// Worth a thought, and not wrong.
    Hint,
    /// Something does not work.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Hint => "hint",
            Self::Problem => "problem",
        })
    }
}

/// What was found, in the order in which it was looked at.
#[derive(Default)]
struct Findings {
    lines: Vec<(Level, String)>,
    backend: Option<&'static str>,
    health: Option<Health>,
    functions: Vec<Function>,
}

impl Findings {
    fn tell(&mut self, level: Level, line: impl fmt::Display) {
        self.lines.push((level, line.to_string()));
    }

    fn is_well(&self) -> bool {
        self.lines.iter().all(|(level, _)| *level != Level::Problem)
    }
}

pub(crate) fn run(arguments: &ArgMatches, import: Option<Import<'_>>) -> Result<u8, Failure> {
    // First, as a program may read a file of variables.
    let app = match import {
        Some(import) => arguments.get_one::<String>("app").map(|name| import(name)),
        None => None,
    };
    let app = app.transpose()?;
    let diagnosis = Diagnosis::of(env::vars_os());
    let mut found = Findings::default();
    variables(&diagnosis, &mut found);
    choice(&diagnosis, &mut found);
    if let Ok(Some(chosen)) = diagnosis.backend() {
        found.backend = Some(chosen.backend.name());
        if directory(&mut found) {
            let variable = diagnosis.chosen_by.unwrap_or_default();
            ask(&chosen, variable, &mut found);
        }
    }
    if let Some(app) = app {
        application(app, &mut found);
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    if arguments.get_flag("json") {
        serde_json::to_writer_pretty(&mut out, &as_json(&diagnosis, &found))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for (level, line) in &found.lines {
            writeln!(out, "{level:7}  {}", plain(line))?;
        }
        if !found.functions.is_empty() {
            let rows: Vec<_> = found.functions.iter().map(|it| row(it, &found)).collect();
            write!(out, "\n{}", table(&HEAD, &rows))?;
        }
    }
    out.flush()?;
    Ok(match found.is_well() {
        true => DONE,
        false => NOT_WELL,
    })
}

fn variables(diagnosis: &Diagnosis, found: &mut Findings) {
    let errors: Vec<_> = diagnosis.errors.iter().map(ToString::to_string).collect();
    for variable in &diagnosis.variables {
        let name = variable.name;
        match (&variable.error, &variable.shown) {
            (Some(error), _) => {
                // What is wrong with a backend that is not used harms nobody yet.
                let level = if variable.idle {
                    Level::Hint
                } else {
                    Level::Problem
                };
                found.tell(level, error);
            }
            (None, _) if errors.iter().any(|error| is_about(error, name)) => {}
            (None, _) if diagnosis.ignored.contains(&name) => {}
            (None, _) if variable.idle => {
                found.tell(
                    Level::Hint,
                    format!("{name} has no effect: its backend is not the one in use"),
                );
            }
            (None, Some(text)) => found.tell(Level::Ok, format!("{name}={text}")),
            (None, None) => found.tell(Level::Ok, format!("{name} is set")),
        }
    }
    for error in errors {
        found.tell(Level::Problem, error);
    }
    log_level(found);
    for (name, meant) in &diagnosis.unread {
        let meant = meant.or_else(|| nearest(name));
        let remedy = match meant {
            Some(meant) => format!("set {meant}"),
            None => "no setting is called so".to_owned(),
        };
        found.tell(Level::Hint, format!("{name} is not read; {remedy}"));
    }
}

/// Whether an error begins with the variable of that name.
fn is_about(error: &str, name: &str) -> bool {
    let rest = error.strip_prefix(name);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// Looks at the level of a Python program's log, which is not a setting of ours alone.
fn log_level(found: &mut Findings) {
    const LEVELS: [&str; 8] = [
        "CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG", "NOTSET",
    ];
    let set = env::var_os("LOG_LEVEL").filter(|text| !text.is_empty());
    let Some(text) = set else {
        return;
    };
    let text = text.to_string_lossy();
    if LEVELS.contains(&text.to_uppercase().as_str()) {
        found.tell(Level::Ok, format!("LOG_LEVEL={text}"));
        return;
    }
    found.tell(
        Level::Hint,
        format!("LOG_LEVEL={text:?} is not a level of Python's logging, and cachekit's log keeps its own; set INFO or the like"),
    );
}

/// The variable whose name is the most alike, if it is much alike.
fn nearest(name: &str) -> Option<&'static str> {
    let known = [PROCESS, CACHEKITIO, FILE, MEMCACHED].into_iter().flatten();
    let names = known.flat_map(|setting| setting.variables);
    let near = names.map(|known| (strsim::osa_distance(known, &name.to_uppercase()), *known));
    near.min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, known)| known)
}

fn choice(diagnosis: &Diagnosis, found: &mut Findings) {
    let Some(variable) = diagnosis.chosen_by else {
        found.tell(
            Level::Hint,
            "no backend is chosen: results stay in each process; set CACHEKIT_REDIS_URL, \
             CACHEKIT_MEMCACHED_SERVERS, CACHEKIT_FILE_CACHE_DIR or CACHEKIT_API_KEY to share them",
        );
        return;
    };
    found.tell(Level::Ok, format!("{variable} chooses the backend"));
    if !diagnosis.ignored.is_empty() {
        let ignored = diagnosis.ignored.join(", ");
        found.tell(
            Level::Hint,
            format!("{ignored}: ignored, as {variable} comes first; unset what is not meant"),
        );
    }
}

/// Looks at the directory of the File backend. False where there is none yet: asking the backend would
/// make it, as this user.
fn directory(found: &mut Findings) -> bool {
    if found.backend != Some("file") {
        return true;
    }
    let Some(path) = env::var_os("CACHEKIT_FILE_CACHE_DIR").map(PathBuf::from) else {
        return true;
    };
    let shown = path.display();
    match path.symlink_metadata() {
        Ok(meta) => {
            let (mode, owner) = (meta.mode() & 0o7777, meta.uid());
            found.tell(
                Level::Ok,
                format!("{shown} is there: mode {mode:o}, user {owner}"),
            );
            true
        }
        Err(_) => {
            let above = path.ancestors().skip(1).find(|above| above.exists());
            let above = above
                .filter(|above| !above.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let obstacle = match access(above, Access::WRITE_OK | Access::EXEC_OK) {
                _ if !above.is_dir() => Some("is not a directory".to_owned()),
                Ok(()) => None,
                Err(error) => Some(format!("cannot be written to: {error}")),
            };
            let above = above.display();
            match obstacle {
                None => found.tell(
                    Level::Ok,
                    format!("{shown} is not there yet; the first use makes it in {above}"),
                ),
                Some(obstacle) => found.tell(
                    Level::Problem,
                    format!(
                        "{shown} is not there and cannot be made: {above} {obstacle}; name another \
                         directory in CACHEKIT_FILE_CACHE_DIR"
                    ),
                ),
            }
            false
        }
    }
}

/// Asks the backend twice: what connecting takes, and what a call takes then.
fn ask(chosen: &Chosen, variable: &str, found: &mut Findings) {
    let (backend, timeout) = (&chosen.backend, chosen.timeout);
    let name = backend.name();
    let asked = backend
        .health(timeout)
        .and_then(|first| Ok((first.latency, backend.health(timeout)?)));
    match asked {
        Err(error) => found.tell(
            Level::Problem,
            format!("{name} cannot serve: {error}; see that it runs and may be used, or correct {variable}"),
        ),
        Ok((connecting, health)) => {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let line = format!(
                "{name} answers in {:.2} ms ({:.2} ms with connecting)",
                ms(health.latency),
                ms(connecting)
            );
            found.tell(
                if health.healthy {
                    Level::Ok
                } else {
                    Level::Problem
                },
                line,
            );
            for (detail, value) in &health.details {
                match (detail.as_str(), value) {
                    ("backend_type" | "latency_ms", _) => {}
                    (_, Detail::Text(text)) if text.is_empty() => {}
                    ("unreachable", value) => found.tell(
                        Level::Problem,
                        format!("{name} servers do not answer: {}; start them, or take them off the list", shown(value)),
                    ),
                    (detail, value) => found.tell(Level::Ok, format!("{name} {detail}: {}", shown(value))),
                }
            }
            found.health = Some(health);
        }
    }
}

/// Looks at the functions of a program, and at what its code sets for all of them.
fn application(app: Application, found: &mut Findings) {
    found.tell(
        Level::Ok,
        format!("cached functions: {}", app.functions.len()),
    );
    if app.configured {
        found.tell(
            Level::Hint,
            "the program calls configure(): the settings that it gives hold in place of the variables above",
        );
    }
    if let Some(backend) = &app.default_backend {
        found.tell(
            Level::Hint,
            format!("the program calls set_default_backend(): {backend} is used in place of the environment's choice"),
        );
    }
    for function in &app.functions {
        if let Some(problem) = &function.problem {
            // Some problems name the function themselves.
            match problem.contains(&function.name) {
                true => found.tell(Level::Problem, problem),
                false => found.tell(Level::Problem, format!("{}: {problem}", function.name)),
            }
        }
    }
    found.functions = app.functions;
}

const HEAD: [&str; 7] = [
    "FUNCTION",
    "INTENT",
    "NAMESPACE",
    "TTL",
    "SERIALIZER",
    "ENCRYPTED",
    "SHARED IN",
];

fn row(function: &Function, found: &Findings) -> Vec<String> {
    let by_name = if function.by_name { " (by name)" } else { "" };
    let or_dash = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), plain);
    vec![
        plain(&function.name),
        format!("{}{by_name}", function.intent),
        or_dash(&function.namespace),
        or_dash(&function.ttl),
        plain(&function.serializer),
        function
            .encrypted
            .map_or("-", |yes| if yes { "yes" } else { "no" })
            .to_owned(),
        backend_of(function, found).map_or("-".to_owned(), plain),
    ]
}

/// Where its entries are shared; none is this process only.
fn backend_of<'a>(function: &'a Function, found: &Findings) -> Option<&'a str> {
    match &function.backend {
        Some(named) => Some(named.as_str()).filter(|named| !named.is_empty()),
        None => found.backend,
    }
}

fn shown(value: &Detail) -> String {
    match as_value(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn as_value(detail: &Detail) -> Value {
    match detail {
        Detail::Text(text) => text.as_str().into(),
        Detail::Int(number) => (*number).into(),
        Detail::Float(number) => (*number).into(),
        Detail::Bool(truth) => (*truth).into(),
        _ => Value::Null,
    }
}

fn as_json(diagnosis: &Diagnosis, found: &Findings) -> Value {
    let findings = found.lines.iter();
    let findings: Vec<_> = findings
        .map(|(level, line)| json!({ "level": level.to_string(), "finding": line }))
        .collect();
    let health = found.health.as_ref().map(|health| {
        let details = health.details.iter();
        details
            .map(|(name, value)| (name.clone(), as_value(value)))
            .collect::<serde_json::Map<_, _>>()
    });
    let functions = found.functions.iter().map(|function| {
        json!({
            "name": function.name,
            "intent": function.intent,
            "by_name": function.by_name,
            "namespace": function.namespace,
            "ttl": function.ttl,
            "serializer": function.serializer,
            "encrypted": function.encrypted,
            "backend": backend_of(function, found),
            "problem": function.problem,
        })
    });
    json!({
        "functions": functions.collect::<Vec<_>>(),
        "well": found.is_well(),
        "version": clap::crate_version!(),
        "backend": found.backend,
        "chosen_by": diagnosis.chosen_by,
        "ignored": diagnosis.ignored,
        "health": health,
        "findings": findings,
    })
}
