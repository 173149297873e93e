//! The settings of a process: names, defaults and ranges, and how the environment gives them.
//!
//! The Python face has the same tables in `cachekit.config.fields`, so that it needs no call into
//! the library to read them; a test there compares the two, entry by entry.

mod tables;

use std::{collections::HashMap, ffi::OsString, time::Duration};

pub use tables::{CACHEKITIO, FILE, MEMCACHED, PROCESS, REDIS};

use crate::error::Error;

/// One setting: how it is called, what it may be, and what it is when nobody says.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name, as a field of the Python face's models.
    pub name: &'static str,
    /// The variables that give it; the first one that is set wins.
    pub variables: &'static [&'static str],
    /// What its values are.
    pub kind: Kind,
    /// Its value when no variable is set, written as in a variable; `None` where there is none.
    pub default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// What the values of a setting are.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text.
    Text,
    /// A text of at most so many bytes.
    Name(usize),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// True or false.
    Boolean,
    /// A whole number in a range.
    Integer(Range),
    /// A finite number in a range.
    Number(Range),
    /// Several `host:port`, as a JSON array.
    Servers,
    /// Keys between commas.
    Keys,
    /// Permissions in octal that give the owner at least these.
    Mode(u32),
}

/// The numbers that a setting takes. Bounds that are `None` are not there.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// The least of them.
    pub least: Option<f64>,
    /// All of them are above this.
    pub above: Option<f64>,
    /// The greatest of them.
    pub most: Option<f64>,
}

impl Range {
    fn holds(&self, value: f64) -> bool {
        value.is_finite()
            && self.least.is_none_or(|least| value >= least)
            && self.above.is_none_or(|above| value > above)
            && self.most.is_none_or(|most| value <= most)
    }
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Text(String),
    Boolean(bool),
    Integer(u64),
    Number(f64),
    Servers(Vec<String>),
    Keys(Vec<String>),
    Mode(u32),
}

impl Kind {
    fn parse(&self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(Value::Text(text.to_owned())),
            Self::Name(most) => (text.len() <= *most).then(|| Value::Text(text.to_owned())),
            Self::Choice(choices) => {
                (choices.contains(&text)).then(|| Value::Text(text.to_owned()))
            }
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" | "yes" | "y" | "on" => Some(Value::Boolean(true)),
                "0" | "false" | "f" | "no" | "n" | "off" => Some(Value::Boolean(false)),
                _ => None,
            },
            Self::Integer(range) => {
                let value: u64 = text.parse().ok()?;
                range.holds(value as f64).then_some(Value::Integer(value))
            }
            Self::Number(range) => {
                let value: f64 = text.parse().ok()?;
                range.holds(value).then_some(Value::Number(value))
            }
            Self::Servers => servers(text).map(Value::Servers),
            Self::Keys => {
                let keys = text.split(',').map(str::trim);
                let keys = keys.filter(|key| !key.is_empty()).map(str::to_owned);
                Some(Value::Keys(keys.collect()))
            }
            Self::Mode(least) => {
                let digits = text.trim_start_matches("0o");
                let mode = u32::from_str_radix(digits, 8).ok()?;
                (mode <= 0o777 && mode & least == *least).then_some(Value::Mode(mode))
            }
        }
    }

    /// The values allowed, in words.
    fn expected(&self) -> String {
        let (words, range) = match self {
            Self::Text => return "text".to_owned(),
            Self::Name(most) => return format!("text of at most {most} bytes"),
            Self::Choice(choices) => return choices.join(" or "),
            Self::Boolean => return "true or false".to_owned(),
            Self::Servers => {
                return r#"a JSON array of "host:port", like ["mc1:11211", "mc2:11211"],"#
                    .to_owned();
            }
            Self::Keys => return "hexadecimal keys between commas".to_owned(),
            Self::Mode(least) => {
                return format!("permissions, octal, with at least {least:04o},");
            }
            Self::Integer(range) => ("a whole number", range),
            Self::Number(range) => ("a number", range),
        };
        match (range.least, range.most, range.above) {
            (Some(least), Some(most), _) => format!("{words} from {least} to {most}"),
            (Some(least), None, _) => format!("{words} of at least {least}"),
            (None, Some(most), Some(above)) => format!("{words} above {above} and up to {most}"),
            (None, None, Some(above)) => format!("{words} above {above}"),
            _ => words.to_owned(),
        }
    }
}

/// Texts of more bytes are not repeated in errors.
const LONG: usize = 200;

fn servers(text: &str) -> Option<Vec<String>> {
    let servers: Vec<String> = serde_json::from_str(text).ok()?;
    let good = |server: &String| {
        server.starts_with('/') // a unix socket
            || server.rsplit_once(':').is_some_and(|(host, port)| {
                let port = port.parse::<u16>().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
                !host.is_empty() && port.is_some_and(|port| port > 0)
            })
    };
    (!servers.is_empty() && servers.iter().all(good)).then_some(servers)
}

/// The environment, or what stands for it.
pub(crate) struct Variables<F>(pub(crate) F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    /// A variable's text; empty is unset.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(value) = (self.0)(name) else {
            return Ok(None);
        };
        let text = value
            .into_string()
            .map_err(|_| Error::configuration(format!("{name} is not UTF-8"), &remedy(name)))?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// The value that a variable gives a setting.
    ///
    /// # Errors
    /// When it is not allowed; the error names the variable.
    pub(crate) fn value(&self, setting: &Setting, variable: &str) -> Result<Option<Value>, Error> {
        let Some(text) = self.text(variable)? else {
            return Ok(None);
        };
        let value = setting.kind.parse(&text).ok_or_else(|| {
            // A URL may have been put here, with a password in it.
            let shown = match setting.secret || text.contains('@') || text.len() > LONG {
                true => String::new(),
                false => format!("={text:?}"),
            };
            let expected = setting.kind.expected();
            Error::configuration(
                format!("{variable}{shown} is not valid: {expected} is expected"),
                &remedy(variable),
            )
        })?;
        Ok(Some(value))
    }

    /// The values that the variables give a table's settings.
    ///
    /// # Errors
    /// When a variable's value is not allowed; the error names it.
    pub(crate) fn read(&self, table: &'static [Setting]) -> Result<Values, Error> {
        let mut values = Values::default();
        for setting in table {
            let default = setting
                .default
                .map_or(Some(Value::None), |text| setting.kind.parse(text));
            let mut value = default.expect("defaults are allowed, which a test sees");
            for variable in setting.variables {
                let Some(found) = self.value(setting, variable)? else {
                    continue;
                };
                value = found;
                values.given.insert(setting.name, variable);
                break;
            }
            values.values.insert(setting.name, value);
        }
        Ok(values)
    }
}

/// What to do about a variable.
pub(crate) fn remedy(name: &str) -> String {
    format!("correct {name} or unset it")
}

/// The values of a table's settings. Asking for a name or a kind that the table does not have is a
/// mistake in this crate.
#[derive(Debug, Default)]
pub(crate) struct Values {
    values: HashMap<&'static str, Value>,
    given: HashMap<&'static str, &'static str>,
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&self, name: &str) -> Option<$type> {
            match &self.values[name] {
                Value::None => None,
                Value::$variant(value) => Some(value.clone()),
                other => panic!("the setting {name} is {other:?}"),
            }
        }
    )*};
}

impl Values {
    getters! {
        /// A text.
        text: Text -> String;
        /// A truth value.
        boolean: Boolean -> bool;
        /// A whole number.
        integer: Integer -> u64;
        /// A number.
        number: Number -> f64;
        /// Addresses.
        servers: Servers -> Vec<String>;
        /// Keys.
        keys: Keys -> Vec<String>;
        /// Permissions.
        mode: Mode -> u32;
    }

    /// A number of seconds.
    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds = match &self.values[name] {
            Value::Integer(seconds) => *seconds as f64,
            _ => self.number(name)?,
        };
        // What no clock can count is longer than any wait.
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// The variable that gave a setting.
    pub(crate) fn given(&self, name: &str) -> Option<&'static str> {
        self.given.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &'static [Setting], variables: &[(&str, &str)]) -> Result<Values, String> {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let lookup = |name: &str| variables.get(name).map(OsString::from);
        Variables(lookup)
            .read(table)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_default_is_allowed() {
        for table in [PROCESS, CACHEKITIO, MEMCACHED, FILE] {
            read(table, &[]).expect("defaults are allowed");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let both = [
            ("REDIS_URL", "redis://second"),
            ("CACHEKIT_REDIS_URL", "redis://first"),
        ];
        let values = read(REDIS, &both).expect("good values");
        assert_eq!(values.text("redis_url").as_deref(), Some("redis://first"));
        assert_eq!(values.given("redis_url"), Some("CACHEKIT_REDIS_URL"));
        let values = read(REDIS, &both[..1]).expect("good values");
        assert_eq!(values.given("redis_url"), Some("REDIS_URL"));
        assert_eq!(values.given("socket_timeout"), None);
    }

    #[test]
    fn what_is_not_allowed_is_named_with_the_remedy_and_secrets_are_not() {
        for (table, variable, text, expected) in [
            (
                FILE,
                "CACHEKIT_FILE_MAX_ENTRY_COUNT",
                "99",
                "from 100 to 1000000",
            ),
            (FILE, "CACHEKIT_FILE_PERMISSIONS", "0400", "octal"),
            (FILE, "CACHEKIT_FILE_PERMISSIONS", "rw", "octal"),
            (
                MEMCACHED,
                "CACHEKIT_MEMCACHED_TIMEOUT",
                "nan",
                "from 0.1 to 30",
            ),
            (
                MEMCACHED,
                "CACHEKIT_MEMCACHED_SERVERS",
                "mc1:11211",
                "JSON array",
            ),
            (
                MEMCACHED,
                "CACHEKIT_MEMCACHED_SERVERS",
                r#"["mc1:65536"]"#,
                "JSON array",
            ),
            (MEMCACHED, "CACHEKIT_MEMCACHED_SERVERS", "[]", "JSON array"),
            (CACHEKITIO, "CACHEKIT_TIMEOUT", "0", "above 0"),
            (CACHEKITIO, "CACHEKIT_TIMEOUT", "1e300", "up to 31536000"),
            (REDIS, "CACHEKIT_SOCKET_TIMEOUT", "1e9", "up to 31536000"),
            (
                CACHEKITIO,
                "CACHEKIT_ALLOW_CUSTOM_HOST",
                "perhaps",
                "true or false",
            ),
            (PROCESS, "CACHEKIT_L1_MAX_SIZE_MB", "-1", "at least 1"),
        ] {
            let error = read(table, &[(variable, text)]).expect_err("it is not allowed");
            assert!(
                error.contains(variable) && error.contains(expected),
                "{error}"
            );
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(error.contains("unset it"), "{error}");
        }
        for setting in [PROCESS, CACHEKITIO].concat() {
            assert!(
                !setting.secret || matches!(setting.kind, Kind::Text | Kind::Keys),
                "its value would be shown"
            );
        }
    }
}
