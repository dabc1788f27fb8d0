//! The threads of a node: each has a runtime of its own, on which one worker of the edge and its
//! share of the channels run and never leave it.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads that run until they are told to end, or this is dropped.
pub(crate) struct Threads {
    runtimes: Vec<Handle>,
    running: Vec<Thread>,
    end: DropGuard,
}

struct Thread {
    name: String,
    body: thread::JoinHandle<()>,
    /// Resolves, to an error, when the body is over.
    ended: oneshot::Receiver<Infallible>,
}

/// Most threads of a node: what `server.workers` allows.
pub(crate) const MOST: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// How long threads may take to end once they are told to. Nothing should be running on them any more.
const LAST_TURN: Duration = Duration::from_secs(1);
/// What an operator can do about a thread that does not start.
pub(crate) const REMEDY: &str =
    "use fewer `server.workers`, or let the process have more threads and file descriptors";

/// One thread for each core that this process may use; in a container its CPU limit counts, rounded down.
pub(crate) fn one_per_core() -> NonZeroUsize {
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(MOST))
}

impl Threads {
    /// Starts `count` threads, named `tidewire-0` and so on, each with a current-thread runtime.
    ///
    /// # Errors
    ///
    /// When the system has no thread or no descriptors for one; those started before it end.
    pub(crate) fn start(count: NonZeroUsize) -> anyhow::Result<Self> {
        let end = CancellationToken::new();
        let mut started =
            Self { runtimes: Vec::new(), running: Vec::new(), end: end.clone().drop_guard() };
        for index in 0..count.get() {
            let name = format!("tidewire-{index}");
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime =
                runtime.with_context(|| format!("no runtime for thread {name}; {REMEDY}"))?;
            started.runtimes.push(runtime.handle().clone());
            let thread = Thread::start(name.clone(), runtime, end.clone());
            let thread = thread.with_context(|| format!("cannot start thread {name}; {REMEDY}"))?;
            started.running.push(thread);
        }
        Ok(started)
    }

    /// Where tasks are spawned, a runtime for each thread. A task that blocks holds up its thread.
    pub(crate) fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Ends the threads, and drops what still runs on them. Waits a second for them at most: one that
    /// does not end by then ends with the process.
    pub(crate) async fn end(self) {
        self.end.disarm().cancel();
        let deadline = Instant::now() + LAST_TURN;
        for Thread { name, body, ended } in self.running {
            if timeout_at(deadline, ended).await.is_err() {
                tracing::warn!(thread = name, "the thread did not end in time");
            } else if body.join().is_err() {
                tracing::warn!(thread = name, "the thread had panicked");
            }
        }
    }
}

impl Thread {
    fn start(name: String, runtime: Runtime, end: CancellationToken) -> std::io::Result<Self> {
        let (ending, ended) = oneshot::channel();
        let body = thread::Builder::new().name(name.clone()).spawn(move || {
            let _ending: oneshot::Sender<Infallible> = ending;
            runtime.block_on(end.cancelled());
            // Nobody needs the answer of a name server any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { name, body, ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Threads {
        Threads::start(NonZeroUsize::new(2).expect("not zero")).expect("threads")
    }

    #[tokio::test]
    async fn each_thread_runs_what_is_spawned_on_its_runtime() {
        let threads = two();

        let mut names = Vec::new();
        for runtime in threads.runtimes() {
            let name = async { thread::current().name().map(ToOwned::to_owned) };
            names.push(runtime.spawn(name).await.expect("no panic"));
        }

        assert_eq!(names, [Some("tidewire-0".to_owned()), Some("tidewire-1".to_owned())]);
        threads.end().await;
    }

    #[tokio::test]
    async fn ending_drops_what_still_runs_and_leaves_no_thread() {
        let threads = two();
        let (held, dropped) = oneshot::channel::<()>();
        let endless = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        drop(threads.runtimes()[1].spawn(endless));
        let runtimes = threads.runtimes().to_vec();

        threads.end().await;

        assert!(dropped.await.is_err());
        for runtime in runtimes {
            assert!(runtime.spawn(async {}).await.is_err_and(|error| error.is_cancelled()));
        }
    }

    #[tokio::test]
    async fn threads_that_are_dropped_end_as_well() {
        let mut threads = two();
        let last = threads.running.pop().expect("two threads");

        drop(threads);

        assert!(last.ended.await.is_err());
        assert!(last.body.join().is_ok());
    }
}
