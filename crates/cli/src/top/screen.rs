//! The terminal, while figures are drawn on it again and again.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::mpsc;

/// The alternate screen without a cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Where both sizes are unknown.
const USUAL: (u16, u16) = (24, 80);

/// The terminal's screen in use. Dropped, it shows what it showed before.
pub(super) struct Screen(());

impl Screen {
    /// Takes the screen. None where standard output is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        let screen = Self(());
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Shows this text and nothing else: as many lines as there is room for, none wrapped.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        let (height, width) = match termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
            _ => USUAL,
        };
        let mut page = "\x1b[H".to_owned();
        for (at, line) in text.lines().take(height.into()).enumerate() {
            page.push_str(if at > 0 { "\n" } else { "" });
            page.extend(line.chars().take(width.into()));
            page.push_str("\x1b[K");
        }
        page.push_str("\x1b[J");
        write(&page)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs no tidying.
        let _ = write(LEAVE);
    }
}

/// The terminal's input, key by key and unseen. Dropped, it is as it was before.
pub(super) struct Keys {
    /// None where standard input is no terminal.
    before: Option<Termios>,
    quit: mpsc::Receiver<()>,
}

impl Keys {
    pub(super) fn take() -> io::Result<Self> {
        let (sender, quit) = mpsc::channel(1);
        if !io::stdin().is_terminal() {
            // There are no keys to wait for.
            return Ok(Self { before: None, quit });
        }
        let before = termios::tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
        // It waits for a key for as long as the process lives; nothing waits for it.
        thread::spawn(move || {
            let mut keys = io::stdin().lock().bytes();
            while keys
                .next()
                .is_some_and(|key| key.is_ok_and(|key| key != b'q'))
            {}
            let _ = sender.blocking_send(());
        });
        Ok(Self {
            before: Some(before),
            quit,
        })
    }

    /// Waits until the user wants to end it: `q`, or the input has ended.
    pub(super) async fn quit(&mut self) {
        match self.before {
            Some(_) => drop(self.quit.recv().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
