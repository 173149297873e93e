//! How the settings' texts are read: sizes, durations, switches and the like.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting's text can be read as. The error says what the text should have been.
pub trait Value: Sized {
    /// Reads the text.
    ///
    /// # Errors
    /// A phrase that completes "… is not".
    fn parse(text: &str) -> Result<Self, &'static str>;
}

/// A text that is never shown: `Debug` prints three asterisks.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A number of bytes, written `4096`, `64KiB`, `100MB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The number for indexing memory; what does not fit is unlimited anyway.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A number and the unit behind it.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim()))
}

impl Value for Size {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "a size, as in 4096, 64KiB, 100MB or 1GiB";
        let (number, unit) = quantity(text).ok_or(WANTED)?;
        let factor: f64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "kib" | "k" => 1024.0,
            "mib" | "m" => 1024.0 * 1024.0,
            "gib" | "g" => 1024.0 * 1024.0 * 1024.0,
            "tib" | "t" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(WANTED),
        };
        let bytes = number * factor;
        if bytes.fract() != 0.0 || bytes >= 9e18 {
            return Err(WANTED);
        }
        // Whole, positive and below 2^63 by the line above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Self(bytes as u64))
    }
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "a duration, as in 250ms, 10s, 5m, 1h or 30d";
        let (number, unit) = quantity(text).ok_or(WANTED)?;
        let seconds = match unit {
            "ms" => number / 1e3,
            "s" | "" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86400.0,
            _ => return Err(WANTED),
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| WANTED)
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.trim() {
            "" | "none" => Ok(None),
            text => T::parse(text).map(Some),
        }
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("true or false"),
        }
    }
}

macro_rules! parsed {
    ($($type:ty => $wanted:literal),* $(,)?) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, &'static str> {
                text.trim().parse().map_err(|_| $wanted)
            }
        }
    )*};
}

parsed! {
    SocketAddr => "an address and port, as in 127.0.0.1:8443 or [::]:8443",
    u32 => "a whole number",
    u64 => "a whole number",
    usize => "a whole number",
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(PathBuf::from(text))
    }
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(text.to_owned())
    }
}

impl Value for Secret {
    fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(Secret(text.to_owned()))
    }
}

/// A setting that is one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? } $wanted:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::config::Value for $name {
            fn parse(text: &str) -> Result<Self, &'static str> {
                match text.trim() {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($wanted),
                }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(Size::parse("4096"), Ok(Size(4096)));
        assert_eq!(Size::parse("1.5 KiB"), Ok(Size(1536)));
        assert_eq!(Size::parse("100MB"), Ok(Size(100_000_000)));
        for wrong in ["", "MB", "-1", "1 parsec", "0.3", "99999999TB"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(Duration::parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(Duration::parse("2"), Ok(Duration::from_secs(2)));
        assert_eq!(Duration::parse("30d"), Ok(Duration::from_secs(2_592_000)));
        for wrong in ["", "s", "-1s", "1 fortnight", "1e5"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = Secret::parse("hunter2").unwrap();
        assert_eq!(format!("{secret:?}"), "***");
    }
}
