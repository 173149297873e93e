//! What the crates below tell `tracing`, kept for Python's `logging`.
//!
//! Events come from any thread, the I/O thread among them, and are only queued there. Whoever next
//! holds the GIL for a call that asked a backend logs them ([`crate::log::traced`]).

use std::fmt::{self, Write};

use crossbeam_queue::SegQueue;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

static TOLD: SegQueue<(&'static str, String)> = SegQueue::new();

/// How many events wait at most; later ones are dropped.
const MOST: usize = 64;

/// The oldest event that is not logged yet: the name of its level in `logging`, and its text.
pub(crate) fn next() -> Option<(&'static str, String)> {
    TOLD.pop()
}

/// Keeps the events of this project's crates from now on. Does nothing the second time.
pub(crate) fn listen() {
    // Refused only when it is set already, by an earlier import of this module.
    let _ = tracing::subscriber::set_global_default(Listener);
}

struct Listener;

fn is_ours(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO
        && metadata.is_event()
        && metadata.target().starts_with("cachekit")
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_ours(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_ours(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if TOLD.len() >= MOST {
            return;
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => "info",
        };
        let mut text = Text::default();
        event.record(&mut text);
        TOLD.push((level, text.message + &text.fields));
    }

    // Spans are never enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's message, and its other fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, ", {}={value:?}", field.name())
        };
        written.expect("writing to a String does not fail");
    }
}
