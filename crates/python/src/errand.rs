//! Coroutines on the caller's event loop, awaited on the I/O thread.
//!
//! The I/O thread takes no GIL for it: the loop's bridge carries errands to the loop's own thread,
//! which starts the coroutine as a task in the caller's context and sends its end back.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use pyo3::{
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyCFunction, PyDict, PyTuple},
};
use tokio::sync::oneshot;

use crate::bridge::Here;

/// How long a loop may take before it is asked whether it still runs.
const PATIENCE: Duration = Duration::from_millis(50);

/// How far an errand has come.
enum Progress {
    Waiting,
    Running(Py<PyAny>),
    /// It has ended, or nobody waits for it.
    Over,
}

type Shared = Arc<Mutex<Progress>>;

/// Cancels the task when the future that waits for it is dropped.
struct Cancel<'a> {
    here: &'a Here,
    progress: Shared,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.progress.lock(), Progress::Over);
        if let Progress::Running(task) = before {
            self.here.send(Box::new(move |event_loop, _| {
                cancel(task.bind(event_loop.py()));
            }));
        }
    }
}

fn cancel(task: &Bound<'_, PyAny>) {
    if let Err(error) = task.call_method0(intern!(task.py(), "cancel")) {
        crate::log::report(task.py(), error);
    }
}

/// Awaits on the caller's event loop what `call` returns; `ended` turns its end into what is returned.
/// `None` when that loop runs no more.
///
/// Dropping the future cancels the task, or leaves it unstarted.
pub(crate) async fn run<R: Send + 'static>(
    here: &Here,
    call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>> + Send + 'static,
    ended: impl FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) -> R + Send + 'static,
) -> Option<R> {
    let (sender, mut receiver) = oneshot::channel();
    let progress = Arc::new(Mutex::new(Progress::Waiting));
    let theirs = Arc::clone(&progress);
    here.send(Box::new(move |event_loop, context| {
        let waited_for = matches!(*theirs.lock(), Progress::Waiting);
        let Some(context) = context.filter(|_| waited_for) else {
            return;
        };
        let py = event_loop.py();
        let ending = Arc::clone(&theirs);
        let ended: End = Box::new(move |py, result| {
            *ending.lock() = Progress::Over;
            // Nobody may wait any more: the budget was spent just as it ended.
            let _ = sender.send(ended(py, result));
        });
        let ended = Arc::new(Mutex::new(Some(ended)));
        let begun = call(context).and_then(|awaitable| {
            begin(event_loop, context, awaitable.bind(py), Arc::clone(&ended))
        });
        match begun {
            Ok(task) => {
                let mut progress = theirs.lock();
                match *progress {
                    Progress::Waiting => *progress = Progress::Running(task.unbind()),
                    Progress::Running(_) | Progress::Over => {
                        drop(progress);
                        cancel(&task);
                    }
                }
            }
            Err(error) => end(py, &ended, Err(error)),
        }
    }));
    let _cancel = Cancel { here, progress };
    match tokio::time::timeout(PATIENCE, &mut receiver).await {
        Ok(result) => result.ok(),
        Err(_) if here.loop_runs().await => receiver.await.ok(),
        Err(_) => None,
    }
}

/// Takes what came of a task.
type End = Box<dyn FnOnce(Python<'_>, PyResult<Bound<'_, PyAny>>) + Send>;

fn end(py: Python<'_>, ended: &Mutex<Option<End>>, result: PyResult<Bound<'_, PyAny>>) {
    let ended = ended.lock().take();
    if let Some(ended) = ended {
        ended(py, result);
    }
}

/// Makes a task of an awaitable.
fn begin<'py>(
    event_loop: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    awaitable: &Bound<'py, PyAny>,
    ended: Arc<Mutex<Option<End>>>,
) -> PyResult<Bound<'py, PyAny>> {
    static ENSURE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = event_loop.py();
    let named = PyDict::new(py);
    named.set_item(intern!(py, "loop"), event_loop)?;
    let ensure = ENSURE.import(py, "asyncio", "ensure_future")?;
    let task = context.call_method(intern!(py, "run"), (ensure, awaitable), Some(&named))?;
    let done = PyCFunction::new_closure(
        py,
        None,
        None,
        move |arguments: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<()> {
            let task = arguments.get_item(0)?;
            let result = task.call_method0(intern!(task.py(), "result"));
            end(task.py(), &ended, result);
            Ok(())
        },
    )?;
    task.call_method1(intern!(py, "add_done_callback"), (done,))?;
    Ok(task)
}
