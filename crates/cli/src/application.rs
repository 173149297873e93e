//! What is known of a program whose functions are cached, beyond its environment.

/// Imports the module of that name and says what it decorates. Errors are lines for people.
pub type Import<'a> = &'a dyn Fn(&str) -> Result<Application, String>;

/// A program, imported.
#[derive(Debug)]
pub struct Application {
    /// Its cached functions.
    pub functions: Vec<Function>,
    /// The type of the backend that its code sets for all functions that name none.
    pub default_backend: Option<String>,
    /// Whether its code brings settings, in place of the environment's.
    pub configured: bool,
}

/// One cached function.
#[derive(Debug)]
pub struct Function {
    /// Module and qualified name.
    pub name: String,
    /// The preset, or what stands for one.
    pub intent: String,
    /// Whether the function's name has chosen the intent.
    pub by_name: bool,
    /// As keys carry it.
    pub namespace: Option<String>,
    /// The life of an entry, in words. None where a problem hides it.
    pub ttl: Option<String>,
    /// The serializer's name.
    pub serializer: String,
    /// Whether entries are encrypted. None where a problem hides it.
    pub encrypted: Option<bool>,
    /// The type of the backend that the code names: none is the environment's choice, an empty one is
    /// this process only.
    pub backend: Option<String>,
    /// Why its first call would be a `ConfigurationError`.
    pub problem: Option<String>,
}
