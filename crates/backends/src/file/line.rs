//! Work that takes a turn, which this process's tasks line up for: one thread where it may block does all
//! that has come, so that a crowd of tasks costs one hand-over, and their threads do not keep each other busy.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

/// What is to be done, until it is begun or nobody wants it any more.
type Job = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

#[derive(Default)]
pub(super) struct Line {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread does them, or is about to.
    served: bool,
}

/// A place in the line. Who leaves it takes along what has not been begun.
pub(super) struct Place(Job);

impl Drop for Place {
    fn drop(&mut self) {
        let unwanted = self.0.lock().take();
        drop(unwanted);
    }
}

impl Line {
    /// Has `work`, which does not panic, done behind all that came before it. Called within a tokio runtime.
    pub(super) fn join(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) -> Place {
        let job: Job = Arc::new(Mutex::new(Some(Box::new(work))));
        let mut queue = self.queue.lock();
        queue.jobs.push_back(Arc::clone(&job));
        if !std::mem::replace(&mut queue.served, true) {
            drop(queue);
            let server = Server {
                line: Arc::clone(self),
                is_done: false,
            };
            spawn_blocking(|| server.serve());
        }
        Place(job)
    }

    /// The next job. Without one nobody serves any more.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        let job = queue.jobs.pop_front();
        queue.served = job.is_some();
        job
    }
}

/// Whoever does the work. A runtime that ends before it has begun leaves the line to the next who joins it.
struct Server {
    line: Arc<Line>,
    is_done: bool,
}

impl Server {
    fn serve(mut self) {
        while let Some(job) = self.line.next() {
            let work = job.lock().take();
            if let Some(work) = work {
                work();
            }
        }
        self.is_done = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_done {
            self.line.queue.lock().served = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        let builder = &mut Builder::new_current_thread();
        builder.max_blocking_threads(1).build().expect("a runtime")
    }

    #[test]
    fn work_is_done_in_order_and_what_nobody_wants_is_not() {
        let line = Arc::new(Line::default());
        let (told, done) = mpsc::channel();
        let work = |name: &'static str| {
            let told = told.clone();
            move || told.send(name).expect("somebody listens")
        };
        runtime().block_on(async {
            let (go, gate) = mpsc::channel::<()>();
            let _first = line.join(move || assert!(gate.recv().is_err()));
            let _second = line.join(work("second"));
            drop(line.join(work("unwanted")));
            let _third = line.join(work("third"));
            drop(go);
            assert_eq!([done.recv(), done.recv()], [Ok("second"), Ok("third")]);
            let _fourth = line.join(work("fourth"));
            assert_eq!(done.recv(), Ok("fourth"));
        });
    }

    #[test]
    fn a_runtime_that_ends_leaves_the_line_to_others() {
        let line = Arc::new(Line::default());
        let (go, gate) = mpsc::channel::<()>();
        let (told, done) = mpsc::channel();
        let ending = runtime();
        let never = ending.block_on(async {
            spawn_blocking(move || gate.recv());
            line.join(|| unreachable!("its runtime has ended"))
        });
        ending.shutdown_background();
        drop((go, never));
        runtime().block_on(async {
            let _place = loop {
                let told = told.clone();
                let place = line.join(move || told.send(()).expect("somebody listens"));
                if done
                    .recv_timeout(std::time::Duration::from_millis(50))
                    .is_ok()
                {
                    break place;
                }
            };
        });
    }
}
