//! API keys: who may use the server, on behalf of which tenant.
//!
//! A key is `ck_live_` or `ck_test_`, 12 hexadecimal digits that name its record, and 40 that are
//! secret. The key file holds, for each key, a keyed Blake2b hash of the whole key and never the
//! key itself. A fast hash is enough: guessing 160 random bits is out of reach at any speed, and a
//! slow one would only make every request expensive. The hash key, random for each file, keeps
//! hashes of different files apart.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blake2::Blake2bMac;
use blake2::digest::{FixedOutput, Mac, consts::U32};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 40;
const PREFIX_LENGTH: usize = "ck_live_".len();

/// Whether a key is for real use or for tests. Entries of the two never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `ck_live_…`
    Live,
    /// `ck_test_…`
    Test,
}

impl Mode {
    /// The mode's word in keys and scopes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Everything.
    ReadWrite,
    /// Reading entries; writes, deletes and locks are refused with 403.
    ReadOnly,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// The tenant on whose behalf the key acts.
    pub tenant: String,
    /// Live or test.
    pub mode: Mode,
    /// What the key may do.
    pub permission: Permission,
    /// What the key is for, in its owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// The keyed hash of the whole key, in hexadecimal.
    hash: String,
}

/// A failure to read or change the key file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl KeyError {
    fn at(path: &Path, what: impl fmt::Display) -> Self {
        Self(format!("key file {}: {what}", path.display()))
    }
}

/// The key file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// The hash key, in hexadecimal.
    salt: String,
    keys: Vec<KeyRecord>,
}

/// The keys of one reading of the key file, by their ids.
#[derive(Debug, Default)]
pub struct Keys {
    salt: Vec<u8>,
    records: HashMap<String, (KeyRecord, [u8; 32])>,
}

/// Checks a tenant's name: 1 to 64 of a to z, 0 to 9, `-` and `_`.
///
/// # Errors
/// When it is anything else.
pub(crate) fn check_tenant(name: &str) -> Result<(), KeyError> {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(KeyError(format!(
        "{name:?} is not a tenant's name: use 1 to 64 of a-z, 0-9, '-' and '_'"
    )))
}

impl Keys {
    /// Reads the key file. One that does not exist holds no keys.
    ///
    /// # Errors
    /// When the file cannot be read or is not a key file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        match Content::read(path)? {
            Some(content) => content.index().map_err(|error| KeyError::at(path, error)),
            None => Ok(Self::default()),
        }
    }

    /// Reads a key file that was there before.
    ///
    /// # Errors
    /// As [`Self::read`], and when the file is gone: a path that cannot be seen for a moment must not
    /// revoke every key.
    pub fn reread(path: &Path) -> Result<Self, KeyError> {
        match Content::read(path)? {
            Some(content) => content.index().map_err(|error| KeyError::at(path, error)),
            None => Err(KeyError::at(path, "it is gone")),
        }
    }

    /// The record of a key that was presented, if it is known and not revoked.
    ///
    /// The record is found by the key's public id, so that nothing about the secret decides how
    /// long that takes; the hashes are compared in constant time.
    #[must_use]
    pub fn verify(&self, key: &str) -> Option<&KeyRecord> {
        let id = key.get(PREFIX_LENGTH..PREFIX_LENGTH + ID_DIGITS)?;
        let (record, hash) = self.records.get(id)?;
        let presented = hash_of(&self.salt, key);
        (record.revoked.is_none() && bool::from(presented.ct_eq(hash))).then_some(record)
    }

    /// How many keys can be used.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.records
            .values()
            .filter(|(record, _)| record.revoked.is_none())
            .count()
    }
}

/// What a new key shall be.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// The tenant on whose behalf the key acts.
    pub tenant: &'a str,
    /// Live or test.
    pub mode: Mode,
    /// What the key may do.
    pub permission: Permission,
    /// What the key is for, in its owner's words.
    pub label: &'a str,
}

/// The key file, for those who change it. Servers that run on it notice within half a second.
///
/// A change takes a lock beside the file, writes a new file with mode 0600, syncs it and renames it
/// over the old one, so that a reader sees one or the other and two writers lose nothing.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The key file at `path`, which need not exist.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes a key and returns it. This is the only time that it is known.
    ///
    /// # Errors
    /// When the tenant's name is not one or the file cannot be changed.
    pub fn create(&self, new: &NewKey<'_>) -> Result<String, KeyError> {
        check_tenant(new.tenant)?;
        self.change(|content| {
            let id = random_digits(ID_DIGITS)?;
            let secret = random_digits(SECRET_DIGITS)?;
            let key = format!("ck_{}_{id}{secret}", new.mode.as_str());
            let salt = unhex(&content.salt).ok_or("its salt is not hexadecimal")?;
            content.keys.push(KeyRecord {
                id,
                tenant: new.tenant.to_owned(),
                mode: new.mode,
                permission: new.permission,
                label: new.label.to_owned(),
                created: now(),
                revoked: None,
                hash: hex(&hash_of(&salt, &key)),
            });
            Ok(key)
        })
    }

    /// Every key, the oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<KeyRecord>, KeyError> {
        Ok(Content::read(&self.0)?.map_or_else(Vec::new, |content| content.keys))
    }

    /// Revokes the key with this id; the record remains. False if it was revoked before.
    ///
    /// # Errors
    /// When there is no such key or the file cannot be changed.
    pub fn revoke(&self, id: &str) -> Result<bool, KeyError> {
        self.change(|content| {
            let record = content
                .keys
                .iter_mut()
                .find(|record| record.id == id)
                .ok_or_else(|| {
                    format!("no key has the id {id:?}; `cachekit keys list` shows them")
                })?;
            let first = record.revoked.is_none();
            record.revoked.get_or_insert_with(now);
            Ok(first)
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, String>,
    ) -> Result<T, KeyError> {
        let path = &self.0;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(|error| KeyError::at(path, error))?;
        }
        let _lock =
            lock(&path.with_extension("lock")).map_err(|error| KeyError::at(path, error))?;
        let mut content = match Content::read(path)? {
            Some(content) => content,
            None => Content {
                version: 1,
                salt: random_digits(64).map_err(|error| KeyError::at(path, error))?,
                keys: Vec::new(),
            },
        };
        let result = change(&mut content).map_err(|error| KeyError::at(path, error))?;
        replace(path, &content).map_err(|error| KeyError::at(path, error))?;
        Ok(result)
    }
}

impl Content {
    fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeyError::at(path, error)),
        };
        let content: Self =
            serde_json::from_str(&text).map_err(|error| KeyError::at(path, error))?;
        if content.version != 1 {
            let what = format!("version {} is newer than this program", content.version);
            return Err(KeyError::at(path, what));
        }
        Ok(Some(content))
    }

    fn index(self) -> Result<Keys, String> {
        let salt = unhex(&self.salt).ok_or("its salt is not hexadecimal")?;
        if !(16..=64).contains(&salt.len()) {
            return Err("its salt must have 16 to 64 bytes".to_owned());
        }
        let mut records = HashMap::with_capacity(self.keys.len());
        for record in self.keys {
            check_tenant(&record.tenant).map_err(|error| error.to_string())?;
            let hash = unhex(&record.hash)
                .and_then(|hash| <[u8; 32]>::try_from(hash).ok())
                .ok_or_else(|| {
                    format!("the hash of key {} is not 64 hexadecimal digits", record.id)
                })?;
            records.insert(record.id.clone(), (record, hash));
        }
        Ok(Keys { salt, records })
    }
}

fn hash_of(salt: &[u8], key: &str) -> [u8; 32] {
    let mut mac = Blake2bMac::<U32>::new_from_slice(salt).expect("salts have at most 64 bytes");
    mac.update(key.as_bytes());
    mac.finalize_fixed().into()
}

/// Holds the lock file until dropped.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // SAFETY: flock takes an open descriptor and an operation, and touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

fn replace(path: &Path, content: &Content) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(content)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn random_digits(digits: usize) -> Result<String, String> {
    let mut bytes = vec![0; digits.div_ceil(2)];
    getrandom::fill(&mut bytes)
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings grow");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use cachekit_testkit::TempDir;

    use super::*;

    fn new_key<'a>(tenant: &'a str) -> NewKey<'a> {
        NewKey {
            tenant,
            mode: Mode::Live,
            permission: Permission::ReadWrite,
            label: "",
        }
    }

    #[test]
    fn a_key_is_known_until_it_is_revoked() {
        let dir = TempDir::new();
        let path = dir.path().join("sub/keys.json");
        let file = KeyFile::at(&path);
        let key = file.create(&new_key("acme")).unwrap();
        let other = file.create(&new_key("other")).unwrap();
        let keys = Keys::read(&path).unwrap();
        let record = keys.verify(&key).unwrap();
        assert_eq!(record.tenant, "acme");
        assert_eq!(keys.verify(&other).unwrap().tenant, "other");

        let id = record.id.clone();
        assert!(file.revoke(&id).unwrap());
        assert!(!file.revoke(&id).unwrap());
        let keys = Keys::read(&path).unwrap();
        assert!(keys.verify(&key).is_none());
        assert_eq!(keys.usable(), 1);
        assert_eq!(file.list().unwrap().len(), 2);
    }

    #[test]
    fn any_other_key_is_unknown() {
        let dir = TempDir::new();
        let path = dir.path().join("keys.json");
        let key = KeyFile::at(&path).create(&new_key("acme")).unwrap();
        let keys = Keys::read(&path).unwrap();
        let mut others = vec![
            String::new(),
            key[..key.len() - 1].to_owned(),
            format!("{key}0"),
            key.replace("live", "test"),
            key.to_uppercase(),
            "é".repeat(40),
        ];
        for at in PREFIX_LENGTH..key.len() {
            let flipped = if &key[at..=at] == "0" { "1" } else { "0" };
            others.push(format!("{}{flipped}{}", &key[..at], &key[at + 1..]));
        }
        for other in others {
            assert!(keys.verify(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_file_holds_no_secret_and_is_private() {
        let dir = TempDir::new();
        let path = dir.path().join("keys.json");
        let key = KeyFile::at(&path).create(&new_key("acme")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&key[PREFIX_LENGTH + ID_DIGITS..]));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn concurrent_changes_lose_nothing() {
        let dir = TempDir::new();
        let file = KeyFile::at(dir.path().join("keys.json"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..5).for_each(|_| drop(file.create(&new_key("acme")).unwrap())));
            }
        });
        assert_eq!(file.list().unwrap().len(), 40);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let dir = TempDir::new();
        let path = dir.path().join("keys.json");
        for damaged in [
            "",
            "{}",
            r#"{"version":2,"salt":"00","keys":[]}"#,
            r#"{"version":1,"salt":"xx","keys":[]}"#,
            r#"{"version":1,"salt":"","keys":[]}"#,
        ] {
            fs::write(&path, damaged).unwrap();
            let error = Keys::read(&path).unwrap_err().to_string();
            assert!(error.contains("keys.json"), "{error}");
        }
        assert!(Keys::read(&dir.path().join("none.json")).unwrap().usable() == 0);
        let error = Keys::reread(&dir.path().join("none.json")).unwrap_err();
        assert!(error.to_string().contains("it is gone"), "{error}");
        let error = KeyFile::at(path).create(&new_key("A B")).unwrap_err();
        assert!(error.to_string().contains("\"A B\""), "{error}");
    }
}
