use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::TempDir;

/// A certificate authority of one's own, with a server's and a client's certificate, as PEM files.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes them with the `openssl` command. The server's is for 127.0.0.1 and localhost.
    ///
    /// # Panics
    /// When the command is not installed or fails.
    #[must_use]
    pub fn new() -> Self {
        let this = Self {
            dir: TempDir::new(),
        };
        this.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=cachekit-tests -addext basicConstraints=critical,CA:TRUE");
        this.issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        this.issue("client", "extendedKeyUsage=clientAuth");
        this
    }

    fn issue(&self, name: &str, extension: &str) {
        std::fs::write(self.path("ext"), extension).expect("the directory is writable");
        self.openssl(&format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN=cachekit-{name}"));
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem -extfile ext"));
    }

    fn openssl(&self, arguments: &str) {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.dir.path())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("openssl must be installed");
        assert!(status.success(), "openssl {arguments} failed");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The server's certificate and key.
    #[must_use]
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.path("server.pem"), self.path("server.key"))
    }

    /// The client's certificate and key.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.path("client.pem"), self.path("client.key"))
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
