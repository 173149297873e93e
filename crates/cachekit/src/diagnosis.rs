//! What the environment makes of a process, told without starting one: for tools and for support.
//!
//! Nothing here shows a secret, and nothing connects to anything.

use std::{collections::HashMap, ffi::OsString, sync::Arc, time::Duration};

use cachekit_backends::Backend;

use crate::{
    env,
    error::Error,
    selection::{self, Selected},
    settings::{CACHEKITIO, FILE, MEMCACHED, PROCESS, REDIS, Setting, Variables},
};

const PREFIX: &str = "CACHEKIT_";
/// The variables of `cachekit serve` begin with this; it checks them itself.
const SERVER_PREFIX: &str = "CACHEKIT_SERVER_";
/// What is often written in place of [`PREFIX`].
const LOOK_ALIKE: &str = "CACHE_";

/// What the environment says of caching.
#[derive(Debug)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The variable that chooses the backend; `None` is this process only.
    pub chosen_by: Option<&'static str>,
    /// Variables that would choose another backend and are ignored.
    pub ignored: Vec<&'static str>,
    /// Every variable of cachekit's that is set.
    pub variables: Vec<Variable>,
    /// Names that look like cachekit's and that nothing reads, with the one that may have been meant.
    pub unread: Vec<(String, Option<&'static str>)>,
    /// Why caching would end in an error at first use, beyond what is wrong with single
    /// [variables](Self::variables). Each begins with the variable to which it belongs.
    pub errors: Vec<Error>,
    lookup: HashMap<String, OsString>,
}

/// A variable that is set.
#[derive(Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its text, unless that is secret.
    pub shown: Option<String>,
    /// What is wrong with it.
    pub error: Option<Error>,
    /// Whether it is a setting of a backend that is not chosen, and so has no effect. Those of Redis are read
    /// in any case: what is wrong with them has one.
    pub idle: bool,
}

/// The backend that is chosen.
#[non_exhaustive]
pub struct Chosen {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// What one call may spend on it.
    pub timeout: Duration,
}

impl Diagnosis {
    /// What these variables say; those of the process are `std::env::vars_os()`.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        // cachekit's names are text, and only those are looked for.
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        let lookup: HashMap<String, OsString> = variables.into_iter().filter_map(text).collect();
        let variables = Variables(|name: &str| lookup.get(name).cloned());
        let (selected, mut errors) = match selection::selected(&variables) {
            Ok(selected) => (selected, vec![]),
            Err(error) => (None, vec![error]),
        };
        let set = set_variables(&variables, selected.as_ref());
        // What is wrong with one variable must not hide what is wrong with others.
        let wrong = set.iter().filter(|variable| variable.error.is_some());
        let wrong: Vec<&str> = wrong.map(|variable| variable.name).collect();
        let allowed = |name: &str| (!wrong.contains(&name)).then(|| lookup.get(name).cloned())?;
        let allowed = Variables(allowed);
        errors.extend(selected.as_ref().and_then(|it| it.make(&allowed).err()));
        match allowed.read(PROCESS) {
            Ok(values) => errors.extend(env::problems(&values)),
            Err(error) => errors.push(error),
        }
        let mut unread: Vec<_> = lookup.keys().filter_map(|name| misnamed(name)).collect();
        unread.sort();
        Self {
            chosen_by: selected.as_ref().map(|selected| selected.variable),
            ignored: selected.map_or(Vec::new(), |selected| selected.ignored),
            variables: set,
            unread,
            errors,
            lookup,
        }
    }

    /// The backend that is chosen; `None` is this process only. Nothing is connected yet.
    ///
    /// # Errors
    /// When a setting of it cannot be used.
    pub fn backend(&self) -> Result<Option<Chosen>, Error> {
        let variables = Variables(|name: &str| self.lookup.get(name).cloned());
        let selected = selection::selected(&variables)?;
        let Some(selected) = selected else {
            return Ok(None);
        };
        let (backend, timeout) = selected.make(&variables)?;
        Ok(Some(Chosen { backend, timeout }))
    }
}

fn tables() -> impl Iterator<Item = &'static Setting> {
    [PROCESS, CACHEKITIO, FILE, MEMCACHED].into_iter().flatten()
}

fn set_variables(
    variables: &Variables<impl Fn(&str) -> Option<OsString>>,
    selected: Option<&Selected>,
) -> Vec<Variable> {
    let has = |table: &[Setting], setting: &Setting| table.iter().any(|it| it.name == setting.name);
    let mut set: Vec<Variable> = Vec::new();
    for setting in tables() {
        let of_backend = [REDIS, CACHEKITIO, FILE, MEMCACHED]
            .iter()
            .any(|table| has(table, setting));
        let idle = of_backend && !selected.is_some_and(|it| has(it.table(), setting));
        for &name in setting.variables {
            if set.iter().any(|known| known.name == name) {
                continue; // Two backends have it.
            }
            let (shown, error) = match variables.value(setting, name) {
                Ok(None) => continue,
                Ok(Some(_)) if setting.secret => (None, None),
                // What is text has passed through here before.
                Ok(Some(_)) => (variables.text(name).ok().flatten(), None),
                Err(error) => (None, Some(error)),
            };
            let read = error.is_some() && has(PROCESS, setting);
            set.push(Variable {
                name,
                shown,
                error,
                idle: idle && !read,
            });
        }
    }
    set
}

/// A name that nothing reads and that looks like one of ours, with the one that it may stand for.
fn misnamed(name: &str) -> Option<(String, Option<&'static str>)> {
    let known = || tables().flat_map(|setting| setting.variables).copied();
    let upper = name.to_uppercase();
    let rest = upper.strip_prefix(PREFIX);
    if rest.is_none() && !upper.starts_with(LOOK_ALIKE) {
        return None;
    }
    if known().any(|it| it == name) || name.starts_with(SERVER_PREFIX) {
        return None;
    }
    let rest = rest.unwrap_or(&upper[LOOK_ALIKE.len()..]);
    let meant = known().find(|it| it.strip_prefix(PREFIX) == Some(rest));
    // Other programs have variables that begin with CACHE_.
    let ours = upper.starts_with(PREFIX) || meant.is_some();
    ours.then(|| (name.to_owned(), meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Diagnosis {
        Diagnosis::of(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn nothing_set_is_this_process_only() {
        let found = of(&[("PATH", "/bin"), ("CACHE_SIZE", "3"), ("REDIS_URL", "")]);
        assert_eq!((found.chosen_by, found.ignored.len()), (None, 0));
        assert!(found.variables.is_empty() && found.unread.is_empty());
        assert!(found.errors.is_empty());
        assert!(found.backend().expect("nothing is wrong").is_none());
    }

    #[test]
    fn the_choice_and_what_has_no_effect_are_told_and_no_secret() {
        let found = of(&[
            ("CACHEKIT_FILE_CACHE_DIR", "/nowhere"),
            ("CACHEKIT_FILE_MAX_SIZE_MB", "7"),
            ("REDIS_URL", "redis://:hunter2@localhost"),
            ("CACHEKIT_DEFAULT_TTL", "60"),
        ]);
        assert_eq!(found.chosen_by, Some("REDIS_URL"));
        assert_eq!(found.ignored, ["CACHEKIT_FILE_CACHE_DIR"]);
        let told = |name| {
            let variable = found.variables.iter().find(|it| it.name == name);
            let variable = variable.expect("it is set");
            (variable.shown.as_deref(), variable.idle)
        };
        assert_eq!(told("REDIS_URL"), (None, false));
        assert_eq!(told("CACHEKIT_FILE_MAX_SIZE_MB"), (Some("7"), true));
        assert_eq!(told("CACHEKIT_DEFAULT_TTL"), (Some("60"), false));
        let chosen = found.backend().expect("good").expect("one");
        assert_eq!(chosen.backend.name(), "redis");
        assert!(!format!("{:?}{:?}", found.variables, found.errors).contains("hunter2"));
    }

    #[test]
    fn what_is_wrong_is_told_of_every_variable() {
        let found = of(&[
            ("CACHEKIT_FILE_CACHE_DIR", "/nowhere"),
            ("CACHEKIT_FILE_MAX_ENTRY_COUNT", "3"),
            ("CACHEKIT_MEMCACHED_TIMEOUT", "soon"),
            ("CACHEKIT_MASTER_KEY", "6b6b"),
        ]);
        let wrong = found.variables.iter().filter(|it| it.error.is_some());
        let wrong: Vec<_> = wrong.map(|it| (it.name, it.idle)).collect();
        assert_eq!(
            wrong,
            [
                ("CACHEKIT_FILE_MAX_ENTRY_COUNT", false),
                ("CACHEKIT_MEMCACHED_TIMEOUT", true)
            ]
        );
        // What one variable's form alone does not show, whatever else is wrong.
        let [error] = &found.errors[..] else {
            panic!("{:?}", found.errors);
        };
        let error = error.to_string();
        assert!(error.starts_with("CACHEKIT_MASTER_KEY"), "{error}");
    }

    #[test]
    fn nothing_that_is_wrong_hides_what_else_is() {
        let found = of(&[
            ("CACHEKIT_API_KEY", "ck_live_0123456789"),
            ("CACHEKIT_API_URL", "http://localhost"),
            ("CACHEKIT_MASTER_KEY", "6b6b"),
            ("CACHEKIT_PREVIOUS_MASTER_KEYS", "zz"),
            ("CACHEKIT_SOCKET_TIMEOUT", "soon"),
        ]);
        let told: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let begin = |name: &str| told.iter().filter(|it| it.starts_with(name)).count();
        assert_eq!(begin("CACHEKIT_API_URL"), 1, "{told:?}");
        assert_eq!(begin("CACHEKIT_MASTER_KEY"), 1, "{told:?}");
        assert_eq!(
            told.len(),
            if cfg!(feature = "encryption") { 3 } else { 2 },
            "{told:?}"
        );
        // Redis is not chosen, and a program would be refused all the same.
        let wrong = found.variables.iter().filter(|it| it.error.is_some());
        let wrong: Vec<_> = wrong.map(|it| (it.name, it.idle)).collect();
        assert_eq!(wrong, [("CACHEKIT_SOCKET_TIMEOUT", false)]);
        let alone = of(&[("CACHEKIT_ENCRYPTION", "all")]).errors;
        assert!(
            alone[0]
                .to_string()
                .starts_with("CACHEKIT_ENCRYPTION is set")
        );
    }

    #[test]
    fn names_that_nothing_reads_are_told_with_the_right_one() {
        let found = of(&[
            ("CACHE_REDIS_URL", "redis://localhost"),
            ("cachekit_default_ttl", "60"),
            ("CACHEKIT_TLL", "60"),
            ("CACHEKIT_SERVER_LISTEN", "127.0.0.1:1"),
            ("CACHE_DIR", "/tmp"),
        ]);
        let expected = [
            ("CACHEKIT_TLL", None),
            ("CACHE_REDIS_URL", Some("CACHEKIT_REDIS_URL")),
            ("cachekit_default_ttl", Some("CACHEKIT_DEFAULT_TTL")),
        ];
        assert_eq!(
            found.unread,
            expected.map(|(name, meant)| (name.to_owned(), meant))
        );
    }
}
