//! What a forked child forgets: whatever belongs to threads that exist in its parent only.

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyWeakrefMethods, PyWeakrefReference},
};

use crate::{core::Core, namespace};

/// Every engine of this process, for a forked child.
static CORES: Mutex<Vec<Py<PyWeakrefReference>>> = Mutex::new(Vec::new());

/// Makes an engine known to [`after_fork`].
pub(crate) fn register(py: Python<'_>, core: &Py<Core>) -> PyResult<()> {
    let reference = PyWeakrefReference::new(core.bind(py))?.unbind();
    let mut all = CORES.lock();
    all.push(reference);
    if !all.len().is_power_of_two() {
        return Ok(());
    }
    // Now and then, forget those of functions that are gone. Looking may end the last of a
    // function's references and so run foreign code: not under the lock.
    let seen = std::mem::take(&mut *all);
    drop(all);
    let alive = seen
        .into_iter()
        .filter(|reference| reference.bind(py).upgrade().is_some())
        .collect::<Vec<_>>();
    CORES.lock().extend(alive);
    Ok(())
}

/// Makes every engine forget what belongs to the parent process's threads.
pub(crate) fn after_fork(py: Python<'_>) {
    namespace::after_fork();
    let all: Vec<_> = CORES
        .lock()
        .iter()
        .map(|reference| reference.clone_ref(py))
        .collect();
    for reference in all {
        if let Some(core) = reference.bind(py).upgrade_as::<Core>().ok().flatten() {
            core.get().after_fork();
        }
    }
}
