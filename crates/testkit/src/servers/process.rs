use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A child process that does not outlive this value.
#[derive(Debug)]
pub(super) struct Process(Child);

impl Process {
    pub(super) fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{:?} must be installed: {error}", command.get_program())
        });
        Self(child)
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends the process at once, as a crash would.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Freezes the process, and waits until all its threads stand still.
    pub(super) fn pause(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.0.id());
        let is_stopped = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status"));
            status.is_ok_and(|status| status.contains("State:\tT"))
        };
        wait_until("the process stands still", || {
            // Only Linux tells.
            std::fs::read_dir(&tasks)
                .is_ok_and(|mut tasks| tasks.all(|task| task.is_ok_and(is_stopped)))
                || !cfg!(target_os = "linux")
        });
    }

    /// Sends a signal by name: "STOP", "CONT", ….
    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.0.id().to_string()])
            .status()
            .expect("every Unix has kill");
        assert!(status.success(), "kill -{name} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of this machine that nobody listened on a moment ago.
///
/// It is below those that systems give to outgoing connections (from 32768 on Linux), so that none of
/// these takes it before a server starts there, or while it is being restarted.
///
/// # Panics
/// When the machine has none.
#[must_use]
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(random_port)
        .take(1000)
        .find(is_free)
        .expect("a free port")
}

fn random_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    // Every `RandomState` has keys of its own.
    let random = RandomState::new().build_hasher().finish();
    PORTS.start + (random % PORTS.len() as u64) as u16
}

/// Waits until `happened` says so.
///
/// # Panics
/// When it does not within 20 s; `what` is part of the message.
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(
            Instant::now() < deadline,
            "waited 20 s in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
